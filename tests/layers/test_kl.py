"""The KL divergence as a loss."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from tests.layers.cases import CASES, POSTERIORS, build, inputs

TRAIN_SIZE = 100


def new_model(kl_weight=1.0, dtype=None):
    layer = kv.VarianceDense(
        3,
        posterior="weight_alpha",
        prior="log_uniform",
        train_size=TRAIN_SIZE,
        kl_weight=kl_weight,
        kernel_initializer=keras.initializers.RandomNormal(seed=1),
        dtype=dtype,
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, outputs: 0.0 * outputs)
    return model, layer


def update_of_log_alpha(model, layer):
    """−gradient: what one step of SGD at rate 1 adds, without any data loss."""
    before = np.asarray(layer.phi)
    model.fit(np.ones((8, 4)), np.ones((8, 3)), batch_size=8, verbose=0)
    return np.asarray(layer.phi) - before


def expected_update(layer, kl_weight=1.0):
    """By central differences of the formula, at double precision."""

    def kl(log_alpha):
        sigmoid = 1 / (1 + np.exp(1.87320 + 1.48695 * log_alpha))
        return 0.63576 * sigmoid + np.log1p(np.exp(-log_alpha)) / 2

    log_alpha = np.float64(layer.phi)
    slope = (kl(log_alpha + 1e-5) - kl(log_alpha - 1e-5)) / 2e-5
    return -kl_weight * slope / TRAIN_SIZE


@pytest.mark.parametrize("policy", [None, "mixed_float16", "mixed_bfloat16"])
def test_gradient_under_fit(policy):
    model, layer = new_model(dtype=policy)
    expected = expected_update(layer)
    assert np.all(expected > 0)  # α grows
    np.testing.assert_allclose(update_of_log_alpha(model, layer), expected, rtol=2e-4)


def test_gradient_under_mirrored_strategy(strategy):
    with strategy.scope():
        model, layer = new_model()
    expected = expected_update(layer)
    np.testing.assert_allclose(update_of_log_alpha(model, layer), expected, rtol=2e-4)


def test_annealing_under_compiled_training():
    model, layer = new_model(kl_weight=0.5)
    for kl_weight in (0.5, 0.0, 2.0):
        layer.kl_weight.assign(kl_weight)
        expected = expected_update(layer, kl_weight)
        update = update_of_log_alpha(model, layer)
        np.testing.assert_allclose(update, expected, rtol=5e-4, atol=1e-9)


def test_kl_weight_is_no_trainable_weight_and_has_no_gradient():
    _, layer = new_model(kl_weight=0.5)
    assert [weight.name for weight in layer.non_trainable_weights] == ["kl_weight"]
    assert float(layer.kl_weight) == 0.5


@pytest.mark.parametrize("prior", kv.priors.MEMBERS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", CASES)
def test_sum_over_weights(name, posterior, prior, rng):
    """Shared α counts once for each weight; every layer adds its loss."""
    case = CASES[name]
    layer = build(case, rng, posterior=posterior, prior=prior, train_size=TRAIN_SIZE)
    theta = keras.ops.convert_to_tensor(layer.kernel)
    if posterior == "zero_mean":
        each = kv.priors.get(prior).kl(layer.posterior, theta, None, None)
    else:
        scale = keras.ops.broadcast_to(layer.kernel_scale, theta.shape)
        log_variance = keras.ops.log(keras.ops.square(scale))
        additive = kv.posteriors.Additive()
        each = kv.priors.get(prior).kl(additive, theta, log_variance, None)
    total = np.sum(np.broadcast_to(each, theta.shape))
    np.testing.assert_allclose(layer.kl_divergence(), total, rtol=1e-4)
    layer(inputs(case, rng))
    assert len(layer.losses) == 1
    np.testing.assert_allclose(layer.losses[0], total / TRAIN_SIZE, rtol=1e-4)


def test_shared_layer_adds_its_divergence_once():
    layer = kv.VarianceDense(
        4, posterior="layer_alpha", prior="ard", train_size=TRAIN_SIZE
    )
    x = keras.Input((4,))
    model = keras.Model(x, layer(layer(x)) + layer(x))
    model.compile("sgd", loss=lambda y, outputs: 0.0 * outputs)
    kl = np.asarray(layer.kl_divergence()) / TRAIN_SIZE
    data = np.ones((8, 4))
    np.testing.assert_allclose(model.evaluate(data, data, verbose=0), kl, rtol=1e-5)
    for _ in range(2):
        model(data)
        (loss,) = model.losses
        np.testing.assert_allclose(loss, kl, rtol=1e-5)


def test_other_losses_remain():
    layer = kv.VarianceDense(
        4,
        posterior="layer_alpha",
        prior="ard",
        train_size=TRAIN_SIZE,
        activity_regularizer="l2",
        kernel_regularizer="l2",
    )
    layer(np.ones((2, 4)))
    assert len(layer.losses) == 3


def test_monte_carlo_draws_anew_each_step():
    layer = kv.VarianceDense(
        4, prior=kv.priors.StudentT(method="monte_carlo"), train_size=TRAIN_SIZE
    )
    layer.build((None, 4))
    assert layer.kl_divergence() != layer.kl_divergence()
    layer.seed_generator.hold()
    assert layer.kl_divergence() == layer.kl_divergence()


def test_without_prior():
    layer = kv.VarianceDense(4)
    layer(np.ones((2, 4)))
    assert layer.losses == []
    assert layer.kl_weight is None
    with pytest.raises(ValueError, match=r"has no prior. Received: prior=None"):
        layer.kl_divergence()
