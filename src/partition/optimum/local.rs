//! Makes a partition better by moving one cut, or two together, as long as that helps.

use super::{StageCosts, node_excess, node_load, stage_id};
use crate::ids::NodeId;

/// How many moves may be tried.
const MOVES: usize = 300_000;

/// How bad the nodes and links are that a move touches, the worst first: bytes above the limits,
/// the largest load, the sum of squares.
type Score = [f64; 3];

/// Moves cuts until no move helps, first by many layers, then by one.
pub(super) fn improve(costs: &impl StageCosts, cuts: &mut [usize]) {
    let stages = cuts.len() - 1;
    let mut step = 1;
    while step * 2 <= costs.layers() / stages {
        step *= 2;
    }
    let partners = (1..stages).map(|cut| (cut, partners(costs, cut)));
    let partners: Vec<_> = partners.collect();
    let mut left = MOVES;
    while step > 0 {
        let mut moved = false;
        for (cut, partners) in &partners {
            for up in [true, false] {
                while left > 0 && try_move(costs, cuts, &[(*cut, up)], step) {
                    (moved, left) = (true, left - 1);
                }
                for partner in partners {
                    for partner_up in [up, !up] {
                        left = left.saturating_sub(1);
                        let both = [(*cut, up), (*partner, partner_up)];
                        moved |= left > 0 && try_move(costs, cuts, &both, step);
                    }
                }
                left = left.saturating_sub(1);
            }
        }
        if !moved {
            step /= 2;
        }
    }
}

/// The later cuts at stages of the two nodes on both sides of a cut.
fn partners(costs: &impl StageCosts, cut: usize) -> Vec<usize> {
    let stages = costs.placement().stages().index();
    let sides = cut.saturating_sub(1)..=cut;
    let mut all: Vec<usize> = sides
        .map(|stage| costs.placement().node_of(stage_id(stage)))
        .flat_map(|node| costs.placement().stages_on(node))
        .flat_map(|stage| [stage.index(), stage.index() + 1])
        .filter(|partner| cut < *partner && *partner < stages)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Moves these cuts, up or down, if that is better.
fn try_move(
    costs: &impl StageCosts,
    cuts: &mut [usize],
    moves: &[(usize, bool)],
    step: usize,
) -> bool {
    let shift = |cuts: &mut [usize], back: bool| {
        for (cut, up) in moves {
            cuts[*cut] = match *up != back {
                true => cuts[*cut].wrapping_add(step),
                false => cuts[*cut].wrapping_sub(step),
            };
        }
    };
    shift(cuts, false);
    let layers = costs.layers();
    let kept = { moves.iter() }.all(|(cut, _)| {
        let (before, at, after) = (cuts[cut - 1], cuts[*cut], cuts[cut + 1]);
        before < at && at < after && after <= layers
    });
    shift(cuts, true);
    if !kept {
        return false;
    }
    let before = score(costs, cuts, moves);
    shift(cuts, false);
    let after = score(costs, cuts, moves);
    // Differences of rounding are none.
    let less = |place: usize| after[place] < before[place] - before[place] * 1e-12;
    let same = |place: usize| after[place] <= before[place];
    let better = less(0) || same(0) && (less(1) || same(1) && less(2));
    if !better {
        shift(cuts, true);
    }
    better
}

fn score(costs: &impl StageCosts, cuts: &[usize], moves: &[(usize, bool)]) -> Score {
    let mut nodes = [NodeId::new(0); 4];
    let mut known = 0;
    let [mut excess, mut peak, mut squares] = [0.0f64; 3];
    for (cut, _) in moves {
        peak = peak.max(costs.link(stage_id(cut - 1), cuts[*cut]));
        for stage in [cut - 1, *cut] {
            let node = costs.placement().node_of(stage_id(stage));
            if nodes[..known].contains(&node) {
                continue;
            }
            (nodes[known], known) = (node, known + 1);
            let load = node_load(costs, cuts, node);
            excess += node_excess(costs, cuts, node);
            peak = peak.max(load);
            squares += load * load;
        }
    }
    [excess, peak, squares]
}
