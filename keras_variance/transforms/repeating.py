"""Many samples of a value in one tensor: merged into its batch."""

import keras
from keras import ops, tree

from keras_variance import _keras
from keras_variance.estimators import merge, split
from keras_variance.random import seeded_scope


def repeat(x, count, axis=0):
    """`ops.repeat`, which Keras cannot trace on PyTorch."""
    if keras.backend.backend() == "torch":
        return x.repeat_interleave(count, axis)
    return ops.repeat(x, count, axis)


def mask_of(x):
    """The mask of a tensor, for each of its examples, or None."""
    mask = _keras.get_mask(x)
    if mask is not None and mask.shape[0] == 1 != x.shape[0]:  # one for all of them
        return repeat(mask, ops.shape(x)[0])
    return mask


def with_mask(function, x, *args):
    """`function(x, …)`, with the mask of `x` treated alike."""
    mask = mask_of(x)
    y = function(x, *args)
    return y if mask is None else _keras.set_mask(y, function(mask, *args))


def separately(layer, samples, stream, args, kwargs):
    """The outputs of a layer that has noise inside, called for each sample.

    Args:
        layer: The layer.
        samples: Their number, an integer or a scalar tensor.
        stream: A `Stream`, of the seeds.
        args, kwargs: Of the call; tensors have the samples in their batch.

    Returns:
        Tensors (batch · samples, …), in the structure of the layer's outputs.
    """

    def one(k):
        def of_sample(x):
            if not ops.is_tensor(x):
                return x
            return with_mask(lambda x: ops.take(split(x, samples), k, 1), x)

        each, options = tree.map_structure(of_sample, (args, kwargs))
        with seeded_scope(layer, stream.of_sample(k).next()):
            return layer(*each, **options)

    outputs = ops.map(one, ops.arange(samples))
    return tree.map_structure(lambda x: merge(ops.moveaxis(x, 0, 1)), outputs)
