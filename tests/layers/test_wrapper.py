"""`VarianceWrapper`: any layer with random weights, one draw per call."""

import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import ops, tree
from scipy import special

import keras_variance as kv
from keras_variance.random import Stream
from tests import backends
from tests.statistics import assert_same_moments

layers = keras.layers
TRAIN_SIZE = 100
DRAWS = 1500


def randomize(layer, rng):
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))


def assert_equal(actual, expected, tolerance=2e-5):
    tree.assert_same_structure(actual, expected)
    for a, b in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        np.testing.assert_allclose(
            *(ops.convert_to_numpy(ops.cast(x, "float32")) for x in (a, b)),
            rtol=tolerance,
            atol=tolerance,
        )


# An LSTM by brute force


def lstm(x, kernels, recurrents, bias):
    """Hidden states, (draws, batch, time, units), with the weights of each time step:
    (time, draws, inputs, 4 units)."""
    h = c = np.zeros((kernels.shape[1], len(x), len(bias) // 4))
    states = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ kernels[t] + h @ recurrents[t] + bias
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = special.expit(f) * c + special.expit(i) * np.tanh(g)
        h = special.expit(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=2)


NOISES = {
    "gaussian": lambda rng, shape: rng.normal(size=shape),
    "bernoulli": lambda rng, shape: rng.choice([-1.0, 1.0], size=shape),
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, size=shape),
}


def draw_weight(weight, posterior, noise, rng, shape):
    """Draws, (*shape, *weight's), by the table of posteriors.py."""
    theta = np.float64(weight.variable)
    phi = None if weight.phi is None else np.float64(weight.phi)
    if posterior == "zero_mean":
        mean, stddev = 0.0, theta
    elif posterior == "additive":
        mean, stddev = theta, np.exp(phi / 2)
    else:
        mean, stddev = theta, np.exp(phi / 2) * np.abs(theta)
    return mean + stddev * NOISES[noise](rng, (*shape, *theta.shape))


def joint(h):
    """Each hidden state, and the products of those of different time steps."""
    pairs = [(0, 1), (0, 2), (1, 2)]
    products = np.stack([h[:, :, s] * h[:, :, t] for s, t in pairs], axis=2)
    return np.concatenate([h, products], axis=2)


@pytest.mark.parametrize(
    "posterior, noise",
    [
        ("zero_mean", "gaussian"),
        ("layer_alpha", "bernoulli"),
        ("neuron_alpha", "uniform"),
        ("weight_alpha", "gaussian"),
        ("additive", "gaussian"),
    ],
)
def test_moments_of_an_lstm(posterior, noise, rng):
    """One draw over time; a draw for each time step has another joint distribution."""
    wrapper = kv.VarianceWrapper(
        layers.LSTM(2, return_sequences=True), posterior=posterior, noise=noise
    )
    x = rng.normal(size=(2, 3, 3)).astype("float32")
    wrapper.build(x.shape)
    randomize(wrapper, rng)
    draws = backends.repeated(lambda: wrapper(x), DRAWS)
    bias = np.float64(wrapper.layer.cell.bias)

    def brute_force(steps):
        each = [
            draw_weight(weight, posterior, noise, rng, (steps, 20 * DRAWS))
            for weight in wrapper.random_weights
        ]
        each = [np.broadcast_to(w, (3, *w.shape[1:])) for w in each]
        return lstm(x, *each, bias)

    assert_same_moments(joint(draws), joint(brute_force(1)))
    with pytest.raises(AssertionError):
        assert_same_moments(joint(draws), joint(brute_force(3)))


def test_gradients_follow_the_draw(rng):
    """dL/dθ and dL/dφ from the gradient by the weights that were drawn."""
    x = rng.normal(size=(2, 3, 3)).astype("float32")
    wrapper = kv.VarianceWrapper(layers.LSTM(2), posterior="weight_alpha")
    wrapper.build(x.shape)
    randomize(wrapper, rng)
    wrapper.seed_generator.hold()
    stock, draws = drawn(wrapper, x)

    def loss(layer):
        return lambda: ops.sum(ops.sin(layer(x)))

    variables = [weight.variable for weight in wrapper.random_weights]
    phis = [weight.phi for weight in wrapper.random_weights]
    bias = wrapper.layer.cell.bias
    value, slopes = backends.gradients(loss(wrapper), [*variables, *phis, bias])
    expected, (*by_draw, by_bias) = backends.gradients(
        loss(stock), [stock.cell.kernel, stock.cell.recurrent_kernel, stock.cell.bias]
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(slopes[4], by_bias, rtol=1e-4, atol=1e-6)
    for k, (theta, w) in enumerate(zip(variables, draws, strict=True)):
        theta = np.float64(theta)
        np.testing.assert_allclose(
            slopes[k], by_draw[k] * w / theta, rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(
            slopes[2 + k], by_draw[k] * (w - theta) / 2, rtol=1e-3, atol=1e-5
        )


# Layers of every kind: the wrapped layer is what the stock layer is with the draw


def drawn(wrapper, *args, **kwargs):
    """A stock layer with what the wrapper, which is held, draws; and the draws."""
    stock, values = wrapper.drawn(Stream(wrapper.seed_generator.next()))
    stock(*args, **kwargs)
    for variable, value in zip(stock.variables, values, strict=True):
        variable.assign(ops.copy(ops.convert_to_tensor(value)))
    chosen = [id(weight.variable) for weight in wrapper.random_weights]
    draws = [
        np.float64(ops.convert_to_numpy(value))
        for variable, value in zip(wrapper.layer.variables, values, strict=True)
        if id(variable) in chosen
    ]
    return stock, draws


@keras.saving.register_keras_serializable("tests")
class Mixer(layers.Layer):
    """An own layer: no `build`, a dict of inputs, further arguments, its own losses."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.5, seed=1)

    def call(self, inputs, gate=None, twice=False, training=False):
        h = self.norm(self.dense(inputs["a"]) + inputs["b"], training=training)
        h = self.dropout(h, training=training)
        self.add_loss(ops.mean(ops.square(h)))
        h = h if gate is None else h * gate
        return [h, 2 * h] if twice else h


class Case(NamedTuple):
    layer: Callable  # makes one
    args: tuple
    kwargs: dict
    names: list  # of the random weights


X = np.random.default_rng(1).normal(size=(2, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 1]], bool)
CELL = ["lstm_cell/kernel", "lstm_cell/recurrent_kernel"]
HEADS = [f"{name}/kernel" for name in ("query", "key", "value", "attention_output")]
STATE = np.ones((2, 3), "float32")
CASES = {
    "lstm": Case(
        lambda: layers.LSTM(3, return_sequences=True, return_state=True),
        (X,),
        {"mask": MASK, "initial_state": [STATE, STATE]},
        CELL,
    ),
    "backwards": Case(lambda: layers.LSTM(3, go_backwards=True), (X,), {}, CELL),
    "unrolled": Case(
        lambda: layers.LSTM(3, unroll=True, use_bias=False), (X,), {}, CELL
    ),
    "gru": Case(
        lambda: layers.GRU(3, dropout=0.2),
        (X,),
        {},
        ["gru_cell/kernel", "gru_cell/recurrent_kernel"],
    ),
    "simple_rnn": Case(
        lambda: layers.SimpleRNN(3, return_sequences=True),
        (X,),
        {"mask": MASK},
        ["simple_rnn_cell/kernel", "simple_rnn_cell/recurrent_kernel"],
    ),
    "bidirectional": Case(
        lambda: layers.Bidirectional(layers.GRU(2, name="gru"), merge_mode="sum"),
        (X,),
        {},
        [
            f"{direction}_gru/gru_cell/{name}"
            for direction in ("forward", "backward")
            for name in ("kernel", "recurrent_kernel")
        ],
    ),
    "time_distributed": Case(
        lambda: layers.TimeDistributed(layers.Dense(3, name="dense")),
        (X,),
        {},
        ["dense/kernel"],
    ),
    "attention": Case(
        lambda: layers.MultiHeadAttention(2, 3),
        (X, X[:, 1:]),
        {"use_causal_mask": True, "return_attention_scores": True},
        HEADS,
    ),
    "grouped_attention": Case(
        lambda: layers.GroupQueryAttention(2, 4, 2),
        (X,),
        {"value": X[:, 1:], "query_mask": MASK},
        HEADS,
    ),
    "embedding": Case(
        lambda: layers.Embedding(7, 3, mask_zero=True),
        (np.int32([[0, 1, 6], [2, 2, 2]]),),
        {},
        ["embeddings"],
    ),
    "model": Case(
        lambda: keras.Sequential(
            [
                layers.Conv1D(3, 2, name="conv"),
                layers.BatchNormalization(),
                layers.LSTM(2, name="lstm"),
                layers.Dense(2, name="dense"),
            ]
        ),
        (X,),
        {},
        ["conv/kernel", *(f"lstm/{name}" for name in CELL), "dense/kernel"],
    ),
    "own": Case(
        Mixer,
        ({"a": X, "b": X[..., 1:]},),
        {"gate": X[..., :3], "twice": True},
        None,
    ),
}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_the_layer_with_the_draw_in_place(name, policy, rng):
    """In eager and in compiled code, with outputs of the layer's dtype and shape."""
    if policy == "float64" and backends.BACKEND == "jax":
        pytest.skip("JAX has double precision only if it is told so at the start")
    if (name, policy, backends.BACKEND) == (
        "grouped_attention",
        "mixed_float16",
        "jax",
    ):
        pytest.skip("JAX has no such attention on a CPU")
    keras.config.set_dtype_policy(policy)
    case = CASES[name]
    wrapper = kv.VarianceWrapper(case.layer(), posterior="layer_alpha", noise="uniform")
    before = wrapper(*case.args, **case.kwargs)
    names = [weight.name for weight in wrapper.random_weights]
    assert names == case.names if case.names else len(names) == 1
    for weight in wrapper.random_weights:
        weight.phi.assign(np.full(weight.phi.shape, -1.0))
    wrapper.seed_generator.hold()
    stock, draws = drawn(wrapper, *case.args, **case.kwargs)
    expected = stock(*case.args, **case.kwargs)
    tolerance = 3e-3 if policy == "mixed_float16" else 2e-5
    for outputs in (
        wrapper(*case.args, **case.kwargs),
        backends.compiled(lambda: wrapper(*case.args, **case.kwargs))(),
    ):
        assert_equal(outputs, expected, tolerance)
        for a, b in zip(tree.flatten(outputs), tree.flatten(expected), strict=True):
            assert backends.dtype(a) == backends.dtype(b)
    masks = [
        [getattr(x, "_keras_mask", None) is None for x in tree.flatten(each)]
        for each in (wrapper(*case.args, **case.kwargs), expected)
    ]
    assert masks[0] == masks[1]
    first, other = (np.asarray(tree.flatten(x)[0]) for x in (before, expected))
    assert not np.array_equal(first, other)
    noise = [
        (draw / np.float64(weight.variable) - 1).ravel() / np.exp(-0.5)
        for weight, draw in zip(wrapper.random_weights, draws, strict=True)
    ]
    noise = np.concatenate(noise)  # of all weights: no entry is another's
    assert np.abs(noise).max() < 3**0.5 + 1e-3
    assert np.unique(noise.round(4)).size > 0.97 * noise.size


@pytest.mark.parametrize("name", CASES)
def test_symbolic_calls(name):
    """A Functional model has the shapes and the dtypes of the wrapped layer."""
    case = CASES[name]

    def symbolic(x):
        return keras.Input(x.shape[1:], dtype=x.dtype)

    args, kwargs = tree.map_structure(
        lambda x: symbolic(x) if isinstance(x, np.ndarray) else x,
        (case.args, case.kwargs),
    )
    wrapper, stock = kv.VarianceWrapper(case.layer()), case.layer()
    outputs, expected = wrapper(*args, **kwargs), stock(*args, **kwargs)
    tree.assert_same_structure(outputs, expected)
    for a, b in zip(tree.flatten(outputs), tree.flatten(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    inputs = [x for x in tree.flatten((args, kwargs)) if keras.utils.is_keras_tensor(x)]
    data = [
        x for x in tree.flatten((case.args, case.kwargs)) if isinstance(x, np.ndarray)
    ]
    first, second = (
        tree.flatten(keras.Model(inputs, outputs).predict(data, verbose=0))[0]
        for _ in range(2)
    )
    assert not np.array_equal(first, second)


# What happens inside gets out


class WithLoss(layers.Dense):
    def call(self, inputs):
        outputs = super().call(inputs)
        self.add_loss(ops.mean(ops.square(outputs)))
        return outputs


def two_inputs(**kwargs):
    """Normalization, dropout and losses inside."""
    a, b = keras.Input((5, 4), name="a"), keras.Input((5, 3), name="b")
    wrapper = kv.VarianceWrapper(Mixer(), **kwargs)
    model = keras.Model({"a": a, "b": b}, wrapper({"a": a, "b": b}))
    model.compile(keras.optimizers.SGD(0.0), lambda y, outputs: 0.0 * outputs)
    return model, wrapper


DATA = {"a": X, "b": X[..., 1:]}


@pytest.mark.parametrize("how", ["call", "fit"])
def test_updates_get_out(how):
    """Moving averages, and the seeds of dropout."""
    model, wrapper = two_inputs()
    norm, state = wrapper.layer.norm, wrapper.layer.dropout.seed_generator.state
    before = np.array(norm.moving_mean), np.array(state)
    wrapper.seed_generator.hold()
    if how == "call":
        first, second = (np.array(model(DATA, training=True)) for _ in range(2))
        assert not np.array_equal(first, second)
    else:
        model.fit(DATA, np.zeros((2, 5, 3)), epochs=2, verbose=0)
    stock, _ = drawn(wrapper, DATA)
    stock.norm.moving_mean.assign(before[0])
    for _ in range(2):
        stock(DATA, training=True)
    assert np.abs(np.array(norm.moving_mean) - before[0]).max() > 1e-3
    np.testing.assert_allclose(
        np.array(norm.moving_mean), np.array(stock.norm.moving_mean), rtol=1e-4
    )
    assert not np.array_equal(np.array(state), before[1])


@pytest.mark.parametrize("how", ["call", "evaluate", "fit"])
def test_losses_get_out_once(how):
    """Those of the layer, its regularizers, which see θ, and the divergence."""
    inner = layers.LSTM(
        3,
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.2),
        return_sequences=True,
    )
    prior = {"posterior": "weight_alpha", "prior": "ard", "train_size": TRAIN_SIZE}
    wrapper = kv.VarianceWrapper(inner, kl_weight=0.5, **prior)
    own = kv.VarianceWrapper(WithLoss(3))
    x = keras.Input((5, 4))
    model = keras.Model(x, own(wrapper(x)))
    model.compile(keras.optimizers.SGD(0.0), lambda y, outputs: 0.0 * outputs)
    generators = wrapper.seed_generator, own.seed_generator
    for each in generators:
        each.hold()
    h = wrapper(X)
    z = own(h)
    expected = 0.1 * np.square(np.array(inner.cell.kernel)).sum()
    expected += 0.2 * np.square(np.array(h)).sum() / 2
    expected += np.square(np.array(z)).mean()
    expected += 0.5 * float(wrapper.kl_divergence()) / TRAIN_SIZE
    if how == "call":
        for _ in range(2):
            model(X)
            assert len(model.losses) == 4
            total = sum(map(float, model.losses))
    elif how == "evaluate":
        total = model.evaluate(X, np.zeros((2, 5, 3)), verbose=0)
    else:
        history = model.fit(X, np.zeros((2, 5, 3)), verbose=0).history
        total = history["loss"][0]
    np.testing.assert_allclose(total, expected, rtol=1e-4)


@pytest.mark.parametrize("prior", kv.priors.MEMBERS)
@pytest.mark.parametrize("posterior", kv.posteriors.MEMBERS)
def test_divergence_is_that_of_the_weights(posterior, prior, rng):
    """The sum over dense layers with the same θ and φ."""
    arguments = {"posterior": posterior, "prior": prior, "train_size": TRAIN_SIZE}
    wrapper = kv.VarianceWrapper(layers.GRU(3), **arguments)
    wrapper.build(X.shape)
    randomize(wrapper, rng)
    total = 0.0
    for weight in wrapper.random_weights:
        dense = kv.VarianceDense(weight.shape[-1], **arguments)
        dense.build((None, weight.shape[0]))
        dense.kernel.assign(np.array(weight.variable))
        if dense.phi is not None:
            dense.phi.assign(np.array(weight.phi))
        total += float(dense.kl_divergence())
    np.testing.assert_allclose(float(wrapper.kl_divergence()), total, rtol=1e-5)


def test_all_is_trained():
    """θ, φ and the biases, by `fit`."""
    wrapper = kv.VarianceWrapper(layers.LSTM(3), posterior="additive")
    model = keras.Sequential([keras.Input((5, 4)), wrapper, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [np.array(weight) for weight in model.trainable_weights]
    assert len(before) == 7
    model.fit(X, np.ones((2, 1)), verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(np.array(weight), old), weight.path


def test_two_replicas(strategy):
    """Their updates meet, and they draw different noise."""
    with strategy.scope():
        model, wrapper = two_inputs(posterior="zero_mean")
    before = np.array(wrapper.layer.norm.moving_mean)
    model.fit(DATA, np.zeros((2, 5, 3)), verbose=0)
    assert np.abs(np.array(wrapper.layer.norm.moving_mean) - before).max() > 1e-3
    x = {name: np.repeat(value[:1], 2, axis=0) for name, value in DATA.items()}
    first, second = model.predict(x, verbose=0)  # a row each
    assert np.abs(first - second).max() > 1e-3


def test_stateful():
    """States go on from call to call, and samples of one call are refused."""
    inner = layers.LSTM(3, stateful=True)
    wrapper = kv.VarianceWrapper(inner, posterior="layer_alpha")
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 4)), wrapper])
    wrapper.seed_generator.hold()
    first, second = np.array(model(X)), model.predict(X, verbose=0)
    assert np.abs(first - second).max() > 1e-3
    stock, _ = drawn(wrapper, X)
    stock.reset_state()
    stock(X)
    assert_equal(second, stock(X))
    inner.reset_state()
    assert_equal(wrapper(X), first)
    with pytest.raises(ValueError, match=rf"'{wrapper.name}' keeps a state.*Received"):
        kv.transforms.ensemble(model, 2)


# Which weights


@pytest.mark.parametrize(
    "weights, names",
    [
        ("recurrent", ["lstm_cell/recurrent_kernel"]),
        (r"\bkernel", ["lstm_cell/kernel"]),
        (["recurrent", "bias"], ["lstm_cell/recurrent_kernel", "lstm_cell/bias"]),
        ([0, "bias"], ["lstm_cell/kernel", "lstm_cell/bias"]),
        (1, ["lstm_cell/recurrent_kernel"]),
    ],
)
def test_chosen_weights(weights, names):
    wrapper = kv.VarianceWrapper(layers.LSTM(3), weights)
    wrapper.build((None, 5, 4))
    assert [weight.name for weight in wrapper.random_weights] == names
    copy = kv.VarianceWrapper.from_config(wrapper.get_config())
    assert copy.get_config() == wrapper.get_config()


def test_a_layer_that_is_built():
    """Its weights are θ; they are shared, and may be frozen."""
    inner = layers.LSTM(3)
    expected = inner(X)
    inner.trainable = False
    wrapper = kv.VarianceWrapper(
        inner, posterior=kv.posteriors.LayerAlpha(initial_log_alpha=-60)
    )
    assert_equal(wrapper(X), expected)
    assert [weight.variable for weight in wrapper.random_weights] == inner.weights[:2]
    assert [weight.name for weight in wrapper.trainable_weights] == [
        "log_alpha",
        "log_alpha_1",
    ]


class Tied(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.kernel = self.first.kernel

    def call(self, inputs):
        return ops.matmul(self.first(inputs), ops.transpose(self.kernel))


def test_a_weight_of_two_layers_is_drawn_once():
    wrapper = kv.VarianceWrapper(Tied())
    wrapper(np.ones((2, 4), "float32"))
    (weight,) = wrapper.random_weights
    assert weight.variable is wrapper.layer.kernel


class Assigns(layers.Dense):
    def call(self, inputs):
        self.kernel.assign(self.kernel / 2)
        return super().call(inputs)


class Ignores(layers.Dense):
    def call(self, inputs):
        return 2 * inputs


def quantized():
    layer = layers.Dense(3)
    layer.build((None, 4))
    layer.quantize("int8")
    return layer


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kv.VarianceDense(3, name="inner"), "'inner' draws its weights"),
        (
            lambda: kv.VarianceWrapper(layers.Dense(3), name="inner"),
            "'inner' draws its weights",
        ),
        (
            lambda: layers.TimeDistributed(kv.VarianceDense(3, name="inner")),
            "'inner' draws its weights",
        ),
        (lambda: layers.ReLU(name="inner"), "two axes or more"),
        (lambda: layers.LayerNormalization(name="inner"), "two axes or more"),
        (quantized, "is quantized"),
        (lambda: layers.Dense(3, lora_rank=1), "has LoRA weights"),
        (lambda: Assigns(3, name="inner"), "inner/kernel' is drawn"),
        (lambda: Ignores(4, name="inner"), "'inner' does not read its weight 'kernel'"),
    ],
)
def test_refused_layers(make, message):
    with pytest.raises(ValueError, match=message) as error:
        kv.VarianceWrapper(make())(np.ones((2, 4), "float32"))
    assert "Received: " in str(error.value)  # Keras adds to errors of a call


def test_quantized_afterwards():
    inner = layers.Dense(3)
    wrapper = kv.VarianceWrapper(inner)
    wrapper.build((None, 4))
    with pytest.raises(NotImplementedError, match="draws its kernel"):
        wrapper.quantize("int8")
    inner.quantize("int8")
    with pytest.raises(ValueError, match="is quantized"):
        wrapper(np.ones((2, 4)))


@pytest.mark.skipif(backends.BACKEND != "torch", reason="a module of PyTorch")
def test_modules_of_pytorch():
    """They read their parameters themselves."""
    import torch

    wrapper = kv.VarianceWrapper(layers.TorchModuleWrapper(torch.nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="does not read its weight"):
        wrapper(np.ones((2, 4), "float32"))


# Files


def text_model():
    wrapper = kv.VarianceWrapper(
        layers.Bidirectional(layers.LSTM(3)),
        posterior="weight_alpha",
        prior="ard",
        train_size=TRAIN_SIZE,
        name="recurrent",
    )
    attention = kv.VarianceWrapper(
        layers.MultiHeadAttention(2, 3), "query|value", "additive", name="attention"
    )
    x = keras.Input((5,), dtype="int32")
    h = layers.Embedding(7, 4, mask_zero=True)(x)
    h = attention(h, h, use_causal_mask=True)
    return keras.Model(x, layers.Dense(3, "softmax")(wrapper(h)))


def test_config_of_a_layer_that_is_built():
    wrapper = kv.VarianceWrapper(layers.GRU(3), prior="ard", train_size=10, seed=1)
    wrapper.build((None, 5, 4))
    serialize = keras.saving.serialize_keras_object
    copy = keras.saving.deserialize_keras_object(serialize(wrapper))
    assert serialize(copy) == serialize(wrapper)
    assert [x.shape for x in copy.weights] == [x.shape for x in wrapper.weights]


LOAD = """
import sys
import keras
import numpy as np
import keras_variance as kv
model = keras.models.load_model(sys.argv[1])
np.savez(sys.argv[2], *map(np.array, model.weights))
layers = kv.layers.variance_layers(model)
print([weight.name for layer in layers for weight in layer.random_weights])
model.predict(np.ones((2, 5), "int32"), verbose=0)
"""


def test_a_file_in_a_fresh_process(tmp_path, rng):
    model = text_model()
    kv.prune(model, 0.5)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(rng.normal(size=weight.shape))
    path, read = tmp_path / "m.keras", tmp_path / "weights.npz"
    model.save(path)
    command = [sys.executable, "-c", LOAD, str(path), str(read)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(
        [
            weight.name
            for layer in kv.layers.variance_layers(model)
            for weight in layer.random_weights
        ]
    )
    loaded = np.load(read).values()
    for weight, other in zip(model.weights, loaded, strict=True):
        np.testing.assert_array_equal(np.array(weight), other)
    other = text_model()
    kv.prune(other, 0.5)
    other.save_weights(tmp_path / "m.weights.h5")
    model.load_weights(tmp_path / "m.weights.h5")
    for weight, expected in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(np.array(weight), np.array(expected))


@backends.tensorflow_only
def test_checkpoints_of_tensorflow(tmp_path, rng):
    """All weights are in them, as in files of Keras."""
    import tensorflow as tf

    models = [text_model(), text_model()]
    for model in models:
        kv.prune(model, 0.5)
        randomize(model, rng)
    path = tf.train.Checkpoint(model=models[0]).save(tmp_path / "m")
    tf.train.Checkpoint(model=models[1]).restore(path).assert_consumed()
    for weight, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(np.array(weight), np.array(other))


# With the rest of the package


def test_pruned_weights_stay_zero():
    wrapper = kv.VarianceWrapper(layers.LSTM(3), posterior="additive")
    model = keras.Sequential([keras.Input((5, 4)), wrapper, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(X, np.ones((2, 1)), verbose=0)
    report = kv.prune(model, 0.5, by="snr", granularity="unit")
    assert report.total.zeros == report.total.weights // 2 == (4 + 3) * 12 // 2
    model.fit(X, np.ones((2, 1)), epochs=2, verbose=0)
    for weight in wrapper.random_weights:
        kept = np.array(weight.mask)
        assert np.all(np.array(weight.variable)[~kept] == 0)
        assert np.all(np.array(weight.scale)[~kept] == 0)
        assert np.all(np.array(weight.variable)[kept] != 0)
    assert kv.sparsity(model) == 0.5


def test_summary_is_of_all_weights(rng):
    wrapper = kv.VarianceWrapper(layers.GRU(3), posterior="weight_alpha")
    model = keras.Sequential([keras.Input((5, 4)), wrapper])
    randomize(wrapper, rng)
    row = kv.layer_statistics(wrapper)
    theta, phi = (
        np.concatenate([np.ravel(each(w)) for w in wrapper.random_weights])
        for each in (lambda w: w.variable, lambda w: w.phi)
    )
    variance = np.sum(np.exp(phi) * theta**2) / np.sum(theta**2)
    assert row.log_alpha == pytest.approx(np.log(variance), rel=1e-5)
    assert row.quantiles[1] == pytest.approx(np.sort(phi)[(phi.size - 1) // 2])
    assert row.estimator == "weight_sampling" and row.kl is None
    kv.summary(model, print_fn=lambda text: None)


def test_samples_of_an_ensemble(rng):
    """Each is one draw for the batch, independent of the others."""
    wrapper = kv.VarianceWrapper(layers.LSTM(2), posterior="layer_alpha")
    model = keras.Sequential([keras.Input((5, 4)), wrapper])
    randomize(wrapper, rng)
    x = np.repeat(X[:1], 2, axis=0)
    few = DRAWS // 5  # each is a call of the layer
    ensemble = backends.compiled(kv.transforms.ensemble(model, few))
    draws = np.array(ensemble(x))
    np.testing.assert_allclose(draws[0], draws[1], rtol=1e-5)
    expected = backends.repeated(lambda: wrapper(x), few)
    assert_same_moments(draws[0], expected[:, 0])
    assert len(np.unique(draws[0].round(6), axis=0)) == few


def test_moments_are_refused():
    wrapper = kv.VarianceWrapper(layers.LSTM(2), name="recurrent")
    model = keras.Sequential([keras.Input((5, 4)), wrapper])
    for transform in (
        kv.transforms.propagate_moments,
        lambda model: kv.transforms.ensemble(model, 2, integrate_last=True),
    ):
        with pytest.raises(ValueError, match=r"'recurrent'.*Received"):
            transform(model)


def test_held_and_seeded():
    wrapper = kv.VarianceWrapper(layers.LSTM(2))
    model = keras.Sequential([keras.Input((5, 4)), wrapper])
    with kv.random.held(model):
        first = np.array(model(X))
        assert_equal(model.predict(X, verbose=0), first)
    outputs = []
    for _ in range(2):
        with kv.random.seeded(model, 3):
            outputs.append(np.array(model(X)))
    np.testing.assert_array_equal(*outputs)
    assert np.abs(outputs[0] - first).max() > 1e-3
    a, b = (kv.VarianceWrapper(layers.LSTM(2, seed=1), seed=1) for _ in range(2))
    a(X), b(X)
    for weight, other in zip(a.layer.weights, b.layer.weights, strict=True):
        weight.assign(other)
    np.testing.assert_array_equal(np.array(a(X)), np.array(b(X)))


def test_weights_beyond_a_block_of_seeds():
    """A layer with more weights than the seeds that a generator sets apart."""
    model = keras.Sequential([layers.Dense(2) for _ in range(70)])
    wrapper = kv.VarianceWrapper(model, posterior="layer_alpha")
    wrapper.build((None, 2))
    seen = set()
    for _ in range(3):
        for weight, seed in wrapper.streams(Stream(wrapper.seed_generator.next())):
            seen.add(round(float(weight.layer.noise.sample((), "float32", seed)), 6))
    assert len(seen) > 0.99 * 3 * 70
