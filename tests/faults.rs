//! Promise: nothing hangs and nothing is lost without a word. Every failure is a typed error on
//! every node, soon.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::LayerError;
use brigade::{
    Cause, Config, Cuts, Error, Fault, PlanError, RunError, ScheduleKind, Trainer, Transport,
};
use common::*;
use std::time::{Duration, Instant};

/// Far more than it takes, far less than any deadline.
const SOON: Duration = Duration::from_secs(1);

fn four_nodes() -> Config {
    with(4, ScheduleKind::OneFOneB, Cuts::Before(vec![1, 2, 3]), 1)
}

/// Trains until it fails; checks that all nodes know in time, and that the process is as good as
/// new afterwards.
fn fails(network: &brigade::layer::Network, config: &Config) -> (RunError, Vec<RunError>) {
    let mut trainer = Trainer::start(network, config, adamw()).unwrap();
    let data = numbers(13);
    let started = Instant::now();
    let error = (0..10)
        .find_map(|_| trainer.step(&data).err())
        .expect("it fails");
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    let Error::Run(error) = error else {
        panic!("{error}")
    };
    let all = trainer.errors().to_vec();
    assert_eq!(all.len(), config.nodes, "every node has an error: {all:?}");
    assert!(
        all.iter()
            .enumerate()
            .all(|(node, error)| error.node.index() == node)
    );
    let again = trainer.step(&data).unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "it stays failed");
    drop(trainer);
    assert!(
        started.elapsed() < SOON,
        "ending took {:?}",
        started.elapsed()
    );

    let mut next = Trainer::start(&chain_with(toy()), &four_nodes(), adamw()).unwrap();
    next.step(&data).unwrap();
    (*error, all)
}

#[test]
fn a_panic_in_a_layer_is_an_error_on_every_node() {
    for transport in [Transport::Local, Transport::Encoded] {
        let network = chain_with(Toy {
            panics_at_step: Some(2),
            ..toy()
        });
        let (error, all) = fails(
            &network,
            &Config {
                transport,
                ..four_nodes()
            },
        );
        assert_eq!(error.cause, Cause::Panic("the toy breaks".into()));
        assert_eq!((error.node.get(), error.step.get()), (2, 2));
        assert_eq!(error.action.unwrap().to_string(), "2F0");
        assert!(error.row.contains("[2F0]"), "{}", error.row);
        assert!(
            all.iter().all(|node| node.root() == &error),
            "all know the cause: {all:?}"
        );
    }
}

#[test]
fn a_panic_on_one_node_alone_is_an_error() {
    let network = chain_with(Toy {
        panics_at_step: Some(0),
        ..toy()
    });
    let (error, _) = fails(&network, &with(1, ScheduleKind::GPipe, Cuts::Balanced, 2));
    assert!(matches!(error.cause, Cause::Panic(_)));
}

#[test]
fn a_refused_allocation_is_an_error_on_every_node() {
    let network = chain_with(Toy {
        asks_for_bytes: 4 << 40,
        ..toy()
    });
    let (error, _) = fails(&network, &four_nodes());
    let Cause::Layer(LayerError::InLayer { key, source, .. }) = &error.cause else {
        panic!("{error}")
    };
    assert_eq!(key, "toy");
    assert_eq!(
        **source,
        LayerError::AllocationRefused {
            requested_bytes: 4 << 40
        }
    );
}

#[test]
fn more_than_a_node_may_hold_is_refused_before_or_reported_when_it_happens() {
    let small = Config {
        node_memory_bytes: Some(100),
        ..four_nodes()
    };
    let refused = Trainer::start(&chain_with(toy()), &small, adamw())
        .err()
        .unwrap();
    assert!(
        matches!(
            refused,
            Error::Plan(PlanError::DoesNotFit {
                limit_bytes: 100,
                ..
            })
        ),
        "{refused}"
    );

    // A layer whose description says nothing of what it takes gets past the plan, not past the
    // limit.
    let network = chain_with(Toy {
        asks_for_bytes: 1 << 20,
        ..toy()
    });
    let (error, _) = fails(
        &network,
        &Config {
            node_memory_bytes: Some(1 << 19),
            ..four_nodes()
        },
    );
    let Cause::Layer(LayerError::InLayer { source, .. }) = &error.cause else {
        panic!("{error}")
    };
    assert!(matches!(
        **source,
        LayerError::OutOfMemory {
            limit_bytes: 524_288,
            ..
        }
    ));
}

#[test]
fn a_dropped_link_is_an_error_on_every_node() {
    for node in 0..4 {
        for after_sends in [0, 1, 7, 30] {
            let mut trainer = Trainer::start_faulty(
                &chain_with(toy()),
                &four_nodes(),
                adamw(),
                Fault { node, after_sends },
            )
            .unwrap();
            let started = Instant::now();
            let error = (0..10)
                .find_map(|_| trainer.step(&numbers(13)).err())
                .expect("it fails");
            assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
            let Error::Run(error) = error else {
                panic!("{error}")
            };
            assert!(
                matches!(error.root().cause, Cause::LinkLost { .. }),
                "{error}"
            );
            assert_eq!(trainer.errors().len(), 4, "{:?}", trainer.errors());
        }
    }
    Trainer::start(&chain_with(toy()), &four_nodes(), adamw())
        .unwrap()
        .step(&numbers(13))
        .unwrap();
}

#[test]
fn a_loss_that_is_no_number_names_step_and_micro_batch() {
    let network = chain_with(Toy {
        not_a_number_at: Some((3, 2)),
        ..toy()
    });
    let (error, _) = fails(&network, &four_nodes());
    assert!(matches!(error.cause, Cause::NonFiniteLoss { loss } if loss.is_nan()));
    assert_eq!(
        (error.step.get(), error.micro_batch().unwrap().get()),
        (3, 2)
    );
    let text = error.to_string();
    assert!(
        text.contains("step 3") && text.contains("micro-batch 2") && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn a_forgotten_gradient_names_the_layer() {
    let network = chain_with(Toy {
        forgets_gradient: true,
        ..toy()
    });
    let (error, _) = fails(&network, &four_nodes());
    assert!(
        matches!(&error.cause, Cause::NoGradient { key, input: 0, .. } if key == "toy"),
        "{error}"
    );
}

/// Progress anywhere keeps everyone patient: the deadline counts from the last sign of it.
#[test]
fn a_slow_pipeline_that_moves_is_not_stuck() {
    let sleep = [Duration::from_millis(60); 3];
    let network = chain_with(Toy { sleep, ..toy() });
    let config = Config {
        deadline_s: 0.4,
        ..four_nodes()
    };
    Trainer::start(&network, &config, adamw())
        .unwrap()
        .step(&numbers(13))
        .unwrap();
}

#[test]
fn data_that_do_not_fit_are_an_error() {
    let wrong_width = Numbers {
        rows: 13,
        inputs: 5,
        targets: 6,
    };
    let mut trainer = Trainer::start(&chain_with(toy()), &four_nodes(), adamw()).unwrap();
    let Error::Run(error) = trainer.step(&wrong_width).unwrap_err() else {
        panic!()
    };
    assert!(
        matches!(error.cause, Cause::Layer(LayerError::Shape { .. })),
        "{error}"
    );

    let mut trainer = Trainer::start(&chain_with(toy()), &four_nodes(), adamw()).unwrap();
    let error = trainer.step(&numbers(14)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Plan(PlanError::TooManyRows { rows: 14, most: 13 })
        ),
        "{error}"
    );
    trainer
        .step(&numbers(13))
        .expect("a refused mini-batch harms nobody");
}

#[test]
fn targets_that_are_all_ignored_are_an_error() {
    #[derive(Clone)]
    struct Ignored(Tokens);
    impl brigade::layer::Data for Ignored {
        fn rows(&self, step: brigade::layer::StepId) -> usize {
            self.0.rows(step)
        }
        fn inputs(
            &self,
            step: brigade::layer::StepId,
            rows: std::ops::Range<usize>,
        ) -> Result<brigade::layer::Tensors, LayerError> {
            self.0.inputs(step, rows)
        }
        fn targets(
            &self,
            _: brigade::layer::StepId,
            rows: std::ops::Range<usize>,
        ) -> Result<brigade::layer::Tensors, LayerError> {
            let ignored = vec![-100i32; rows.len() * self.0.context];
            Ok(brigade::layer::Tensor::from_vec([rows.len(), self.0.context], ignored)?.into())
        }
    }
    let (network, tokens) = small_gpt();
    let mut trainer = Trainer::start(
        &network,
        &with(2, ScheduleKind::GPipe, Cuts::Balanced, 1),
        adamw(),
    )
    .unwrap();
    let Error::Run(error) = trainer.step(&Ignored(tokens)).unwrap_err() else {
        panic!()
    };
    assert_eq!(error.cause, Cause::NoTerms);
}

#[test]
fn two_pipelines_with_different_networks_run_at_once() {
    let (gpt, tokens) = small_gpt();
    let chain = chain_with(toy());
    let config = with(3, ScheduleKind::OneFOneB, Cuts::Balanced, 2);
    let alone = (
        train(&gpt, &config, 5, &tokens),
        train(&chain, &config, 5, &numbers(13)),
    );
    let mut first = Trainer::start(&gpt, &config, adamw()).unwrap();
    let mut second = Trainer::start(&chain, &config, adamw()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5).map(|_| first.step(&tokens).unwrap()).count());
        scope.spawn(|| (0..5).map(|_| second.step(&numbers(13)).unwrap()).count());
    });
    assert_eq!(first.weights_sha256().unwrap(), alone.0.sha256);
    assert_eq!(second.weights_sha256().unwrap(), alone.1.sha256);
}
