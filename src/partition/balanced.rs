//! The exact contiguous split whose most expensive stage is as cheap as can be.
//!
//! Dynamic programming: with `best[p][j]` the smallest bottleneck of the first `j` layers in `p`
//! stages, `best[p][j] = min over i of max(best[p-1][i], cost(i..j))`. The first term grows with
//! `i` and the second falls, so the minimum is where they cross, found by bisection: O(stages
//! layers log layers) time.

/// Where each stage ends. There are at least as many layers as stages.
pub(super) fn ends(costs: &[u64], stages: usize) -> Vec<usize> {
    let layers = costs.len();
    let mut sums = vec![0u64; layers + 1];
    for (layer, cost) in costs.iter().enumerate() {
        sums[layer + 1] = sums[layer].saturating_add(*cost);
    }
    let mut best: Vec<u64> = sums.clone();
    let mut chosen = vec![vec![0; layers + 1]];
    for stage in 2..=stages {
        let mut next = vec![u64::MAX; layers + 1];
        let mut from = vec![0; layers + 1];
        for end in stage..=layers {
            let bottleneck = |start: usize| best[start].max(sums[end] - sums[start]);
            // The first start at which the stages before cost at least as much as this one.
            let (mut low, mut high) = (stage - 1, end - 1);
            while low < high {
                let middle = low.midpoint(high);
                if best[middle] >= sums[end] - sums[middle] {
                    high = middle
                } else {
                    low = middle + 1
                }
            }
            let start = if low > stage - 1 && bottleneck(low - 1) <= bottleneck(low) {
                low - 1
            } else {
                low
            };
            (next[end], from[end]) = (bottleneck(start), start);
        }
        best = next;
        chosen.push(from);
    }
    let mut ends = vec![layers];
    for from in chosen[1..].iter().rev() {
        let end = ends[ends.len() - 1];
        ends.push(from[end]);
    }
    ends.reverse();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use brigade_layer::Random;

    fn bottleneck(costs: &[u64], ends: &[usize]) -> u64 {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts
            .zip(ends)
            .map(|(start, end)| costs[start..*end].iter().sum())
            .max()
            .unwrap()
    }

    /// All ways to cut, one after the other.
    fn exhaustive(costs: &[u64], stages: usize, start: usize) -> u64 {
        if stages == 1 {
            return costs[start..].iter().sum();
        }
        (start + 1..=costs.len() - (stages - 1))
            .map(|end| {
                costs[start..end]
                    .iter()
                    .sum::<u64>()
                    .max(exhaustive(costs, stages - 1, end))
            })
            .min()
            .unwrap()
    }

    #[test]
    fn the_split_is_as_good_as_exhaustive_search() {
        let random = Random::named(1, "partition");
        for case in 0..400 {
            let layers = 1 + random.below(case, 0, 10) as usize;
            let stages = 1 + random.below(case, 1, layers as u64) as usize;
            let costs: Vec<u64> = (0..layers)
                .map(|layer| random.below(case, 2 + layer as u32, 20))
                .collect();
            let ends = ends(&costs, stages);
            assert_eq!(ends.len(), stages);
            assert!(
                ends.windows(2).all(|pair| pair[0] < pair[1]) && ends[0] > 0,
                "{ends:?}"
            );
            assert_eq!(
                bottleneck(&costs, &ends),
                exhaustive(&costs, stages, 0),
                "{costs:?} {stages}"
            );
        }
    }
}
