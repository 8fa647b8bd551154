"""What a served model is asked, and what it answers, by name."""

import keras
import numpy as np
from keras import ops, tree

from keras_variance.transforms.outputs import for_outputs, output_names
from keras_variance.transforms.predictives import flat_statistics
from keras_variance.transforms.walk import functional, is_functional


class Interface:
    """Named inputs and outputs of a model.

    Args:
        model: A built Keras model.
        signature: Specs in the structure of its inputs, or None for its own.

    Attributes:
        specs: A `keras.InputSpec` for each input, of any number of rows.

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
        self.names = None if own is None else output_names(functional(model))

    def pack(self, tensors):
        """Tensors in the structure of the model's inputs."""
        return tree.pack_sequence_as(self.structure, tensors)

    def rows(self, name, x):
        """Arrays of rows as {input's name: array}.

        Args:
            name: Of the argument, for errors.
            x: Arrays in the structure of the inputs, in a list, or in a dict by the
                inputs' names.

        Raises:
            ValueError: If they do not fit, or have no row or different numbers of them.
        """
        arrays = [np.asarray(each) for each in self._in_order(x)]
        fits = len(arrays) == len(self.specs) and all(
            _fits(array.shape, spec.shape)
            and (array.dtype.kind in "biuf" or spec.dtype == "string")
            for spec, array in zip(self.specs, arrays, strict=False)
        )
        counts = {len(array) for array in arrays} if fits else set()
        if len(counts) != 1 or 0 in counts:
            received = _shapes(map(np.asarray, tree.flatten(x)))
            if isinstance(x, dict):
                received = dict(zip(map(_dotted, _keys(x)), received, strict=True))
            expected = {spec.name: spec.shape for spec in self.specs}
            raise ValueError(
                f"Argument `{name}` must have rows for each of the inputs {expected}, "
                f"as many for each, at least one. Received: {name}={received}"
            )
        return {
            spec.name: array.astype("object" if spec.dtype == "string" else spec.dtype)
            for spec, array in zip(self.specs, arrays, strict=True)
        }

    def _in_order(self, x):
        """The arrays of `x` in the order of the inputs; none where keys are others."""
        names = [spec.name for spec in self.specs]
        if isinstance(x, dict) and x.keys() == {*names}:
            return [x[name] for name in names]
        structures = [_keys(self.structure), [(k,) for k in range(len(names))]]
        if len(names) == 1:
            structures.append([()])
        return tree.flatten(x) if _keys(x) in structures else []

    def example(self):
        """A row of ones."""
        return self.pack(
            [
                ops.ones([size or 1 for size in spec.shape], spec.dtype)
                for spec in self.specs
            ]
        )

    def learn(self, outputs, likelihood):
        """See from an answer how many outputs there are, and name them."""
        count = len(flat_statistics(outputs))
        names = self.names or [f"output_{k}" for k in range(count)]
        self.prefixes = [f"{name}_" for name in names] if count > 1 else [""]
        self.likelihoods = for_outputs(likelihood, [None] * count)

    def statistics(self, outputs):
        """Named statistics, from those of each output of the model."""
        named = {}
        for prefix, each, likelihood in zip(
            self.prefixes, flat_statistics(outputs), self.likelihoods, strict=True
        ):
            answer = {"mean": each["mean"], "variance": each["variance"]}
            if likelihood is not None:
                answer |= likelihood.uncertainties(each)
            named |= {prefix + key: value for key, value in answer.items()}
        return named

    def samples(self, outputs):
        """Named samples, from the statistics of each output of the model."""
        every = zip(self.prefixes, flat_statistics(outputs), strict=True)
        return {f"{prefix}samples": each["samples"] for prefix, each in every}


def _specs(structure):
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
    return [
        keras.InputSpec(dtype=x.dtype, shape=(None, *x.shape[1:]), name=x.name)
        for x in flat
    ]


def _fits(shape, expected):
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(
        None in pair or len({*pair}) == 1 for pair in pairs
    )


def _check_signature(signature, own, specs):
    inputs = tree.flatten(own)
    same = len(inputs) == len(specs) and all(
        spec.dtype == x.dtype and _fits(spec.shape, (None, *x.shape[1:]))
        for spec, x in zip(specs, inputs, strict=False)
    )
    if not same:
        raise ValueError(
            "Argument `input_signature` must fit the model's inputs "
            f"{_shapes(inputs)}. Received: input_signature={signature}"
        )


def _keys(structure):
    return [path for path, _ in tree.flatten_with_path(structure)]


def _dotted(path):
    return ".".join(map(str, path))


def _shapes(tensors):
    return [(*each.shape,) for each in tensors]
