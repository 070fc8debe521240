//! ZB-H1: zero bubble at the memory of 1F1B (Qi et al., ICLR 2024, arXiv
//! 2401.10241).

use super::row::{Step, rows};
use super::{Definition, Task};

/// 1F1B with the backward in two: I is handed on at once, and node r does W only r micro-batches
/// later, so that gradients reach the first node early and W fills the gaps at the end.
///
/// Every node keeps the state of at most P micro-batches, as 1F1B's first node. Idle time while W
/// takes no longer than I: (P - 1) (F + I - W), a third of 1F1B's if all three take the same. With
/// M < P there is too little W to fill the gaps: (P - M) W more.
///
/// ```text
/// node 0  F0 F1 F2       I0 W0 F3 I1 W1 I2 W2 I3 W3
/// node 1     F0 F1    I0 F2 I1 W0 F3 I2 W1 I3 W2 W3
/// node 2        F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3
/// ```
pub(super) fn zb_h1(task: &Task) -> Definition {
    let (nodes, micro_batches) = (task.nodes().get(), task.micro_batches.get());
    rows(task, |node, row| {
        let warm_up = micro_batches.min(nodes - 1 - node);
        row.repeat(warm_up, &[Step::F(0)]);
        for done in 0..micro_batches {
            if done < micro_batches - warm_up {
                row.write(Step::F(0));
            }
            row.write(Step::I(0));
            if done >= node {
                row.write(Step::W(0));
            }
        }
        row.settle();
    })
}
