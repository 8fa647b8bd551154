"""What a served model is asked, and what it answers, by name."""

import numpy as np
from keras import ops, tree

from keras_variance import likelihoods
from keras_variance.transforms.predictive import flat_statistics
from keras_variance.transforms.walk import functional, is_functional


class Interface:
    """Named inputs and outputs of a model.

    Args:
        model: A built Keras model.
        signature: Specs in the structure of its inputs, or None for its own.

    Attributes:
        specs: A `tf.TensorSpec` for each input, of any number of rows.

    Raises:
        ValueError: If there is no signature, or it does not fit.
    """

    def __init__(self, model, signature=None):
        own = functional(model).input if is_functional(model) else None
        if signature is None and own is None:
            raise ValueError(
                "Argument `input_signature` is needed: the inputs of a subclassed "
                "model cannot be inspected. "
                f"Received: input_signature=None, model={model}"
            )
        if not model.built:
            raise ValueError(
                "Expected a model that is built: call it on data. "
                f"Received: model={model}"
            )
        self.structure = own if signature is None else signature
        self.specs = _specs(self.structure)
        if own is not None and signature is not None:
            _check_signature(signature, own, self.specs)
        self.names = None if own is None else _output_names(functional(model))

    def pack(self, tensors):
        """Tensors in the structure of the model's inputs."""
        return tree.pack_sequence_as(self.structure, tensors)

    def rows(self, name, x):
        """Arrays of rows as {input's name: tensor}; ValueError if they don't fit."""
        arrays = [np.asarray(each) for each in tree.flatten(x)]
        fits = len(arrays) == len(self.specs) and all(
            spec.shape.is_compatible_with(array.shape)
            for spec, array in zip(self.specs, arrays, strict=False)
        )
        if not fits:
            raise ValueError(
                f"Argument `{name}` must have an array for each of the inputs "
                f"{_shapes(self.specs)}. Received: {name}={_shapes(arrays)}"
            )
        return {
            spec.name: array.astype(spec.dtype.as_numpy_dtype)
            for spec, array in zip(self.specs, arrays, strict=True)
        }

    def example(self):
        """A row of ones."""
        return self.pack(
            [
                ops.ones([size or 1 for size in spec.shape], spec.dtype.name)
                for spec in self.specs
            ]
        )

    def learn(self, outputs, likelihood):
        """See from an answer how many outputs there are, and name them."""
        count = len(flat_statistics(outputs))
        names = self.names or [f"output_{k}" for k in range(count)]
        self.prefixes = [f"{name}_" for name in names] if count > 1 else [""]
        self.likelihoods = likelihoods.for_outputs(likelihood, [None] * count)

    def statistics(self, outputs):
        """Named statistics, from those of each output of the model."""
        named = {}
        for prefix, each, likelihood in zip(
            self.prefixes, flat_statistics(outputs), self.likelihoods, strict=True
        ):
            answer = {"mean": each["mean"], "variance": each["variance"]}
            if likelihood is not None:
                answer["entropy"] = likelihood.entropy(each["mean"])
                information = answer["entropy"] - each["expected_entropy"]
                answer["mutual_information"] = ops.maximum(information, 0)
            named |= {prefix + key: value for key, value in answer.items()}
        return named

    def samples(self, outputs):
        """Named samples, from the statistics of each output of the model."""
        every = zip(self.prefixes, flat_statistics(outputs), strict=True)
        return {f"{prefix}samples": each["samples"] for prefix, each in every}


def _specs(structure):
    import tensorflow as tf

    flat = tree.flatten(structure)
    names = [getattr(each, "name", None) or "" for each in flat]
    if not all(names) or len({*names, "seed"}) <= len(names):
        raise ValueError(
            "Argument `input_signature` must give each input a name of its own, other "
            f"than 'seed'. Received: names={names}"
        )
    if not all(each.dtype for each in flat):
        raise ValueError(
            "Argument `input_signature` must give each input a dtype. "
            f"Received: input_signature={structure}"
        )
    # Any number of rows, whatever the model was built with
    return [tf.TensorSpec((None, *x.shape[1:]), x.dtype, x.name) for x in flat]


def _check_signature(signature, own, specs):
    inputs = tree.flatten(own)
    same = len(inputs) == len(specs) and all(
        spec.dtype.name == x.dtype
        and spec.shape.is_compatible_with((None, *x.shape[1:]))
        for spec, x in zip(specs, inputs, strict=False)
    )
    if not same:
        raise ValueError(
            "Argument `input_signature` must fit the model's inputs "
            f"{_shapes(inputs)}. Received: input_signature={signature}"
        )


def _shapes(tensors):
    return [(*each.shape,) for each in tensors]


def _output_names(model):
    """A name for each output: its key, or that of the layer."""
    if isinstance(model.output, dict):
        paths = (path for path, _ in tree.flatten_with_path(model.output))
        return [".".join(map(str, path)) for path in paths]
    names = model.output_names
    if len({*names}) < len(names):  # a layer that is called twice
        names = [f"{name}_{k}" for k, name in enumerate(names)]
    return names
