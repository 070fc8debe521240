//! A GPT-2 decoder trained with burn on its processor backend `flex`.

mod common;

use burn::module::{Initializer, Module};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams};
use burn::tensor::activation::gelu_approximate;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::Sizes;

const NORMAL: Initializer = Initializer::Normal {
    mean: 0.0,
    std: 0.02,
};

#[derive(Module, Debug)]
struct Block {
    before_attention: LayerNorm,
    mix: Linear,
    joined: Linear,
    before_mlp: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
}

impl Block {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let width = sizes.width;
        let norm = || LayerNormConfig::new(width).init(device);
        let linear = |inputs, outputs| {
            let config = LinearConfig::new(inputs, outputs).with_initializer(NORMAL);
            config.init(device)
        };
        Self {
            before_attention: norm(),
            mix: linear(width, 3 * width),
            joined: linear(width, width),
            before_mlp: norm(),
            widen: linear(width, 4 * width),
            narrow: linear(4 * width, width),
            heads: sizes.heads,
        }
    }

    fn forward(&self, stream: Tensor<3>) -> Tensor<3> {
        let [rows, length, width] = stream.dims();
        let mixed = self
            .mix
            .forward(self.before_attention.forward(stream.clone()));
        let [queries, keys, values] = [0, 1, 2].map(|part| {
            let columns = part * width..(part + 1) * width;
            let own = mixed.clone().slice([0..rows, 0..length, columns]);
            own.reshape([rows, length, self.heads, width / self.heads])
                .swap_dims(1, 2)
        });
        let causal = AttentionModuleOptions {
            is_causal: true,
            ..Default::default()
        };
        let seen = attention(queries, keys, values, None, None, causal);
        let seen = seen.swap_dims(1, 2).reshape([rows, length, width]);
        let stream = stream + self.joined.forward(seen);
        let wide = self.widen.forward(self.before_mlp.forward(stream.clone()));
        stream + self.narrow.forward(gelu_approximate(wide))
    }
}

#[derive(Module, Debug)]
struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let table = |rows| {
            let config = EmbeddingConfig::new(rows, sizes.width).with_initializer(NORMAL);
            config.init(device)
        };
        let head = LinearConfig::new(sizes.width, sizes.vocab).with_bias(false);
        Self {
            tokens: table(sizes.vocab),
            positions: table(sizes.context),
            blocks: (0..sizes.layers)
                .map(|_| Block::new(sizes, device))
                .collect(),
            norm: LayerNormConfig::new(sizes.width).init(device),
            head: head.with_initializer(NORMAL).init(device),
        }
    }

    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = ids.dims();
        let places = Tensor::arange(0..length as i64, &ids.device()).unsqueeze::<2>();
        let mut stream = self.tokens.forward(ids) + self.positions.forward(places);
        for block in &self.blocks {
            stream = block.forward(stream);
        }
        self.head.forward(self.norm.forward(stream))
    }
}

fn main() {
    let sizes = Sizes::from_command_line();
    let device = Device::flex().autodiff();
    let mut gpt = Gpt::new(&sizes, &device);
    let config = AdamWConfig::new().with_beta_2(0.99).with_epsilon(1e-8);
    let mut optimizer = config.with_weight_decay(0.1).init();
    let loss_of = CrossEntropyLossConfig::new().init(&device);
    let (rows, length) = (sizes.micro_batch_size, sizes.context);
    common::train(&sizes, |tokens| {
        let (mut total, mut sums) = (0.0, GradientsAccumulator::new());
        for _ in 0..sizes.micro_batches() {
            let (inputs, targets) = tokens.micro_batch(&sizes);
            let ids = Tensor::from_data(TensorData::new(inputs, [rows, length]), &device);
            let wanted = Tensor::from_data(TensorData::new(targets, [rows * length]), &device);
            let logits = gpt.forward(ids).reshape([rows * length, sizes.vocab]);
            let loss = loss_of.forward(logits, wanted) / sizes.micro_batches() as f32;
            total += loss.clone().into_scalar::<f32>();
            let gradients = GradientsParams::from_grads(loss.backward(), &gpt);
            sums.accumulate(&gpt, gradients);
        }
        gpt = optimizer.step(1e-3, gpt.clone(), sums.grads());
        total
    });
}
