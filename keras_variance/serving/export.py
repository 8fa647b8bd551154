"""`export`: a sampled ensemble as a SavedModel, for TF Serving."""

from pathlib import Path

import keras
from keras import ops, tree

from keras_variance import checks
from keras_variance.random import derive, seeded_scope
from keras_variance.serving import server
from keras_variance.serving.interface import Interface
from keras_variance.serving.server import SEEDED
from keras_variance.serving.versions import Versions
from keras_variance.transforms.draw import draw_layers
from keras_variance.transforms.moments import heads
from keras_variance.transforms.moments.propagate import propagate_moments
from keras_variance.transforms.moments.rules import UnsupportedError
from keras_variance.transforms.outputs import resolve
from keras_variance.transforms.predictive import Predictive, of_samples
from keras_variance.transforms.walk import is_functional


def export(
    model,
    path,
    samples: int = 20,
    version: int | None = None,
    likelihood="auto",
    input_signature=None,
    frozen: bool = False,
    seed: int | None = None,
    warmup=None,
    head="quasi_monte_carlo",
) -> Path:
    """Write a SavedModel of the model's ensemble, `path/<version>/`.

    A server needs TensorFlow alone. Endpoints (signatures) take the model's inputs by
    name and return `mean`, `variance`, `entropy` and `mutual_information` as in
    `Prediction`, the last two for outputs with a likelihood only:

    - `serving_default`: of the ensemble, with fresh noise in each call.
    - `serving_seeded`: with another input, `seed`, an int64 scalar: the same seed
      gives the same noise on every server.
    - `samples`: `samples`, (batch, samples, …), every prediction, fresh noise.
    - `moments`: of one deterministic pass; left out if `propagate_moments` does not
      support the model.

    A model with several outputs returns `<output>_mean` and so on, by the names of
    its output layers, or by its keys.

    The folder is written under another name and moved into place: a server that
    watches `path` sees a whole model or none.

    Args:
        model: A built Keras model with variance layers.
        path: A local folder for the versions of this model; made if it is not there.
        samples: Integer ≥ 1, the number of samples, in memory at the same time.
        version: Integer ≥ 1. Defaults to the one after the highest.
        likelihood: As for `mc_predict`.
        input_signature: `keras.InputSpec` or `tf.TensorSpec` objects in the structure
            of the model's inputs, with names. Defaults to the model's inputs;
            needed for a subclassed model.
        frozen: Whether `serving_default` and `samples` use a fixed set of weight
            samples, which are in the file, in place of fresh noise: the same
            answer always. For Sequential and Functional models.
        seed: Integer that makes frozen samples repeatable.
        warmup: A few rows, as for `model.predict`, or in a dict by the inputs' names,
            which a server runs through each endpoint when it loads the model. Needs
            `keras_variance[serving]`.
        head: As for `propagate_moments`. LiteRT has the operators of `"mean_field"`.

    Returns:
        The folder of the new version.

    Raises:
        RuntimeError: If TensorFlow is not the backend.
        ValueError: If the model is not built or has no variance layer, a path is not
            local, not readable and writable or has other things in it, the version
            exists, or inputs do not fit. Nothing is left behind then.

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
    >>> sorted(outputs), outputs["mean"].shape
    (['entropy', 'mean', 'mutual_information', 'variance'], TensorShape([2, 3]))
    """
    checks.tensorflow(
        "`export`",
        "save the model as a `.keras` file, and load and export that in a process "
        "with KERAS_BACKEND=tensorflow",
    )
    import tensorflow as tf

    versions, head = Versions(path, version), heads.get(head)
    frozen, seed = checks.flag("frozen", frozen), checks.seed(seed)
    interface = Interface(model, input_signature)
    if warmup is not None:
        warmup = interface.rows("warmup", warmup)
        server.protos()
    likelihood = resolve(model, likelihood)
    options = {"likelihood": likelihood, "chunk_size": samples, "return_samples": True}
    noisy = Predictive(model, samples, **options)
    interface.learn(noisy(interface.example()), likelihood)

    def drawn(noise, inputs):
        with seeded_scope(noisy, noise):
            return noisy(interface.pack(inputs))

    def fresh(*inputs):
        # The state of a generator would be the same after each load, on each server
        noise = tf.raw_ops.NonDeterministicInts(shape=[2], dtype=tf.int64)
        return drawn(noise, inputs)

    def seeded(*arguments):
        *inputs, seed = arguments
        noise = tf.stack([seed, tf.zeros_like(seed)])
        return drawn(noise, inputs)

    def fixed(model):
        model(interface.example())  # builds it
        return lambda *inputs: model(interface.pack(inputs))

    default = fresh
    if frozen:
        default = fixed(Frozen(model, samples, seed, likelihood))
    # name: function, what is answered of its outputs
    endpoints = {
        "serving_default": (default, interface.statistics),
        SEEDED: (seeded, interface.statistics),
        "samples": (default, interface.samples),
    }
    moments = _moments(model, likelihood, head)
    if moments is not None:
        endpoints["moments"] = fixed(moments), interface.statistics

    archive = keras.export.ExportArchive()
    for name, (predict, answer) in endpoints.items():
        specs = [*interface.specs]
        if name == SEEDED:
            specs.append(tf.TensorSpec((), tf.int64, name="seed"))
        archive.add_endpoint(name, _composed(answer, predict), specs)

    def write(temporary):
        archive.write_out(str(temporary), verbose=False)
        if warmup is not None:
            server.write_warmup(temporary, list(endpoints), warmup)

    return versions.write(write)


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


def _moments(model, likelihood, head):
    """The model of the endpoint `moments`; None if a layer of the source has no rule,
    or there is no source to inspect."""
    if not is_functional(model):
        return None
    try:
        return propagate_moments(model, likelihood, head, statistics=True)
    except UnsupportedError:
        return None
