//! Promise: sizes that no machine has are refused, or planned with numbers that are right: nothing
//! is counted with overflow, and lists of gigabytes are not begun.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::layer::{Network, Precision, Random, TensorSpec};
use brigade::nn::{AdamW, Gpt, Linear, MeanSquaredError};
use brigade::{Config, Plan, PlanError, Recompute, ScheduleKind};

#[test]
fn lists_of_more_than_gigabytes_are_refused() {
    let config = Config {
        nodes: 2000,
        batch_size: 65_536,
        micro_batch_size: 1,
        ..Config::default()
    };
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(
        error,
        "nodes is 2000; it must be at most 128 for 65536 micro-batches"
    );
    let config = Config {
        nodes: 65_536,
        chunks: Some(65_536),
        ..Config::default()
    };
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(
        error,
        "nodes is 65536; it must be at most 16 for 8 micro-batches"
    );
    let config = Config {
        nodes: 65_536,
        batch_size: 128,
        micro_batch_size: 1,
        ..Config::default()
    };
    config.validate().unwrap();
}

/// Sizes whose products no integer holds.
#[test]
fn networks_beyond_counting_are_refused() {
    let most = usize::MAX;
    let gpt = |vocab, context, width, heads, blocks| Gpt {
        vocab,
        context,
        width,
        heads,
        blocks,
        ..Gpt::default()
    };
    for (gpt, says) in [
        (gpt(most, 4, 4, 1, 1), "vocab is 18446744073709551615"),
        (gpt(4, most, 4, 1, 1), "between 1 and 16777216"),
        (gpt(4, 4, most, 1, 1), "between 1 and 1048576"),
        (gpt(4, 4, 4, most, 1), "heads is"),
        (gpt(4, 4, 4, 1, most), "the most is 100000"),
    ] {
        let error = gpt.network().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // As large as may be: what is too much is said when rows come to it.
    let large = gpt(i32::MAX as usize, 1 << 24, 1 << 20, 1, 2).network();
    let config = Config {
        batch_size: 1 << 30,
        micro_batch_size: 1 << 30,
        node_memory_bytes: Some(1 << 40),
        ..Config::default()
    };
    let error = match &large {
        Ok(network) => Plan::new(network, &config, &AdamW::new(1e-3)).unwrap_err(),
        Err(error) => PlanError::from(error.clone()),
    };
    assert!(
        error
            .to_string()
            .contains("more than 281474976710656 elements"),
        "{error}"
    );
    // Each may be, all together not.
    let mut builder = Network::builder()
        .input(TensorSpec::f32([4]))
        .target(TensorSpec::f32([4]));
    for layer in 0..10 {
        let wide = 1 << 56;
        let (inputs, outputs) = if layer % 2 == 0 { (4, wide) } else { (wide, 4) };
        builder = builder.layer(
            &layer.to_string(),
            Linear::new(inputs, outputs).without_bias(),
        );
    }
    let error = builder
        .loss("loss", MeanSquaredError)
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("take more than 4611686018427387904 bytes"),
        "{error}"
    );
}

/// All sizes that may be asked for, most of which no machine has.
#[test]
fn what_no_machine_has_is_counted_without_overflow() {
    let random = Random::named(3, "sizes");
    let (mut planned, mut refused) = (0, 0);
    for case in 0..3000 {
        let power = |draw, most: u64| 1usize << random.below(case, draw, most + 1);
        let one_of = |draw, most: u64| random.below(case, draw, most) as usize;
        let gpt = Gpt {
            vocab: power(0, 31) - 1 + one_of(1, 2),
            context: power(2, 24),
            width: power(3, 20),
            heads: power(4, 3),
            blocks: one_of(5, 3),
            tied: case % 2 == 0,
            dropout: 0.1,
            ..Gpt::default()
        };
        let batch_size = power(6, 30);
        let precisions = [Precision::F32, Precision::Bf16];
        let kinds = ScheduleKind::ALL;
        let config = Config {
            nodes: 1 + one_of(7, 2),
            batch_size,
            micro_batch_size: (batch_size >> one_of(8, 4)).max(1),
            threads_per_node: power(9, 10),
            precision: precisions[one_of(10, 2)],
            wire: precisions[one_of(11, 2)],
            recompute: [Recompute::Never, Recompute::Always][one_of(12, 2)].clone(),
            schedule: kinds[one_of(13, kinds.len() as u64)],
            ..Config::default()
        };
        let plan = gpt.network().map_err(PlanError::from);
        let plan = plan.and_then(|network| Plan::new(&network, &config, &AdamW::new(1e-3)));
        match plan {
            Ok(_) => planned += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        planned > 500 && refused > 500,
        "{planned} planned, {refused} refused"
    );
}
