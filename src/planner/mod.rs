//! What a plan is made for without building any of it: layers and nodes as files describe them,
//! and layouts of stages as text.
//!
//! Whatever is wrong in a file is said with its line: see [`PlanError::File`](crate::PlanError).

mod described;
mod json;
mod layers_file;
pub mod layout_string;
mod nodes_file;
pub mod units;

pub use layers_file::{DescribedLayer, LayersFile};
pub use nodes_file::NodeSpec;
