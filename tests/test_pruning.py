import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms import draw
from tests.layers import cases
from tests.transforms.models import new


def zeros(layer):
    """Where mean and variance of the weights are 0."""
    scale = np.asarray(layer.kernel_scale)
    mean = 0 if layer.kernel_mean is None else np.asarray(layer.kernel_mean)
    return (scale == 0) & (mean == 0)


def one_layer(rng, posterior="zero_mean", units=10):
    layer = kv.VarianceDense(units, posterior=posterior)
    model = keras.Sequential([keras.Input((8,)), layer])
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return model, layer


@pytest.mark.parametrize("posterior", cases.POSTERIORS)
@pytest.mark.parametrize("name", cases.CASES)
def test_the_smallest_go(name, posterior, rng):
    """Standard deviations, in every layer and posterior."""
    layer = cases.build(cases.CASES[name], rng, posterior=posterior)
    model = keras.Sequential([keras.Input(cases.CASES[name].input_shape), layer])
    scale = np.abs(layer.kernel_scale)
    report = kv.prune(model, 0.5)
    cut = np.sort(scale, axis=None)[round(scale.size / 2)]
    assert np.array_equal(zeros(layer), scale < cut)
    assert report.layers[0] == (layer.name, scale.size, zeros(layer).sum())
    # The layer's outputs know nothing of them
    x = cases.inputs(cases.CASES[name], rng)
    assert np.isfinite(layer(x)).all()


def test_by_snr_and_log_alpha(rng):
    model, layer = one_layer(rng, "additive")
    mean, scale = np.asarray(layer.kernel_mean), np.asarray(layer.kernel_scale)
    kv.prune(model, threshold=0.3, by="snr")
    assert np.array_equal(zeros(layer), np.abs(mean) / scale < 0.3)
    model, layer = one_layer(rng, "weight_alpha")
    layer.phi.assign(3 * rng.normal(size=layer.phi.shape))
    above = np.asarray(layer.phi) > 3
    kv.prune(model, by="log_alpha")  # threshold 3
    assert np.array_equal(zeros(layer), above)
    assert above.any()


def test_units(rng):
    model, layer = one_layer(rng)
    scale = np.abs(layer.kernel_scale).mean(axis=0)
    kv.prune(model, 0.7, granularity="unit")
    columns = zeros(layer).all(axis=0)
    assert np.array_equal(columns, scale < np.sort(scale)[7])
    assert zeros(layer).mean() == pytest.approx(0.7)


def test_units_of_a_convolution(rng):
    layer = cases.build(cases.CASES["conv2d_transpose"], rng)
    shape = cases.CASES["conv2d_transpose"].input_shape
    model = keras.Sequential([keras.Input(shape), layer])
    kv.prune(model, threshold=1e9, granularity="unit", layers=[layer.name])
    assert zeros(layer).all()
    kept = cases.build(cases.CASES["conv2d_transpose"], rng)
    kept.keep(np.arange(3)[:, None] == 1)  # the kernel is (h, w, filters, channels)
    assert np.array_equal(zeros(kept).all(axis=(0, 1, 3)), [True, False, True])


@pytest.mark.parametrize("posterior", cases.POSTERIORS)
def test_pruned_weights_stay_zero(posterior, rng, tmp_path):
    """In a model that was traced and has momentum, after reloading, in a clone."""
    model, layer = one_layer(rng, posterior)
    x, y = rng.normal(size=(64, 8)), rng.normal(size=(64, 10))
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    kv.prune(model, 0.8)
    before, pruned = np.array(layer.kernel), zeros(layer)
    for other in (model, "reloaded", "clone"):
        if other == "reloaded":
            model.save(tmp_path / "m.keras")
            other = keras.models.load_model(tmp_path / "m.keras")
        elif other == "clone":
            other = keras.models.clone_model(model)
            other.set_weights(model.get_weights())
            other.compile("adam", "mse")
        other.fit(x, y, epochs=2, verbose=0)
        layer = other.layers[-1]
        assert np.array_equal(zeros(layer), pruned)
        assert not np.asarray(layer.kernel)[pruned].any()
        assert (np.asarray(layer.kernel) != before)[~pruned].all()
        assert kv.sparsity(other) == pytest.approx(0.8)
    assert not np.asarray(draw(other).layers[-1].kernel)[pruned].any()


def test_pruning_again_counts_what_is_pruned(rng):
    model, layer = one_layer(rng)
    kv.prune(model, 0.5)
    pruned = zeros(layer)
    assert kv.prune(model, 0.2).total.zeros == pruned.sum()
    kv.prune(model, 0.75)
    assert zeros(layer).sum() == 60
    assert zeros(layer)[pruned].all()


def test_the_constraint_of_the_user_stays(rng):
    layer = kv.VarianceDense(10, kernel_constraint="non_neg", kernel_initializer="ones")
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    kv.prune(model, 0.5)
    model.fit(rng.normal(size=(64, 8)), rng.normal(size=(64, 10)), verbose=0)
    assert (np.asarray(layer.kernel) >= 0).all()
    assert kv.sparsity(model) >= 0.5


def test_report(rng):
    model, _ = new("stacked", rng)
    text = str(kv.prune(model, 0.5, layers=[model.layers[0].name]))
    assert len(text.splitlines()) == 4  # header, two layers, both together
    assert "50.00 %" in text
    assert kv.sparsity(model) == pytest.approx(10 / 35)


def test_sparsity_curve(rng):
    """Leaves the model alone; accuracy falls when there is nothing left."""
    model, layer = one_layer(rng, "additive", units=4)
    layer.phi.assign(layer.phi - 3)
    x = 3 * rng.normal(size=(200, 8)).astype("float32")
    y = np.asarray(
        kv.mc_predict(model, x, 200, likelihood="categorical", verbose=0).mean
    )
    before = np.array(layer.kernel)
    curve = kv.sparsity_curve(
        model, x, y.argmax(axis=-1), (0.95, 0.5, 0), likelihood="categorical", seed=0
    )
    assert np.array_equal(layer.kernel, before)
    assert not layer.pruned
    assert [point.sparsity for point in curve] == [0, 0.5, pytest.approx(30 / 32)]
    assert curve[0].accuracy > curve[-1].accuracy
    assert curve[0].nll < curve[-1].nll


def test_sparsity_curve_of_numbers(rng):
    """RMSE in the place of accuracy, and the NLL of the mixture."""
    model, layer = one_layer(rng, "additive", units=2)
    layer.phi.assign(layer.phi - 3)
    x = rng.normal(size=(100, 8)).astype("float32")
    options = {"likelihood": "gaussian", "samples": 50, "seed": 0, "batch_size": 32}
    prediction = kv.mc_predict(model, x, verbose=0, **options)
    y = prediction.mean + rng.normal(size=prediction.mean.shape) * 0.1
    first, last = kv.sparsity_curve(model, x, y[:, 0], (0, 0.95), **options)
    assert first.accuracy is last.accuracy is None
    rmse = np.sqrt(np.mean((y - prediction.mean) ** 2))
    assert first.rmse == pytest.approx(rmse, rel=1e-4) and first.rmse < last.rmse
    nll = -np.mean(kv.log_likelihood(model, x, y, verbose=0, **options))
    assert first.nll == pytest.approx(nll, rel=1e-4)
    with pytest.raises(ValueError, match=r"`points`.*accuracy.*Received: points="):
        kv.plots.sparsity_curve([first, last])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, r"one of the arguments `sparsity` and `threshold`.*sparsity=None"),
        ({"sparsity": 0.5, "threshold": 1.0}, r"one of.*Received: sparsity=0.5"),
        ({"sparsity": 1.0}, r"`sparsity` must be.*Received: sparsity=1.0"),
        ({"sparsity": -0.1}, r"`sparsity`.*Received: sparsity=-0.1"),
        ({"sparsity": "half"}, r"`sparsity`.*Received: sparsity='half'"),
        ({"threshold": "big"}, r"`threshold`.*Received: threshold='big'"),
        ({"sparsity": 0.5, "by": "size"}, r"`by`.*scale.*Received: by='size'"),
        ({"sparsity": 0.5, "granularity": "row"}, r"granularity='row'"),
        ({"sparsity": 0.5, "layers": ["no"]}, r"`layers`.*Received: layers=\['no'\]"),
        ({"sparsity": 0.5, "layers": []}, r"`layers`.*Received: layers=\[\]"),
        ({"sparsity": 0.5, "by": "snr"}, r"mean zero.*'scale'.*Received: by='snr'"),
        ({"by": "log_alpha"}, r"mean zero.*Received: by='log_alpha'"),
    ],
)
def test_bad_input(arguments, message, rng):
    model, layer = one_layer(rng)
    with pytest.raises(ValueError, match=message):
        kv.prune(model, **arguments)
    assert not layer.pruned and not zeros(layer).any()


def test_pruned_weights_count(rng):
    """Towards the sparsity, whatever the next criterion says of them."""
    layer = kv.VarianceDense(10, posterior="weight_alpha")
    model = keras.Sequential([keras.Input((8,)), layer])
    layer.phi.assign(rng.normal(size=layer.phi.shape))
    kv.prune(model, 0.5)
    before = zeros(layer)
    kv.prune(model, 0.5, by="log_alpha")
    np.testing.assert_array_equal(zeros(layer), before)
    assert kv.prune(model, 0.75, by="log_alpha").total.sparsity == 0.75


def test_nothing_is_half_pruned(rng):
    """One layer fits the criterion, the next does not."""
    first = kv.VarianceDense(5, posterior="additive")
    model = keras.Sequential([keras.Input((8,)), first, kv.VarianceDense(2)])
    with pytest.raises(ValueError, match="mean zero"):
        kv.prune(model, 0.5, by="snr")
    assert not first.pruned
    with pytest.raises(ValueError, match="variance layers"):
        kv.prune(keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]), 0.5)


@pytest.mark.parametrize(
    "posterior, granularity", [("layer_alpha", "unit"), ("neuron_alpha", "weight")]
)
def test_one_alpha_for_several(posterior, granularity, rng):
    model, _ = one_layer(rng, posterior)
    with pytest.raises(ValueError, match=f"one α for several {granularity}s"):
        kv.prune(model, 0.5, by="log_alpha", granularity=granularity)
    kv.prune(model, by="log_alpha", granularity=granularity)  # a threshold has sense


@pytest.mark.parametrize("arguments", [{"threshold": 0.1}, {"sparsity": 0.5}])
@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_nan_is_not_small(arguments, granularity, rng):
    model, layer = one_layer(rng)
    kernel = np.ones(layer.kernel.shape)
    kernel[2, 3] = np.nan
    layer.kernel.assign(kernel)
    with pytest.raises(ValueError, match=r"weights that are NaN.*Received: by='scale'"):
        kv.prune(model, granularity=granularity, **arguments)
    np.testing.assert_array_equal(layer.kernel, kernel)
    assert not layer.pruned


def test_one_of_two_layers_of_a_name(rng):
    """A name that two layers have is refused; their paths are not."""
    inner = [
        keras.Sequential([kv.VarianceDense(3, name="hidden")], name=name)
        for name in ("a", "b")
    ]
    model = keras.Sequential([keras.Input((8,)), *inner])
    with pytest.raises(ValueError, match=r"\['a/hidden', 'b/hidden'\].*\['hidden'\]$"):
        kv.prune(model, 0.5, layers=["hidden"])
    assert kv.sparsity(model) == 0
    kv.prune(model, 0.5, layers=["b/hidden"])
    assert [zeros(each.layers[0]).any() for each in inner] == [False, True]
