//! Promise: what is one's own obeys the laws of layers and losses, and trains to the same bits on
//! any number of nodes.

use brigade::layer::{Batch, LayerError, Measure, Metric, Tensor, conformance};
use brigade::nn::{AdamW, Batches, Dataset};
use brigade::{Config, Trainer};
use forecast::{Adapter, Coverage, Pinball, Series, network};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Numbers between -1 and 1. They do not begin with 0: two waves would meet there, and where
/// prediction and target are equal the loss has no slope.
fn wave<const N: usize>(shape: [usize; N], factor: f32) -> Result<Tensor, LayerError> {
    let count = shape.iter().product::<usize>();
    let numbers = (1..=count).map(|n| (n as f32 * factor).sin()).collect();
    Tensor::from_vec(shape, numbers)
}

#[test]
fn the_layer_obeys_the_laws_of_layers() -> Result {
    for shape in [[5, 1, 6], [1, 4, 6], [2, 3, 6]] {
        conformance::check(&Adapter::new(6, 2), &wave(shape, 0.7)?.into())?;
    }
    Ok(())
}

#[test]
fn the_loss_obeys_the_laws_of_losses() -> Result {
    let inputs = [wave([6, 3], 0.7)?, wave([6, 1], 1.9)?];
    conformance::check_loss(&Pinball::new([0.1, 0.5, 0.9]), &inputs.into())?;
    // One target in three was not measured.
    let mut targets = wave([6, 1], 1.9)?.f32()?.to_vec();
    targets.iter_mut().step_by(3).for_each(|t| *t = f32::NAN);
    let inputs = [wave([6, 2], 0.7)?, Tensor::from_vec([6, 1], targets)?];
    conformance::check_loss(&Pinball::new([0.2, 0.8]), &inputs.into())?;
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error_that_says_what_would() -> Result {
    let narrow = conformance::check(&Adapter::new(6, 2), &wave([2, 5], 0.7)?.into());
    let narrow = narrow.err().ok_or("taken")?.to_string();
    assert!(
        narrow.contains("expected shape [.., 6] of f32, found [2, 5]"),
        "{narrow}"
    );
    let inputs = [wave([6, 3], 0.7)?, wave([6, 2], 1.9)?];
    let wide = conformance::check_loss(&Pinball::new([0.1, 0.5, 0.9]), &inputs.into());
    let wide = wide.err().ok_or("taken")?.to_string();
    assert!(wide.contains("targets of the pinball loss"), "{wide}");
    Ok(())
}

#[test]
fn the_metric_counts_what_was_measured() -> Result {
    let bounds = Tensor::from_vec([4, 2], vec![0.0f32, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0])?;
    let targets = Tensor::from_vec([4, 1], vec![0.5, 2.0, f32::NAN, 1.0])?;
    let found = Coverage.measure(&[bounds, targets].into())?;
    let (sum, count) = (2.0, 3.0);
    assert_eq!(found, Measure { sum, count });
    Ok(())
}

/// However the samples are asked for: that is what lets every node ask for its own.
#[test]
fn the_data_are_a_function_of_the_samples_number() -> Result {
    let series = Series::new(3, 100..200);
    let [together] = series.inputs(&[7, 50])?.take()?;
    let [alone] = series.inputs(&[50])?.take()?;
    assert_eq!(together.rows(1..2)?.f32()?, alone.f32()?);
    // The target of one hour is what the next one's input ends with.
    let [targets] = series.targets(&[7])?.take()?;
    let [next] = series.inputs(&[8])?.take()?;
    assert_eq!(next.f32()?.last(), targets.f32()?.first());
    Ok(())
}

#[test]
fn four_nodes_give_the_weights_of_one() -> Result {
    let train = |nodes| -> Result<(f64, String)> {
        let config = Config {
            nodes,
            batch_size: 32,
            micro_batch_size: 8,
            ..Config::default()
        };
        let data = Batches::shuffled(Series::new(1, 0..500), 32, 1)?;
        let mut trainer = Trainer::start(&network()?, &config, AdamW::new(3e-3))?;
        let first = trainer.step(&data)?.loss;
        let mut last = first;
        for _ in 0..30 {
            last = trainer.step(&data)?.loss;
        }
        assert!(last < 0.6 * first, "it learns: {first} to {last}");
        Ok((last, trainer.weights_sha256()?))
    };
    assert_eq!(train(4)?, train(1)?);
    Ok(())
}

/// A mini-batch is cut anywhere, and gaps may fall together: the mean is over what was measured.
#[test]
fn the_mean_loss_is_over_the_targets_that_were_measured() -> Result {
    let measured = wave([8, 1], 1.9)?;
    let mut gaps = measured.f32()?.to_vec();
    gaps[..4].fill(f32::NAN);
    let inputs = wave([8, forecast::PAST], 0.7)?;
    let config = Config {
        nodes: 2,
        batch_size: 8,
        micro_batch_size: 4,
        ..Config::default()
    };
    let mut trainer = Trainer::start(&network()?, &config, AdamW::new(1e-3))?;
    let half = Batch::new(inputs.rows(4..8)?, measured.rows(4..8)?)?;
    let half = trainer.evaluate(&half)?;
    let found = trainer.evaluate(&Batch::new(inputs, Tensor::from_vec([8, 1], gaps)?)?)?;
    assert_eq!((found.loss, found.terms), (half.loss, 12.0));
    Ok(())
}
