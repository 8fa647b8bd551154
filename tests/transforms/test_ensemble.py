import keras
import numpy as np
import pytest
from keras import tree

import keras_variance as kv
from keras_variance.transforms import ensemble, sampling
from tests import backends
from tests.layers.cases import ESTIMATORS
from tests.statistics import assert_same_moments, assert_uncorrelated
from tests.transforms.models import ALL, WALKED, new

# Of two variances of which one is twice the other, |z| is 12 ± 1 with so many draws,
# far above the thresholds of a false alarm (5 to 6)
DRAWS = 1500


def many(function, x, draws):
    """Outputs of so many calls, (draws, …) each, in one compiled function."""
    x = tree.map_structure(keras.ops.convert_to_tensor, x)
    return backends.repeated(lambda: function(x), draws)


def separate_calls(model, x):
    return many(model, x, DRAWS)


def ensembles(model, x, samples=3, **arguments):
    """(draws · samples, …) outputs of an ensemble."""
    outputs = many(ensemble(model, samples, **arguments), x, DRAWS // samples)
    return tree.map_structure(lambda y: np.concatenate(np.moveaxis(y, 2, 1)), outputs)


# Moment matching with Gaussian noise is local reparameterization
CELLS = [
    (name, estimator)
    for name in ALL
    for estimator in ESTIMATORS
    if name == "stacked" or estimator != "moment_matching"
]


@pytest.mark.parametrize("shared_noise", [True, False])
@pytest.mark.parametrize("name, estimator", CELLS)
def test_equals_separate_calls(name, estimator, shared_noise, rng):
    model, x = new(name, rng, posterior="neuron_alpha", estimator=estimator)
    for layer in kv.layers.variance_layers(model):
        layer.phi.assign(rng.normal(size=layer.phi.shape))
    expected = separate_calls(model, x)
    actual = ensembles(model, x, shared_noise=shared_noise)
    tree.map_structure(assert_same_moments, actual, expected)


@pytest.mark.parametrize("estimator", ["flipout", "local_reparameterization"])
@pytest.mark.parametrize("name", ["stacked", "multiple", "hidden"])
def test_in_chunks(name, estimator, rng, monkeypatch):
    """As all at once: independent samples, in their places."""
    monkeypatch.setattr(sampling, "CACHE", 1)
    model, x = new(name, rng, posterior="layer_alpha", estimator=estimator)
    draws = ensemble(model, 4)
    outputs = np.reshape(tree.flatten(draws(x))[-1], (3, 4, -1))
    assert len(np.unique(outputs[0, :, 0])) == 4
    expected = separate_calls(model, x)
    tree.map_structure(assert_same_moments, ensembles(model, x), expected)


@pytest.mark.parametrize("noise", ["bernoulli", "uniform"])
@pytest.mark.parametrize("name", ["stacked", "convolutional"])
def test_other_noise(name, noise, rng):
    model, x = new(name, rng, noise=noise)
    assert_same_moments(ensembles(model, x), separate_calls(model, x))


@pytest.mark.parametrize("shared_noise", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ["sequential", "stacked"])
def test_samples_are_distinct_and_independent(name, estimator, shared_noise, rng):
    model, x = new(name, rng, estimator=estimator)
    model.layers[-1].bias.assign(np.zeros(3))
    predictor = ensemble(model, 2, shared_noise)
    draws = many(predictor, x, DRAWS)
    assert_uncorrelated(draws[:, :, 0], draws[:, :, 1])
    assert_uncorrelated(draws[1:, :, 0], draws[:-1, :, 0])
    twenty = np.asarray(ensemble(model, 20, shared_noise)(x))
    assert all(len(np.unique(row[:, 0])) > 1 for row in twenty)


class Two(keras.Model):
    """The draws of two layers, side by side."""

    def __init__(self):
        super().__init__()
        arguments = {"use_bias": False, "kernel_initializer": "ones"}
        self.both = [kv.VarianceDense(3, **arguments) for _ in range(2)]

    def call(self, inputs):
        return keras.ops.concatenate([layer(inputs) for layer in self.both], axis=-1)


def test_layers_of_a_subclassed_model_have_their_own_noise():
    """And not what another layer has in another sample."""
    model, x = Two(), np.ones((1, 1))
    model(x)
    draws = np.array(ensemble(model, 20)(x))
    assert np.unique(draws.round(6)).size == draws.size


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ["sequential", "stacked"])
def test_shared_noise(name, estimator, rng):
    """Equal rows get equal samples where noise is shared, and others where not."""
    model, x = new(name, rng, estimator=estimator)
    rows = np.repeat(x[:1], 2, axis=0)
    shared = np.asarray(ensemble(model, 5, shared_noise=True)(rows))
    np.testing.assert_allclose(shared[0], shared[1], rtol=1e-5)
    own = np.asarray(ensemble(model, 5, shared_noise=False)(rows))
    if estimator != "weight_sampling":  # one kernel for all rows of a call
        assert not np.all(own[0] == own[1])


@pytest.mark.parametrize("name", WALKED)
def test_deterministic_rows_stay_in_their_place(name, rng):
    """Without noise, sample k of row i is the source's row i."""
    model, x = new(name, rng, posterior="additive")
    for layer in kv.layers.variance_layers(model):
        layer.phi.assign(np.full(layer.phi.shape, -80.0))
    expected = tree.map_structure(lambda y: np.asarray(y)[:, None], model(x))
    actual = ensemble(model, 4)(x)

    def check(actual, expected):
        expected = np.repeat(expected, 4, axis=1)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    tree.map_structure(check, actual, expected)


def test_multiple_outputs(rng):
    model, x = new("multiple", rng)
    outputs = ensemble(model, 4).predict(x, verbose=0)
    assert outputs["random"].shape == (3, 4, 3)
    assert outputs["fixed"].shape == (3, 4, 4)
    np.testing.assert_allclose(np.ptp(outputs["fixed"], axis=1), 0, atol=1e-6)


@pytest.mark.parametrize("name", ["stacked", "subclassed", "hidden"])
def test_seed(name, rng):
    model, x = new(name, rng)
    first, second = ensemble(model, 4, seed=3), ensemble(model, 4, seed=3)
    for _ in range(2):
        np.testing.assert_array_equal(first(x), second(x))
    assert not np.any(np.equal(first(x), ensemble(model, 4, seed=4)(x)))


def test_training_the_source_changes_the_result(rng):
    model, x = new("stacked", rng)
    predictor = ensemble(model, 4)
    predictor(x)
    for weight in model.trainable_weights:
        weight.assign(np.zeros(weight.shape))
    np.testing.assert_allclose(predictor(x), np.zeros((3, 4, 3)), atol=1e-6)


class ShowMask(keras.layers.Layer):
    def call(self, inputs, mask=None):
        return keras.ops.cast(mask, "float32")


@pytest.mark.filterwarnings("ignore:Layer 'show_mask'")  # it ends the mask
@pytest.mark.parametrize("depth", [1, 2])
def test_masks_are_kept(depth, rng):
    layers = [kv.VarianceDense(3) for _ in range(depth)]
    embedding = keras.layers.Embedding(7, 4, mask_zero=True)
    model = keras.Sequential([keras.Input((5,)), embedding, *layers, ShowMask()])
    tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]])
    expected = (tokens > 0).astype("float32")
    np.testing.assert_array_equal(model(tokens), expected)
    outputs = ensemble(model, 2)(tokens)
    np.testing.assert_array_equal(outputs, np.repeat(expected[:, None], 2, axis=1))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, estimator, rng):
    keras.config.set_dtype_policy(policy)
    model, x = new("convolutional", rng, estimator=estimator)
    outputs = ensemble(model, 4)(300 * x)
    assert backends.dtype(outputs) == model.compute_dtype
    assert np.all(np.isfinite(keras.ops.cast(outputs, "float32")))


@pytest.mark.parametrize("samples", [0, -1, 2.0, None, "3"])
def test_bad_samples(samples, rng):
    model, _ = new("sequential", rng)
    with pytest.raises(ValueError, match=rf"`samples`.*Received: samples={samples!r}"):
        ensemble(model, samples)


def test_no_variance_layer():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    for each in (model, "model", None):
        with pytest.raises(ValueError, match=r"variance layers.*replace"):
            ensemble(each)


def test_unbuilt_model():
    with pytest.raises(ValueError, match=r"built.*keras.Input"):
        ensemble(keras.Sequential([kv.VarianceDense(3)]))


def test_one_mask_for_all_examples(rng):
    """As Keras puts it on the outputs of a softmax."""
    mask = np.array([[True, False, True]])
    x = keras.Input((4,))
    y = keras.layers.Softmax()(kv.VarianceDense(3)(x), mask=mask)
    data = rng.normal(size=(5, 4)).astype("float32")
    draws = keras.ops.convert_to_numpy(ensemble(keras.Model(x, y), 7)(data))
    assert draws.shape == (5, 7, 3) and (draws[..., 1] == 0).all()
    np.testing.assert_allclose(draws.sum(axis=-1), 1, rtol=1e-5)
