//! Layers measured as they run in a pipeline: with the caches as the rest of their node leaves
//! them, and with as many at work at once as there are nodes.

use super::scratch::Scratch;
use super::together::{Member, Together};
use super::{LayerProfile, Machine, Profile, SizeProfile, hops, machine};
use super::{estimate, fingerprint, message_bytes, trained_bytes};
use crate::bench::{LayerRun, Machinery, copy, kinds, threads_of_a_node};
use crate::config::Config;
use crate::error::{Error, PlanError};
use crate::process;
use crate::trace::{LayerTime, median};
use brigade_layer::{
    DType, Data, Feed, LayerError, LayerIndex, LayerShapes, Network, Optimizer, Pool, Source,
    StepId, Tensor, TensorSpec, Tensors,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A layer of which one call does more operations, forward and backward, is not measured: it would
/// take longer than anyone waits.
pub const MOST_FLOPS: u64 = 100_000_000_000;
/// Nor is one that takes more memory.
const MOST_BYTES: u64 = 2 << 30;
const MOST_QUICK_BYTES: u64 = 256 << 20;
/// After a call that takes so long, one more is enough.
const LONG: Duration = Duration::from_millis(200);

/// How long measuring may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effort {
    /// A few calls: a third of a second for a small network.
    #[default]
    Quick,
    /// A third of a second for each distinct layer.
    Thorough,
}

impl Effort {
    /// For one of so many distinct layers.
    fn each(self, distinct: usize) -> Duration {
        match self {
            Self::Quick => (Duration::from_millis(200) / distinct.max(1) as u32)
                .clamp(Duration::from_millis(2), Duration::from_millis(30)),
            Self::Thorough => Duration::from_millis(300),
        }
    }

    /// The fewest and the most calls.
    fn calls(self) -> [usize; 2] {
        match self {
            Self::Quick => [3, 25],
            Self::Thorough => [5, 1000],
        }
    }
}

/// What measuring a size needs.
struct Measuring<'a> {
    network: &'a Network,
    optimizer: &'a dyn Optimizer,
    nodes: usize,
    limit: Option<u64>,
    effort: Effort,
    /// As many as measure at once.
    places: &'a [Machinery],
}

/// What was found of one layer.
#[derive(Default)]
struct Found {
    times: Vec<LayerTime>,
    updates: Vec<Duration>,
    parameter_bytes: u64,
    stash_bytes: u64,
    kept_bytes: u64,
    output_bytes: u64,
}

impl Profile {
    /// Measures each distinct layer, built one at a time, with the micro-batch, the threads of a
    /// node and the precision that the configuration says. Layers that are too large for it, or for
    /// a node's memory, are estimated from their operations.
    ///
    /// # Errors
    /// When a layer cannot be built or called.
    pub fn measure(
        network: &Network,
        data: &dyn Data,
        config: &Config,
        optimizer: &dyn Optimizer,
        effort: Effort,
    ) -> Result<Self, Error> {
        let rows = [config.mini_batch().largest()];
        Self::measure_sizes(network, data, config, optimizer, &rows, effort)
    }

    /// As [`measure`](Self::measure), for micro-batches of these sizes.
    ///
    /// # Errors
    /// As [`measure`](Self::measure), and when the data have fewer rows.
    pub fn measure_sizes(
        network: &Network,
        data: &dyn Data,
        config: &Config,
        optimizer: &dyn Optimizer,
        rows: &[usize],
        effort: Effort,
    ) -> Result<Self, Error> {
        config.validate()?;
        let most = data.rows(StepId::new(0));
        let rows: BTreeSet<usize> = rows.iter().copied().collect();
        let bad = |rows: &&usize| !(1..=most).contains(*rows);
        if let Some(rows) = rows.iter().find(bad).or(rows.is_empty().then_some(&0)) {
            return Err(PlanError::TooManyRows { rows: *rows, most }.into());
        }
        let places: Vec<_> = (0..at_once(config)).map(|_| place(config)).collect();
        let places = places.into_iter().collect::<Result<Vec<_>, _>>()?;
        let measuring = Measuring {
            network,
            optimizer,
            nodes: config.nodes,
            limit: config.node_memory_bytes,
            effort,
            places: &places,
        };
        let sizes = rows.iter().map(|rows| measuring.size(data, *rows));
        Ok(Self {
            sizes: sizes.collect::<Result<_, _>>()?,
            links: hops::measured(config)?,
            precision: config.precision,
            threads_per_node: config.threads_per_node,
            machine: Machine::this(),
            measured_at: machine::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: fingerprint(network)?,
        })
    }
}

/// How many layers to measure at once: one for each node of this process, as far as it has cores.
fn at_once(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let nodes = config.nodes.div_ceil(process::count());
    nodes.min(cores / config.threads_per_node).max(1)
}

fn place(config: &Config) -> Result<Machinery, LayerError> {
    Ok(Machinery {
        pool: Pool::new(config.node_memory_bytes),
        threads: threads_of_a_node(config.threads_per_node)?,
        precision: config.precision,
    })
}

impl Measuring<'_> {
    fn size(&self, data: &dyn Data, rows: usize) -> Result<SizeProfile, LayerError> {
        let shapes = self.network.infer(rows)?;
        let described = shapes.iter().enumerate();
        let described: Vec<_> = described
            .map(|(at, shapes)| LayerProfile::described(self.network, at, Some(shapes)))
            .collect();
        let touched = |layer: &LayerProfile| 2 * layer.parameter_bytes + layer.stash_bytes;
        let share = described.iter().map(touched).sum::<u64>() / self.nodes as u64;
        let kinds = kinds(self.network, &shapes);
        let distinct: BTreeSet<_> = kinds.iter().copied().collect();
        let each = self.effort.each(distinct.len());
        let mut found = BTreeMap::new();
        for index in distinct {
            let (described, shapes) = (&described[index.index()], &shapes[index.index()]);
            if !self.fits(described, shapes) {
                continue;
            }
            let rest = share.saturating_sub(touched(described));
            match self.together(data, (index, shapes), rows, (rest, each)) {
                Ok(layer) => {
                    found.insert(index, layer);
                }
                // It will be too much for a plan as well, which says what to change.
                Err(error) if is_memory(&error) => {}
                Err(error) => return Err(error.in_layer(index, &described.key)),
            }
        }
        let layers = described.into_iter().zip(&kinds);
        let layers = layers.map(|(described, kind)| match found.get(kind) {
            Some(found) => found.profile(described.key),
            None => described,
        });
        let mut layers: Vec<_> = layers.collect();
        estimate::fill_in(&mut layers, &shapes, &trained_bytes(self.network));
        Ok(SizeProfile {
            rows,
            layers,
            message_bytes: message_bytes(self.network, &shapes),
            exact: Vec::new(),
        })
    }

    /// Whether a layer is small enough to be measured.
    fn fits(&self, described: &LayerProfile, shapes: &LayerShapes) -> bool {
        let states = 2 + self.optimizer.state_names().len() as u64;
        let inputs: u64 = shapes.inputs.iter().map(TensorSpec::bytes).sum();
        let cost = shapes.cost;
        let works = cost.forward_working_bytes.max(cost.backward_working_bytes);
        let stays = described.parameter_bytes.saturating_mul(states);
        let tensors = inputs.saturating_add(described.output_bytes);
        let bytes = stays.saturating_add(tensors).saturating_add(works);
        let most = match self.effort {
            Effort::Quick => MOST_QUICK_BYTES,
            Effort::Thorough => MOST_BYTES,
        };
        cost.flops() <= MOST_FLOPS && bytes <= self.limit.unwrap_or(u64::MAX).min(most)
    }

    /// A layer on all threads at once, and then nowhere.
    fn together(
        &self,
        data: &dyn Data,
        (index, shapes): (LayerIndex, &LayerShapes),
        rows: usize,
        surroundings: (u64, Duration),
    ) -> Result<Found, LayerError> {
        let inputs = self.inputs(data, index, shapes, rows)?;
        let all = Together::new(self.places.len());
        let found = std::thread::scope(|scope| {
            let alone = |place| {
                let (inputs, member) = (&inputs, all.member());
                let found = self.alone(place, (index, shapes), inputs, surroundings, member);
                place.pool.trim();
                found
            };
            let threads = self
                .places
                .iter()
                .map(|place| scope.spawn(move || alone(place)));
            let threads: Vec<_> = threads.collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Vec<_>>()
        });
        let mut sum = Found::default();
        for found in found {
            let found = found?;
            sum.times.extend(found.times.iter().copied());
            sum.updates.extend(found.updates.iter().copied());
            sum = Found {
                times: sum.times,
                updates: sum.updates,
                ..found
            };
        }
        Ok(sum)
    }

    /// What the data give, and numbers of a usual size in place of what other layers would.
    fn inputs(
        &self,
        data: &dyn Data,
        index: LayerIndex,
        shapes: &LayerShapes,
        rows: usize,
    ) -> Result<Tensors, LayerError> {
        let mut inputs = Tensors::none();
        let sources = self.network.layers()[index.index()].inputs.iter();
        for (source, spec) in sources.zip(&shapes.inputs) {
            let fed = |number: usize, mut all: Tensors| {
                let fed = all.remove(number);
                fed.ok_or(LayerError::Missing { index: number })
            };
            inputs.push(Some(match *source {
                Source::Feed(Feed::Input(number)) => {
                    fed(number, data.inputs(StepId::new(0), 0..rows)?)?
                }
                Source::Feed(Feed::Target(number)) => {
                    fed(number, data.targets(StepId::new(0), 0..rows)?)?
                }
                Source::Output { .. } => usual(*spec)?,
            }))?;
        }
        Ok(inputs)
    }

    /// A layer on one of the threads.
    fn alone(
        &self,
        place: &Machinery,
        (index, shapes): (LayerIndex, &LayerShapes),
        inputs: &Tensors,
        (rest, each): (u64, Duration),
        mut member: Member<'_>,
    ) -> Result<Found, LayerError> {
        let pool = &place.pool;
        pool.reset_peak();
        let mut own = Tensors::none();
        for input in inputs.iter() {
            own.push(input.map(|input| copy(input, pool)).transpose()?)?;
        }
        let mut run = LayerRun::build(self.network, index, shapes, own, place)?;
        // The first calls fill buffers and caches.
        let begun = Instant::now();
        run.once()?;
        let [mut least, most] = self.effort.calls();
        if begun.elapsed() > LONG {
            least = 1;
        }
        let before = pool.report();
        run.update(self.optimizer)?;
        // Later calls find the optimizer's state there.
        let states = pool.report().held_bytes.saturating_sub(before.held_bytes);
        let needed = before.peak_bytes + states;
        let room = self.limit.unwrap_or(u64::MAX).saturating_sub(needed);
        let mut scratch = Scratch::new(pool, rest.min(room));
        let mut found = Found {
            parameter_bytes: run.parameter_bytes(),
            ..Found::default()
        };
        member.ready();
        let begun = Instant::now();
        while found.times.len() < least || found.times.len() < most && begun.elapsed() < each {
            let time = found.call(&mut run, &mut scratch)?;
            found.times.push(time);
        }
        member.done(|| found.call(&mut run, &mut scratch).map(drop))?;
        for _ in 0..least {
            scratch.sweep();
            found.updates.push(run.update(self.optimizer)?);
        }
        Ok(found)
    }
}

impl Found {
    /// F as long after the last call as the rest of the node takes, then B (I and W) likewise. The
    /// inputs are copied in between: whoever made them has just written them.
    fn call(&mut self, run: &mut LayerRun, scratch: &mut Scratch) -> Result<LayerTime, LayerError> {
        scratch.sweep();
        let (forward, outputs) = run.f()?;
        self.output_bytes = outputs.iter().flatten().map(Tensor::bytes).sum();
        drop(outputs);
        self.stash_bytes = run.kept_bytes();
        scratch.sweep();
        let input = run.i()?;
        self.kept_bytes = run.kept_bytes();
        let weight = run.w()?;
        Ok(LayerTime {
            forward,
            input,
            weight,
        })
    }

    fn profile(&self, key: String) -> LayerProfile {
        let middle = |list: Vec<f64>| Duration::from_secs_f64(median(list));
        let of = |part: fn(&LayerTime) -> Duration| {
            let times = self.times.iter().map(part);
            middle(times.map(|time| time.as_secs_f64()).collect())
        };
        LayerProfile {
            key,
            measured: true,
            time: LayerTime {
                forward: of(|time| time.forward),
                input: of(|time| time.input),
                weight: of(|time| time.weight),
            },
            update: middle(self.updates.iter().map(Duration::as_secs_f64).collect()),
            parameter_bytes: self.parameter_bytes,
            stash_bytes: self.stash_bytes,
            kept_bytes: self.kept_bytes,
            output_bytes: self.output_bytes,
        }
    }
}

/// Numbers between -1 and 1, or ids that every table has.
fn usual(spec: TensorSpec) -> Result<Tensor, LayerError> {
    let elements = spec.shape.elements();
    if spec.dtype == DType::I32 {
        return Tensor::from_vec(spec.shape, vec![0i32; elements]);
    }
    let number = |at: usize| ((at * 37 % 101) as f32 - 50.0) / 50.0;
    Tensor::from_vec(spec.shape, (0..elements).map(number).collect())
}

fn is_memory(error: &LayerError) -> bool {
    match error {
        LayerError::OutOfMemory { .. } | LayerError::AllocationRefused { .. } => true,
        LayerError::InLayer { source, .. } => is_memory(source),
        _ => false,
    }
}
