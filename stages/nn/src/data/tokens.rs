//! Tokens in memory or in a file.

use super::Npy;
use super::error::{DataError, list_of};
use super::numbers::{ByteOrder, NumberType};
use brigade_layer::MappedFile;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A sequence of tokens, cheap to clone and to cut: in memory, or a file of which only what is
/// asked for is read.
///
/// # Example
/// ```no_run
/// use brigade_nn::{NumberType, TokenWindows, Tokens};
/// let tokens = Tokens::open("train.bin", NumberType::U16)?.within(50257);
/// let data = TokenWindows::random(tokens, 1024, 16, 1)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
    range: Range<usize>,
    vocab: Option<usize>,
}

#[derive(Clone, Debug)]
enum Store {
    Memory(Arc<[i32]>),
    File(Arc<Mapped>),
}

#[derive(Debug)]
struct Mapped {
    path: String,
    file: Arc<MappedFile>,
    /// Where the first token lies.
    start: usize,
    number_type: NumberType,
}

impl Tokens {
    /// A file of nothing but tokens, little-endian, as nanoGPT writes `train.bin`.
    ///
    /// # Errors
    /// When it cannot be mapped, its length is no multiple of a token's, or tokens would be no
    /// whole numbers.
    pub fn open(path: impl AsRef<Path>, number_type: NumberType) -> Result<Self, DataError> {
        let path = path.as_ref();
        let file = MappedFile::open(path).map_err(|error| DataError::reading(path, &error))?;
        let (bytes, each) = (file.bytes().len(), number_type.size_bytes());
        let path = path.display().to_string();
        if !number_type.is_integer() {
            let problem = format!("tokens are whole numbers, no {number_type}");
            return Err(DataError::Read { path, problem });
        }
        if bytes % each != 0 {
            return Err(DataError::Length {
                path,
                bytes: bytes as u64,
                number_type,
            });
        }
        let mapped = Mapped {
            path,
            file: Arc::new(file),
            start: 0,
            number_type,
        };
        Ok(Self::mapped(mapped, bytes / each))
    }

    /// An array of NumPy with one axis of whole numbers.
    ///
    /// # Errors
    /// When it cannot be read, or is none of that kind.
    pub fn open_npy(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let npy = Npy::open(path)?;
        let (axes, number_type) = (npy.shape().rank(), npy.number_type());
        if axes != 1 || !number_type.is_integer() {
            let problem = format!(
                "tokens are whole numbers along one axis, and it has {axes} axes of {number_type}; \
                 save it with .ravel().astype('<u4')"
            );
            return Err(DataError::array(npy.path(), problem));
        }
        let (len, path) = (npy.shape().elements(), npy.path().to_owned());
        let (file, start) = npy.into_file();
        let mapped = Mapped {
            path,
            file,
            start,
            number_type,
        };
        Ok(Self::mapped(mapped, len))
    }

    fn mapped(mapped: Mapped, len: usize) -> Self {
        Self {
            store: Store::File(Arc::new(mapped)),
            range: 0..len,
            vocab: None,
        }
    }

    /// The same tokens, of which one outside this vocabulary is an error where it is read.
    #[must_use]
    pub fn within(mut self, vocab: usize) -> Self {
        self.vocab = Some(vocab);
        self
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Some of them, without reading any.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn slice(&self, range: Range<usize>) -> Result<Self, DataError> {
        let range = self.within_store(range)?;
        Ok(Self {
            range,
            ..self.clone()
        })
    }

    /// Appends some of them to a list.
    ///
    /// # Errors
    /// When there are not as many, one is outside the vocabulary or of more than 31 bits, or there
    /// is no memory for them.
    pub fn read(&self, range: Range<usize>, to: &mut Vec<i32>) -> Result<(), DataError> {
        let (range, before) = (self.within_store(range)?, to.len());
        let bytes = 4 * range.len() as u64;
        to.try_reserve(range.len())
            .map_err(|_| DataError::AllocationRefused { bytes })?;
        let too_large = match &self.store {
            Store::Memory(tokens) => {
                to.extend_from_slice(&tokens[range.clone()]);
                None
            }
            Store::File(mapped) => {
                let bytes = mapped.file.bytes().get(mapped.bytes(&range));
                let bytes = bytes.unwrap_or_default();
                mapped
                    .number_type
                    .integers(ByteOrder::Little, bytes, to)
                    .err()
            }
        };
        let wrong = |id: &i32| {
            self.vocab
                .is_some_and(|vocab| *id < 0 || *id as usize >= vocab)
        };
        let wrong = to[before..].iter().position(wrong);
        let wrong = wrong.map(|at| (at, i64::from(to[before + at])));
        match wrong.or(too_large) {
            None => Ok(()),
            Some((at, id)) => Err(DataError::Vocabulary {
                path: self.path().to_owned(),
                position: range.start + at,
                id,
                vocab: self.vocab.unwrap_or(i32::MAX as usize),
            }),
        }
    }

    /// All of them in a list.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn to_vec(&self) -> Result<Vec<i32>, DataError> {
        let mut all = list_of(self.len())?;
        self.read(0..self.len(), &mut all)?;
        Ok(all)
    }

    /// Says that these will not be read again soon: of a file they need not stay in memory.
    pub fn release(&self, range: Range<usize>) {
        if let (Store::File(mapped), Ok(range)) = (&self.store, self.within_store(range)) {
            mapped.file.release(mapped.bytes(&range));
        }
    }

    /// The file that they are in, or what stands for one.
    fn path(&self) -> &str {
        match &self.store {
            Store::Memory(_) => "tokens in memory",
            Store::File(mapped) => &mapped.path,
        }
    }

    fn within_store(&self, range: Range<usize>) -> Result<Range<usize>, DataError> {
        if range.start > range.end || range.end > self.len() {
            return Err(DataError::Outside {
                what: format!("{}: tokens", self.path()),
                range,
                len: self.len(),
            });
        }
        Ok(self.range.start + range.start..self.range.start + range.end)
    }
}

impl Mapped {
    /// Where these tokens lie.
    fn bytes(&self, tokens: &Range<usize>) -> Range<usize> {
        let each = self.number_type.size_bytes();
        self.start + tokens.start * each..self.start + tokens.end * each
    }
}

impl<T: Into<Arc<[i32]>>> From<T> for Tokens {
    fn from(tokens: T) -> Self {
        let tokens = tokens.into();
        Self {
            range: 0..tokens.len(),
            store: Store::Memory(tokens),
            vocab: None,
        }
    }
}
