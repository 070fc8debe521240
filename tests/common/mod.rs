//! What the tests share: small layers, data, and runs.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod fitting;
pub mod history;
pub mod independence;
pub mod planning;
pub mod precisions;

use brigade::ids::NodeCount;
use brigade::layer::*;
use brigade::schedule::Schedule;
use brigade::{Config, Cuts, Plan, PlanError, ScheduleKind, Trainer, nn};
use rayon::prelude::*;
use std::ops::Range;
use std::time::Duration;

/// Rows of numbers that follow from their position alone.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub rows: usize,
    pub inputs: usize,
    pub targets: usize,
}

impl Numbers {
    fn tensor(
        &self,
        name: &str,
        step: StepId,
        rows: Range<usize>,
        width: usize,
    ) -> Result<Tensors, LayerError> {
        let random = Random::named(9, name);
        let count = rows.len();
        let values = rows
            .flat_map(|row| (0..width).map(move |column| (row, column)))
            .map(|(row, column)| {
                unit_f32(random.words(row as u64, step.get() as u32, column as u32)[0]) - 0.5
            })
            .collect();
        Ok(Tensor::from_vec([count, width], values)?.into())
    }
}

impl Data for Numbers {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.tensor("inputs", step, rows, self.inputs)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.tensor("targets", step, rows, self.targets)
    }
}

/// Rows of token ids.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub rows: usize,
    pub context: usize,
    pub vocab: u64,
}

impl Tokens {
    fn tensor(
        &self,
        shift: usize,
        step: StepId,
        rows: Range<usize>,
    ) -> Result<Tensors, LayerError> {
        let random = Random::named(4, "tokens");
        let (count, context) = (rows.len(), self.context);
        let ids = rows
            .flat_map(|row| (0..context).map(move |at| (row, at + shift)))
            .map(|(row, at)| {
                random.below(row as u64 + 1000 * step.get(), at as u32, self.vocab) as i32
            })
            .collect();
        Ok(Tensor::from_vec([count, context], ids)?.into())
    }
}

impl Data for Tokens {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.tensor(0, step, rows)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.tensor(1, step, rows)
    }
}

/// A job on the threads of a node.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// One of many that are waited for.
    WaitedFor,
    /// One that nobody waits for.
    LeftAlone,
}

impl Job {
    fn panics(self) {
        let breaks = |job| assert!(job != 5, "a job breaks");
        match self {
            Self::WaitedFor => (0..9).into_par_iter().for_each(breaks),
            Self::LeftAlone => rayon::spawn(move || breaks(5)),
        }
    }
}

/// What a [`Toy`] does beside passing on the sum of its inputs.
#[derive(Clone, Debug, Default)]
pub struct Toy {
    pub sleep: [Duration; 3],
    pub panics_at_step: Option<u64>,
    pub panics_in_a_job: Option<Job>,
    pub asks_for_bytes: usize,
    pub forgets_gradient: bool,
    /// In this step and micro-batch it passes on nothing but numbers that are none.
    pub not_a_number_at: Option<(u64, u32)>,
    /// In this step its own gradient is infinite, where it has parameters.
    pub infinite_gradient_at: Option<u64>,
    pub params: usize,
    pub untrained: bool,
    /// Counts its forward passes in training in its parameters, which are not trained.
    pub counts: bool,
}

pub struct ToyLayer {
    toy: Toy,
    params: Vec<Param>,
    inputs: usize,
}

impl LayerSpec for Toy {
    type Layer = ToyLayer;
    fn params(&self) -> Vec<ParamSpec> {
        let name = |n| ParamSpec::new(&format!("p{n}"), [3], ParamRole::Weight, Init::Ones);
        let params = (0..self.params).map(name);
        params
            .map(|param| {
                if self.untrained || self.counts {
                    param.untrained()
                } else {
                    param
                }
            })
            .collect()
    }
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![inputs[0]])
    }
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        Cost {
            forward_flops: 1,
            input_flops: 1,
            weight_flops: 1,
            forward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }
    fn build(&self, cx: &BuildCtx<'_>) -> Result<ToyLayer, LayerError> {
        let params = self
            .params()
            .iter()
            .map(|spec| Param::build(spec, cx))
            .collect::<Result<_, _>>()?;
        Ok(ToyLayer {
            toy: self.clone(),
            params,
            inputs: 0,
        })
    }
}

impl Layer for ToyLayer {
    type Stash = ();
    type Kept = ();
    fn forward(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        self.inputs = inputs.len();
        std::thread::sleep(self.toy.sleep[0]);
        assert!(
            self.toy.panics_at_step != Some(cx.step.get()),
            "the toy breaks"
        );
        self.toy.panics_in_a_job.into_iter().for_each(Job::panics);
        if self.toy.asks_for_bytes > 0 {
            cx.f32([self.toy.asks_for_bytes / 4])?;
        }
        let mut inputs = inputs;
        let first = inputs.remove(0).ok_or(LayerError::Missing { index: 0 })?;
        let mut sum = cx.writable::<f32>(first)?;
        for number in 1..self.inputs {
            let more = inputs
                .remove(number)
                .ok_or(LayerError::Missing { index: number })?;
            sum.data()
                .iter_mut()
                .zip(more.f32()?)
                .for_each(|(sum, more)| *sum += more);
        }
        if self.toy.counts && cx.mode == Mode::Train {
            for param in &mut self.params {
                let mut values = param.value().to_vec();
                values[0] += 1.0;
                param.write(Part::Value, &values, cx.pool())?;
            }
        }
        if self.toy.not_a_number_at == Some((cx.step.get(), cx.micro_batch.get())) {
            sum.data().fill(f32::NAN);
        }
        Ok((sum.freeze().into(), ()))
    }
    fn backward_input(
        &mut self,
        gradients: Tensors,
        (): (),
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        std::thread::sleep(self.toy.sleep[1]);
        let [dy] = gradients.take()?;
        let mut all = Tensors::none();
        for input in 0..self.inputs {
            all.push((cx.wants_gradient(input) && !self.toy.forgets_gradient).then(|| dy.clone()))?;
        }
        Ok((all, ()))
    }
    fn backward_weight(&mut self, (): (), cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        std::thread::sleep(self.toy.sleep[2]);
        let infinite = self.toy.infinite_gradient_at == Some(cx.step.get());
        for param in { self.params.iter_mut() }.filter(|_| !self.toy.untrained && !self.toy.counts)
        {
            param.gradient_add(cx.pool())?[0] += if infinite { f32::INFINITY } else { 1.0 };
        }
        Ok(())
    }
    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.params.iter_mut().for_each(|param| visit(param));
    }
}

pub fn toy() -> Toy {
    Toy::default()
}

/// A chain of small linear layers with one toy in the middle.
pub fn chain_with(toy: Toy) -> Network {
    chain_to(toy, nn::MeanSquaredError).build().unwrap()
}

/// As [`chain_with`], to this loss.
pub fn chain_to(toy: Toy, loss: impl LayerSpec) -> NetworkBuilder {
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", nn::Linear::new(6, 6))
        .layer("b", nn::Linear::new(6, 6))
        .layer("toy", toy)
        .layer("c", nn::Linear::new(6, 6))
        .layer("d", nn::Linear::new(6, 6))
        .loss("loss", loss)
}

pub fn numbers(rows: usize) -> Numbers {
    Numbers {
        rows,
        inputs: 6,
        targets: 6,
    }
}

pub fn config(nodes: usize) -> Config {
    Config {
        nodes,
        batch_size: 13,
        micro_batch_size: 3,
        deadline_s: 20.0,
        ..Config::default()
    }
}

/// A small tied GPT with dropout: 8 layers.
pub fn small() -> nn::Gpt {
    nn::Gpt {
        vocab: 29,
        context: 8,
        width: 16,
        heads: 2,
        blocks: 2,
        tied: true,
        biases: true,
        dropout: 0.1,
        ..nn::Gpt::default()
    }
}

/// It, and data for it.
pub fn small_gpt() -> (Network, Tokens) {
    (
        small().network().unwrap(),
        Tokens {
            rows: 13,
            context: 8,
            vocab: 29,
        },
    )
}

pub fn adamw() -> nn::AdamW {
    nn::AdamW {
        lr: 1e-2.into(),
        weight_decay: 0.1,
        ..nn::AdamW::default()
    }
}

/// Everything that must not depend on how a network is cut and run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub sha256: String,
    pub losses: Vec<u64>,
    pub norms: Vec<u64>,
    pub evaluation: u64,
    pub file: Vec<u8>,
}

/// Trains, evaluates, and returns all bits that came out.
pub fn train<D: Data + Clone>(
    network: &Network,
    config: &Config,
    steps: usize,
    data: &D,
) -> Outcome {
    let mut trainer = Trainer::start(network, config, adamw()).unwrap();
    let reports: Vec<_> = (0..steps).map(|_| trainer.step(data).unwrap()).collect();
    let weights = trainer.weights().unwrap();
    assert_eq!(weights.sha256(), trainer.weights_sha256().unwrap());
    Outcome {
        sha256: weights.sha256(),
        losses: reports.iter().map(|report| report.loss.to_bits()).collect(),
        norms: reports
            .iter()
            .map(|report| report.gradient_norm.to_bits())
            .collect(),
        evaluation: trainer.evaluate(data).unwrap().loss.to_bits(),
        file: weights.to_safetensors().unwrap(),
    }
}

/// Whether the schedule can order so many micro-batches on so many nodes, and the network has a
/// layer for every stage.
pub fn is_legal(network: &Network, config: &Config) -> bool {
    match Plan::new(network, config, &adamw()) {
        Ok(_) => true,
        Err(PlanError::Illegal { .. } | PlanError::TooManyStages { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Every schedule on so many stages, one or two on a node, as it needs them.
pub fn on_stages(stages: usize) -> Vec<(ScheduleKind, usize)> {
    let nodes = |kind: ScheduleKind| match kind.place(NodeCount::new(1), Some(1)) {
        Ok(_) if !kind.takes_any_chunks() => Some(stages),
        _ => stages.is_multiple_of(2).then_some(stages / 2),
    };
    let all = ScheduleKind::ALL.into_iter();
    all.filter_map(|kind| Some((kind, nodes(kind)?))).collect()
}

pub fn with(nodes: usize, schedule: ScheduleKind, cuts: Cuts, threads: usize) -> Config {
    Config {
        schedule,
        cuts,
        threads_per_node: threads,
        clip: Some(0.5),
        ..config(nodes)
    }
}
