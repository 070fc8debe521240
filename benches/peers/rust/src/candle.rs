//! A GPT-2 decoder trained with candle on the processor.

mod common;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use candle_nn::{loss, ops};
use common::Sizes;

/// All variables in one list, which the optimizer takes.
struct Parameters {
    all: Vec<Var>,
    device: Device,
}

impl Parameters {
    fn add(&mut self, start: Tensor) -> Result<Tensor> {
        let var = Var::from_tensor(&start)?;
        self.all.push(var.clone());
        Ok(var.as_tensor().clone())
    }

    fn normal(&mut self, outputs: usize, inputs: usize) -> Result<Tensor> {
        let start = Tensor::randn(0.0f32, 0.02, (outputs, inputs), &self.device)?;
        self.add(start)
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = self.normal(outputs, inputs)?;
        let zeros = Tensor::zeros(outputs, DType::F32, &self.device)?;
        let bias = self.add(zeros)?;
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, width: usize) -> Result<Norm> {
        let ones = Tensor::ones(width, DType::F32, &self.device)?;
        let zeros = Tensor::zeros(width, DType::F32, &self.device)?;
        let (weight, bias) = (self.add(ones)?, self.add(zeros)?);
        Ok(Norm { weight, bias })
    }
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Of rows.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

/// Of parts that know their way back: candle's own layer norm has none.
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        let x = x.broadcast_div(&deviation)?;
        x.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

struct Block {
    before_attention: Norm,
    mix: Linear,
    joined: Linear,
    before_mlp: Norm,
    widen: Linear,
    narrow: Linear,
}

struct Gpt {
    sizes: Sizes,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    head: Tensor,
    /// What is added to a query's product with a key: nothing, or so much less than nothing that
    /// it does not see it.
    mask: Tensor,
}

impl Gpt {
    fn new(sizes: Sizes, parameters: &mut Parameters) -> Result<Self> {
        let (width, length) = (sizes.width, sizes.context);
        let tokens = parameters.normal(sizes.vocab, width)?;
        let positions = parameters.normal(length, width)?;
        let mut blocks = Vec::new();
        for _ in 0..sizes.layers {
            blocks.push(Block {
                before_attention: parameters.norm(width)?,
                mix: parameters.linear(width, 3 * width)?,
                joined: parameters.linear(width, width)?,
                before_mlp: parameters.norm(width)?,
                widen: parameters.linear(width, 4 * width)?,
                narrow: parameters.linear(4 * width, width)?,
            });
        }
        let hidden = |at: usize| {
            if at % length > at / length {
                -1e9f32
            } else {
                0.0
            }
        };
        let mask: Vec<f32> = (0..length * length).map(hidden).collect();
        Ok(Self {
            tokens,
            positions,
            blocks,
            norm: parameters.norm(width)?,
            head: parameters.normal(sizes.vocab, width)?,
            mask: Tensor::from_vec(mask, (length, length), &parameters.device)?,
            sizes,
        })
    }

    fn attention(&self, mixed: &Tensor) -> Result<Tensor> {
        let Sizes {
            heads,
            context,
            width,
            ..
        } = self.sizes;
        let rows = mixed.dim(0)? / context;
        let split = mixed.reshape((rows, context, 3, heads, width / heads))?;
        let part = |part: usize| {
            split
                .narrow(2, part, 1)?
                .squeeze(2)?
                .transpose(1, 2)?
                .contiguous()
        };
        let scale = ((width / heads) as f64).sqrt();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / scale)?;
        let shares = ops::softmax(&scores.broadcast_add(&self.mask)?, D::Minus1)?;
        let seen = shares.matmul(&part(2)?)?.transpose(1, 2)?;
        seen.reshape((rows * context, width))
    }

    /// Logits of every token, in rows.
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let Sizes { context, width, .. } = self.sizes;
        let rows = ids.dim(0)? / context;
        let seen = self
            .tokens
            .index_select(ids, 0)?
            .reshape((rows, context, width))?;
        let seen = seen.broadcast_add(&self.positions)?;
        let mut stream = seen.reshape((rows * context, width))?;
        for block in &self.blocks {
            let mixed = block
                .mix
                .forward(&block.before_attention.forward(&stream)?)?;
            stream = (&stream + block.joined.forward(&self.attention(&mixed)?)?)?;
            let wide = block.widen.forward(&block.before_mlp.forward(&stream)?)?;
            stream = (&stream + block.narrow.forward(&wide.gelu()?)?)?;
        }
        self.norm.forward(&stream)?.matmul(&self.head.t()?)
    }
}

fn main() -> Result<()> {
    let sizes = Sizes::from_command_line();
    let device = Device::Cpu;
    let mut parameters = Parameters {
        all: Vec::new(),
        device: device.clone(),
    };
    let gpt = Gpt::new(sizes, &mut parameters)?;
    let params = ParamsAdamW {
        lr: 1e-3,
        beta2: 0.99,
        weight_decay: 0.1,
        ..ParamsAdamW::default()
    };
    let mut optimizer = AdamW::new(parameters.all.clone(), params)?;
    let mut step = |tokens: &mut common::Tokens| -> Result<f32> {
        let (mut total, mut sums) = (0.0, None);
        for _ in 0..sizes.micro_batches() {
            let (inputs, targets) = tokens.micro_batch(&sizes);
            let to_tensor = |ids: Vec<i32>| {
                let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
                Tensor::new(ids, &device)
            };
            let logits = gpt.forward(&to_tensor(inputs)?)?;
            let loss = loss::cross_entropy(&logits, &to_tensor(targets)?)?;
            let loss = (loss / sizes.micro_batches() as f64)?;
            total += loss.to_scalar::<f32>()?;
            let gradients = loss.backward()?;
            let Some(mut sum) = sums.take() else {
                sums = Some(gradients);
                continue;
            };
            add(&mut sum, &gradients, &parameters.all)?;
            sums = Some(sum);
        }
        if let Some(sums) = sums {
            optimizer.step(&sums)?;
        }
        Ok(total)
    };
    let mut failed = None;
    common::train(&sizes, |tokens| {
        step(tokens).unwrap_or_else(|error| {
            failed = Some(error);
            f32::NAN
        })
    });
    failed.map_or(Ok(()), Err)
}

fn add(
    sum: &mut candle_core::backprop::GradStore,
    gradients: &candle_core::backprop::GradStore,
    all: &[Var],
) -> Result<()> {
    for var in all {
        if let (Some(one), Some(other)) = (sum.get(var), gradients.get(var)) {
            let both = (one + other)?;
            sum.insert(var, both);
        }
    }
    Ok(())
}
