"""Stock dropout and noise layers as the source of randomness."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms import ensemble, predictive, propagate_moments
from tests.statistics import assert_same_moments
from tests.transforms import awkward

layers = keras.layers
SAMPLES = 4000
ROWS = 2

NOISES = {
    "dropout": (lambda: layers.Dropout(0.4), (6,)),
    "noise_shape": (lambda: layers.Dropout(0.4, noise_shape=(None, 1, 2)), (3, 2)),
    "spatial_1d": (lambda: layers.SpatialDropout1D(0.4), (3, 2)),
    "spatial_2d": (lambda: layers.SpatialDropout2D(0.4), (2, 2, 2)),
    "spatial_3d": (lambda: layers.SpatialDropout3D(0.4), (2, 1, 2, 2)),
    "gaussian_dropout": (lambda: layers.GaussianDropout(0.4), (6,)),
    "gaussian_noise": (lambda: layers.GaussianNoise(0.5), (6,)),
    "alpha_dropout": (lambda: layers.AlphaDropout(0.4), (6,)),
}


def plain(name="dropout", last=None):
    """A Keras model without variance layers or BatchNorm, and its input."""
    make, shape = NOISES[name]
    x = keras.Input(shape)
    h = layers.Flatten()(make()(x))
    y = layers.Dense(2, last)(layers.Dropout(0.2)(layers.Dense(4, "tanh")(h)))
    data = np.random.default_rng(1).normal(size=(ROWS, *shape)).astype("float32")
    return keras.Model(x, y), data


def training_draws(model, x, samples=SAMPLES):
    """(samples, rows, …): the model called with training=True."""
    outputs = np.asarray(model(np.repeat(x, samples, axis=0), training=True))
    return np.moveaxis(outputs.reshape(len(x), samples, *outputs.shape[1:]), 1, 0)


def ensemble_draws(model, x, samples=SAMPLES, **arguments):
    outputs = ensemble(model, samples, dropout=True, **arguments)(x)
    return np.moveaxis(np.asarray(outputs), 1, 0)


@pytest.mark.parametrize("name", NOISES)
def test_equals_training(name):
    """Means and variances of samples, for each stock layer."""
    model, x = plain(name)
    draws = ensemble_draws(model, x)
    assert_same_moments(draws, training_draws(model, x))
    assert (draws.std(axis=0) > 0.01).all()
    # Each row of each sample has noise of its own
    same = np.repeat(x[:1], 2, axis=0)
    rows = ensemble_draws(model, same, 200)
    assert not np.array_equal(rows[:, 0], rows[:, 1])
    assert len(np.unique(rows[:, 0, 0])) > 3


@pytest.mark.parametrize("name", ["dropout", "gaussian_noise"])
def test_in_chunks(name):
    """As all at once."""
    model, x = plain(name)
    predictor = predictive(model, SAMPLES, None, chunk_size=500, dropout=True)
    outputs = predictor(x)
    expected = training_draws(model, x)
    error = np.abs(np.asarray(outputs["mean"]) - expected.mean(axis=0))
    stddev = expected.std(axis=0)
    # 4 comparisons of two estimates: |z| < 6, a false alarm in 10⁸
    assert (error < 6 * stddev * np.sqrt(2 / SAMPLES)).all()
    np.testing.assert_allclose(outputs["variance"], stddev**2, rtol=0.3)


def test_what_training_does_not_change():
    """Without `dropout` nothing is random; the layers' own noise goes on as it was."""
    model, x = plain()
    dropout = [each for each in model.layers if isinstance(each, layers.Dropout)]
    states = [np.array(each.seed_generator.state) for each in dropout]
    nodes = [len(each._inbound_nodes) for each in model.layers]
    predictor = ensemble(model, 3, dropout=True, seed=4)
    first = np.asarray(predictor(x))
    assert [len(each._inbound_nodes) for each in model.layers] == nodes
    for state, each in zip(states, dropout, strict=True):
        np.testing.assert_array_equal(each.seed_generator.state, state)
    np.testing.assert_array_equal(ensemble(model, 3, dropout=True, seed=4)(x), first)
    assert not np.array_equal(predictor(x), first)
    for make in (ensemble, kv.transforms.predictive, propagate_moments):
        with pytest.raises(ValueError, match=r"variance layers.*Received: "):
            make(model)


def test_a_seed_repeats_it():
    """Also of dropout that was given no seed, which PyTorch draws from its own."""
    model, x = plain(last="softmax")

    def predicted(seed):
        options = {"samples": 3, "dropout": True, "seed": seed, "verbose": 0}
        return kv.mc_predict(model, x, **options).mean

    np.testing.assert_array_equal(predicted(1), predicted(1))
    assert not np.array_equal(predicted(1), predicted(2))


def test_mc_predict():
    model, x = plain(last="softmax")
    prediction = kv.mc_predict(
        model, x, SAMPLES, dropout=True, return_samples=True, verbose=0
    )
    expected = training_draws(model, x)
    assert_same_moments(np.moveaxis(prediction.samples, 1, 0), expected)
    np.testing.assert_allclose(prediction.mean, prediction.samples.mean(axis=1), 1e-4)
    np.testing.assert_allclose(
        prediction.variance, prediction.samples.var(axis=1), rtol=1e-3
    )
    assert (prediction.mutual_information > 0).all()
    with pytest.raises(ValueError, match=r"variance layers.*Received: "):
        kv.mc_predict(model, x, verbose=0)
    nothing = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="Received: "):
        kv.mc_predict(nothing, x[:, :4], dropout=True, verbose=0)


def with_batch_norm(**call):
    """A model, and one whose dropout alone is in training mode."""
    x = keras.Input((6,))
    dense, norm, last = layers.Dense(5), layers.BatchNormalization(), layers.Dense(2)
    dropout = layers.Dropout(0.5)
    model = keras.Model(x, last(dropout(norm(dense(x)))))
    for weight in norm.weights:
        weight.assign(np.linspace(0.5, 1.5, 5))
    return model, keras.Model(x, last(dropout(norm(dense(x)), training=True)))


def test_batch_norm_is_as_in_inference(rng):
    """It reads its moving statistics, and leaves them."""
    model, reference = with_batch_norm()
    x = 3 + rng.normal(size=(ROWS, 6)).astype("float32")
    norm = next(x for x in model.layers if isinstance(x, layers.BatchNormalization))
    before = [np.array(weight) for weight in norm.weights]
    draws = ensemble_draws(model, x)
    many = np.asarray(reference(np.repeat(x, SAMPLES, axis=0)))
    assert_same_moments(draws, np.moveaxis(many.reshape(ROWS, SAMPLES, 2), 1, 0))
    kv.mc_predict(model, x, 3, dropout=True, verbose=0)
    for old, weight in zip(before, norm.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


def test_batch_norm_after_dropout(rng):
    x = keras.Input((6,))
    norm = layers.BatchNormalization()
    model = keras.Model(x, norm(layers.Dropout(0.5)(x)))
    norm.moving_mean.assign(np.full(6, 2.0))
    norm.moving_variance.assign(np.full(6, 0.25))
    data = rng.normal(size=(ROWS, 6)).astype("float32")
    draws = ensemble_draws(model, data, 50)
    values = np.sqrt(0.25 + norm.epsilon) * draws + 2.0
    kept = np.isclose(values, 2 * data, atol=1e-4)
    assert np.logical_or(kept, np.isclose(values, 0, atol=1e-4)).all()
    kv.mc_predict(model, data, 3, dropout=True, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean, np.full(6, 2.0))
    np.testing.assert_array_equal(norm.moving_variance, np.full(6, 0.25))


def test_dropout_that_is_always_on():
    """Called with training=True before the first variance layer: other masks for
    each sample and row, without `dropout`."""
    x = keras.Input((20,))
    always = layers.Dropout(0.5)(x, training=True)
    once = layers.Dropout(0.5)(always)  # off in inference
    model = keras.Model(x, kv.VarianceDense(1, posterior=awkward.OFF)(once))
    data = np.ones((2, 20), "float32")
    outputs = np.asarray(ensemble(model, 50)(data))
    assert len(np.unique(outputs)) > 90
    statistics = predictive(model, 50, likelihood=None)(data)
    assert (np.asarray(statistics["variance"]) > 0).all()
    draws = np.moveaxis(np.asarray(ensemble(model, SAMPLES)(data)), 1, 0)
    many = np.asarray(model(np.repeat(data, SAMPLES, axis=0)))
    assert_same_moments(draws, np.moveaxis(many.reshape(2, SAMPLES, 1), 1, 0))


def test_dropout_beside_variance_layers(rng):
    """Both are random with `dropout`, the variance layer alone without."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dropout(0.5),
            kv.VarianceDense(4, "relu", posterior="additive"),
            layers.Dropout(0.5),
            kv.VarianceDense(2, posterior="additive"),
        ]
    )
    x = rng.normal(size=(ROWS, 6)).astype("float32")
    for layer in kv.layers.variance_layers(model):
        layer.phi.assign(np.full(layer.phi.shape, -2.0))
    draws = ensemble_draws(model, x)
    assert_same_moments(draws, training_draws(model, x))
    off = np.moveaxis(np.asarray(ensemble(model, SAMPLES)(x)), 1, 0)
    assert (off.var(axis=0) < draws.var(axis=0)).all()


def test_nested(rng):
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "relu"), layers.Dropout(0.5)]
    )
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2)(inner(x)))
    data = rng.normal(size=(ROWS, 6)).astype("float32")
    assert_same_moments(ensemble_draws(model, data), training_draws(model, data))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dropout, self.dense = layers.Dropout(0.5), layers.Dense(2)

    def call(self, inputs, training=None):
        return self.dense(self.dropout(inputs, training=training))


def wrapped():
    inner = layers.TimeDistributed(layers.Dropout(0.5))
    return keras.Sequential([keras.Input((6,)), layers.Reshape((3, 2)), inner])


def subclassed():
    model = Subclassed()
    model(np.ones((1, 6)))
    return model


@pytest.mark.parametrize("make", [wrapped, subclassed])
def test_dropout_that_cannot_be_seen(make):
    """Random or refused, never off in silence."""
    model, x = make(), np.ones((2, 6), "float32")
    try:
        outputs = np.asarray(ensemble(model, 50, dropout=True)(x))
    except ValueError as error:
        assert "Received: " in str(error).splitlines()[-1]
    else:
        assert (outputs.std(axis=1) > 0.1).all()


@pytest.mark.parametrize("name", NOISES)
def test_moments(name):
    """As of draws, or refused: no noise is left out in silence."""
    make, shape = NOISES[name]
    model = keras.Sequential([keras.Input(shape), make(), layers.Flatten()])
    x = np.random.default_rng(1).normal(size=(ROWS, *shape)).astype("float32")
    try:
        result = propagate_moments(model, None, dropout=True, statistics=True)
    except ValueError as error:
        assert "Received: " in str(error).splitlines()[-1]
        assert name in ("alpha_dropout", "gaussian_noise")
        return
    outputs = result(x)
    draws = training_draws(model, x)
    spread = draws.std(axis=0)
    # 12 comparisons: |z| < 6, a false alarm in 10⁷
    error = np.abs(draws.mean(axis=0) - np.asarray(outputs["mean"]))
    assert (error < 6 * spread / np.sqrt(SAMPLES)).all()
    variance = np.asarray(outputs["variance"])
    fourth = ((draws - draws.mean(axis=0)) ** 4).mean(axis=0)
    error = np.abs(spread**2 - variance)
    assert (error < 6 * np.sqrt((fourth - spread**4) / SAMPLES) + 1e-6).all()


@pytest.mark.parametrize("name", NOISES)
def test_integrate_last(name):
    """The last noise is integrated where its moments are known, else drawn or
    refused: the total variance is that of the samples."""
    make, shape = NOISES[name]
    x = keras.Input(shape)
    h = layers.Dropout(0.3)(layers.Dense(3, "tanh")(layers.Flatten()(make()(x))))
    model = keras.Model(x, layers.Dense(2)(h))
    data = np.random.default_rng(1).normal(size=(ROWS, *shape)).astype("float32")
    total = training_draws(model, data)
    options = {"likelihood": None, "chunk_size": SAMPLES, "dropout": True}
    outputs = predictive(model, SAMPLES, integrate_last=True, **options)(data)
    error = np.abs(np.asarray(outputs["mean"]) - total.mean(axis=0))
    assert (error < 6 * total.std(axis=0) * np.sqrt(2 / SAMPLES)).all()
    np.testing.assert_allclose(outputs["variance"], total.var(axis=0), rtol=0.3)


def test_integrate_last_of_one_layer(rng):
    """All is integrated: no sample is needed."""
    model = keras.Sequential([keras.Input((6,)), layers.Dropout(0.5), layers.Dense(2)])
    x = rng.normal(size=(ROWS, 6)).astype("float32")
    outputs = predictive(model, 2, None, dropout=True, integrate_last=True)(x)
    exact = np.square(x) @ np.square(np.asarray(model.layers[-1].kernel))
    np.testing.assert_allclose(outputs["variance"], exact, rtol=1e-4)
    np.testing.assert_allclose(outputs["mean"], model(x), rtol=1e-4, atol=1e-5)
