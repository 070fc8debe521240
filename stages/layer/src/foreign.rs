//! Parameters under the names that another library gives them.

use serde::{Deserialize, Serialize};

/// A parameter, and the tensor that another library keeps it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignParam {
    /// Its key here.
    pub key: String,
    /// The tensor's name there.
    pub name: String,
    /// Whether rows and columns are exchanged there; only matrices can be.
    pub transposed: bool,
}

/// How another library names the parameters of a network.
///
/// # Example
/// ```
/// use brigade_layer::ForeignNames;
/// let own = ForeignNames::own(["a.weight", "b.weight"]);
/// assert_eq!(own.params[1].name, "b.weight");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignNames {
    /// All parameters, in the order in which they are written.
    pub params: Vec<ForeignParam>,
    /// What names begin with, and may lack where they are read (`transformer.`).
    pub prefix: String,
    /// Tensors that may be there beside the one that they are a copy of, or instead of it: their
    /// name, and that one's.
    pub copies: Vec<(String, String)>,
    /// Ends of the names of tensors that are no parameters, and are not read (`.attn.bias`).
    pub ignored: Vec<String>,
    /// Parameters that are there and not here, with their shapes: they are written as zeros.
    pub zeros: Vec<(String, Vec<usize>)>,
}

impl ForeignNames {
    /// Parameters under their own keys.
    pub fn own(keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let own = |key: String| ForeignParam {
            name: key.clone(),
            key,
            transposed: false,
        };
        Self {
            params: keys.into_iter().map(|key| own(key.into())).collect(),
            ..Self::default()
        }
    }
}
