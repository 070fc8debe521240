//! Promise: a report is one whole page that needs nothing from outside, whatever the run was.
#![cfg(feature = "report")]
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::StepId;
use brigade::layer::{Batch, Data, Network, Tensor, TensorSpec};
use brigade::nn::{AdamW, Gpt, MeanSquaredError, Mlp, TokenWindows};
use brigade::report::Report;
use brigade::trace::StepTrace;
use brigade::{Config, Error, NodeReport, Plan, StepReport, Trainer};
use std::path::Path;

struct Run {
    plan: Plan,
    steps: Vec<StepReport>,
    traces: Vec<StepTrace>,
    nodes: Vec<NodeReport>,
}

fn gpt() -> Network {
    let gpt = Gpt {
        context: 8,
        width: 16,
        blocks: 2,
        ..Gpt::default()
    };
    gpt.network().unwrap()
}

fn config(nodes: usize, batch_size: usize) -> Config {
    Config {
        nodes,
        batch_size,
        micro_batch_size: 2,
        ..Config::default()
    }
}

fn run(nodes: usize) -> Run {
    let tokens: Vec<i32> = (0..500).map(|n| n * 7 % 256).collect();
    let data = TokenWindows::random(tokens, 8, 8, 1).unwrap();
    Run::of(&gpt(), &config(nodes, 8), &data)
}

impl Run {
    /// A short run, every second step traced.
    fn of<D: Data + Clone + 'static>(network: &Network, config: &Config, data: &D) -> Self {
        let mut trainer = Trainer::start(network, config, AdamW::new(1e-3)).unwrap();
        let (mut steps, mut traces) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            steps.push(trainer.step(data).unwrap());
            let (step, trace) = trainer.step_traced(data).unwrap();
            steps.push(step);
            traces.push(trace);
        }
        let nodes = trainer.report().unwrap();
        Self {
            plan: trainer.plan().clone(),
            steps,
            traces,
            nodes,
        }
    }

    fn report(&self) -> Report<'_> {
        Report {
            title: "A GPT",
            facts: &[],
            plan: &self.plan,
            steps: &self.steps,
            validations: &[(3, 5.5), (6, 5.4)],
            traces: &self.traces,
            nodes: &self.nodes,
            sample: Some("To be, or not to be"),
        }
    }
}

/// The page, which is XML as well as HTML and names nothing outside itself.
fn checked(report: &Report) -> String {
    let html = report.html().unwrap();
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..roxmltree::ParsingOptions::default()
    };
    let page = roxmltree::Document::parse_with_options(&html, options)
        .unwrap_or_else(|error| panic!("{error}: {html}"));
    for node in page.descendants() {
        let name = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "image", "use"].contains(&name));
        for attribute in node.attributes() {
            assert!(!["src", "href", "srcset", "xlink:href"].contains(&attribute.name()));
            assert!(!attribute.name().starts_with("on"), "{}", attribute.name());
        }
    }
    for drawing in page.descendants().filter(|node| node.has_tag_name("svg")) {
        inside(drawing);
    }
    for outside in ["http:", "https:", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Every colour has a name, so that it has a dark one too.
    assert!(!html.contains("\"#"), "a literal colour");
    html
}

/// Nothing is drawn past the edges, where it would be cut off.
fn inside(drawing: roxmltree::Node) {
    let numbers = |text: &str| -> Vec<f64> {
        let parts = text.split([' ', ',']).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().unwrap()).collect()
    };
    let view = numbers(drawing.attribute("viewBox").unwrap());
    let fits = |x: f64, y: f64| {
        let fits = (-4.0..=view[2] + 4.0).contains(&x) && (-4.0..=view[3] + 4.0).contains(&y);
        assert!(fits, "({x}, {y}) in {view:?}");
    };
    for mark in drawing.descendants() {
        let at = |name| {
            mark.attribute(name)
                .map(|text| text.parse::<f64>().unwrap())
        };
        if let (Some(x), Some(y)) = (at("x"), at("y")) {
            fits(x, y);
            fits(
                x + at("width").unwrap_or(0.0),
                y + at("height").unwrap_or(0.0),
            );
        }
        if let Some(points) = mark.attribute("points") {
            for point in numbers(points).chunks(2) {
                fits(point[0], point[1]);
            }
        }
    }
}

fn has(html: &str, headings: &[&str]) {
    for heading in headings {
        assert!(html.contains(&format!("{heading}</h")), "{heading}");
    }
}

const FROM_TRACES: [&str; 3] = ["Timeline", "Time per layer", "Time per kernel"];

#[test]
fn a_page_has_every_section() {
    let run = run(3);
    let facts = [("Parameters".to_owned(), "12,345".to_owned())];
    let report = Report {
        facts: &facts,
        ..run.report()
    };
    let html = checked(&report);
    has(&html, &["A GPT", "Loss", "Gradient norm", "Learning rate"]);
    has(&html, &FROM_TRACES);
    has(&html, &["Memory per node", "Nodes", "Sample"]);
    for text in [
        "Parameters",
        "12,345",
        "measured peak",
        "To be, or not to be",
    ] {
        assert!(html.contains(text), "{text}");
    }
    for text in [
        "Measured, step",
        "Simulated",
        "node 2",
        "h.1.attn",
        "product",
    ] {
        assert!(html.contains(&format!("\n{text}")), "{text} in a drawing");
    }
    for ink in ["forward", "backward", "optimizer", "wait", "track"] {
        assert!(html.contains(&format!("fill=\"var(--{ink})\"")), "{ink}");
    }
    let defined = |ink: &str| html.matches(&format!("--{ink}: #")).count();
    for ink in html.split("var(--").skip(1) {
        let ink = ink.split(')').next().unwrap();
        assert_eq!(defined(ink), 2, "{ink}, light and dark");
    }
    assert_eq!(html.matches("<svg").count(), 7);
}

#[test]
fn what_is_missing_is_left_out() {
    let run = run(2);
    let nothing = Report {
        steps: &[],
        validations: &[],
        traces: &[],
        nodes: &[],
        sample: None,
        ..run.report()
    };
    let html = checked(&nothing);
    has(&html, &["A GPT", "Memory per node", "Nodes"]);
    for heading in ["Loss", "Sample"].iter().chain(&FROM_TRACES) {
        assert!(!html.contains(&format!("{heading}</h")), "{heading}");
    }
    assert!(!html.contains("measured peak"));

    let untraced = checked(&Report {
        traces: &[],
        ..run.report()
    });
    has(&untraced, &["Loss", "Memory per node"]);
    let mut empty = run.traces[0].clone();
    empty
        .nodes
        .iter_mut()
        .for_each(|node| *node = Default::default());
    checked(&Report {
        traces: &[empty.clone()],
        ..run.report()
    });
    empty.nodes.clear();
    checked(&Report {
        traces: &[empty],
        ..run.report()
    });
}

#[test]
fn one_node_and_one_step_make_a_page() {
    let run = run(1);
    let html = checked(&run.report());
    has(&html, &FROM_TRACES);
    let one = Report {
        steps: &run.steps[..1],
        validations: &[],
        traces: &run.traces[..1],
        ..run.report()
    };
    has(&checked(&one), &["Loss", "Timeline"]);
    let only_validated = Report {
        steps: &[],
        ..run.report()
    };
    has(&checked(&only_validated), &["Loss"]);
}

/// A long run of which every step is like a given one.
fn synthetic(run: &Run, steps: u64, loss: impl Fn(u64) -> f64) -> Vec<StepReport> {
    let step = |number| {
        let mut step = run.steps[0].clone();
        step.step = StepId::new(number);
        step.loss = loss(number);
        step.gradient_norm = 1.0 + (number as f64 * 0.37).sin().abs();
        step
    };
    (0..steps).map(step).collect()
}

#[test]
fn strange_losses_do_not_spoil_the_page() {
    let run = run(2);
    let losses: [fn(u64) -> f64; 8] = [
        |_| 2.5,
        |_| 0.0,
        |_| f64::NAN,
        |step| if step == 7 { f64::INFINITY } else { 1.0 },
        |step| {
            if step.is_multiple_of(2) {
                f64::NEG_INFINITY
            } else {
                -3.0
            }
        },
        |step| 10f64.powi(step as i32 - 50),
        |step| {
            if step == 0 {
                f64::MAX
            } else {
                f64::MIN_POSITIVE
            }
        },
        |step| 1.0 + step as f64 * 1e-16,
    ];
    for loss in losses {
        let mut steps = synthetic(&run, 100, loss);
        checked(&Report {
            steps: &steps,
            ..run.report()
        });
        for step in &mut steps {
            (step.gradient_norm, step.learning_rate) = (step.loss, step.loss);
        }
        checked(&Report {
            steps: &steps,
            validations: &[(3, f64::NAN)],
            ..run.report()
        });
    }
    let steps = synthetic(&run, 100, |step| if step < 4 { f64::NAN } else { 1.0 });
    let html = checked(&Report {
        steps: &steps,
        ..run.report()
    });
    assert!(html.contains("4 steps without a finite loss left out"));
}

#[test]
fn a_long_run_stays_a_small_page() {
    let run = run(2);
    let steps = synthetic(&run, 50_000, |step| 2.0 + (step as f64 * 1.7).sin());
    let validations: Vec<_> = (0..5000).map(|n| (10 * n, 2.0 + n as f64 * 1e-3)).collect();
    let report = Report {
        steps: &steps,
        validations: &validations,
        ..run.report()
    };
    let html = checked(&report);
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
    assert!(html.contains("the mean of the last 1000 steps"));
}

#[test]
fn a_network_of_a_thousand_layers_shows_its_slowest() {
    let inputs = Tensor::from_vec([4, 2], vec![0.5; 8]).unwrap();
    let data = Batch::new(inputs.clone(), inputs).unwrap();
    let network = Mlp::new([2; 501]).network(MeanSquaredError, TensorSpec::f32([2]));
    let run = Run::of(&network.unwrap(), &config(2, 4), &data);
    assert!(run.plan.layers.len() > 990);
    let html = checked(&run.report());
    assert!(html.contains("Only the slowest 40 of"));
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
}

#[test]
fn hostile_text_is_only_text() {
    const HOSTILE: &str = "</pre></style><script>alert('x')</script>&amp; \"#B01D00\" onload=\"x\"";
    let mut run = run(2);
    run.plan
        .layers
        .iter_mut()
        .for_each(|key| *key = "<script>".to_owned());
    let facts = [(HOSTILE.to_owned(), HOSTILE.to_owned())];
    let report = Report {
        title: HOSTILE,
        facts: &facts,
        sample: Some(HOSTILE),
        ..run.report()
    };
    let html = report.html().unwrap();
    assert!(!html.contains("<script"), "it runs");
    let page = checked(&report);
    assert!(page.contains("&lt;script&gt;"), "the key is shown");
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let run = run(2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    run.report().save(&file).unwrap();
    run.report().save(&file).unwrap();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        run.report().html().unwrap()
    );
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names(), 1, "nothing is left beside it");

    for wrong in [
        folder.path().join("no/report.html"),
        folder.path().to_owned(),
        "/".into(),
    ] {
        let problem = run.report().save(&wrong).unwrap_err();
        let Error::Write { path, .. } = &problem else {
            panic!("{problem}");
        };
        assert_eq!(Path::new(path), wrong);
    }
    assert_eq!(names(), 1);
}
