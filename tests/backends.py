"""What a test asks of the backend, whichever it is.

Functions take no arguments, or tensors; they may read and write Keras variables.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import tree

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
else:
    import torch

# The most precise dtype; JAX needs to be told before it has another
DOUBLE = "float32" if BACKEND == "jax" else "float64"

# PyTorch has a compiler of its own, which warns of Keras's code and takes a minute
xla_only = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch has no XLA")

tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="what TensorFlow alone has"
)
once = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="has no code for a backend, and takes minutes"
)


def covering(cells, together):
    """So many cells of a grid that what occurs together in one of all does in them.

    Args:
        cells: Tuples of one length, a value for each axis.
        together: Number of values: 1 for each value, 2 for each two values, …
    """
    parts = {c: {*itertools.combinations(enumerate(c), together)} for c in cells}
    left, kept = set().union(*parts.values()), set()
    while left:
        best = max(parts, key=lambda cell: len(parts[cell] & left))
        left -= parts[best]
        kept.add(best)
    return kept


def compiled(function, jit_compile=False):
    """`function` as the backend compiles it; PyTorch runs it as it is."""
    if BACKEND == "tensorflow":
        return tf.function(function, jit_compile=jit_compile)
    if BACKEND == "torch":
        return lambda *args: function(*tree.map_structure(_tensor, args))
    cache = {}

    def call(*args):
        args = tree.map_structure(_tensor, args)
        if not cache:
            variables = _used(function, *args)
            cache["run"] = variables, jax.jit(_stateless(function, variables))
        variables, run = cache["run"]
        outputs, values = run([variable.value for variable in variables], *args)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return outputs

    return call


def repeated(function, times):
    """Outputs of that many calls, (times, …) each, compiled: NumPy arrays."""
    if BACKEND == "tensorflow":
        spec = tree.map_structure(tf.TensorSpec.from_tensor, function())

        @tf.function
        def run():
            return tf.map_fn(
                lambda _: function(), tf.range(times), fn_output_signature=spec
            )

        outputs = run()
    elif BACKEND == "jax":
        variables = _used(function)
        call = _stateless(function, variables)
        run = jax.jit(
            lambda values: jax.lax.scan(
                lambda values, _: call(values)[::-1], values, length=times
            )
        )
        values, outputs = run([variable.value for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    else:
        with torch.no_grad():
            calls = [function() for _ in range(times)]
        outputs = tree.map_structure(lambda *xs: torch.stack(xs), *calls)
    return tree.map_structure(keras.ops.convert_to_numpy, outputs)


def gradients(function, variables, jit_compile=False):
    """The value of a function, a scalar, and its gradients by Keras variables.

    NumPy arrays; of a variable that the function does not use, zeros.
    """
    if BACKEND == "tensorflow":

        def run():
            with tf.GradientTape() as tape:
                value = function()
            values = [variable.value for variable in variables]
            return value, tape.gradient(value, values, unconnected_gradients="zero")

        value, slopes = tf.function(run, jit_compile=True)() if jit_compile else run()
    elif BACKEND == "jax":
        call = jax.value_and_grad(_stateless(function, variables), has_aux=True)
        call = jax.jit(call) if jit_compile else call
        (value, _), slopes = call([variable.value for variable in variables])
    else:
        value = function()
        values = [variable.value for variable in variables]
        value = value + 0 * sum(map(torch.sum, values))  # it may be a constant
        slopes = torch.autograd.grad(value, values, materialize_grads=True)
    return tree.map_structure(keras.ops.convert_to_numpy, (value, list(slopes)))


def dtype(x):
    """The name of a tensor's dtype."""
    return keras.backend.standardize_dtype(x.dtype)


def _tensor(x):
    return keras.ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x


def _stateless(function, variables):
    """(values of the variables, arguments) → (outputs, new values)."""

    def call(values, *args):
        pairs = list(zip(variables, values, strict=True))
        with keras.StatelessScope(pairs) as scope:
            outputs = function(*args)
            after = [scope.get_current_value(variable) for variable in variables]
        return outputs, after

    return call


class _Recorder(keras.StatelessScope):
    """A scope that sees which variables are read or written."""

    def __init__(self):
        super().__init__()
        self.variables = {}

    def get_current_value(self, variable):
        self.variables[id(variable)] = variable
        return super().get_current_value(variable)


def _used(function, *args):
    with _Recorder() as scope:
        function(*args)
    return list(scope.variables.values())
