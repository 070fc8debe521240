//! What will be measured next, and within which bounds? A layer, a loss, a metric and data of one's
//! own, trained over several nodes.
//!
//! | file | what |
//! |---|---|
//! | `adapter.rs` | a layer with two parameters: [`Adapter`] |
//! | `pinball.rs` | a loss: [`Pinball`], with targets that are ignored |
//! | `coverage.rs` | a metric: [`Coverage`] |
//! | `series.rs` | data: [`Series`], a series that is computed where it is asked for |
//! | `main.rs` | a training |

mod adapter;
mod coverage;
mod pinball;
mod series;

pub use adapter::{Adapter, AdapterLayer};
pub use coverage::Coverage;
pub use pinball::{Pinball, PinballLayer};
pub use series::{PAST, Series};

use brigade::layer::{LayerError, Network, TensorSpec};
use brigade::nn::{Activation, Linear};

/// From what was measured to three quantiles of what comes next: a lower bound, the median, an
/// upper bound.
///
/// # Errors
/// None, as long as its layers fit together.
pub fn network() -> Result<Network, LayerError> {
    const WIDTH: usize = 32;
    let adapter = || Adapter::new(WIDTH, 8);
    Network::builder()
        .input(TensorSpec::f32([PAST]))
        .target(TensorSpec::f32([1]))
        .layer("in", Linear::new(PAST, WIDTH))
        .layer("act", Activation::GeluTanh)
        .layer("adapter.0", adapter())
        .layer("adapter.1", adapter())
        .layer("adapter.2", adapter())
        .layer("out", Linear::new(WIDTH, 3))
        .loss("loss", Pinball::new([0.1, 0.5, 0.9]))
        .metric(Coverage)
        .build()
}
