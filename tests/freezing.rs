//! Promise: what is frozen stays as it is and costs no gradient, and what trains gets the numbers
//! that it would get if the rest had a learning rate of 0, however the network is cut and run.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::nn::{AdamW, Group, LayerNorm, Linear, MeanSquaredError};
use brigade::schedule::{Action, Direction, Work};
use brigade::{Config, Cuts, Plan, ScheduleKind, Trainer};
use common::*;
use std::collections::BTreeMap;

const STEPS: u64 = 3;

/// All values by key, as bits, and the losses.
type Trained = (BTreeMap<String, Vec<u32>>, Vec<u64>);

fn trained<D: Data + Clone>(
    network: &Network,
    config: &Config,
    optimizer: AdamW,
    data: &D,
) -> Trained {
    let mut trainer = Trainer::start(network, config, optimizer).unwrap();
    let losses = (0..STEPS).map(|_| trainer.step(data).unwrap().loss.to_bits());
    let losses = losses.collect();
    // Bytes are as planned, too.
    let held = trainer.report().unwrap();
    let plan = trainer.plan();
    for ((held, memory), sent) in held.iter().zip(&plan.memory).zip(&plan.sent_bytes) {
        assert!(held.memory.peak_bytes <= memory.peak_bytes(), "{config:?}");
        assert_eq!(held.sent_bytes, STEPS * sent, "{config:?}");
    }
    (values(&mut trainer), losses)
}

fn values(trainer: &mut Trainer) -> BTreeMap<String, Vec<u32>> {
    let params = trainer.weights().unwrap().params.into_iter();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    params
        .map(|param| (param.key, bits(param.values)))
        .collect()
}

fn untouched(network: &Network, config: &Config) -> BTreeMap<String, Vec<u32>> {
    values(&mut Trainer::start(network, config, adamw()).unwrap())
}

/// The same optimizer with a learning rate of 0 for what is frozen in this network.
fn standing_still(frozen: &Network) -> AdamW {
    let params = frozen.params().into_iter();
    let groups = params.filter(|(_, param)| !param.trains);
    AdamW {
        groups: groups.map(|(key, _)| Group::of(&*key).lr(0.0)).collect(),
        ..adamw()
    }
}

/// Without a limit to the norm of the gradients, which the frozen ones are not part of.
fn unclipped(nodes: usize, schedule: ScheduleKind, cuts: Cuts) -> Config {
    Config {
        clip: None,
        ..with(nodes, schedule, cuts, 1)
    }
}

/// Bottom, middle, all but the head, and the last layer before the loss alone. Of a tied network
/// the head is the token table.
const FROZEN: [(bool, &[&str]); 6] = [
    (false, &["embed", "h.0.*"]),
    (false, &["embed"]),
    (true, &["h.0.mlp", "h.1.attn"]),
    (false, &["embed", "h.*", "ln_f"]),
    (false, &["lm_head"]),
    (true, &["embed", "lm_head", "h.0.attn"]),
];

fn gpt(tied: bool) -> Network {
    let gpt = brigade::nn::Gpt { tied, ..small() };
    gpt.network().unwrap()
}

fn patterns(keys: &[&str]) -> Vec<KeyPattern> {
    keys.iter().copied().map(KeyPattern::from).collect()
}

#[test]
fn frozen_layers_are_as_if_their_learning_rate_were_0_on_any_pipeline() {
    let (_, data) = small_gpt();
    let one = unclipped(1, ScheduleKind::GPipe, Cuts::Balanced);
    for (tied, keys) in FROZEN {
        let whole = gpt(tied);
        let network = whole.freeze_matching(&patterns(keys)).unwrap();
        let wanted = trained(&whole, &one, standing_still(&network), &data);
        let before = untouched(&whole, &one);
        for (key, param) in network.params() {
            assert_eq!(before[&key] == wanted.0[&key], !param.trains, "{key}");
        }
        for schedule in ScheduleKind::ALL {
            let mut tried = 0;
            for nodes in [1, 2, 4] {
                let config = unclipped(nodes, schedule, Cuts::Balanced);
                if is_legal(&network, &config) {
                    let found = trained(&network, &config, adamw(), &data);
                    assert_eq!(found, wanted, "{keys:?}, {nodes} nodes, {schedule}");
                    tried += 1;
                }
            }
            assert!(tried >= 2, "{schedule}: {tried}");
        }
    }
}

/// Six layers and a loss: a skip over three of them, two that share a weight, a norm.
fn six() -> Network {
    let shared = || {
        let linear = Linear::new(6, 6).without_bias();
        linear.shared(SharedId::new(3))
    };
    let joined = Toy { params: 1, ..toy() };
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", Linear::new(6, 6))
        .layer("b", LayerNorm::new(6))
        .layer("c", shared())
        .layer("d", Linear::new(6, 6))
        .layer_from("e", joined, &[From::Previous, From::Layer("a")])
        .layer("f", shared())
        .loss("loss", MeanSquaredError)
        .build()
        .unwrap()
}

/// Every set of frozen layers that there can be, on every cut into 2 to 4 stages: the numbers are
/// those of one node, and of the whole network with a learning rate of 0.
#[test]
fn any_set_of_layers_may_be_frozen_on_any_cut() {
    let (whole, data) = (six(), numbers(5));
    let small = |config: Config| Config {
        batch_size: 5,
        micro_batch_size: 1,
        ..config
    };
    let one = small(unclipped(1, ScheduleKind::GPipe, Cuts::Balanced));
    let mut kinds = ScheduleKind::ALL.into_iter().cycle();
    let mut tried = 0;
    for set in 0..64u32 {
        let picked = |key: &str| "abcdef".find(key).is_some_and(|at| set >> at & 1 == 1);
        let network = match whole.freeze(picked) {
            Ok(network) => network,
            Err(LayerError::NothingTrains) => {
                assert_eq!(set, 63);
                continue;
            }
            Err(error) => {
                assert!(picked("c") != picked("f"), "{error}");
                continue;
            }
        };
        let wanted = trained(&whole, &one, standing_still(&network), &data);
        let before = untouched(&whole, &one);
        for (key, param) in network.params() {
            assert_eq!(
                before[&key] == wanted.0[&key],
                !param.trains,
                "{set:06b} {key}"
            );
        }
        assert_eq!(trained(&network, &one, adamw(), &data), wanted, "{set:06b}");
        for cuts in 1..64u32 {
            let cuts: Vec<usize> = (1..7).filter(|cut| cuts >> (cut - 1) & 1 == 1).collect();
            // Each with another schedule, for as many nodes as it wants.
            let kind = kinds.next().unwrap();
            let on = on_stages(cuts.len() + 1);
            let Some((kind, nodes)) = on.into_iter().find(|(on, _)| *on == kind) else {
                continue;
            };
            let config = small(unclipped(nodes, kind, Cuts::Before(cuts)));
            if nodes <= 4 && is_legal(&network, &config) {
                let found = trained(&network, &config, adamw(), &data);
                assert_eq!(found, wanted, "{set:06b}, {config:?}");
                tried += 1;
            }
        }
    }
    println!("{tried} runs");
    assert!(tried > 500, "{tried}");
}

/// What is frozen has no gradient, no state, no part in the norm; below the lowest layer that
/// trains nothing goes backward at all.
#[test]
fn what_is_frozen_costs_nothing_backward() {
    let whole = gpt(false);
    let network = whole
        .freeze_matching(&patterns(&["embed", "h.0.*", "h.1.mlp"]))
        .unwrap();
    let index = |key: &str| {
        let found = network.enumerate().find(|(_, layer)| layer.key == key);
        found.unwrap().0
    };
    assert!(
        ["embed", "h.0.attn", "h.0.mlp"]
            .iter()
            .all(|key| !network.needs_gradient(index(key)))
    );
    assert!(
        ["h.1.attn", "h.1.mlp", "loss"]
            .iter()
            .all(|key| network.needs_gradient(index(key)))
    );
    let shapes = network.infer(3).unwrap();
    let costs = |key: &str| shapes[index(key).index()].cost;
    let full = whole.infer(3).unwrap()[index("h.1.mlp").index()].cost;
    assert_eq!(costs("h.0.mlp").flops(), costs("h.0.mlp").forward_flops);
    assert_eq!(costs("h.0.mlp").stash_bytes, 0);
    assert_eq!(
        (costs("h.1.mlp").weight_flops, costs("h.1.mlp").kept_bytes),
        (0, 0)
    );
    assert_eq!(costs("h.1.mlp").input_flops, full.input_flops);

    let bytes = |trains: bool| {
        let params = network.params().into_iter();
        let some = params.filter(move |(_, param)| param.trains == trains);
        some.map(|(_, param)| param.bytes()).sum::<u64>()
    };
    let (_, data) = small_gpt();
    for (nodes, schedule) in [
        (1, ScheduleKind::GPipe),
        (4, ScheduleKind::ZbH1),
        (8, ScheduleKind::OneFOneB),
    ] {
        let config = with(nodes, schedule, Cuts::Uniform, 1);
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        let norm = trainer.step(&data).unwrap().gradient_norm;
        assert!(norm.is_finite() && norm > 0.0);
        let held = trainer.report().unwrap();
        let sum = |of: fn(&ParamBytes) -> u64| held.iter().map(|it| of(&it.params)).sum::<u64>();
        assert_eq!(sum(|it| it.value), bytes(true) + bytes(false));
        assert_eq!(sum(|it| it.gradient), bytes(true));
        assert_eq!(sum(|it| it.state), 2 * bytes(true));
        // Nothing is sent back to a stage without anything to train.
        let plan = trainer.plan();
        let lowest = plan.partition.stage_of(index("h.1.attn"));
        for row in &plan.training.lowered.nodes {
            for action in row {
                if let Action::Send(transfer) = action {
                    let back = transfer.lane.direction == Direction::Backward;
                    assert!(!back || transfer.peer >= lowest, "{action}");
                }
            }
        }
    }
}

/// The simulator takes nothing for what is not done.
#[test]
fn a_stage_without_anything_to_train_takes_no_time_backward() {
    let network = gpt(false)
        .freeze_matching(&patterns(&["embed", "h.0.*"]))
        .unwrap();
    let config = with(8, ScheduleKind::ZbH1, Cuts::Uniform, 1);
    let plan = Plan::new(&network, &config, &adamw()).unwrap();
    let (_, data) = small_gpt();
    let profile = brigade::profile::Profile::measure(
        &network,
        &data,
        &config,
        &adamw(),
        brigade::profile::Effort::Quick,
    );
    let times = profile.unwrap().times(&plan);
    for stage in 0..3 {
        assert!(times.forward[stage] > 0.0);
        assert_eq!(
            (times.input[stage], times.weight[stage], times.step[stage]),
            (0.0, 0.0, 0.0)
        );
    }
    assert!(times.input[3] > 0.0 && times.weight[3] > 0.0 && times.step[3] > 0.0);
    let timeline = plan.simulate(&times).unwrap();
    for span in timeline.nodes.iter().flatten() {
        if let Action::Compute(compute) = span.action
            && compute.stage.index() < 3
        {
            let backward = compute.work != Work::F;
            assert_eq!(span.end == span.start, backward, "{compute}");
        }
    }
}

#[test]
fn what_cannot_be_frozen_is_refused() {
    let (tied, whole) = (gpt(true), gpt(false));
    let said = |error: LayerError| error.to_string();
    assert!(matches!(
        whole.freeze(|_| true),
        Err(LayerError::NothingTrains)
    ));
    let part = said(tied.freeze(|key| key == "embed").unwrap_err());
    assert!(
        part.contains("embed") && part.contains("lm_head") && part.contains("both"),
        "{part}"
    );
    let part = said(tied.freeze(|key| key == "lm_head").unwrap_err());
    assert!(part.contains("layers lm_head and embed share"), "{part}");
    let none = said(
        whole
            .freeze_matching(&patterns(&["embed", "h.7.*"]))
            .unwrap_err(),
    );
    assert!(
        none.contains("no layer matches \"h.7.*\"") && none.contains("h.1.mlp"),
        "{none}"
    );
    // In two goes as in one; a loss has nothing to freeze.
    let twice = whole.freeze(|key| key == "embed").unwrap();
    let twice = twice.freeze(|key| key == "ln_f" || key == "loss").unwrap();
    let once = whole
        .freeze_matching(&patterns(&["embed", "ln_f"]))
        .unwrap();
    assert_eq!(format!("{twice:?}"), format!("{once:?}"));
    assert!(matches!(
        twice.freeze(|key| key != "embed"),
        Err(LayerError::NothingTrains)
    ));
}

#[test]
fn a_plan_of_other_frozen_layers_is_another_plan() {
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Uniform, 1);
    let whole = gpt(false);
    // Neither norm nor attention keeps anything for W that its costs would tell.
    let frozen = |key: &'static str| whole.freeze(|layer| layer == key).unwrap();
    let networks = [whole.clone(), frozen("h.1.attn"), frozen("ln_f")];
    let prints = networks
        .each_ref()
        .map(|network| Plan::new(network, &config, &adamw()).unwrap().fingerprint());
    assert!(prints[0] != prints[1] && prints[1] != prints[2] && prints[0] != prints[2]);
    let plan = Plan::new(&whole, &config, &adamw()).unwrap();
    assert!(Trainer::start_with_plan(&networks[1], &config, adamw(), plan).is_err());
}
