"""What every layer does as a Keras layer."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase  # Keras's own checks have no public name

import keras_variance as kv
from keras_variance import _keras
from keras_variance.layers import variance_layers
from tests import backends
from tests.layers.cases import (
    CASES,
    ESTIMATORS,
    EVERY,
    NOISE_ESTIMATORS,
    POSTERIORS,
    activation,
    build,
    inputs,
    sample,
)
from tests.statistics import assert_moments, assert_uncorrelated


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # by Keras's test
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", EVERY)
def test_run_layer_test(name, posterior, estimator):
    case = EVERY[name]
    # Keras counts PyTorch's parameters, and the size of the training data, of a layer
    # with a prior, is one, though no weight
    without = posterior == "zero_mean" or backends.BACKEND == "torch"
    prior = None if without else "log_uniform"
    arguments = {
        **case.arguments,
        "posterior": posterior,
        "estimator": estimator,
        "prior": prior,
        "train_size": 100,
    }
    shape = (2, *case.input_shape)
    stock = case.stock(**case.arguments)
    TestCase().run_layer_test(
        case.layer,
        arguments,
        input_shape=shape,
        input_dtype="int32" if case.tokens else None,
        expected_output_shape=stock.compute_output_shape(shape),
        expected_num_trainable_weights=case.weights
        + case.kernels * (posterior != "zero_mean"),
        expected_num_non_trainable_weights=0 if prior is None else 1,
        expected_num_seed_generators=1,
        expected_num_losses=0 if prior is None else 1,
        supports_masking=stock.supports_masking,
    )


@pytest.mark.parametrize(
    "policy, jit_compile",
    [("float32", True), ("mixed_float16", False), ("mixed_bfloat16", False)],
)
@pytest.mark.parametrize("noise, estimator", NOISE_ESTIMATORS)
@pytest.mark.parametrize("name", EVERY)
def test_finite_gradients(name, noise, estimator, policy, jit_compile, rng):
    """For inputs whose squares overflow in half precision, and for zeros."""
    case = EVERY[name]
    families = {"posterior": "neuron_alpha", "noise": noise, "estimator": estimator}
    layer = build(case, rng, **families, dtype=policy)
    x = inputs(case, rng, rows=3) * (1 if case.tokens else 300)
    x[0] = 0
    x = keras.Variable(x, dtype=x.dtype, trainable=not case.tokens)

    def loss():
        outputs = layer(x.value)
        assert backends.dtype(outputs) == layer.compute_dtype
        return keras.ops.mean(keras.ops.cast(outputs, "float32"))

    value, gradients = backends.gradients(
        loss, [*[x] * x.trainable, *layer.trainable_weights], jit_compile
    )
    for array in (value, *gradients):
        assert np.all(np.isfinite(array))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", EVERY)
def test_without_variance_is_the_stock_layer(name, estimator, rng):
    case = EVERY[name]
    layer = build(
        case, rng, posterior="additive", estimator=estimator, **activation(case, "tanh")
    )
    for phi in layer.phis:
        phi.assign(np.full(phi.shape, -80.0))
    stock = case.stock(**case.arguments, **activation(case, "tanh"))
    stock.build((None, *case.input_shape))
    stock.set_weights(layer.get_weights()[: case.weights])
    x = inputs(case, rng)
    np.testing.assert_allclose(layer(x), stock(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv2d_transpose"])
def test_channels_first(name, estimator, rng):
    """The same layer, up to the order of axes. (Compiled: the CPU has XLA's only.)"""
    case = EVERY[name]
    arguments = {"posterior": "neuron_alpha", "estimator": estimator, "seed": 1}
    if name == "conv2d":  # XLA has no grouped channels-first convolution on CPU
        case = case._replace(arguments={**case.arguments, "groups": 1})
    last = build(case, rng, **arguments)
    first = case.layer(**case.arguments, **arguments, data_format="channels_first")
    x = inputs(case, rng)
    call = backends.compiled(first, jit_compile=True)
    first.build(np.moveaxis(x, -1, 1).shape)
    first.set_weights(last.get_weights())
    if estimator in ("flipout", "weight_sampling"):
        outputs = call(np.moveaxis(x, -1, 1))
        outputs = np.moveaxis(np.asarray(outputs), 1, -1)
        expected = backends.compiled(last, jit_compile=True)(x)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    else:  # the noise has the order of the outputs' axes
        rows = np.tile(x[:1], (2000, *[1] * (x.ndim - 1)))
        draws = np.moveaxis(np.asarray(call(np.moveaxis(rows, -1, 1))), 1, -1)
        kernel, variance = last.kernel_mean, np.square(last.kernel_scale)
        mean = last.linear(x[0:1], kernel)[0] + last.bias
        assert_moments(draws, mean, last.linear(x[0:1] ** 2, variance)[0])


@pytest.mark.parametrize("noise, estimator", NOISE_ESTIMATORS)
def test_joint_distribution_of_examples(noise, estimator, rng):
    """Two equal rows of a batch: independent, equal, or uncorrelated."""
    case = CASES["dense"]
    layer = build(case, rng, noise=noise, estimator=estimator)
    row = inputs(case, rng, rows=1)
    x = np.concatenate([row, row])
    draws = sample(layer, x, 2000) - np.asarray(layer.bias)
    first, second = draws[:, 0], draws[:, 1]
    if estimator == "weight_sampling":
        np.testing.assert_array_equal(first, second)
        return
    assert_uncorrelated(first, second)
    assert_uncorrelated(draws[1:, 0], draws[:-1, 0])  # from call to call
    if estimator != "flipout":
        variance = np.square(row) @ np.square(layer.kernel)
        # Squares of independent variables are uncorrelated, too
        assert_uncorrelated(first**2 - variance, second**2 - variance)


def test_flipout_signs_are_constant_in_space(rng):
    """An example sees one kernel everywhere, as with weight sampling."""
    layer = kv.VarianceConv2D(3, 1, use_bias=False, estimator="flipout")
    outputs = np.asarray(layer(np.ones((4, 5, 5, 2), "float32")))
    np.testing.assert_allclose(
        outputs, outputs[:, :1, :1] * np.ones((1, 5, 5, 1)), 1e-6
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_positions_of_one_token(estimator):
    """One vector where there is one draw of the weights, else independent ones."""
    layer = kv.VarianceEmbedding(3, 4, estimator=estimator)
    tokens = np.array([[1, 1, 2], [1, 0, 0]])
    outputs = np.asarray(layer(tokens))
    one_draw = estimator in ("flipout", "weight_sampling")
    assert np.array_equal(outputs[0, 0], outputs[0, 1]) == one_draw
    assert np.array_equal(outputs[0, 0], outputs[1, 0]) == (
        estimator == "weight_sampling"
    )


def test_embedding_with_a_mask_and_weights(rng):
    table = rng.normal(size=(3, 4)).astype("float32")
    for weights in (table, [table]):
        layer = kv.VarianceEmbedding(3, 4, mask_zero=True, weights=weights)
        np.testing.assert_array_equal(layer.kernel, table)
    tokens = np.array([[1, 0, 2]])
    model = keras.Sequential([keras.Input((3,)), layer])
    for each in (model, kv.transforms.ensemble(model, 2)):
        mask = np.asarray(_keras.get_mask(each(tokens)))
        np.testing.assert_array_equal(mask, np.broadcast_to(tokens != 0, mask.shape))
    drawn = kv.transforms.draw(model)
    assert drawn.layers[-1].embeddings.shape == (3, 4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_sequences(estimator, rng):
    """Dense layers take (batch, time, channels), of unknown batch and time."""
    model = keras.Sequential(
        [keras.Input((None, 4)), kv.VarianceDense(3, estimator=estimator)]
    )
    assert model.output_shape == (None, None, 3)
    assert model.predict(np.ones((5, 7, 4)), verbose=0).shape == (5, 7, 3)


def test_integer_inputs(rng):
    layer = kv.VarianceDense(3)
    x = np.arange(8).reshape(2, 4)
    assert backends.dtype(layer(x)) == "float32"


@pytest.mark.parametrize("policy", ["float16", backends.DOUBLE])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pure_policies(policy, estimator):
    layer = kv.VarianceDense(3, posterior="additive", estimator=estimator, dtype=policy)
    outputs = layer(300 * np.ones((2, 4)))
    assert backends.dtype(outputs) == policy
    assert np.all(np.isfinite(outputs))


@pytest.mark.parametrize("training", [None, False, True])
def test_draws_in_training_and_in_inference(training):
    layer = kv.VarianceDense(3)
    x = np.ones((2, 4), "float32")
    assert not np.any(
        np.equal(layer(x, training=training), layer(x, training=training))
    )


def test_seed_repeats_the_noise():
    x = np.ones((2, 4), "float32")
    layers = [kv.VarianceDense(3, seed=5, kernel_initializer="ones") for _ in range(2)]
    for _ in range(2):
        np.testing.assert_array_equal(layers[0](x), layers[1](x))


def test_held_layer_repeats_its_sample():
    """One weight sample for a whole episode, here of two rows, and its gradient."""
    layer = kv.VarianceDense(3, estimator="weight_sampling", use_bias=False)
    x = np.float32([[1, 2, 3, 4], [4, 3, 2, 1]])
    layer.build(x.shape)
    layer.seed_generator.hold()
    episode = np.concatenate([layer(x[:1]), layer(x[1:])])
    np.testing.assert_allclose(layer(x), episode, rtol=1e-5)
    layer.seed_generator.release()
    assert not np.any(np.equal(layer(x), episode))


def test_arguments_of_the_stock_layer(rng):
    layer = kv.VarianceDense(
        3,
        "relu",
        kernel_initializer="ones",
        kernel_constraint="non_neg",
        kernel_regularizer="l2",
        bias_initializer="ones",
        name="stochastic",
    )
    outputs = layer(np.ones((2, 4)))
    assert layer.name == "stochastic"
    assert np.all(np.asarray(outputs) >= 0)
    np.testing.assert_allclose(layer.losses[0], 0.01 * 12, rtol=1e-6)
    np.testing.assert_array_equal(layer.bias, np.ones(3))
    assert isinstance(layer.kernel.constraint, keras.constraints.NonNeg)


@backends.tensorflow_only
@pytest.mark.parametrize("noise", kv.noises.MEMBERS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_posterior_distribution(posterior, noise, rng):
    layer = build(CASES["conv2d"], rng, posterior=posterior, noise=noise)
    distribution = layer.posterior_distribution()
    mean = layer.kernel_mean
    mean = np.zeros(layer.kernel.shape) if mean is None else mean
    np.testing.assert_allclose(distribution.mean(), mean, atol=1e-6)
    variance = np.square(layer.kernel_scale)
    np.testing.assert_allclose(distribution.variance(), variance, rtol=1e-4)


def test_config_round_trip():
    layer = kv.VarianceDense(
        3,
        posterior=kv.posteriors.NeuronAlpha(initial_log_alpha=-2),
        estimator="flipout",
        prior=kv.priors.StudentT(2.0, method="monte_carlo"),
        train_size=np.int64(100),
        kl_weight=0.5,
        seed=3,
    )
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(copy) == config
    assert repr(copy.prior) == "StudentT(df=2.0, scale=1.0, method='monte_carlo')"
    assert repr(copy.posterior) == "NeuronAlpha(initial_log_alpha=-2)"


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")  # nor has Keras
@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantization_passes_over_variance_layers(mode):
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3)])
    with pytest.warns(UserWarning, match="draws its kernel"):
        model.quantize(mode)
    assert model.predict(np.ones((2, 4)), verbose=0).shape == (2, 3)


def test_no_lora():
    layer = kv.VarianceDense(3, lora_rank=2)
    with pytest.raises(NotImplementedError, match="no LoRA"):
        layer.build((None, 4))


def test_variance_layers_of_a_model():
    shared, nested = kv.VarianceDense(3), kv.VarianceDense(3)
    x = keras.Input((3,))
    inner = keras.Sequential([shared, keras.layers.ReLU(), nested])
    times = keras.layers.TimeDistributed(kv.VarianceDense(2))
    outputs = times(keras.layers.Reshape((1, 3))(inner(inner(shared(x)))))
    model = keras.Model(x, outputs)
    assert variance_layers(model) == [shared, nested, times.layer]
    assert variance_layers(shared) == [shared]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("posterior", ["layer_alpha", "additive"])
def test_large_variances_in_half_precision(posterior, estimator):
    """An infinite weight times an input that is 0 would be NaN."""
    layer = kv.VarianceDense(
        3, posterior=posterior, estimator=estimator, dtype="mixed_float16"
    )
    layer.build((None, 400))
    layer.phi.assign(np.full(layer.phi.shape, 25.0))
    assert np.isfinite(layer(np.zeros((50, 400)))).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("posterior", ["zero_mean", "additive"])
def test_no_rows(name, estimator, posterior):
    """In eager code. (TensorFlow's own convolutions then have another shape.)"""
    case = EVERY[name]
    layer = case.layer(posterior=posterior, estimator=estimator, **case.arguments)
    one = layer(np.ones((1, *case.input_shape)))
    assert layer(np.ones((0, *case.input_shape))).shape == (0, *one.shape[1:])
