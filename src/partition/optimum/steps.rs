//! In which order a search places the cuts: node by node, so that a node is known as soon as its
//! cuts are.
//!
//! ```text
//! V of 3 nodes      0    1    2   2    1    0
//! cuts              0..1....2...3....4....5..6
//! placed                1st  3rd 5th 4th  2nd
//! ```

use super::stage_id;
use super::work::Work;
use crate::ids::NodeId;
use crate::placement::Placement;

/// One cut to place.
pub(super) struct Step {
    pub(super) cut: usize,
    /// The nearest cuts around it that are placed already.
    pub(super) between: (usize, usize),
    /// What is known of the stage before it and the stage after it.
    pub(super) sides: [Side; 2],
    /// Nodes whose cuts are all placed now.
    pub(super) finishes: Vec<NodeId>,
    /// Speeds of all nodes that are not finished, together.
    pub(super) speed_left: f64,
    /// The placed cuts that nodes which are not finished depend on.
    pub(super) open: Vec<usize>,
}

/// The layers between a cut and the nearest one on one side.
pub(super) struct Side {
    /// Speeds of the nodes with stages there, together.
    pub(super) speed: f64,
    /// Where it is one stage, the stages of its node that were known before.
    pub(super) known_with: Option<Vec<usize>>,
}

/// The steps for all cuts.
pub(super) fn steps(placement: &Placement, work: &Work) -> Vec<Step> {
    let stages = placement.stages().index();
    let node_of = |stage: usize| placement.node_of(stage_id(stage));
    let mut placed = vec![false; stages + 1];
    (placed[0], placed[stages]) = (true, true);
    let mut finished = vec![false; placement.nodes().index()];
    let mut steps: Vec<Step> = Vec::with_capacity(stages - 1);
    while let Some(node) = next(placement, &finished) {
        let own = placement.stages_on(node);
        for cut in own.flat_map(|stage| [stage.index(), stage.index() + 1]) {
            if placed[cut] {
                continue;
            }
            let before = (0..cut).rev().find(|at| placed[*at]).unwrap_or(0);
            let after = (cut..stages).find(|at| placed[*at]).unwrap_or(stages);
            let side = |from: usize, to: usize| {
                let mut nodes: Vec<NodeId> = (from..to).map(node_of).collect();
                nodes.sort_unstable();
                nodes.dedup();
                let known = |stage: &usize| placed[*stage] && placed[stage + 1];
                let rest = || {
                    placement
                        .stages_on(node_of(from))
                        .map(|stage| stage.index())
                };
                Side {
                    speed: nodes.iter().map(|node| work.speeds[node.index()]).sum(),
                    known_with: (to == from + 1).then(|| rest().filter(known).collect()),
                }
            };
            steps.push(Step {
                cut,
                between: (before, after),
                sides: [side(before, cut), side(cut, after)],
                finishes: Vec::new(),
                speed_left: f64::INFINITY,
                open: Vec::new(),
            });
            placed[cut] = true;
        }
        finished[node.index()] = true;
        if let Some(step) = steps.last_mut() {
            step.finishes.push(node);
            let nodes = (0..finished.len()).filter(|node| !finished[*node]);
            step.speed_left = nodes.map(|node| work.speeds[node]).sum();
            let waits = |stage: usize| !finished[node_of(stage).index()];
            let open = |cut: &usize| placed[*cut] && (waits(cut - 1) || waits(*cut));
            step.open = (1..stages).filter(open).collect();
        }
    }
    steps
}

/// The node that adds the fewest to the placed cuts with something to decide beside them.
fn next(placement: &Placement, finished: &[bool]) -> Option<NodeId> {
    let stages = placement.stages().index();
    let is_finished = |stage: usize| finished[placement.node_of(stage_id(stage)).index()];
    let added = |node: &NodeId| -> isize {
        let own = placement.stages_on(*node);
        own.flat_map(|stage| [(stage.index(), -1), (stage.index() + 1, 0)])
            .filter(|(cut, _)| (1..stages).contains(cut))
            .map(|(cut, other)| cut.wrapping_add_signed(other))
            .map(|other| match placement.node_of(stage_id(other)) == *node {
                true => 0,
                false if is_finished(other) => -1,
                false => 1,
            })
            .sum()
    };
    let nodes = placement.nodes().iter();
    nodes
        .filter(|node| !finished[node.index()])
        .min_by_key(added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeCount;
    use crate::partition::ChainCosts;

    fn order(placement: &Placement) -> Vec<usize> {
        let times = vec![1.0; placement.stages().index()];
        let work = Work::new(&ChainCosts::new(&times, placement));
        let steps = steps(placement, &work);
        steps.iter().map(|step| step.cut).collect()
    }

    #[test]
    fn the_picture_above_is_right() {
        let nodes = NodeCount::new(3);
        assert_eq!(order(&Placement::v_shaped(nodes)), [1, 5, 2, 4, 3]);
        assert_eq!(order(&Placement::looped(nodes, 2)), [1, 3, 4, 2, 5]);
    }

    #[test]
    fn a_step_knows_what_it_finishes_and_leaves_open() {
        let placement = Placement::v_shaped(NodeCount::new(3));
        let work = Work::new(&ChainCosts::new(&[1.0; 6], &placement));
        let steps = steps(&placement, &work);
        let finishes: Vec<usize> = steps.iter().map(|step| step.finishes.len()).collect();
        assert_eq!(finishes, [0, 1, 0, 1, 1]);
        assert_eq!((&steps[1].open, &steps[3].open), (&vec![1, 5], &vec![2, 4]));
        assert_eq!(steps[1].speed_left, 2.0);
        assert_eq!(steps[3].sides[1].known_with, Some(vec![1]));
    }
}
