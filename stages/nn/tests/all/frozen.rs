//! A frozen layer passes on the same bits, keeps nothing for W, and has no gradient.

use crate::bench::{PLAIN, pass, wave};
use brigade_layer::{Ctx, LayerState, Network, Pool, Tensors};
use brigade_nn::{Gpt, Llama};

#[test]
fn frozen_layers_pass_on_the_same_gradients_and_keep_nothing() {
    let gpt = Gpt {
        vocab: 29,
        context: 8,
        width: 16,
        heads: 2,
        blocks: 1,
        tied: false,
        biases: true,
        dropout: 0.2,
        ..Gpt::default()
    };
    let llama = Llama {
        vocab: 29,
        context: 8,
        width: 16,
        inner: 40,
        heads: 4,
        kv_heads: 2,
        head_width: 6,
        blocks: 1,
        tied: false,
        dropout: 0.2,
        ..Llama::default()
    };
    for network in [gpt.network().unwrap(), llama.network().unwrap()] {
        but_for_the_first_layer(&network);
    }
}

fn but_for_the_first_layer(whole: &Network) {
    let first = &whole.layers()[0].key;
    let frozen = whole.freeze(|key| key != first).unwrap();
    let layers = whole
        .enumerate()
        .skip(1)
        .zip(frozen.layers().iter().skip(1));
    for ((index, layer), still) in layers.filter(|(_, still)| still.key != "loss") {
        let key = &still.key;
        let inputs: Tensors = wave([3, 8, 16], 0.7).into();
        let both = [layer, still]
            .map(|layer| pass(layer.spec.as_ref(), &[], &inputs, None, PLAIN).unwrap());
        assert_eq!(both[0].outputs, both[1].outputs, "{key}");
        assert_eq!(both[0].input_gradients, both[1].input_gradients, "{key}");
        let zero = |gradient: &Vec<f32>| gradient.iter().all(|value| *value == 0.0);
        assert!(!both[0].param_gradients.values().all(zero), "{key}");
        assert!(both[1].param_gradients.values().all(zero), "{key}");

        let (pool, mut state) = (Pool::default(), LayerState::default());
        let build = frozen.build_ctx(index, &pool, 1);
        let mut built = still.spec.build_any(&build).unwrap();
        let mut slot = built.slot();
        let mut cx = Ctx::new(&pool, &mut state);
        let outputs = built.f(inputs, &mut slot, &mut cx).unwrap();
        assert!(slot.bytes() > 0, "{key}");
        built.i(outputs, &mut slot, &mut cx).unwrap();
        assert_eq!(slot.bytes(), 0, "{key}");
        built.w(&mut slot, &mut cx).unwrap();
        built.visit_params(&mut |param| {
            let (info, bytes) = (param.info(), param.bytes());
            assert!(
                !info.trains && bytes.gradient == 0 && bytes.value > 0,
                "{info:?}"
            );
        });
    }
}
