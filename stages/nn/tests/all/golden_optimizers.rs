//! Optimizers step by step, and learning rates, against PyTorch's numbers.

use crate::bench::{Golden, assert_close, decimal, part};
use brigade_layer::{
    BuildCtx, Init, Optimizer, Param, ParamAccess, ParamRole, ParamSpec, Part, Pool, StepId,
    UpdateWith,
};
use brigade_nn::{Adam, AdamW, Group, LearningRate, Sgd};

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

/// A group's rate and decay are those of an optimizer that has nothing else; the first group that
/// matches counts; where none does, nothing changes.
#[test]
fn groups_change_rates_by_key() {
    let stepped = |optimizer: &dyn Optimizer, key: &str, role: ParamRole| {
        let pool = Pool::default();
        let spec = ParamSpec::new(key, [3], role, Init::Ones);
        let mut param = Param::build(&spec, &BuildCtx::new(&pool, 0, "h.0")).unwrap();
        for step in 0..3 {
            let gradient = [0.5, -1.0, 0.25 * step as f32];
            param.write(Part::Gradient, &gradient, &pool).unwrap();
            let with = UpdateWith::new(StepId::new(step), &pool);
            param.update(optimizer, &with).unwrap();
        }
        part(&param, Part::Value)
    };
    let groups = || {
        vec![
            Group::of("h.0.*.bias").weight_decay(0.25),
            Group::of("h.?.ln.*").lr(0.5),
            Group::of("*bias").lr(0.0),
        ]
    };
    macro_rules! check {
        ($optimizer:expr) => {
            let of = |lr: f64, weight_decay: f64, groups: Vec<Group>| {
                let mut one = $optimizer;
                (one.lr, one.weight_decay, one.groups) = (lr.into(), weight_decay, groups);
                one.decay_roles.push(ParamRole::Bias);
                one
            };
            let mut usual = of(0.5, 0.1, groups());
            usual.decay_roles.pop();
            for (key, role, lr, decay) in [
                ("attn.bias", ParamRole::Bias, 0.5, 0.25),
                ("ln.weight", ParamRole::Norm, 0.25, 0.0),
                ("ln.bias", ParamRole::Norm, 0.5, 0.25),
                ("mlp.weight", ParamRole::Weight, 0.5, 0.1),
                ("bias", ParamRole::Bias, 0.0, 0.0),
            ] {
                let mut alone = of(lr, decay, Vec::new());
                alone.decay_roles.push(ParamRole::Norm);
                let (found, wanted) = (stepped(&usual, key, role), stepped(&alone, key, role));
                assert_eq!(found, wanted, "{key} {alone:?}");
            }
        };
    }
    check!(AdamW::default());
    check!(Adam::default());
    check!(Sgd::default());
    check!(Sgd {
        momentum: 0.9,
        ..Sgd::default()
    });
}

#[test]
fn groups_are_data_and_must_match_what_trains() {
    let text = r#"{"groups": [{"keys": "h.0.*", "lr": 0.1}, {"keys": "*", "weight_decay": 0}]}"#;
    let read: AdamW = serde_json::from_str(text).unwrap();
    let groups = vec![Group::of("h.0.*").lr(0.1), Group::of("*").weight_decay(0.0)];
    assert_eq!(read.groups, groups);
    let back = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<AdamW>(&back).unwrap(), read);
    assert!(serde_json::from_str::<Group>(r#"{"keys": "*", "rate": 1}"#).is_err());

    let spec = |name: &str| ParamSpec::new(name, [1], ParamRole::Weight, Init::Ones);
    let params = [("a.w", spec("a.w")), ("b.w", spec("b.w").untrained())];
    let params = params.map(|(key, spec)| (key.to_owned(), spec));
    let said = |group: Group| {
        let groups = vec![Group::of("a.*"), group];
        let optimizer = Sgd {
            groups,
            ..Sgd::default()
        };
        let checked = optimizer.validate().and_then(|()| optimizer.suits(&params));
        checked.err().map(|error| error.to_string())
    };
    assert_eq!(said(Group::of("*.w")), None);
    let none = said(Group::of("c.*")).unwrap();
    assert!(
        none.contains("no parameter matches \"c.*\"; there are a.w, b.w"),
        "{none}"
    );
    let frozen = said(Group::of("b.*")).unwrap();
    assert!(
        frozen.contains("group b.*") && frozen.contains("not trained"),
        "{frozen}"
    );
    let late = said(Group::of("a.w")).unwrap();
    assert!(
        late.contains("group a.w gets nothing: earlier groups match all"),
        "{late}"
    );
    let below = said(Group::of("a.w").lr(-1.0)).unwrap();
    assert!(below.contains("lr of group a.w is -1"), "{below}");
    let infinite = said(Group::of("a.w").weight_decay(f64::INFINITY)).unwrap();
    assert!(
        infinite.contains("weight_decay of group a.w is inf"),
        "{infinite}"
    );
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
