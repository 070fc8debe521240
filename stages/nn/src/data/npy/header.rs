//! The header of an NPY file: what its numbers are, how they lie, and where they begin.
//!
//! Read by hand, as what is allowed is a dictionary of three keys. The crates that would do it
//! (`ndarray-npy` 0.10, `npyz` 0.9) take memory for as long a header as the file says it has, up to
//! 4 GiB, read any literal of Python in it, and need a C compiler for what guards their stack.

use crate::NumberType;
use crate::data::error::DataError;
use crate::data::mapped::ArrayLayout;
use crate::data::numbers::ByteOrder;
use brigade_layer::Shape;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy reads no longer ones either.
const MOST_BYTES: usize = 10_000;

/// What the header of an NPY file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// What its numbers are.
    pub number_type: NumberType,
    /// Its axes, in the order of C.
    pub shape: Shape,
    /// Where the numbers begin, in bytes.
    pub start: usize,
}

impl NpyHeader {
    /// Reads the header of a file, of which at least that is there. Versions 1 to 3.
    ///
    /// # Errors
    /// [`DataError::Array`] when it is none, or of a kind that is not read: structures, complex
    /// numbers, half precision, big-endian numbers, the order of Fortran, more than six axes.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, DataError> {
        Self::read(bytes).map_err(|problem| DataError::array(path, problem))
    }

    /// Where the numbers end, in bytes.
    pub fn end(&self) -> Option<usize> {
        self.layout().end()
    }

    pub(super) fn layout(&self) -> ArrayLayout {
        ArrayLayout {
            shape: self.shape,
            number_type: self.number_type,
            order: ByteOrder::Little,
            start: self.start,
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let (text, start) = text(bytes)?;
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let mut rest = Reader(text);
        rest.expect('{')?;
        while !rest.take('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            let twice = match key {
                "descr" => descr.replace(rest.descr()?).is_some(),
                "fortran_order" => fortran.replace(rest.truth()?).is_some(),
                "shape" => shape.replace(rest.shape()?).is_some(),
                other => return Err(format!("its header has a key {other:?}")),
            };
            if twice {
                return Err(format!("its header has {key} twice"));
            }
            if !rest.take(',') {
                rest.expect('}')?;
                break;
            }
        }
        rest.end()?;
        let missing = |key: &str| format!("its header has no {key}");
        let shape: Vec<usize> = shape.ok_or_else(|| missing("shape"))?;
        let number_type = number_type(descr.ok_or_else(|| missing("descr"))?)?;
        let fortran = fortran.ok_or_else(|| missing("fortran_order"))?;
        if fortran && shape.iter().filter(|axis| **axis != 1).count() > 1 {
            let problem = "it is in Fortran's order; save numpy.ascontiguousarray of it";
            return Err(problem.into());
        }
        let shape = Shape::new(&shape).map_err(|error| error.to_string())?;
        Ok(Self {
            number_type,
            shape,
            start,
        })
    }
}

/// The dictionary, and where it ends in the file.
fn text(bytes: &[u8]) -> Result<(&str, usize), String> {
    let cut_off = || "its header is cut off".to_owned();
    let rest = bytes.strip_prefix(MAGIC);
    let rest = rest.ok_or("it does not begin with \\x93NUMPY; save it with numpy.save")?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(cut_off)?;
    let (len, rest) = match version {
        [1, 0] => {
            let (len, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        [2 | 3, 0] => {
            let (len, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        [major, minor, ..] => {
            return Err(format!("it is of version {major}.{minor}, not 1.0 to 3.0"));
        }
        _ => return Err(cut_off()),
    };
    if len > MOST_BYTES {
        let problem = format!("its header has {len} bytes; the most is {MOST_BYTES}");
        return Err(problem);
    }
    let text = rest.get(..len).ok_or_else(cut_off)?;
    let text = str::from_utf8(text).map_err(|_| "its header is no text".to_owned())?;
    Ok((text, bytes.len() - rest.len() + len))
}

fn number_type(descr: &str) -> Result<NumberType, String> {
    let other = || {
        let known = "f4, f8, i1 to i8 and u1 to u4 are";
        format!("its numbers are of type {descr:?}; {known}, convert it with .astype('<f4')")
    };
    let (order, name) = descr.split_at_checked(1).ok_or_else(other)?;
    let known = NumberType::of_numpy(name).ok_or_else(other)?;
    match order {
        "<" => Ok(known),
        "|" | ">" | "=" if known.size_bytes() == 1 => Ok(known),
        ">" => Err(format!(
            "its numbers are big-endian; convert it with .astype('<{name}')"
        )),
        _ => Err(other()),
    }
}

/// What of the dictionary was not read yet.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let rest = self.0.strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn wrong(&self, wanted: &str) -> String {
        let found: String = self.0.chars().take(20).collect();
        format!("its header has {found:?} where {wanted} should be")
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(self.wrong(&wanted.to_string())),
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        self.skip_blanks();
        let quote = self.0.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let read = quote.and_then(|quote| self.0[1..].split_once(quote));
        let (text, rest) = read.ok_or_else(|| self.wrong("a text in quotes"))?;
        self.0 = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<&'a str, String> {
        if self.take('[') {
            return Err("it is of structures; save each field by itself".into());
        }
        self.string()
    }

    fn truth(&mut self) -> Result<bool, String> {
        self.skip_blanks();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(self.wrong("True or False"))
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let mut axes = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.skip_blanks();
            let digits = self.0.len()
                - self
                    .0
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .len();
            let (number, rest) = self.0.split_at(digits);
            let number = number.parse().map_err(|_| self.wrong("a size"))?;
            axes.push(number);
            // As Python 2 writes it.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(axes)
    }

    fn end(&mut self) -> Result<(), String> {
        self.skip_blanks();
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(self.wrong("its end")),
        }
    }
}
