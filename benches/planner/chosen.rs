//! What is chosen, beside what would have been the best.

use super::{Case, GPTS, in_words, largest, median, mib, optimizer};
use brigade::Plan;
use brigade::plan::NodeMemory;
use brigade::planner::{Candidate, Space};
use brigade::profile::Effort;

/// What the chosen candidate takes beside the best, at most.
const CHOSEN: f64 = 1.03;
/// So many candidates are run in a setting, the chosen one among them.
const RUN: usize = 6;

pub(super) fn chosen() -> bool {
    let any = |case: &Case| Space::only(&case.config).any_schedule(&case.config);
    let mut limited = Case::of_shape(GPTS[0]);
    let plan = Plan::new(&limited.network, &limited.config, &optimizer()).unwrap();
    let needed = plan.memory.iter().map(NodeMemory::peak_bytes).max();
    limited.config.node_memory_bytes = needed.map(|bytes| bytes * 6 / 10);
    limited.name += " in 60% of the memory of 1f1b";
    let mut settings = vec![(any(&limited).any_recompute(), limited)];
    let mut auto = Case::of_shape([192, 4, 128, 4]);
    auto.name += ", any micro-batch";
    settings.push((any(&auto).any_micro_batch(&auto.config), auto));
    let free = [
        Case::of_shape(GPTS[0]),
        Case::of_shape(GPTS[1]),
        Case::mlp(),
        Case::lopsided(2),
    ];
    settings.extend(free.map(|case| (any(&case), case)));
    settings.retain(|(_, case)| case.is_wanted());
    let fine = settings.into_iter().map(|(space, case)| case.chosen(space));
    fine.fold(true, |all, fine| all & fine)
}

impl Case {
    /// Whether the chosen candidate is about as fast as the best.
    fn chosen(mut self, space: Space) -> bool {
        println!("{}", self.name);
        let profile = self.profile(&space.micro_batch_sizes, Effort::Thorough);
        let mut planned = self.planned(&profile, &space).unwrap();
        while let (false, Some(most)) = (planned.feasible(), self.config.node_memory_bytes) {
            println!("nothing fits in {:.1} MiB: a tenth more", mib([most]));
            self.config.node_memory_bytes = Some(most + most / 10);
            planned = self.planned(&profile, &space).unwrap();
        }
        let fitting = planned.candidates.iter().filter(|found| found.fits());
        let candidates: Vec<_> = fitting.take(RUN).collect();
        let start = |candidate: &&Candidate| {
            let config = candidate.config(&self.config);
            let plan = self.plan(&config, &profile).unwrap();
            self.start(&config, plan)
        };
        let mut trainers: Vec<_> = candidates.iter().map(start).collect();
        let rounds = self.in_turn(&mut trainers, 5, 3);
        let chosen = &rounds[0];
        for (candidate, rounds) in candidates.iter().zip(&rounds) {
            let over = rounds.iter().zip(chosen).map(|(own, chosen)| own / chosen);
            let mut over: Vec<_> = over.collect();
            over.sort_by(f64::total_cmp);
            println!(
                "predicted {:8.2} ms, measured {:8.2} ms, {:.3} of the chosen ({:.3} to {:.3})  {}",
                1e3 * candidate.step_time,
                1e3 * median(rounds.clone()),
                median(over.clone()),
                over[0],
                over[over.len() - 1],
                candidate.words()
            );
        }
        let took = |rounds: &&Vec<f64>| median((*rounds).clone());
        let best = rounds
            .iter()
            .min_by(|one, other| took(one).total_cmp(&took(other)));
        let pairs = rounds[0].iter().zip(best.unwrap());
        let ratios: Vec<_> = pairs.map(|(chosen, best)| chosen / best).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let (most, ratio) = (largest(ratios.iter().copied()), median(ratios));
        let fine = ratio <= CHOSEN;
        println!(
            "chosen / best: {ratio:.3} ({least:.3} to {most:.3} by round; expected {CHOSEN}): {}\n",
            in_words(fine)
        );
        fine
    }
}
