//! What does not fit is refused with its name, its number and what would be right.

use crate::bench::{PLAIN, ids, pass, wave};
use brigade_layer::{AnySpec, Tensor, TensorSpec, Tensors};
use brigade_nn::{
    CausalSelfAttention, CrossEntropy, Dropout, Embedding, LayerNorm, Linear, MeanSquaredError,
    PositionEmbedding, Residual,
};

fn running(spec: &dyn AnySpec, inputs: impl Into<Tensors>) -> String {
    pass(spec, &[], &inputs.into(), None, PLAIN)
        .unwrap_err()
        .to_string()
}

fn describing(spec: &dyn AnySpec, inputs: &[TensorSpec]) -> String {
    spec.output_specs(inputs).unwrap_err().to_string()
}

#[test]
fn an_id_outside_the_vocabulary_is_named() {
    let wrong = Tensor::from_vec([2, 3], vec![0, 1, 2, 3, 11, 4]).unwrap();
    let text = running(&Embedding::new(11, 2), wrong);
    assert!(
        text.contains("id 11 in row 1") && text.contains("vocabulary of 11 (0 to 10)"),
        "{text}"
    );
    let negative = Tensor::from_vec([1, 1], vec![-1]).unwrap();
    assert!(running(&Embedding::new(11, 2), negative).contains("id -1 in row 0"));
}

#[test]
fn a_target_that_is_no_class_is_named() {
    let targets = Tensor::from_vec([2], vec![4, 5]).unwrap();
    let text = running(&CrossEntropy::new(), [wave([2, 5], 0.7), targets]);
    assert!(
        text.contains("target 5 in row 1") && text.contains("5 classes (0 to 4)"),
        "{text}"
    );
    let targets = Tensor::from_vec([2], vec![-1, 0]).unwrap();
    assert!(running(&CrossEntropy::new(), [wave([2, 5], 0.7), targets]).contains("target -1"));
}

#[test]
fn shapes_that_do_not_fit_say_what_would() {
    let cases: [(&dyn AnySpec, Vec<TensorSpec>, &str); 9] = [
        (&Linear::new(4, 2), vec![TensorSpec::f32([3, 5])], "[.., 4]"),
        (&LayerNorm::new(4), vec![TensorSpec::f32([3, 5])], "[.., 4]"),
        (
            &PositionEmbedding::new(4, 2),
            vec![TensorSpec::f32([3, 5, 2])],
            "at most 4",
        ),
        (
            &CausalSelfAttention::new(6, 2),
            vec![TensorSpec::f32([3, 6])],
            "[rows, length, 6]",
        ),
        (
            &CausalSelfAttention::new(6, 4),
            vec![TensorSpec::f32([3, 2, 6])],
            "multiple of the heads",
        ),
        (
            &CrossEntropy::new(),
            vec![TensorSpec::f32([3, 5]), TensorSpec::i32([4])],
            "[3]",
        ),
        (
            &MeanSquaredError,
            vec![TensorSpec::f32([3, 5]), TensorSpec::f32([3, 4])],
            "[3, 5]",
        ),
        (
            &Residual::new(Linear::new(4, 2)),
            vec![TensorSpec::f32([3, 4])],
            "[3, 4]",
        ),
        (
            &Dropout::new(f32::NAN),
            vec![TensorSpec::f32([3, 4])],
            "probability",
        ),
    ];
    for (spec, inputs, named) in cases {
        let text = describing(spec, &inputs);
        assert!(text.contains(named), "{spec:?}: {text}");
    }
}

#[test]
fn element_types_and_numbers_of_inputs_are_checked() {
    let (f32s, i32s) = (TensorSpec::f32([2, 4]), TensorSpec::i32([2, 4]));
    assert!(describing(&Linear::new(4, 2), &[i32s]).contains("f32"));
    assert!(describing(&Embedding::new(4, 2), &[f32s]).contains("i32"));
    assert!(describing(&CrossEntropy::new(), &[f32s, TensorSpec::f32([2])]).contains("i32"));
    assert!(describing(&Linear::new(4, 2), &[f32s, f32s]).contains("expected 1 tensors"));
    assert!(describing(&CrossEntropy::new(), &[f32s]).contains("expected 2 tensors"));
    assert!(running(&Linear::new(4, 2), ids([2, 4], 3)).contains("f32"));
}

#[test]
fn the_same_mistakes_are_found_while_running() {
    assert!(running(&Linear::new(4, 2), wave([3, 5], 0.7)).contains("[.., 4]"));
    assert!(running(&PositionEmbedding::new(4, 2), wave([3, 5, 2], 0.7)).contains("at most 4"));
    assert!(running(&CausalSelfAttention::new(6, 4), wave([1, 2, 6], 0.7)).contains("multiple"));
}
