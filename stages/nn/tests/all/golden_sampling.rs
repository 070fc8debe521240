//! What is drawn from, against Hugging Face's warpers (see `tests/goldens/make_sampling.py`).

use crate::bench::{Golden, assert_close, decimal};
use brigade_nn::Sampling;

#[test]
fn the_kept_tokens_and_their_probabilities_are_those_of_transformers() {
    let golden = Golden::open("sampling");
    for number in 0..9 {
        for vocab in [7, 100] {
            let name = format!("{number}-{vocab}");
            let get = |what: &str| golden.numbers(&format!("{name}/{what}"));
            let settings: Vec<f64> = get("settings").iter().map(|s| f64::from(*s)).collect();
            let sampling = Sampling {
                temperature: decimal(settings[0]),
                top_k: settings[1] as usize,
                top_p: decimal(settings[2]),
                ..Sampling::default()
            };
            let mut found = vec![0.0; vocab];
            for (token, probability) in sampling.kept(&get("logits")).unwrap() {
                found[token as usize] = probability as f32;
            }
            let expected = get("probabilities");
            let kept = |all: &[f32]| all.iter().map(|p| *p > 0.0).collect::<Vec<_>>();
            assert_eq!(kept(&found), kept(&expected), "{name}: {sampling:?}");
            assert_close(&name, &found, &expected, 1e-6);
        }
    }
}
