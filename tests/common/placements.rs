//! Placements of all kinds, drawn.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use brigade::ids::{NodeCount, NodeId};
use brigade::layer::Random;
use brigade::placement::Placement;

/// Numbers from a stream.
pub struct Numbers(Random, u64, u32);

impl Numbers {
    pub fn new(seed: u64, name: &str, case: u64) -> Self {
        Self(Random::named(seed, name), case, 0)
    }

    pub fn below(&mut self, bound: u64) -> f64 {
        self.2 += 1;
        self.0.below(self.1, self.2, bound) as f64
    }

    pub fn list(&mut self, count: usize, bound: u64) -> Vec<f64> {
        (0..count).map(|_| self.below(bound)).collect()
    }
}

fn nodes(numbers: &mut Numbers, most: u64) -> NodeCount {
    NodeCount::new(1 + numbers.below(most) as u32)
}

fn straight(numbers: &mut Numbers) -> Placement {
    Placement::straight(nodes(numbers, 7))
}

/// Nodes in any order, each with one stage.
fn permuted(numbers: &mut Numbers) -> Placement {
    let mut order: Vec<NodeId> = nodes(numbers, 7).iter().collect();
    for place in (1..order.len()).rev() {
        order.swap(place, numbers.below(place as u64 + 1) as usize);
    }
    Placement::of(order).unwrap()
}

fn looped_2(numbers: &mut Numbers) -> Placement {
    Placement::looped(nodes(numbers, 4), 2)
}

fn looped_3(numbers: &mut Numbers) -> Placement {
    Placement::looped(nodes(numbers, 3), 3)
}

fn v_shaped(numbers: &mut Numbers) -> Placement {
    Placement::v_shaped(nodes(numbers, 4))
}

/// Any stages on any nodes.
fn any(numbers: &mut Numbers) -> Placement {
    let nodes = 1 + numbers.below(4) as u64;
    let stages = nodes + numbers.below(9 - nodes) as u64;
    let mut order: Vec<u64> = (0..nodes).collect();
    order.extend((nodes as usize..stages as usize).map(|_| numbers.below(nodes) as u64));
    for place in (1..order.len()).rev() {
        order.swap(place, numbers.below(place as u64 + 1) as usize);
    }
    let order = order.into_iter().map(|node| NodeId::new(node as u32));
    Placement::of(order.collect()).unwrap()
}

pub type Draw = fn(&mut Numbers) -> Placement;

pub const PLACEMENTS: [(&str, Draw); 6] = [
    ("straight", straight),
    ("permuted", permuted),
    ("looped 2", looped_2),
    ("looped 3", looped_3),
    ("V", v_shaped),
    ("any", any),
];
