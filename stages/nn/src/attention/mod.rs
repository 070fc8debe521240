//! Attention: of queries, keys and values side by side, and with the projections that make them.

mod cache;
mod causal;
mod causal_self;
mod grouped;
mod grouped_layer;
mod mixing;
mod multi_head;
mod multi_head_layer;
mod sizes;

pub use causal::{CausalAttention, CausalAttentionLayer};
pub use causal_self::CausalSelfAttention;
pub use grouped::GroupedQueryAttention;
pub use grouped_layer::GroupedQueryAttentionLayer;
pub use multi_head::MultiHeadAttention;
pub use multi_head_layer::MultiHeadAttentionLayer;
