//! Promise: whatever files describe layers and nodes, and whatever a layout says, they are read or
//! refused; and what is read is planned, or it is said why not.
//!
//! An input is a layers file, a nodes file and a layout with lines of `---` between them.
#![no_main]

use brigade::nn::AdamW;
use brigade::partition::CutCost;
use brigade::planner::{LayersFile, NodeSpec, Planner, Space, layout_string, units};
use brigade::{Config, Cuts, PlanError, ScheduleKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut parts = text.split("\n---\n");
    let mut next = || parts.next().unwrap_or_default();
    let (layers, nodes, layout) = (next(), next(), next());
    let read = LayersFile::parse("layers", layers).inspect_err(|e| names_a_place(e, layers));
    let nodes = NodeSpec::parse_file("nodes", nodes).inspect_err(|e| names_a_place(e, nodes));
    let cuts = cuts(layout, read.as_ref().map_or(4, |file| file.layers.len()));
    let (Ok(layers), Ok(nodes)) = (read, nodes) else {
        return;
    };
    if let Err(error) = planned(&layers, nodes, (cuts, layout.len())) {
        assert!(error.to_string().len() < 10_000, "{error}");
    }
});

/// A layout of so many layers; also as units and as the layout of a GPT.
fn cuts(layout: &str, layers: usize) -> Cuts {
    let _ = (
        units::bytes(layout),
        units::bandwidth(layout),
        units::duration(layout),
    );
    let _ = layout_string::cuts(layout, 1, 4, 2, 3);
    match layout_string::cuts(layout, 0, layers, 1, 0) {
        Ok(cuts) => Cuts::Before(cuts),
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{error}");
            Cuts::Balanced
        }
    }
}

fn planned(
    file: &LayersFile,
    nodes: Vec<NodeSpec>,
    (cuts, which): (Cuts, usize),
) -> Result<(), PlanError> {
    let config = Config {
        nodes: nodes.len(),
        cuts,
        schedule: ScheduleKind::ALL[which % ScheduleKind::ALL.len()],
        batch_size: 4,
        micro_batch_size: 1,
        ..Config::default()
    };
    let (network, profile) = (file.network()?, file.profile(&config)?);
    let optimizer = AdamW::new(1e-3);
    let small = nodes.len() <= 3 && file.layers.len() <= 8;
    let space = match small {
        true => Space::only(&config).any_schedule(&config).any_recompute(),
        false => Space::only(&config),
    };
    let planner = Planner::new(&network, &config, &optimizer, &profile)?;
    let planner = planner.cut_cost([CutCost::Link, CutCost::Both][which % 2]);
    let planned = planner.nodes(nodes).space(space).plan()?;
    let best = &planned.candidates[0];
    assert!(best.step_time.is_finite(), "{}", best.step_time);
    let timeline = planned.plan.simulate(&planned.times)?;
    assert!(timeline.makespan.is_finite(), "{}", timeline.makespan);
    Ok(())
}

fn names_a_place(error: &PlanError, text: &str) {
    let PlanError::File { line, .. } = error else {
        panic!("{error:?} names no file");
    };
    assert!(*line <= text.split('\n').count(), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
}
