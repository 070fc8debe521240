//! Numbers that name things in a network. Every id is a type of its own, so that two cannot be
//! mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The id with this number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number as an index into a list.
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A layer's place in its network, from 0. It never depends on how the network is cut.
    LayerIndex(u32)
}
id! {
    /// A micro-batch within its mini-batch, from 0.
    MicroBatchId(u32)
}
id! {
    /// A training step, from 0.
    StepId(u64)
}
id! {
    /// A shared (tied) parameter: every layer that holds it names the same id.
    SharedId(u32)
}
id! {
    /// An edge of the network's graph: one input of one layer that another layer's output feeds.
    EdgeId(u32)
}
