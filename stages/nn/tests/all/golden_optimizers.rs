//! Optimizers step by step, and learning rates, against PyTorch's numbers.

use crate::bench::{Golden, assert_close, decimal, part};
use brigade_layer::{
    BuildCtx, Init, Optimizer, Param, ParamAccess, ParamRole, ParamSpec, Part, Pool, StepId,
    UpdateWith,
};
use brigade_nn::{Adam, AdamW, LearningRate, Sgd};

fn check(case: &str, optimizer: &dyn Optimizer) {
    let golden = Golden::open("optimizers");
    optimizer.validate().unwrap();
    for (name, role) in [("weight", ParamRole::Weight), ("bias", ParamRole::Bias)] {
        let pool = Pool::default();
        let start = golden.get(&format!("given/{name}"));
        let spec = ParamSpec::new(name, start.shape(), role, Init::Zeros);
        let mut param = Param::build(&spec, &BuildCtx::new(&pool, 0, "")).unwrap();
        param
            .write(Part::Value, start.f32().unwrap(), &pool)
            .unwrap();
        let gradients = golden.numbers(&format!("given/d{name}"));
        let expected = golden.numbers(&format!("{case}/{name}"));
        let elements = start.shape().elements();
        let steps = gradients.chunks(elements).zip(expected.chunks(elements));
        for (step, (gradient, expected)) in steps.enumerate() {
            // Twice the gradient, scaled by a half.
            let doubled: Vec<f32> = gradient.iter().map(|g| 2.0 * g).collect();
            param.write(Part::Gradient, &doubled, &pool).unwrap();
            let with = UpdateWith::new(StepId::new(step as u64), &pool).scaled(0.5);
            param.update(optimizer, &with).unwrap();
            let what = format!("{case}/{name} after step {step}");
            assert_close(&what, &part(&param, Part::Value), expected, 1e-6);
        }
    }
}

fn setting(case: &str, name: &str) -> f64 {
    decimal(Golden::open("optimizers").number(&format!("{case}/{name}")))
}

#[test]
fn sgd_with_and_without_momentum() {
    let of = |case: &str| Sgd {
        weight_decay: setting(case, "weight_decay"),
        ..Sgd::new(setting(case, "lr"))
    };
    check("sgd", &of("sgd"));
    for (case, nesterov) in [
        ("momentum", false),
        ("nesterov", true),
        ("momentum_decay", false),
    ] {
        check(
            case,
            &Sgd {
                momentum: setting(case, "momentum"),
                nesterov,
                ..of(case)
            },
        );
    }
}

#[test]
fn adam_and_adamw() {
    let betas = |case| (setting(case, "beta1"), setting(case, "beta2"));
    for case in ["adam", "adam_decay"] {
        let optimizer = Adam {
            betas: betas(case),
            eps: setting(case, "eps"),
            weight_decay: setting(case, "weight_decay"),
            ..Adam::new(setting(case, "lr"))
        };
        check(case, &optimizer);
    }
    let case = "adamw";
    let optimizer = AdamW {
        betas: betas(case),
        eps: setting(case, "eps"),
        weight_decay: setting(case, "weight_decay"),
        ..AdamW::new(setting(case, "lr"))
    };
    check(case, &optimizer);
}

#[test]
fn learning_rates() {
    let golden = Golden::open("lr");
    for case in ["cosine", "linear"] {
        let whole = |name: &str| golden.whole(&format!("{case}/{name}")) as u64;
        let number = |name: &str| decimal(golden.number(&format!("{case}/{name}")));
        let (peak, min) = (number("lr"), number("min"));
        let (warmup_steps, steps) = (whole("warmup"), whole("steps"));
        let rule = match case {
            "cosine" => LearningRate::Cosine {
                peak,
                min,
                warmup_steps,
                steps,
            },
            _ => LearningRate::Linear {
                peak,
                min,
                warmup_steps,
                steps,
            },
        };
        let rates: Vec<f32> = (0..steps)
            .map(|step| rule.at(StepId::new(step)) as f32)
            .collect();
        assert_close(case, &rates, &golden.numbers(&format!("{case}/lrs")), 1e-7);
        assert_eq!(rule.at(StepId::new(steps + 5)), min);
    }
}

#[test]
fn settings_have_defaults_and_refuse_what_they_do_not_know() {
    let read: AdamW = serde_json::from_str(r#"{"lr": {"constant": {"lr": 0.5}}}"#).unwrap();
    assert_eq!(read, AdamW::new(0.5));
    let text = serde_json::to_string(&Sgd::default()).unwrap();
    assert_eq!(serde_json::from_str::<Sgd>(&text).unwrap(), Sgd::default());
    assert!(serde_json::from_str::<Adam>(r#"{"momentum": 0.9}"#).is_err());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let wrong: [(&dyn Optimizer, &str); 7] = [
        (&Sgd::new(-0.1), "learning rate"),
        (&Sgd::new(f64::NAN), "learning rate"),
        (
            &Sgd {
                nesterov: true,
                ..Sgd::default()
            },
            "momentum",
        ),
        (
            &AdamW {
                betas: (1.0, 0.9),
                ..AdamW::default()
            },
            "first beta",
        ),
        (
            &AdamW {
                betas: (0.9, -0.1),
                ..AdamW::default()
            },
            "second beta",
        ),
        (
            &Adam {
                eps: f64::INFINITY,
                ..Adam::default()
            },
            "eps",
        ),
        (
            &Adam {
                weight_decay: f64::NAN,
                ..Adam::default()
            },
            "weight_decay",
        ),
    ];
    for (optimizer, named) in wrong {
        let text = optimizer.validate().unwrap_err().to_string();
        assert!(text.contains(named), "{text}");
    }
    for optimizer in [
        &Sgd::default() as &dyn Optimizer,
        &Adam::default(),
        &AdamW::default(),
    ] {
        optimizer.validate().unwrap();
    }
}
