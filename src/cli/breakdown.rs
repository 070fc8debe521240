//! `--breakdown`: where a step's time went, beside what the machine can do.

use crate::Plan;
use crate::trace::{Spent, StepTrace, breakdown};
use brigade_layer::Precision;
use brigade_nn::Limits;
use serde::Serialize;

/// Rows that take less of a step are left out of the table.
const LEAST_SHARE: f64 = 0.001;

/// What is said of where the time went.
#[derive(Debug, Serialize)]
pub(super) struct Breakdown {
    rows: Vec<Spent>,
    /// Of one thread.
    limits: Limits,
    threads: usize,
}

impl Breakdown {
    pub(super) fn of(
        traces: &[StepTrace],
        plan: &Plan,
        (precision, threads): (Precision, usize),
    ) -> Self {
        let (rows, limits) = (breakdown(traces, plan), Limits::measure(precision));
        Self {
            rows,
            limits,
            threads,
        }
    }

    /// The table.
    pub(super) fn text(&self) -> String {
        let Limits {
            product_flops,
            memory_bytes,
            ..
        } = self.limits;
        let mut text = format!(
            "where a step's time went; limits of a thread: {:.0} GFLOP/s of products, {:.1} GB/s copied\n\
             node  stage  what                    calls       ms   share  GFLOP/s    GB/s  of limit",
            product_flops / 1e9,
            memory_bytes / 1e9
        );
        for row in &self.rows {
            let node = self.rows.iter().filter(|other| other.node == row.node);
            let share = row.seconds / node.map(|row| row.seconds).sum::<f64>().max(1e-12);
            if share < LEAST_SHARE {
                continue;
            }
            let stage = row.stage.map_or("-".to_owned(), |stage| stage.to_string());
            text += &format!(
                "\n{:<4}  {stage:<5}  {:<20}  {:>7.0}  {:>7.2}  {:>5.1}%{}",
                row.node.to_string(),
                row.what,
                row.calls,
                1e3 * row.seconds,
                100.0 * share,
                self.rates(row)
            );
        }
        text
    }

    fn rates(&self, row: &Spent) -> String {
        if row.bytes == 0.0 || row.seconds == 0.0 {
            return String::new();
        }
        let (flops, bytes) = (row.flops / row.seconds, row.bytes / row.seconds);
        let threads = self.threads as f64;
        // Only products can come near the rate of products.
        let arithmetic = match row.what.starts_with("product") {
            true => flops / (threads * self.limits.product_flops),
            false => 0.0,
        };
        let memory = bytes / (threads * self.limits.memory_bytes);
        let limit = 100.0 * arithmetic.max(memory);
        format!(
            "  {:>7.1}  {:>6.1}  {limit:>7.0}%",
            flops / 1e9,
            bytes / 1e9
        )
    }
}
