//! Where the program prints to: lines for people, one JSON object a line for programs, a progress
//! bar for terminals.

use super::failure::Failure;
use crate::StepReport;
use crate::schedule::{Stretch, Timeline, Work, render_with};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// One step, as `--json` prints it and `losses.csv` has it. What is not finite is `null` in JSON.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct StepLine {
    pub(super) step: u64,
    pub(super) loss: f64,
    pub(super) grad_norm: f64,
    pub(super) lr: f64,
    pub(super) step_ms: f64,
    /// Only after steps that were followed by a validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) val_loss: Option<f64>,
    /// Why nothing was updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<String>,
    /// A checkpoint that became whole in this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<String>,
}

impl From<&StepReport> for StepLine {
    fn from(report: &StepReport) -> Self {
        Self {
            step: report.step.get(),
            loss: report.loss,
            grad_norm: report.gradient_norm,
            lr: report.learning_rate,
            step_ms: report.duration.as_secs_f64() * 1e3,
            skipped: report.skipped.as_ref().map(ToString::to_string),
            ..Self::default()
        }
    }
}

/// Where lines go.
pub(super) struct Output<'a> {
    to: &'a mut dyn Write,
    json: bool,
    bar: ProgressBar,
    closed: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a mut dyn Write, json: bool) -> Self {
        let bar = ProgressBar::hidden();
        Self {
            to,
            json,
            bar,
            closed: false,
        }
    }

    /// A progress bar over this many steps of which some are done, where errors go to a terminal.
    pub(super) fn show_progress(&mut self, steps: u64, done: u64) {
        if self.json || !io::stderr().is_terminal() {
            return;
        }
        let template = "{bar:28} {pos}/{len}  {msg}  {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        self.bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        self.bar.set_style(style.progress_chars("━╸─"));
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// Whether people see the progress bar where they would see lines.
    pub(super) fn bar_is_enough(&self) -> bool {
        !self.bar.is_hidden() && io::stdout().is_terminal()
    }

    /// A step is done.
    pub(super) fn advance(&self, line: &StepLine, tokens_per_s: f64) {
        let speed = format!("{tokens_per_s:.0} tokens/s");
        self.bar
            .set_message(format!("loss {:.4}  {speed}", line.loss));
        self.bar.inc(1);
    }

    /// No progress any more.
    pub(super) fn end_progress(&mut self) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
    }

    /// A line for people.
    pub(super) fn say(&mut self, line: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    /// A line for people, beside the output: what they should look at, though all goes on.
    pub(super) fn warn(&mut self, line: &str) {
        self.bar.suspend(|| warn(line));
    }

    /// A line for programs.
    pub(super) fn tell(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let line =
            serde_json::to_string(object).map_err(|error| Failure::Other(error.to_string()))?;
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let to = &mut self.to;
        match self.bar.suspend(|| print(*to, line)) {
            Err(Failure::Closed) => {
                self.closed = true;
                Ok(())
            }
            printed => printed,
        }
    }

    /// Whether whoever read the lines has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

/// What people should look at, though all goes on.
pub(super) fn warn(line: &str) {
    // Where it cannot be printed, nobody reads it.
    let _ = io::stderr().write_all(format!("warning: {line}\n").as_bytes());
}

/// What comes from files, without what a terminal would take for commands.
pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    text.chars().map(plain).collect()
}

/// Prints a line.
pub(super) fn print(to: &mut dyn Write, line: &str) -> Result<(), Failure> {
    writeln!(to, "{line}")
        .and_then(|()| to.flush())
        .map_err(|error| Failure::printing(&error))
}

/// A timeline, in colour where output goes to a terminal that shows it.
pub(super) fn picture(timeline: &Timeline, width: usize) -> String {
    let plain = anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never;
    render_with(timeline, width, |stretch| match plain {
        true => stretch.text.clone(),
        false => paint(stretch),
    })
}

/// Each kind of work has its colour; neighbouring micro-batches differ in its brightness.
fn paint(stretch: &Stretch) -> String {
    let Some(compute) = stretch.compute else {
        let style = Style::new().dimmed();
        return format!("{style}{}{style:#}", stretch.text);
    };
    let colour = match compute.work {
        Work::F => AnsiColor::Blue,
        Work::B => AnsiColor::Green,
        Work::I => AnsiColor::Cyan,
        Work::W => AnsiColor::Yellow,
    };
    let even = compute.micro_batch.index().is_multiple_of(2);
    let background = colour.bright(!even);
    let style = AnsiColor::Black.on(background);
    format!("{style}{}{style:#}", stretch.text)
}

/// Columns for a picture beside its labels, so that it fits the terminal.
pub(super) fn picture_width() -> usize {
    const LABELS: usize = 22;
    let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    columns.map_or(96, |columns| columns.saturating_sub(LABELS).clamp(24, 160))
}

/// A time in a unit that suits it.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        long if long >= 7200.0 => format!("{:.1} h", long / 3600.0),
        long if long >= 10.0 => format!("{long:.1} s"),
        short => format!("{:.1} ms", 1e3 * short),
    }
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
