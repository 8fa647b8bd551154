"""Temperature scaling: the fit against SciPy and by simulation, and its model."""

import keras
import numpy as np
import pytest
from scipy import optimize, special

import keras_variance as kv
from keras_variance.calibration import temperature_scaling
from keras_variance.calibration.temperature import fit, minimize, nll

SAMPLES = 5
AVERAGES = pytest.mark.parametrize("averaged", ["probabilities", "logits"])


def simulated(rng, examples, factor, samples=SAMPLES, classes=4):
    """Labels, and logits of samples that are `factor` times what they should be."""
    center = rng.normal(size=(examples, 1, classes), scale=1.5)
    logits = center + rng.normal(size=(examples, samples, classes), scale=0.5)
    p = special.softmax(logits, axis=-1).mean(axis=1)
    labels = np.array([rng.choice(classes, p=each) for each in p])
    return factor * logits, labels


def reference(logits, labels, temperature, averaged):
    if averaged == "logits":
        logits = logits.mean(axis=1, keepdims=True)
    p = special.softmax(logits / temperature, axis=-1).mean(axis=1)
    return -np.log(p[np.arange(len(p)), labels]).mean()


@AVERAGES
@pytest.mark.parametrize("factor", [0.3, 1, 4])
def test_fit_is_scipys(averaged, factor, rng):
    logits, labels = simulated(rng, 300, factor)
    temperature = fit(logits, labels, averaged)
    best = optimize.minimize_scalar(
        lambda x: reference(logits, labels, np.exp(x), averaged), bracket=(-1, 1)
    )
    assert temperature == pytest.approx(np.exp(best.x), rel=1e-3)
    value = nll(logits, labels, temperature, averaged)
    assert value == pytest.approx(reference(logits, labels, temperature, averaged))
    assert value <= reference(logits, labels, 1, averaged)


def test_the_smallest_of_several_minima():
    """On the grid, though a smaller one is elsewhere than the middle."""
    value = minimize(lambda x: np.cos(3 * x) + 0.1 * (x - 1.1) ** 2, -4, 4)
    best = optimize.minimize_scalar(
        lambda x: np.cos(3 * x) + 0.1 * (x - 1.1) ** 2, bounds=(0.5, 1.6)
    )
    assert value == pytest.approx(best.x, abs=1e-3)


@AVERAGES
@pytest.mark.parametrize("factor", [0.4, 1, 3])
def test_held_out_likelihood_is_not_worse_on_average(averaged, factor, rng):
    """Over splits: better when miscalibrated, else worse by about 1/(2 n) at most."""
    logits, labels = simulated(rng, 2000, factor)
    gains = []
    for _ in range(40):
        order = rng.permutation(2000)
        own, rest = order[:200], order[200:]
        temperature = fit(logits[own], labels[own], averaged)
        before = nll(logits[own], labels[own], 1, averaged)
        assert nll(logits[own], labels[own], temperature, averaged) <= before + 1e-12
        before = nll(logits[rest], labels[rest], 1, averaged)
        gains.append(before - nll(logits[rest], labels[rest], temperature, averaged))
    assert np.mean(gains) > (-1 / 200 if factor == 1 else 0.01)


def new_model(*last, units=3):
    layers = [kv.VarianceDense(8, "relu", posterior="layer_alpha", seed=0), *last]
    last = [] if last else [keras.layers.Dense(units)]
    return keras.Sequential([keras.Input((4,)), *layers, *last])


@pytest.fixture
def x(rng):
    return 2 * rng.normal(size=(120, 4)).astype("float32")


def labels_of(model, x, rng):
    """Integer labels that the model predicts better than chance, some of them wrong."""
    z = np.asarray(kv.transforms.ensemble(model, SAMPLES)(x)).mean(axis=1)
    noise = rng.gumbel(size=z.shape, scale=z.std() / 3)
    return (z + noise - z.mean(axis=0)).argmax(axis=-1)


def binary_labels_of(model, x, rng):
    z = np.asarray(kv.transforms.ensemble(model, SAMPLES)(x)).mean(axis=1)
    return (z > np.median(z, axis=0)) ^ (rng.uniform(size=z.shape) < 0.2)


MODELS = {
    "logits": lambda: (new_model(), "categorical"),
    "softmax": lambda: (new_model(keras.layers.Dense(3, "softmax")), "auto"),
    "sigmoid": lambda: (new_model(keras.layers.Dense(1, "sigmoid")), "auto"),
    "binary": lambda: (new_model(units=2), "bernoulli"),
}


def temperature_of(model):
    (found,) = (x for x in model.variables if x.path.endswith("/temperature"))
    return found


@AVERAGES
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_averages_of_scaled_samples(name, averaged, x, rng):
    """The model draws what `ensemble` draws under the same seed."""
    model, likelihood = MODELS[name]()
    binary = name in ("sigmoid", "binary")
    y = (binary_labels_of if binary else labels_of)(model, x, rng)
    options = {"likelihood": likelihood, "averaged": averaged, "seed": 1}
    calibrated = temperature_scaling(model, x, y, SAMPLES, **options)
    z = np.asarray(kv.transforms.ensemble(model, SAMPLES, seed=1)(x), "float64")
    if name in ("softmax", "sigmoid"):
        z = special.logit(z) if binary else np.log(z)
    z = z / float(temperature_of(calibrated))
    z = z.mean(axis=1, keepdims=True) if averaged == "logits" else z
    p = special.expit(z) if binary else special.softmax(z, axis=-1)
    first = np.asarray(calibrated(x))
    np.testing.assert_allclose(first, p.mean(axis=1), rtol=1e-3)
    assert np.abs(np.asarray(calibrated(x)) - first).max() > 1e-4  # it samples


def test_fitted_on_the_samples_of_the_seed(x, rng):
    model = new_model()
    y = labels_of(model, x, rng)
    options = {"likelihood": "categorical", "seed": 1}
    first = temperature_scaling(model, x, y, SAMPLES, **options)
    predictor = kv.transforms.ensemble(model, SAMPLES)
    with kv.random.seeded(predictor, 1):
        logits = predictor.predict(x, verbose=0)
    expected = fit(logits, y)
    for each in (first, temperature_scaling(model, x, y, SAMPLES, **options)):
        assert float(temperature_of(each)) == pytest.approx(expected, rel=1e-3)


@AVERAGES
def test_reloaded(averaged, x, rng, tmp_path):
    model = new_model()
    y = labels_of(model, x, rng)
    options = {"likelihood": "categorical", "averaged": averaged, "seed": 1}
    calibrated = temperature_scaling(model, x, y, SAMPLES, **options)
    calibrated.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(temperature_of(loaded)) == float(temperature_of(calibrated)) != 1
    np.testing.assert_allclose(loaded(x), calibrated(x), rtol=1e-4, atol=1e-6)


def test_shares_weights_and_losses(x, rng):
    posterior = {"posterior": "layer_alpha", "prior": "ard", "train_size": 120}
    layer = kv.VarianceDense(3, **posterior)
    model = keras.Sequential([keras.Input((4,)), layer])
    y = labels_of(model, x, rng)
    model(x)
    calibrated = temperature_scaling(model, x, y, SAMPLES, likelihood="categorical")
    calibrated(x)
    assert len(calibrated.losses) == 1
    np.testing.assert_allclose(calibrated.losses[0], model.losses[0], rtol=1e-5)
    variables = [id(each) for each in calibrated.trainable_variables]
    assert len(variables) == len(model.trainable_variables)
    assert id(temperature_of(calibrated)) not in variables


def test_every_pixel(rng):
    """Labels of several axes count alike."""
    layer = kv.VarianceConv2D(3, 1, posterior="layer_alpha")
    model = keras.Sequential([keras.Input((2, 2, 4)), layer])
    x = rng.normal(size=(40, 2, 2, 4))
    y = labels_of(model, x, rng)
    options = {"likelihood": "categorical", "seed": 1}
    calibrated = temperature_scaling(model, x, y, SAMPLES, **options)
    predictor = kv.transforms.ensemble(model, SAMPLES)
    with kv.random.seeded(predictor, 1):
        logits = predictor.predict(x, verbose=0)
    rows = np.moveaxis(logits, 1, 3).reshape(-1, SAMPLES, 3)
    expected = fit(rows, y.ravel())
    assert float(temperature_of(calibrated)) == pytest.approx(expected, rel=1e-3)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = kv.VarianceDense(3)

    def call(self, inputs):
        return self.layer(inputs)


def two_outputs():
    x = keras.Input((4,))
    return keras.Model(x, [kv.VarianceDense(3)(x), keras.layers.Dense(3)(x)])


def test_bad_data(x, rng):
    model = new_model()
    y = labels_of(model, x, rng)
    before = [np.array(each) for each in model.variables]

    def scale(y, x=x, likelihood="categorical", **options):
        return temperature_scaling(
            model, x, y, SAMPLES, likelihood=likelihood, **options
        )

    with pytest.raises(ValueError, match=r"`y` must be labels of two classes"):
        scale(np.ones(120))
    nan = np.where(y == 0, np.nan, y)
    for bad in (nan, y + 1, y[:-1], np.ones((120, 2))):
        with pytest.raises(ValueError, match=r"Received: y"):
            scale(bad)
    with pytest.raises(ValueError, match=r"Argument `averaged` .*Received"):
        scale(y, averaged="both")
    with pytest.raises(ValueError, match=r"Argument `likelihood` .*Received"):
        scale(y, likelihood=None)
    with pytest.raises(ValueError, match=r"Argument `x` must fit"):
        scale(y, x[:, :3])
    for wrong in (Subclassed(), two_outputs()):
        with pytest.raises(ValueError, match=r"Argument `model` must be"):
            temperature_scaling(wrong, x, y)
    for each, value in zip(model.variables, before, strict=True):
        if "seed_generator" not in each.path:
            np.testing.assert_array_equal(each, value)


def test_a_temperature_that_diverges(rng):
    """All right: T → 0; worse than chance: T → ∞."""
    logits, labels = rng.normal(size=(50, SAMPLES, 3)), rng.integers(0, 3, 50)
    right = np.broadcast_to(5 * np.eye(3)[labels][:, None], logits.shape)
    for bad in (right, -right):
        with pytest.raises(ValueError, match=r"a best temperature.* Received: "):
            fit(bad, labels)
    with pytest.raises(ValueError, match=r"Argument `model` must be"):
        fit(np.full_like(logits, np.nan), labels)
