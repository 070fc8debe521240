//! `brigade schedule show` and `simulate`.

use super::options::ScheduleOptions;
use super::setting::Setting;
use crate::PlanError;
use crate::cli::failure::Failure;
use crate::cli::output::{picture, picture_width, print};
use crate::files::write_whole;
use crate::report::schedule_svg;
use crate::schedule::{
    Action, Timeline, Totals, counted, critical_path, simulate as play, simulate_totals,
};
use serde_json::{Value, json};
use std::io::Write;

/// Beyond this a picture is none any more.
const MOST_WIDTH: usize = 10_000;
/// The same for the actions of a picture.
const MOST_DRAWN: usize = 1 << 20;

pub(super) fn show(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let setting = options.setting()?;
    save(options, &setting)?;
    if options.json {
        let rows = setting.lowered.nodes.iter();
        let rows: Vec<Vec<String>> = rows
            .map(|row| row.iter().map(Action::to_string).collect())
            .collect();
        let mut object = head(&setting);
        object["actions"] = json!(rows);
        return print(to, &object.to_string());
    }
    let timeline = setting.timeline()?;
    print(to, &title(&setting))?;
    draw(options, &timeline, to)?;
    let totals = timeline.totals();
    print(
        to,
        &format!(
            "F forward, B backward (I for inputs, then W for weights), . idle{}\n\
             bubble {:.1}%; micro-batches kept for backward, by node: {}",
            if setting.chunks() > 1 {
                "; lower case: a node's further stages"
            } else {
                ""
            },
            100.0 * totals.bubble_makespan(),
            numbers(&setting.kept)
        ),
    )
}

pub(super) fn simulate(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let setting = options.setting()?;
    save(options, &setting)?;
    let small = setting.actions() <= MOST_DRAWN;
    let timeline = small.then(|| setting.timeline()).transpose()?;
    let totals = match &timeline {
        Some(timeline) => timeline.totals(),
        None => setting.totals()?,
    };
    if options.json {
        let mut object = head(&setting);
        let more = figures(&totals, &setting.kept);
        if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        if let Some(timeline) = &timeline {
            let path = critical_path(timeline);
            let path: Vec<_> = (path.iter())
                .map(|(node, span)| {
                    json!({
                        "node": node.get(), "action": span.action.to_string(),
                        "start": span.start, "end": span.end,
                    })
                })
                .collect();
            object["critical_path"] = json!(path);
        } else {
            object["critical_path"] = Value::Null;
            object["left_out"] = json!(too_many(&setting));
        }
        return print(to, &object.to_string());
    }
    print(to, &title(&setting))?;
    if let Some(timeline) = &timeline {
        draw(options, timeline, to)?;
    }
    print(to, &words(&totals, &setting.kept))?;
    match &timeline {
        Some(timeline) => print(to, &path_in_words(timeline)),
        None => print(to, &too_many(&setting)),
    }
}

fn too_many(setting: &Setting) -> String {
    let actions = setting.actions();
    format!("no picture and no critical path: {actions} actions, and up to {MOST_DRAWN} have them")
}

fn words(totals: &Totals, kept: &[f64]) -> String {
    format!(
        "makespan {:.4}, bubble {:.2}%\n\
         span     {:.4}, bubble {:.2}%  (the longest node from its first action to its last)\n\
         idle, by node: {}\n\
         micro-batches kept for backward, by node: {}",
        totals.makespan,
        100.0 * totals.bubble_makespan(),
        totals.span(),
        100.0 * totals.bubble_span(),
        numbers(&totals.idle()),
        numbers(kept),
    )
}

/// The critical path, neighbours on one node together.
fn path_in_words(timeline: &Timeline) -> String {
    const MOST: usize = 24;
    let path = critical_path(timeline);
    let mut stretches: Vec<(u32, Vec<String>)> = Vec::new();
    for (node, span) in &path {
        match stretches.last_mut() {
            Some((last, actions)) if *last == node.get() => actions.push(span.action.to_string()),
            _ => stretches.push((node.get(), vec![span.action.to_string()])),
        }
    }
    let shown = stretches
        .iter()
        .take(MOST)
        .map(|(_, actions)| match &actions[..] {
            [first, _, .., last] => format!("{first}..{last}"),
            few => few.join(" "),
        });
    let mut text = shown.collect::<Vec<_>>().join(" > ");
    if stretches.len() > MOST {
        text += &format!(" > {} more", stretches.len() - MOST);
    }
    format!("critical path: {text}")
}

/// What programs read.
pub(super) fn figures(totals: &Totals, kept: &[f64]) -> Value {
    json!({
        "makespan": totals.makespan,
        "span": totals.span(),
        "bubble_makespan": totals.bubble_makespan(),
        "bubble_span": totals.bubble_span(),
        "peak_stash": kept,
        "idle": totals.idle(),
    })
}

/// The setting, for programs.
pub(super) fn head(setting: &Setting) -> Value {
    json!({
        "schedule": setting.defined.name,
        "nodes": setting.defined.layout.nodes().index(),
        "chunks": setting.chunks(),
        "micro_batches": setting.defined.micro_batches.index(),
    })
}

fn title(setting: &Setting) -> String {
    let defined = &setting.defined;
    let nodes = counted(defined.layout.nodes(), "node");
    let micro_batches = counted(defined.micro_batches, "micro-batch");
    let chunks = match setting.chunks() {
        1 => String::new(),
        many => format!(" with {many} stages each"),
    };
    format!("{}, {nodes}{chunks}, {micro_batches}", defined.name)
}

/// Numbers without zeros behind them; of very many the first and the last.
pub(super) fn numbers(list: &[f64]) -> String {
    const MOST: usize = 64;
    if let [first @ .., _, _, last] = list
        && list.len() > MOST
    {
        let first = numbers(&first[..8]);
        return format!("{first} ... {}", numbers(&[*last]));
    }
    let short = |number: &f64| {
        let text = format!("{number:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    list.iter().map(short).collect::<Vec<_>>().join(" ")
}

fn draw(options: &ScheduleOptions, timeline: &Timeline, to: &mut dyn Write) -> Result<(), Failure> {
    let width = options.width.unwrap_or_else(picture_width);
    if !(1..=MOST_WIDTH).contains(&width) {
        let problem = format!("--width is {width}; it must be between 1 and {MOST_WIDTH}");
        return Err(Failure::Usage(problem));
    }
    print(to, picture(timeline, width).trim_end())
}

/// Pictures and exchanged files that are asked for.
pub(super) fn save(options: &ScheduleOptions, setting: &Setting) -> Result<(), Failure> {
    save_picture(options, setting)?;
    if let Some(path) = &options.csv {
        write_whole(path, super::exchange::text(options, setting)?.as_bytes())?;
    }
    Ok(())
}

pub(super) fn save_picture(options: &ScheduleOptions, setting: &Setting) -> Result<(), Failure> {
    if let Some(path) = &options.svg {
        let (title, layout) = (title(setting), &setting.defined.layout);
        let svg = schedule_svg(&title, &setting.timeline()?, layout);
        write_whole(path, svg.as_bytes())?;
    }
    Ok(())
}

impl Setting {
    fn actions(&self) -> usize {
        self.lowered.nodes.iter().map(Vec::len).sum()
    }

    /// The most stages of a node.
    pub(super) fn chunks(&self) -> usize {
        let layout = &self.defined.layout;
        let nodes = layout.nodes().iter();
        let stages = nodes.map(|node| layout.placement.stages_on(node).len());
        stages.max().unwrap_or(1)
    }

    fn timeline(&self) -> Result<Timeline, Failure> {
        if self.actions() > MOST_DRAWN {
            let problem = format!(
                "{} actions cannot be drawn; use fewer micro-batches or nodes, or simulate",
                self.actions()
            );
            return Err(Failure::Usage(problem));
        }
        let (lowered, of) = (&self.lowered, &self.defined);
        let timeline = play(lowered, &of.layout, of.micro_batches, &of.times);
        Ok(timeline.map_err(PlanError::from)?)
    }

    pub(super) fn totals(&self) -> Result<Totals, Failure> {
        let (lowered, of) = (&self.lowered, &self.defined);
        let totals = simulate_totals(lowered, &of.layout, of.micro_batches, &of.times);
        Ok(totals.map_err(PlanError::from)?)
    }
}
