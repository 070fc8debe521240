//! Networks that can only be planned.

use brigade::planner::{DescribedLayer, LayersFile};

/// Layers that take these F, I and W, and hold nothing worth counting.
pub fn described(layers: usize, times: impl Fn(usize) -> [f64; 3]) -> LayersFile {
    let layer = |number: usize| {
        let [forward, backward_input, backward_weight] = times(number);
        DescribedLayer {
            name: format!("l{number}"),
            forward,
            backward_input,
            backward_weight,
            parameter_bytes: 4,
            stash_bytes: 4,
            output_bytes: 4,
            kept_bytes: 4,
            update: 0.0,
            working_bytes: 4,
            inputs: Vec::new(),
        }
    };
    LayersFile {
        layers: (0..layers).map(layer).collect(),
    }
}
