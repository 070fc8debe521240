//! Steps and memory, predicted and measured.

use super::{Case, GPTS, MICRO_BATCHES, in_words, largest, median, mib};
use brigade::profile::Effort;
use brigade::{Config, Recompute, ScheduleKind};

/// The median and the worst error, and the median error of memory, that are expected at most.
const ERRORS: [f64; 2] = [0.05, 0.10];
const MEMORY: f64 = 0.05;

/// Prints errors beside what is expected; whether they are within it.
fn summary(what: &str, errors: &[f64]) -> bool {
    let sizes: Vec<_> = errors.iter().copied().map(f64::abs).collect();
    let (worst, median) = (largest(sizes.iter().copied()), median(sizes));
    let fine = median <= ERRORS[0] && worst <= ERRORS[1];
    println!(
        "{what}: {} predictions, median error {:.2}% (expected {:.0}%), worst {:.2}% (expected \
         {:.0}%): {}",
        errors.len(),
        100.0 * median,
        100.0 * ERRORS[0],
        100.0 * worst,
        100.0 * ERRORS[1],
        in_words(fine)
    );
    fine
}

fn memory_summary(what: &str, ratios: &[f64]) {
    let far = |ratio: &f64| (ratio - 1.0).abs();
    let worst = ratios
        .iter()
        .max_by(|one, other| far(one).total_cmp(&far(other)));
    let median = median(ratios.to_vec());
    println!(
        "{what}: memory predicted / measured on {} nodes, median {median:.3} (expected within \
         {:.0}%), worst {:.3}: {}\n",
        ratios.len(),
        100.0 * MEMORY,
        worst.unwrap(),
        in_words(far(&median) <= MEMORY)
    );
}

pub(super) fn accuracy() -> bool {
    let (mut errors, mut ratios, mut fine) = (Vec::new(), Vec::new(), true);
    let gpts = GPTS.map(Case::of_shape);
    let cases = [Case::mlp()].into_iter().chain(gpts);
    for case in cases.filter(Case::is_wanted) {
        let (of_time, of_memory) = case.accuracy();
        println!();
        fine &= summary(&case.name, &of_time);
        memory_summary(&case.name, &of_memory);
        errors.extend(of_time);
        ratios.extend(of_memory);
    }
    fine &= summary("overall", &errors);
    memory_summary("overall", &ratios);
    fine
}

impl Case {
    /// Errors of predicted steps, and predicted memory as a share of what was measured.
    fn accuracy(&self) -> (Vec<f64>, Vec<f64>) {
        println!(
            "{}, {MICRO_BATCHES} micro-batches of {}",
            self.name, self.config.micro_batch_size
        );
        let (mut errors, mut ratios, mut before) = (Vec::new(), Vec::new(), None);
        for recompute in [Recompute::Never, Recompute::ExceptLast] {
            // Each half is predicted from what was measured right before it.
            let profile = self.profile(&self.micro_batch(), Effort::Thorough);
            let layers = profile.sizes[0].layers.iter();
            let all: f64 = layers.map(|layer| layer.time.total().as_secs_f64()).sum();
            if let Some(before) = before.replace(all) {
                let more = 100.0 * (all / before - 1.0);
                println!("layers measured again halfway: {more:+.1}%");
            }
            for schedule in ScheduleKind::ALL {
                let config = Config {
                    schedule,
                    recompute: recompute.clone(),
                    ..self.config.clone()
                };
                let plan = self.plan(&config, &profile).unwrap();
                let predicted = profile.simulate(&plan).unwrap().makespan;
                let memory = plan.memory.clone();
                let mut trainers = [self.start(&config, plan)];
                let measured = self.in_turn(&mut trainers, 1, 5)[0][0];
                let reports = trainers[0].report().unwrap();
                let peaks = memory.iter().zip(&reports).map(|(memory, report)| {
                    let both = [memory.peak_bytes(), report.memory.peak_bytes];
                    both.map(|bytes| mib([bytes]))
                });
                let peaks: Vec<_> = peaks.collect();
                ratios.extend(peaks.iter().map(|[predicted, held]| predicted / held));
                errors.push(measured / predicted - 1.0);
                println!(
                    "{:16} {:11} predicted {:8.2} ms, measured {:8.2} ms {:+6.2}%  MiB {}",
                    schedule.name(),
                    format!("{recompute:?}"),
                    1e3 * predicted,
                    1e3 * measured,
                    100.0 * (measured / predicted - 1.0),
                    (peaks.iter())
                        .map(|[predicted, held]| format!("{predicted:.1}/{held:.1}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                );
            }
        }
        (errors, ratios)
    }
}
