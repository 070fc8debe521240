//! One HTML page about a training run: its losses, where the time of a step went, what every node
//! held. A single file that needs nothing from outside, light and dark.
//!
//! ```text
//! Report ──► curves, timeline, layers, memory ──► Section ──► page (askama) ──► one file
//!            drawn on a canvas (plotters)
//! ```
//!
//! Nothing is measured here: what is shown was handed over.

use crate::error::Error;
use crate::files::write_whole;
use crate::plan::Plan;
use crate::stage::NodeReport;
use crate::trace::StepTrace;
use crate::train::StepReport;
use askama::Template;
use page::{Page, Section};
pub use picture::schedule_svg;
use std::path::Path;

mod axis;
mod canvas;
mod chart;
mod curves;
mod layers;
mod memory;
mod nodes;
mod page;
mod palette;
mod picture;
mod skips;
mod timeline;
mod units;

/// What is known of a run. Whatever is empty has no place on the page.
///
/// # Example
/// ```
/// use brigade::layer::{Batch, Tensor, TensorSpec};
/// use brigade::nn::{AdamW, MeanSquaredError, Mlp};
/// use brigade::{Config, Trainer, report::Report};
///
/// let inputs = Tensor::from_vec([4, 1], vec![0.0, 1.0, 2.0, 3.0])?;
/// let data = Batch::new(inputs.clone(), inputs)?;
/// let network = Mlp::new([1, 8, 1]).network(MeanSquaredError, TensorSpec::f32([1]))?;
/// let config = Config { nodes: 2, batch_size: 4, micro_batch_size: 1, ..Config::default() };
/// let mut trainer = Trainer::start(&network, &config, AdamW::new(1e-2))?;
/// let (step, trace) = trainer.step_traced(&data)?;
///
/// let page = Report {
///     title: "A line",
///     facts: &[("nodes".into(), "2".into())],
///     plan: trainer.plan(),
///     steps: &[step],
///     validations: &[],
///     traces: &[trace],
///     nodes: &[],
///     sample: None,
/// };
/// assert!(page.html()?.contains("<h1>A line</h1>"));
/// # Ok::<(), brigade::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The heading.
    pub title: &'a str,
    /// Names and values, shown at the top.
    pub facts: &'a [(String, String)],
    /// The plan that was trained with.
    pub plan: &'a Plan,
    /// The training steps.
    pub steps: &'a [StepReport],
    /// Steps, and the validation loss after them.
    pub validations: &'a [(u64, f64)],
    /// Traced steps of this plan.
    pub traces: &'a [StepTrace],
    /// What the nodes said of themselves.
    pub nodes: &'a [NodeReport],
    /// Text that the network wrote.
    pub sample: Option<&'a str>,
}

impl Report<'_> {
    /// The page.
    ///
    /// # Errors
    /// When the plan's lists get stuck, which a plan that was made here does not.
    pub fn html(&self) -> Result<String, Error> {
        let mut sections = Vec::new();
        sections.extend(curves::section(self.steps, self.validations));
        sections.extend(timeline::section(self.plan, self.traces)?);
        sections.push(self.resources());
        sections.extend(skips::section(self.plan));
        let page = Page {
            title: self.title,
            facts: self.facts,
            sections,
            table: nodes::table(self.plan, self.nodes, self.traces),
            sample: self.sample,
        };
        Ok(page.render().expect("writing to a string cannot fail"))
    }

    /// Layers on the left, kernels and memory on the right; memory alone without traces.
    fn resources(&self) -> Section {
        let memory = memory::figure(self.plan, self.nodes);
        let left: Vec<_> = layers::layers(self.plan, self.traces).into_iter().collect();
        let kernels = layers::kernels(self.traces);
        let right = kernels.into_iter().chain([memory]).collect();
        let heading = match left.is_empty() {
            true => "Memory",
            false => "Time and memory",
        };
        let columns = [left, right];
        let filled = columns.into_iter().filter(|column| !column.is_empty());
        Section::new(heading, filled.collect())
    }

    /// Writes the page: whole or not at all.
    ///
    /// # Errors
    /// When it cannot be made or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_whole(path.as_ref(), self.html()?.as_bytes())
    }
}
