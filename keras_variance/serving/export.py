"""`export`: a sampled ensemble as files that need neither Keras nor this package."""

from os import PathLike
from pathlib import Path
from typing import Any

import keras
from keras import ops, tree

from keras_variance import checks
from keras_variance.random import derive, seeded_scope
from keras_variance.serving import onnx, server
from keras_variance.serving.interface import Interface
from keras_variance.serving.server import SEEDED
from keras_variance.serving.versions import Versions
from keras_variance.transforms.draws import draw_layers
from keras_variance.transforms.moments import heads
from keras_variance.transforms.moments.propagate import propagate_moments
from keras_variance.transforms.moments.rules import UnsupportedError
from keras_variance.transforms.outputs import resolve
from keras_variance.transforms.predictives import Predictive, of_samples
from keras_variance.transforms.walk import is_functional
from keras_variance.types import AnyLikelihood, Arrays

# What marks the folder of a version
FORMATS = {"saved_model": "saved_model.pb", "onnx": "frozen.onnx"}
# Whose exporter Keras has
BACKENDS = {"saved_model": ("tensorflow",), "onnx": ("tensorflow", "torch")}


def export(
    model: keras.Model,
    path: str | PathLike,
    samples: int = 20,
    version: int | None = None,
    likelihood: AnyLikelihood = "auto",
    input_signature: Any = None,
    frozen: bool | None = None,
    seed: int | None = None,
    warmup: Arrays | None = None,
    head: str | heads.Head = "quasi_monte_carlo",
    format: str = "saved_model",
) -> Path:
    """Write a SavedModel, or ONNX files, of the model's ensemble, `path/<version>/`.

    A SavedModel needs TensorFlow alone. Its endpoints (signatures) take the model's
    inputs by name and return `mean`, `variance`, `entropy`, `mutual_information` and
    `aleatoric`, those that are not None in `Prediction`:

    - `serving_default`: of the ensemble, with fresh noise in each call.
    - `serving_seeded`: with another input, `seed`, an int64 scalar: the same seed
      gives the same noise on every server.
    - `samples`: `samples`, (batch, samples, …), every prediction, fresh noise.
    - `moments`: of one deterministic pass; left out if `propagate_moments` does not
      support the model.

    A model with several outputs returns `<output>_mean` and so on, by the names of
    its output layers, or by its keys.

    ONNX needs onnxruntime, or another runtime, alone. It has no noise: two files, with
    the same inputs and outputs for any number of rows, are its endpoints:

    - `frozen.onnx`: of a fixed set of weight samples, repeatable by `seed`.
    - `moments.onnx`: of one deterministic pass, as above.

    They are compared with the model in onnxruntime before they are kept. It needs
    `keras_variance[onnx]`, and Keras on TensorFlow or PyTorch.

    The folder is written under another name and moved into place: a server that
    watches `path` sees a whole model or none.

    Args:
        model: A built Keras model with variance layers.
        path: A local folder for the versions of this model, in one format; made if it
            is not there.
        samples: Integer ≥ 1, the number of samples, in memory at the same time.
        version: Integer ≥ 1. Defaults to the one after the highest.
        likelihood: As for `mc_predict`.
        input_signature: `keras.InputSpec` or `tf.TensorSpec` objects in the structure
            of the model's inputs, with names. Defaults to the model's inputs;
            needed for a subclassed model.
        frozen: Whether `serving_default` and `samples` use a fixed set of weight
            samples, which are in the file, in place of fresh noise: the same
            answer always. For Sequential and Functional models. Defaults to False,
            and to True in ONNX, which has nothing else.
        seed: Integer that makes frozen samples repeatable.
        warmup: A few rows, as for `model.predict`, or in a dict by the inputs' names,
            which TF Serving runs through each endpoint when it loads the model. Needs
            `keras_variance[serving]`.
        head: As for `propagate_moments`.
        format: `"saved_model"` or `"onnx"`.

    Returns:
        The folder of the new version.

    Raises:
        RuntimeError: If Keras runs on a backend that has no such export.
        ValueError: If the model is not built or has no variance layer, a path is not
            local, not readable and writable or has other things in it, the version
            exists, or inputs do not fit; if ONNX should have fresh noise or a warm-up,
            or can't be written. Nothing is left behind then.
        ImportError: If an extra is needed that is not installed. Nothing is left
            behind then, either.

    Example:

    >>> import tempfile
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,), name="x"), VarianceDense(3), keras.layers.Softmax()]
    ... )
    >>> folder = export(model, tempfile.mkdtemp(), samples=5)
    >>> import tensorflow as tf
    >>> serve = tf.saved_model.load(folder).signatures["serving_default"]
    >>> outputs = serve(x=tf.ones((2, 4)))
    >>> sorted(outputs)
    ['aleatoric', 'entropy', 'mean', 'mutual_information', 'variance']
    """
    marker = FORMATS[checks.one_of("format", format, FORMATS)]
    checks.backend(
        f"`export` with format='{format}'",
        BACKENDS[format],
        "save the model as a `.keras` file, and load and export that in a process with "
        f"KERAS_BACKEND={BACKENDS[format][0]}",
    )
    versions, head = Versions(path, version, marker), heads.get(head)
    if frozen is None:
        frozen = format == "onnx"
    frozen, seed = checks.flag("frozen", frozen), checks.seed(seed)
    if format == "onnx":
        _check_onnx(frozen, warmup)
    interface = Interface(model, input_signature)
    if warmup is not None:
        warmup = interface.rows("warmup", warmup)
        server.protos()
    likelihood = resolve(model, likelihood)
    options = {"likelihood": likelihood, "chunk_size": samples, "return_samples": True}
    noisy = Predictive(model, samples, **options)
    interface.learn(noisy(interface.example()), likelihood)
    fixed = {}  # models without noise
    if frozen:
        fixed["frozen"] = Frozen(model, samples, seed, likelihood)
        fixed["frozen"](interface.example())  # builds it
    moments = _moments(model, likelihood, head, interface.example())
    if moments is not None:
        fixed["moments"] = moments

    def write(folder):
        if format == "onnx":
            for name, each in fixed.items():
                onnx.write(folder / f"{name}.onnx", each, interface)
            return
        endpoints = _write_saved_model(folder, interface, noisy, **fixed)
        if warmup is not None:
            server.write_warmup(folder, endpoints, warmup)

    return versions.write(write)


def _check_onnx(frozen, warmup):
    onnx.packages()
    expected = (
        "True for format='onnx': its file would have one draw of the noise as a "
        "constant, and repeat it in every call"
    )
    checks.require(frozen, "frozen", expected, frozen)
    expected = "None for format='onnx': TF Serving alone has warm-up requests"
    checks.require(warmup is None, "warmup", expected, warmup)


def _write_saved_model(folder, interface, noisy, frozen=None, moments=None):
    """Write the endpoints; return their names."""
    import tensorflow as tf

    # Endpoints call these functions, which are traced, and in the file, once for all
    @tf.function(autograph=False)
    def drawn(noise, *inputs):
        with seeded_scope(noisy, noise):
            return noisy(interface.pack(inputs))

    def fresh(*inputs):
        # The state of a generator would be the same after each load, on each server
        noise = tf.raw_ops.NonDeterministicInts(shape=[2], dtype=tf.int64)
        return drawn(noise, *inputs)

    def seeded(*arguments):
        *inputs, seed = arguments
        noise = tf.stack([seed, tf.zeros_like(seed)])
        return drawn(noise, *inputs)

    def fixed(model):
        return tf.function(
            lambda *inputs: model(interface.pack(inputs)), autograph=False
        )

    default = fresh if frozen is None else fixed(frozen)
    # name: function, what is answered of its outputs
    endpoints = {
        "serving_default": (default, interface.statistics),
        SEEDED: (seeded, interface.statistics),
        "samples": (default, interface.samples),
    }
    if moments is not None:
        endpoints["moments"] = fixed(moments), interface.statistics
    archive = keras.export.ExportArchive()
    for name, (predict, answer) in endpoints.items():
        specs = [*interface.specs]
        if name == SEEDED:
            specs.append(keras.InputSpec(dtype="int64", shape=(), name="seed"))
        archive.add_endpoint(name, _composed(answer, predict), specs)
    archive.write_out(str(folder), verbose=False)
    return [*endpoints]


def _composed(answer, predict):
    return lambda *inputs: answer(predict(*inputs))


class Frozen(keras.Model):
    """As `transforms.predictive`, of fixed samples of the weights."""

    def __init__(self, model, samples, seed, likelihood):
        super().__init__(name=model.name)
        # What is not drawn is shared, and in the file once
        self.members = [draw_layers(model, derive(seed, k)) for k in range(samples)]
        self.likelihood = likelihood

    def call(self, inputs):
        each = [member(inputs) for member in self.members]
        samples = tree.map_structure(lambda *xs: ops.stack(xs, axis=1), *each)
        return of_samples(samples, self.likelihood)


def _moments(model, likelihood, head, example):
    """The model of the endpoint `moments`; None if a layer of the source has no rule,
    or there is no source to inspect."""
    if not is_functional(model):
        return None
    try:
        moments = propagate_moments(model, likelihood, head, statistics=True)
        moments(example)  # builds it; symbolic inputs may lack masks that these have
        return moments
    except UnsupportedError:
        return None
