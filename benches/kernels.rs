//! The kernels one at a time, called through the layers that have them, beside what the machine
//! can do at most.
//!
//! The layers are those of two GPTs and the convolutions of a ResNet-18, taken apart, on one
//! thread; each sees inputs as it sees them in training. A product is counted in floating-point
//! operations and held against the fastest product of this machine; everything else in the least
//! bytes that it must read and write, and held against a copy that fits into no cache. What fits
//! into caches may reach more than that, and so may convolutions that multiply less than their
//! definition, by which they are counted.
//!
//! F of a linear layer is the product `x Wt`, I is `dy W`, W is `dyt x`.
//!
//! `cargo bench --bench kernels`, or with a part of a name: `cargo bench --bench kernels -- gelu`
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::bench::{LayerRun, Layers};
use brigade::layer::{Network, Precision, TensorSpec};
use brigade::nn::{
    Activation, AdamW, CausalAttention, CrossEntropy, Embedding, LayerNorm, Limits, Linear,
    TokenWindows,
};
use convolutions::convolutions;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

#[path = "kernels/convolutions.rs"]
mod convolutions;

/// Sizes of a GPT, with the rows of a micro-batch.
struct Setting {
    name: &'static str,
    vocab: usize,
    width: usize,
    heads: usize,
    context: usize,
    rows: usize,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "S",
        vocab: 512,
        width: 256,
        heads: 4,
        context: 128,
        rows: 4,
    },
    Setting {
        name: "M",
        vocab: 8192,
        width: 512,
        heads: 8,
        context: 256,
        rows: 2,
    },
];

/// Square products of small and of middling size: of these only the layer `proj` is measured.
const SQUARES: [Setting; 2] = [
    Setting {
        name: "64",
        vocab: 64,
        width: 64,
        heads: 1,
        context: 64,
        rows: 1,
    },
    Setting {
        name: "512",
        vocab: 64,
        width: 512,
        heads: 8,
        context: 512,
        rows: 1,
    },
];

/// What one call does at least.
#[derive(Clone, Copy)]
enum Work {
    Flops(usize),
    Bytes(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Forward,
    Input,
    Weight,
    Update,
}

type Runs = BTreeMap<String, LayerRun>;

impl Setting {
    /// The linear layers, with inputs and outputs; biases would count as products.
    fn linears(&self) -> [(&'static str, usize, usize); 5] {
        let width = self.width;
        [
            ("qkv", width, 3 * width),
            ("proj", width, width),
            ("fc", width, 4 * width),
            ("fc_proj", 4 * width, width),
            ("head", width, self.vocab),
        ]
    }

    fn network(&self) -> Network {
        let linears = self.linears().map(|(key, inputs, outputs)| {
            let layer = Linear::new(inputs, outputs).without_bias();
            (key, layer)
        });
        let [qkv, proj, fc, fc_proj, head] = linears;
        let row = TensorSpec::i32([self.context]);
        Network::builder()
            .input(row)
            .target(row)
            .layer("embedding", Embedding::new(self.vocab, self.width))
            .layer("norm", LayerNorm::new(self.width))
            .layer(qkv.0, qkv.1)
            .layer("attention", CausalAttention::new(self.heads))
            .layer(proj.0, proj.1)
            .layer(fc.0, fc.1)
            .layer("gelu", Activation::GeluTanh)
            .layer(fc_proj.0, fc_proj.1)
            .layer(head.0, head.1)
            .loss("loss", CrossEntropy::new())
            .build()
            .unwrap()
    }

    fn runs(&self, precision: Precision) -> Runs {
        let network = self.network();
        let tokens: Vec<i32> = (0..10_000).map(|n| n * 31 % self.vocab as i32).collect();
        let data = TokenWindows::random(tokens, self.context, self.rows, 1).unwrap();
        let layers = Layers::new(&network, &data, self.rows).unwrap();
        layers
            .precision(precision)
            .map(|run| run.unwrap())
            .map(|run| (run.key().to_owned(), run))
            .collect()
    }

    fn tokens(&self) -> usize {
        self.rows * self.context
    }
}

/// A group of criterion's with the machine's limit, which is printed once something of the group
/// is measured.
struct Group<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    name: &'static str,
    precision: Precision,
    limits: Option<Limits>,
}

impl<'a> Group<'a> {
    fn new(criterion: &'a mut Criterion, name: &'static str, precision: Precision) -> Self {
        Self {
            group: criterion.benchmark_group(name),
            name,
            precision,
            limits: None,
        }
    }

    fn bench(&mut self, setting: &str, run: &mut LayerRun, (pass, work): (Pass, Work)) {
        let (part, throughput) = (pass.name(), work.throughput());
        let id = format!("{setting} {} {part}", run.key());
        // Seconds a call, as criterion came by them.
        let seconds = RefCell::new(Vec::new());
        self.group.throughput(throughput);
        self.group.bench_function(&id, |bencher| {
            bencher.iter_custom(|count| {
                let taken = pass.repeat(run, count);
                seconds
                    .borrow_mut()
                    .push(taken.as_secs_f64() / count as f64);
                taken
            })
        });
        let mut seconds = seconds.into_inner();
        if seconds.is_empty() {
            return;
        }
        seconds.sort_by(f64::total_cmp);
        let name = self.name;
        let limits = self.limits.get_or_insert_with(|| {
            let limits = limits(self.precision);
            println!(
                "{name}: the machine's limits: products {:.0} GFLOP/s, copies {:.1} GB/s",
                limits.product_flops / 1e9,
                limits.memory_bytes / 1e9,
            );
            limits
        });
        let (amount, unit, limit) = match work {
            Work::Flops(flops) => (flops, "GFLOP/s", limits.product_flops),
            Work::Bytes(bytes) => (bytes, "GB/s", limits.memory_bytes),
        };
        let reached = amount as f64 / seconds[seconds.len() / 2];
        println!(
            "{name}/{id}: {:.1} {unit}, {:.0}% of the limit",
            reached / 1e9,
            100.0 * reached / limit
        );
    }
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "F",
            Self::Input => "I",
            Self::Weight => "W",
            Self::Update => "update",
        }
    }

    fn repeat(self, run: &mut LayerRun, count: u64) -> Duration {
        match self {
            Self::Forward => run.forward(count).unwrap(),
            Self::Input => run.backward_input(count).unwrap(),
            Self::Weight => run.backward_weight(count).unwrap(),
            // An update without a gradient would first write one of zeros.
            Self::Update => (0..count)
                .map(|_| {
                    run.once().unwrap();
                    run.update(&AdamW::new(1e-4)).unwrap()
                })
                .sum(),
        }
    }
}

impl Work {
    fn throughput(self) -> Throughput {
        match self {
            Self::Flops(flops) => Throughput::Elements(flops as u64),
            Self::Bytes(bytes) => Throughput::BytesDecimal(bytes as u64),
        }
    }
}

/// The best of three: others use the machine too.
fn limits(precision: Precision) -> Limits {
    let mut limits = Limits::measure(precision);
    for _ in 0..2 {
        let again = Limits::measure(precision);
        limits.product_flops = limits.product_flops.max(again.product_flops);
        limits.memory_bytes = limits.memory_bytes.max(again.memory_bytes);
    }
    limits
}

fn products(criterion: &mut Criterion) {
    for (name, precision) in [
        ("product f32", Precision::F32),
        ("product bf16", Precision::Bf16),
    ] {
        let mut group = Group::new(criterion, name, precision);
        for setting in SETTINGS.iter().chain(&SQUARES) {
            let mut runs = setting.runs(precision);
            for (key, inputs, outputs) in setting.linears() {
                if key != "proj" && SQUARES.iter().any(|square| square.name == setting.name) {
                    continue;
                }
                let run = runs.get_mut(key).unwrap();
                let work = Work::Flops(2 * setting.tokens() * inputs * outputs);
                for pass in [Pass::Forward, Pass::Input, Pass::Weight] {
                    group.bench(setting.name, run, (pass, work));
                }
            }
        }
    }
}

/// Only what the mask lets through is counted: two products there, five back.
fn attention(criterion: &mut Criterion) {
    for (name, precision) in [
        ("attention f32", Precision::F32),
        ("attention bf16", Precision::Bf16),
    ] {
        let mut group = Group::new(criterion, name, precision);
        for setting in &SETTINGS {
            let mut runs = setting.runs(precision);
            let run = runs.get_mut("attention").unwrap();
            let product = setting.tokens() * (setting.context + 1) * setting.width;
            group.bench(setting.name, run, (Pass::Forward, Work::Flops(2 * product)));
            group.bench(setting.name, run, (Pass::Input, Work::Flops(5 * product)));
        }
    }
}

/// A kernel's name, its layer's key, how many numbers it goes through, and what is measured of it
/// with the bytes that each number takes at least.
type Memory = (
    &'static str,
    &'static str,
    fn(&Setting) -> usize,
    &'static [(Pass, usize)],
);

const MEMORY: [Memory; 5] = [
    // The table's rows are read and written; going back, the gradient is read and added to them.
    (
        "embedding",
        "embedding",
        |setting| setting.tokens() * setting.width,
        &[(Pass::Forward, 8), (Pass::Weight, 12)],
    ),
    // I reads x and dy and writes dx; what W wants it finds on the way.
    (
        "layer norm",
        "norm",
        |setting| setting.tokens() * setting.width,
        &[(Pass::Forward, 8), (Pass::Input, 12)],
    ),
    (
        "gelu",
        "gelu",
        |setting| setting.tokens() * 4 * setting.width,
        &[(Pass::Forward, 8), (Pass::Input, 12)],
    ),
    // F only reads, I works in place.
    (
        "cross-entropy",
        "loss",
        |setting| setting.tokens() * setting.vocab,
        &[(Pass::Forward, 4), (Pass::Input, 8)],
    ),
    // Reads weight, gradient and two moments; writes weight and moments.
    (
        "adamw",
        "fc",
        |setting| 4 * setting.width * setting.width,
        &[(Pass::Update, 28)],
    ),
];

fn memory(criterion: &mut Criterion) {
    for (name, key, numbers, parts) in MEMORY {
        let mut group = Group::new(criterion, name, Precision::F32);
        for setting in &SETTINGS {
            let mut runs = setting.runs(Precision::F32);
            let run = runs.get_mut(key).unwrap();
            for (pass, bytes) in parts {
                group.bench(
                    setting.name,
                    run,
                    (*pass, Work::Bytes(bytes * numbers(setting))),
                );
            }
        }
    }
}

/// Some 120 benchmarks in about a minute and a half.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
}

criterion_group! {
    name = benches;
    config = short();
    targets = products, convolutions, attention, memory
}
criterion_main!(benches);
