//! Numbers that name things in a network. Every id is a type of its own, so that two cannot be
//! mixed up.

/// Makes a number a type of its own: an id, or a count.
#[doc(hidden)]
#[macro_export]
macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// With this number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number, to index or size a list with.
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type! {
    /// A layer's place in its network, from 0. It never depends on how the network is cut.
    LayerIndex(u32)
}
number_type! {
    /// A micro-batch within its mini-batch, from 0.
    MicroBatchId(u32)
}
number_type! {
    /// A training step, from 0.
    StepId(u64)
}
number_type! {
    /// A shared (tied) parameter: every layer that holds it names the same id.
    SharedId(u32)
}
number_type! {
    /// An edge of the network's graph: one input of one layer that another layer's output feeds.
    EdgeId(u32)
}
