//! What a checkpoint says of itself: one JSON file, written last, with the checksums of all others
//! and its own.

use super::weights_sha256;
use crate::error::Error;
use crate::files::{read_error, write_whole};
use crate::plan::hex;
use brigade_layer::{AnySpec, LayerNode, Network};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The manifest's name within its checkpoint.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The form of the files that this version writes, and the only one that it reads.
pub(super) const FORMAT: u32 = 1;
/// No manifest is longer.
const MOST_BYTES: u64 = 256 << 20;
/// What stands before and behind the checksum, which is that of the whole file with zeros in its
/// place.
const BEFORE: &str = "{\n  \"sha256\": \"";
const AFTER: &str = "\",\n  \"checkpoint\": ";
const END: &str = "\n}\n";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The form of its files.
    pub format: u32,
    /// The version of Brigade that wrote it.
    pub version: String,
    /// Steps done: the position in the schedule of the learning rate, in the data, and in
    /// everything random.
    pub step: u64,
    /// What the numbers depend on beside network and data, by name.
    pub settings: BTreeMap<String, String>,
    /// What the program noted down, by name.
    pub notes: BTreeMap<String, String>,
    /// SHA-256 of the descriptions of all layers.
    pub network: String,
    /// The layers, in order.
    pub layers: Vec<LayerEntry>,
    /// As [`Trainer::weights_sha256`](crate::Trainer::weights_sha256) gives it.
    pub weights_sha256: String,
    /// The files beside it, one for each node that wrote it.
    pub files: Vec<FileEntry>,
}

/// A layer, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerEntry {
    /// Its key.
    pub key: String,
    /// What it is, in the words of its description.
    pub is: String,
}

/// A file of tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// Where its tensors begin: behind its header and the header's length.
    pub start: u64,
    /// SHA-256 of all before that.
    pub header_sha256: String,
    /// Its tensors, in the order of the file.
    pub tensors: Vec<TensorEntry>,
}

/// A tensor of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TensorEntry {
    /// The parameter's key.
    pub key: String,
    /// Which of the optimizer's states it is; without one, the values.
    pub state: Option<String>,
    /// The number of the layer that holds it first.
    pub layer: u32,
    /// Its shape.
    pub shape: Vec<usize>,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

impl TensorEntry {
    /// Its bytes, if they can be counted.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1u64, |product, axis| {
            product.checked_mul(u64::try_from(*axis).ok()?)
        });
        elements?.checked_mul(4)
    }

    /// Its name in the file.
    pub(crate) fn name(&self) -> String {
        match &self.state {
            None => self.key.clone(),
            Some(state) => format!("{}:{state}", self.key),
        }
    }
}

impl Manifest {
    /// Of what nodes wrote after so many steps.
    pub(crate) fn new(step: u64, mut files: Vec<FileEntry>, network: &Network) -> Self {
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let layers = network.layers().iter().map(|layer| LayerEntry {
            key: layer.key.clone(),
            is: format!("{:?}", thawed(layer)),
        });
        let mut hash = Sha256::new();
        for layer in network.layers() {
            let LayerNode {
                key, scope, inputs, ..
            } = layer;
            let spec = thawed(layer);
            hash.update(format!("{key}|{scope}|{spec:?}|{inputs:?}\n").as_bytes());
        }
        let mut manifest = Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            step,
            settings: BTreeMap::new(),
            notes: BTreeMap::new(),
            network: hex(&hash.finalize()),
            layers: layers.collect(),
            weights_sha256: String::new(),
            files,
        };
        manifest.weights_sha256 = manifest.digest();
        manifest
    }

    /// The parameters' values, in layer order.
    pub(crate) fn values(&self) -> Vec<&TensorEntry> {
        let tensors = self.files.iter().flat_map(|file| &file.tensors);
        let mut values: Vec<_> = tensors.filter(|tensor| tensor.state.is_none()).collect();
        // Those of one layer are in one file.
        values.sort_by_key(|tensor| tensor.layer);
        values
    }

    /// The digest of the weights that follows from those of the tensors.
    pub(super) fn digest(&self) -> String {
        let digest = |tensor: &TensorEntry| {
            let mut digest = [0; 32];
            for (byte, two) in digest.iter_mut().zip(tensor.sha256.as_bytes().chunks(2)) {
                let two = std::str::from_utf8(two).unwrap_or_default();
                *byte = u8::from_str_radix(two, 16).unwrap_or(0);
            }
            digest
        };
        weights_sha256(self.values().into_iter().map(digest))
    }

    /// Writes the file whole, and has it on the disk.
    pub(super) fn save(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self);
        let text = text.expect("a manifest has no map with other keys than text");
        let signed = Self::signed(&text.replace('\n', "\n  "));
        let path = folder.join(MANIFEST);
        // What would not be read is not written.
        let readable = match signed.len() as u64 > MOST_BYTES {
            true => Err(format!(
                "longer than {MOST_BYTES} bytes, the most that is read"
            )),
            false => self.sound(),
        };
        readable.map_err(|problem| Error::Write {
            path: path.display().to_string(),
            problem,
        })?;
        write_whole(&path, signed.as_bytes())
    }

    /// What is in the file of a manifest with this text: the text with its checksum.
    #[doc(hidden)]
    pub fn signed(text: &str) -> String {
        let zeros = "0".repeat(64);
        let unsigned = format!("{BEFORE}{zeros}{AFTER}{text}{END}");
        let sum = hex(&Sha256::digest(unsigned.as_bytes()));
        format!("{BEFORE}{sum}{AFTER}{text}{END}")
    }

    /// Reads the file, if not a bit of it has changed.
    pub(super) fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        let fail = |problem: &str| read_error(&path, problem);
        // Opening what is no file may take forever.
        let kind = fs::metadata(&path).map_err(|error| read_error(&path, error))?;
        if !kind.is_file() {
            return Err(fail("it is no file"));
        }
        if kind.len() > MOST_BYTES {
            let problem = format!("longer than {MOST_BYTES} bytes, the most that is read");
            return Err(fail(&problem));
        }
        let mut content = Vec::new();
        let file = File::open(&path).map_err(|error| read_error(&path, error))?;
        { file.take(kind.len()).read_to_end(&mut content) }
            .map_err(|error| read_error(&path, error))?;
        Self::parse(&content).map_err(|problem| fail(&problem))
    }

    /// Reads what is in the file.
    ///
    /// # Errors
    /// When it is not what [`save`](Self::save) wrote: what is wrong.
    #[doc(hidden)]
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        const DAMAGED: &str = "damaged: it is not what its checksum says; use another checkpoint";
        let (before, after) = (BEFORE.len(), BEFORE.len() + 64);
        let whole = content.starts_with(BEFORE.as_bytes())
            && content.get(after..after + AFTER.len()) == Some(AFTER.as_bytes());
        let sum = content.get(before..after).filter(|_| whole);
        let sum = sum.ok_or("no manifest of a checkpoint, or damaged at its beginning")?;
        let mut hash = Sha256::new();
        hash.update(BEFORE.as_bytes());
        hash.update("0".repeat(64).as_bytes());
        hash.update(&content[after..]);
        if hex(&hash.finalize()).as_bytes() != sum {
            return Err(DAMAGED.into());
        }
        let text = content.strip_suffix(END.as_bytes());
        let text = text.and_then(|text| text.get(after + AFTER.len()..));
        let text = text.ok_or(DAMAGED)?;
        // What another version says need not fit this one's form.
        let Form { format, version } =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if format != FORMAT {
            return Err(format!(
                "of form {format}, written by version {version}; this one reads form {FORMAT}"
            ));
        }
        let manifest = serde_json::from_slice::<Self>(text);
        let manifest = manifest.map_err(|error| error.to_string())?;
        manifest.sound()?;
        Ok(manifest)
    }
}

/// Frozen or not, a layer is the same.
fn thawed(layer: &LayerNode) -> &dyn AnySpec {
    let spec = layer.spec.as_ref();
    spec.thawed().unwrap_or(spec)
}

/// What every version's manifest says.
#[derive(Deserialize)]
struct Form {
    format: u32,
    version: String,
}
