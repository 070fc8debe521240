//! Gradients of a shared parameter, summed in layer order.
//!
//! The first holder's node is the root. Every other holder's gradient travels there by itself (a
//! partial sum of a node's own holders would add in another order than one node does); the root
//! adds them in layer order and sends the sum back in a buffer that came. Every holder then applies
//! the same update.

use super::{Holders, Node};
use crate::error::Cause;
use crate::ids::{LayerIndex, NodeId};
use crate::schedule::SharedSum;
use crate::wire::{Body, Subject};
use brigade_layer::{LayerError, Part, Tensor, TensorMut};

pub(crate) fn sum_shared(
    sum: &SharedSum,
    node: &mut Node<'_>,
    holders: &mut dyn Holders,
) -> Result<(), Cause> {
    let placement = &node.plan.layout.placement;
    let located: Vec<(LayerIndex, NodeId)> = sum
        .holders
        .iter()
        .map(|(layer, stage)| (*layer, placement.node_of(*stage)))
        .collect();
    let members = node.plan.layout.members(sum);
    if members.first() == Some(&node.node) {
        as_root(sum, &located, &members, node, holders)
    } else {
        as_member(sum, &located, members[0], node, holders)
    }
}

fn as_root(
    sum: &SharedSum,
    located: &[(LayerIndex, NodeId)],
    members: &[NodeId],
    node: &mut Node<'_>,
    holders: &mut dyn Holders,
) -> Result<(), Cause> {
    let mut total = take(sum, located[0].0, node, holders)?;
    let mut buffers = Vec::new();
    for &(layer, at) in &located[1..] {
        let part = if at == node.node {
            take(sum, layer, node, holders)?.freeze()
        } else {
            node.link
                .wait(at, node.id(Subject::SharedPart(sum.shared, layer)))?
                .tensor()?
        };
        for (total, part) in total.data().iter_mut().zip(part.f32()?) {
            *total += part;
        }
        if at == node.node {
            put(sum, layer, part, node, holders)?;
        } else {
            buffers.push((at, part));
        }
    }
    let total = total.freeze();
    for member in &members[1..] {
        let came = buffers
            .iter()
            .position(|(from, _)| from == member)
            .map(|at| buffers.swap_remove(at).1);
        let copy = filled(came, &total, node)?;
        node.link.send(
            *member,
            node.id(Subject::SharedTotal(sum.shared)),
            Body::Tensor(copy),
        )?;
    }
    for &(layer, at) in &located[1..] {
        if at == node.node {
            write(sum, layer, &total, node, holders)?;
        }
    }
    put(sum, located[0].0, total, node, holders)
}

fn as_member(
    sum: &SharedSum,
    located: &[(LayerIndex, NodeId)],
    root: NodeId,
    node: &mut Node<'_>,
    holders: &mut dyn Holders,
) -> Result<(), Cause> {
    let own: Vec<LayerIndex> = located
        .iter()
        .filter(|(_, at)| *at == node.node)
        .map(|(layer, _)| *layer)
        .collect();
    for &layer in &own {
        let gradient = take(sum, layer, node, holders)?.freeze();
        node.link.send(
            root,
            node.id(Subject::SharedPart(sum.shared, layer)),
            Body::Tensor(gradient),
        )?;
    }
    let total = node
        .link
        .wait(root, node.id(Subject::SharedTotal(sum.shared)))?
        .tensor()?;
    for &layer in &own[1..] {
        write(sum, layer, &total, node, holders)?;
    }
    put(sum, own[0], total, node, holders)
}

fn take(
    sum: &SharedSum,
    layer: LayerIndex,
    node: &Node<'_>,
    holders: &mut dyn Holders,
) -> Result<TensorMut, Cause> {
    let mut taken = None;
    holders.with_shared(layer, sum.shared, &mut |param| {
        taken = Some(param.take_gradient(node.pool)?);
        Ok(())
    })?;
    taken.ok_or_else(|| {
        Cause::Bug(format!(
            "layer {layer} does not hold shared parameter {}",
            sum.shared
        ))
    })
}

fn put(
    sum: &SharedSum,
    layer: LayerIndex,
    gradient: Tensor,
    node: &Node<'_>,
    holders: &mut dyn Holders,
) -> Result<(), Cause> {
    let mut gradient = Some(gradient);
    holders.with_shared(layer, sum.shared, &mut |param| match gradient.take() {
        Some(gradient) => param.put_gradient(gradient, node.pool),
        None => Ok(()),
    })
}

fn write(
    sum: &SharedSum,
    layer: LayerIndex,
    total: &Tensor,
    node: &Node<'_>,
    holders: &mut dyn Holders,
) -> Result<(), Cause> {
    holders.with_shared(layer, sum.shared, &mut |param| {
        param.write(Part::Gradient, total.f32()?, node.pool)
    })
}

/// A copy of the sum for another node, in the buffer that came from there: it goes home.
fn filled(came: Option<Tensor>, total: &Tensor, node: &Node<'_>) -> Result<Tensor, LayerError> {
    let mut buffer = match came.map(Tensor::try_mut::<f32>) {
        Some(Ok(buffer)) => buffer,
        _ => node.pool.f32(total.shape())?,
    };
    buffer.data().copy_from_slice(total.f32()?);
    Ok(buffer.freeze())
}
