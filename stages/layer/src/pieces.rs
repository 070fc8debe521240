//! Networks that go through sequences piece by piece, to generate what comes next.

use crate::{DType, Feed, LayerError, LayerIndex, LayerShapes, Network, Source, TensorSpec};

impl Network {
    /// The most positions of a sequence that the network can go on with, token by token: the
    /// length of its only input.
    ///
    /// # Errors
    /// When it has other inputs than one row of tokens, or a layer other than the loss reads a
    /// target, which generating has none of.
    pub fn context(&self) -> Result<usize, LayerError> {
        let context = match self.inputs.as_slice() {
            [tokens] if tokens.dtype == DType::I32 => tokens.shape.axes(),
            _ => &[],
        };
        let &[context] = context else {
            let inputs = self.inputs.iter().map(TensorSpec::to_string);
            let inputs = inputs.collect::<Vec<_>>().join(", ");
            let problem = format!("it has inputs {inputs}; to generate, one row of tokens (i32)");
            return Err(LayerError::spec("network", problem));
        };
        let target = |source: &Source| matches!(source, Source::Feed(Feed::Target(_)));
        let before = &self.layers[..self.layers.len() - 1];
        match before.iter().find(|layer| layer.inputs.iter().any(target)) {
            Some(layer) => {
                let problem = "it reads a target; there is none when generating";
                Err(LayerError::spec(&layer.key, problem))
            }
            None => Ok(context),
        }
    }

    /// The layer whose output is compared with the targets: when generating, logits of the next
    /// token.
    ///
    /// # Errors
    /// When there is none: the network's input is compared as it is.
    pub fn predicting(&self) -> Result<LayerIndex, LayerError> {
        match self.prediction() {
            Source::Output { layer, .. } => Ok(layer),
            Source::Feed(_) => {
                let problem = "no layer makes its prediction";
                Err(LayerError::spec("network", problem))
            }
        }
    }

    /// The network with pieces of so many positions for its input. Its loss, which takes no part in
    /// generating, stays as it is.
    fn with_pieces(&self, length: usize) -> Result<Self, LayerError> {
        self.context()?;
        let mut pieces = self.clone();
        pieces.inputs[0].shape = crate::Shape::new(&[length])?;
        Ok(pieces)
    }

    /// Shapes and costs of every layer for one piece of so many positions, anywhere in a sequence.
    /// What a layer keeps is for the whole sequence; one that keeps something takes as much as for
    /// all of it.
    ///
    /// # Errors
    /// As [`Network::context`]; names the layer that cannot take a piece; and when what comes out
    /// are not logits [1, positions, vocabulary].
    pub fn infer_piece(&self, length: usize) -> Result<Vec<LayerShapes>, LayerError> {
        let predicting = self.predicting()?;
        let whole = self.infer(1)?;
        let before_loss = self.layers.len() - 1;
        let mut piece = self.with_pieces(length)?.infer_first(1, before_loss)?;
        piece.extend_from_slice(&whole[before_loss..]);
        for (piece, whole) in piece.iter_mut().zip(&whole) {
            let (cost, whole) = (&mut piece.cost, &whole.cost);
            cost.sequence_bytes = whole.sequence_bytes;
            if whole.sequence_bytes > 0 {
                let most = cost.forward_working_bytes.max(whole.forward_working_bytes);
                cost.forward_working_bytes = most;
                cost.thread_bytes = cost.thread_bytes.max(whole.thread_bytes);
            }
        }
        let logits = self.prediction_of(&piece)?;
        match (logits.dtype, logits.shape.axes()) {
            (DType::F32, [1, found, _]) if *found == length => Ok(piece),
            _ => {
                let expected = format!("logits [1, {length}, vocabulary] to generate from");
                let key = &self.layers[predicting.index()].key;
                Err(LayerError::shape(key.clone(), expected, logits.shape))
            }
        }
    }

    /// What the network puts out, where its layers have these shapes.
    ///
    /// # Errors
    /// When no layer does.
    pub fn prediction_of(&self, shapes: &[LayerShapes]) -> Result<TensorSpec, LayerError> {
        match self.prediction() {
            Source::Output { layer, output } => {
                let spec = shapes[layer.index()].outputs.get(output);
                spec.copied().ok_or(LayerError::Missing { index: output })
            }
            Source::Feed(_) => Err(LayerError::Missing { index: 0 }),
        }
    }

    /// The layer that needs to see the last position of a piece only: the one that makes the
    /// prediction, if it takes numbers, keeps nothing along a sequence and only the loss reads it.
    /// `shapes` are those of any pieces.
    pub fn sees_last_only(&self, shapes: &[LayerShapes]) -> Option<LayerIndex> {
        let layer = self.predicting().ok()?;
        let read = self.edges.iter().filter(|edge| edge.from == layer);
        let by_loss = { read }.all(|edge| edge.to == self.loss());
        let LayerShapes { inputs, cost, .. } = &shapes[layer.index()];
        // Of tokens themselves there is nothing to save.
        let numbers = inputs.iter().all(|input| input.dtype == DType::F32);
        (by_loss && numbers && cost.sequence_bytes == 0).then_some(layer)
    }
}
