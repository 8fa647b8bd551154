import gc
import itertools
import weakref

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.inference.predict import KEPT
from keras_variance.transforms.predictives import Predictive, predictive
from tests import backends
from tests.transforms.models import ALL, new

SAMPLES = [1, 7, 20, 45]  # of a part of a chunk, a chunk, and several


def entropy(p):
    return -np.sum(p * np.log(p), axis=-1)


@pytest.mark.parametrize("samples", SAMPLES)
def test_streaming_equals_all_at_once(samples, rng, monkeypatch):
    """With the same noise: chunks of 7, each with a seed of its own."""
    model, x = new("stacked", rng)
    options = {"likelihood": "categorical", "chunk_size": 7, "seed": 1}
    streamed = predictive(model, samples, **options)(x)
    every = predictive(model, samples, return_samples=True, **options)(x)
    p = np.asarray(every["samples"], "float64")
    assert p.shape == (3, samples, 3)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-5)
    for statistics in (streamed, every):
        np.testing.assert_allclose(statistics["mean"], p.mean(axis=1), rtol=1e-5)
        variance = p.var(axis=1)
        np.testing.assert_allclose(
            statistics["variance"], variance, rtol=1e-3, atol=1e-7
        )
        expected = entropy(p).mean(axis=1)
        np.testing.assert_allclose(statistics["expected_entropy"], expected, rtol=1e-4)


@pytest.mark.skipif(
    backends.BACKEND == "torch", reason="PyTorch calls `call` each time"
)
def test_called_again_traces_nothing(rng, monkeypatch):
    model, x = new("stacked", rng)
    traces = []
    call = Predictive.call

    def counted(self, *args, **kwargs):
        traces.append(1)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(Predictive, "call", counted)
    results = [kv.mc_predict(model, x, 20, verbose=0)]
    count, nodes = len(traces), [len(layer._inbound_nodes) for layer in model.layers]
    results += [kv.mc_predict(model, x, 20, verbose=0) for _ in range(3)]
    assert len(traces) == count <= 2
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes == [1, 1, 1]
    means = [result.mean for result in results]
    assert not any(np.any(a == b) for a, b in itertools.combinations(means, 2))
    assert len(model.variables) == len(model.weights) + 2  # its layers' generators


def test_predictors_are_kept_for_a_few_arguments(rng):
    model, x = new("sequential", rng)
    for samples in range(1, 8):
        assert kv.mc_predict(model, x, samples, verbose=0).mean.shape == (3, 3)
    assert len(vars(model)["__keras_variance__"]) == KEPT
    model.add(keras.layers.Dense(2))
    assert kv.mc_predict(model, x, 7, verbose=0).mean.shape == (3, 2)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("predict", [kv.mc_predict, kv.moment_predict])
def test_kept_predictors_are_not_saved(predict, rng, tmp_path):
    """Neither written to a file, nor looked for in one."""
    model, x = new("stacked", rng)
    path = tmp_path / "m.weights.h5"
    before = [np.array(weight) for weight in model.weights]
    predict(model, x, likelihood=None, verbose=0)
    model.save_weights(path)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    model.load_weights(path)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_prediction_from_returned_samples(rng):
    model, x = new("convolutional", rng)
    result = kv.mc_predict(
        model, x, 50, likelihood="categorical", return_samples=True, verbose=0
    )
    p = result.samples.astype("float64")
    assert p.shape == (3, 50, 3)
    np.testing.assert_allclose(result.mean, p.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(result.variance, p.var(axis=1), rtol=1e-3, atol=1e-7)
    total = entropy(p.mean(axis=1))
    np.testing.assert_allclose(result.entropy, total, rtol=1e-4)
    information = total - entropy(p).mean(axis=1)
    np.testing.assert_allclose(result.mutual_information, information, atol=1e-5)
    assert np.all(result.mutual_information >= 0)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"multiple"}))
def test_every_model(name, rng):
    model, x = new(name, rng)
    result = kv.mc_predict(model, x, 45, verbose=0)
    outputs = np.asarray(model(x))
    assert result.mean.shape == result.variance.shape == outputs.shape
    assert result.entropy is None and result.mutual_information is None
    assert result.samples is None


def test_multiple_outputs(rng):
    model, x = new("multiple", rng)
    result = kv.mc_predict(model, x, 45, verbose=0)
    assert set(result) == {"random", "fixed"}
    np.testing.assert_allclose(result["fixed"].variance, 0, atol=1e-10)
    assert np.all(result["random"].variance > 0)


def test_mean_and_variance_of_a_linear_layer(rng):
    """Against the exact moments of the outputs."""
    layer = kv.VarianceDense(3, posterior="layer_alpha")
    model = keras.Sequential([keras.Input((4,)), layer])
    x = rng.normal(size=(2, 4)).astype("float32")
    result = kv.mc_predict(model, x, 20_000, verbose=0)
    variance = np.square(x) @ np.square(layer.kernel_scale)
    np.testing.assert_allclose(result.variance, variance, rtol=0.06)  # 6 errors
    error = (result.mean - x @ np.asarray(layer.kernel)) / np.sqrt(variance / 20_000)
    assert np.abs(error).max() < 6


def test_probabilities_are_recognized(rng):
    model, x = new("sequential", rng)
    model.add(keras.layers.Softmax())
    result = kv.mc_predict(model, x, 20, verbose=0)
    assert np.all((result.entropy > 0) & (result.entropy <= np.log(3) + 1e-6))


def test_a_scalar_for_each_row(rng):
    model = keras.Sequential(
        [keras.Input((4,)), kv.VarianceDense(1), keras.layers.Reshape(())]
    )
    result = kv.mc_predict(model, np.ones((2, 4)), 45, verbose=0)
    assert result.mean.shape == result.variance.shape == (2,)
    assert result.entropy is None


def test_binary_logits(rng):
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(1)])
    options = {"likelihood": "bernoulli", "verbose": 0}
    result = kv.mc_predict(model, np.ones((2, 4)), 20, **options)
    p = np.concatenate([result.mean, 1 - result.mean], axis=-1)
    np.testing.assert_allclose(result.entropy, entropy(p), rtol=1e-5)


def test_seed_repeats_and_leaves_the_model_alone(rng):
    model, x = new("stacked", rng)
    states = [np.asarray(layer.seed_generator.state) for layer in model.layers[::2]]
    first, second = (kv.mc_predict(model, x, 45, seed=3, verbose=0) for _ in range(2))
    np.testing.assert_array_equal(first.mean, second.mean)
    for layer, state in zip(model.layers[::2], states, strict=True):
        np.testing.assert_array_equal(layer.seed_generator.state, state)
    other = kv.mc_predict(model, x, 45, seed=4, verbose=0)
    assert not np.any(first.mean == other.mean)


class Rows(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index : index + 1]


@pytest.mark.parametrize(
    "kind",
    ["tensor", "PyDataset", pytest.param("tf.data", marks=backends.tensorflow_only)],
)
def test_kinds_of_data(kind, rng):
    model, x = new("sequential", rng)
    if kind == "tf.data":
        from tensorflow.data import Dataset

        data = Dataset.from_tensor_slices((x, x)).batch(2)
    else:
        data = Rows(x) if kind == "PyDataset" else keras.ops.convert_to_tensor(x)
    assert kv.mc_predict(model, data, 20, verbose=0).mean.shape == (3, 3)


@backends.xla_only
def test_xla(rng):
    model, x = new("stacked", rng)
    predictor = predictive(model, 45, likelihood="categorical")
    predictor.compile(jit_compile=True)
    statistics = predictor.predict(x, verbose=0)
    np.testing.assert_allclose(statistics["mean"].sum(axis=-1), 1, rtol=1e-5)


def test_masks_are_kept(rng):
    """Where the prefix makes the mask, and a layer behind the boundary reads it."""
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Embedding(7, 4, mask_zero=True),
            kv.VarianceDense(3, posterior=kv.posteriors.LayerAlpha(-60)),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]])
    result = kv.mc_predict(model, tokens, verbose=0)
    np.testing.assert_allclose(result.mean, model(tokens), rtol=1e-5)


def test_structure_of_a_single_output(rng):
    x = keras.Input((4,))
    model = keras.Model(x, {"only": kv.VarianceDense(3)(x)})
    result = kv.mc_predict(model, np.ones((2, 4)), verbose=0)
    assert result["only"].mean.shape == (2, 3)


def test_progress_bar(rng, capsys):
    model, x = new("sequential", rng)
    kv.mc_predict(model, x, batch_size=1, verbose=1)
    assert "3/3" in capsys.readouterr().out


def test_bad_input(rng):
    model, x = new("sequential", rng)
    for samples in (0, "20"):
        with pytest.raises(ValueError, match=rf"Received: samples={samples!r}"):
            kv.mc_predict(model, x, samples)
    deterministic = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="with variance layers"):
        kv.mc_predict(deterministic, x)


@pytest.mark.parametrize("predict", [kv.mc_predict, kv.moment_predict])
def test_nan_stays_and_warns_once(predict, rng):
    model, x = new("sequential", rng)
    x[1] = np.nan
    options = {"likelihood": kv.likelihoods.Categorical(from_logits=True), "verbose": 0}
    with pytest.warns(UserWarning, match="^Predictions are NaN") as warned:
        prediction = predict(model, x, **options)
    assert len(warned) == 1 and warned[0].filename == __file__
    for statistic in prediction[:4]:
        is_nan = np.isnan(statistic).reshape(len(x), -1)
        assert is_nan[1].all() and not np.delete(is_nan, 1, axis=0).any()


def numbers(rng):
    dense = kv.VarianceDense(4, posterior="layer_alpha")
    model = keras.Sequential(
        [keras.Input((3,)), kv.VarianceDense(6, "tanh", posterior="layer_alpha"), dense]
    )
    model.compile(loss=kv.losses.GaussianNLL())
    return model, rng.normal(size=(5, 3)).astype("float32")


@pytest.mark.parametrize("samples", [7, 45])
def test_numbers(samples, rng):
    """Aleatoric and epistemic variance, chunk by chunk, against NumPy."""
    model, x = numbers(rng)
    streamed = kv.mc_predict(model, x, samples, seed=1, chunk_size=5, verbose=0)
    options = {"seed": 1, "chunk_size": 5, "return_samples": True, "verbose": 0}
    every = kv.mc_predict(model, x, samples, likelihood=None, **options).samples
    m, s = np.split(every.astype("float64"), 2, axis=-1)
    np.testing.assert_allclose(streamed.mean, m.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(streamed.variance, m.var(axis=1), rtol=1e-3)
    aleatoric = np.exp(s).mean(axis=1)
    np.testing.assert_allclose(streamed.aleatoric, aleatoric, rtol=1e-4)
    total = aleatoric + m.var(axis=1)
    np.testing.assert_allclose(streamed.total_variance, total, rtol=1e-4)
    np.testing.assert_allclose(streamed.stddev, np.sqrt(total), rtol=1e-4)
    assert streamed.entropy is streamed.mutual_information is streamed.samples is None
    samples = kv.mc_predict(model, x, samples, **options).samples
    np.testing.assert_allclose(samples, m, rtol=1e-5, atol=1e-6)


def test_moments_of_numbers(rng):
    """Those of many samples: tanh is nearly linear for small weights."""
    model, x = numbers(rng)
    options = {"verbose": 0}
    moments = kv.moment_predict(model, x, **options)
    samples = kv.mc_predict(model, x, 5_000, **options)
    for name in ("mean", "variance", "aleatoric", "stddev"):
        expected = getattr(samples, name)
        spread = np.abs(expected).max()
        np.testing.assert_allclose(getattr(moments, name), expected, atol=0.1 * spread)
    assert moments.entropy is moments.mutual_information is None


def test_integrated_numbers(rng):
    """The variance within a sample is part of the total, and E[e^s] in closed form."""
    model, x = numbers(rng)
    plain = kv.mc_predict(model, x, 10_000, verbose=0)
    integrated = kv.mc_predict(model, x, 2_000, integrate_last=True, verbose=0)
    for name in ("mean", "variance", "aleatoric"):
        expected = getattr(plain, name)
        spread = np.abs(expected).max()
        actual = getattr(integrated, name)
        np.testing.assert_allclose(actual, expected, atol=0.05 * spread)


def test_variance_of_labels(rng):
    """Aleatoric is p (1 − p) of each sample, averaged: of classes and binary labels."""
    model, x = new("stacked", rng)
    for name in ("categorical", "bernoulli"):
        options = {"likelihood": name, "return_samples": True, "verbose": 0}
        result = kv.mc_predict(model, x, 30, **options)
        p = result.samples.astype("float64")
        expected = np.mean(p * (1 - p), axis=1)
        np.testing.assert_allclose(result.aleatoric, expected, atol=1e-6)
        mean = p.mean(axis=1)
        np.testing.assert_allclose(result.total_variance, mean * (1 - mean), atol=1e-6)
    result = kv.mc_predict(model, x, 30, likelihood=None, verbose=0)
    assert result.aleatoric is result.total_variance is result.stddev is None


def test_no_variance_is_refused(rng):
    model, x = numbers(rng)
    for predict in (kv.mc_predict, kv.moment_predict):
        with pytest.raises(ValueError, match=r"`df`.*Received: df=2"):
            predict(model, x, likelihood=kv.likelihoods.StudentT(2.0), verbose=0)
    with pytest.raises(ValueError, match=r"even in number.*Received: output\.shape"):
        odd = keras.Sequential([keras.Input((3,)), kv.VarianceDense(3)])
        kv.mc_predict(odd, x, likelihood="gaussian")


def lora(model):
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_a.assign(np.ones((4, 2)))
    model.layers[0].lora_kernel_b.assign(np.ones((2, 5)))


def other_rate(model):
    model.layers[1].rate = 0.9
    model.compile("sgd", "mse")


@pytest.mark.parametrize("change", [lora, other_rate])
def test_a_changed_model_is_another(change, rng):
    """What is kept of a model is not what it was before."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5),
            layers.Dropout(0.1),
            kv.VarianceDense(2, posterior="additive"),
        ]
    )
    x = rng.normal(size=(3, 4))
    options = {"likelihood": None, "verbose": 0, "dropout": True}
    kv.mc_predict(model, x, 500, seed=0, **options)
    change(model)
    actual = kv.mc_predict(model, x, 500, seed=0, **options)
    fresh = kv.transforms.predictive(model, 500, None, dropout=True, seed=0)
    expected = fresh.predict(x, verbose=0)
    np.testing.assert_allclose(actual.variance, expected["variance"], rtol=0.5)
    moments = kv.moment_predict(model, x, **options)
    np.testing.assert_allclose(actual.variance, moments.variance, rtol=0.5)


def test_a_corrected_rule_counts(rng):
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3), Own()])
    x, variances = rng.normal(size=(3, 4)), []
    for factor in (2, 4):

        @kv.moments.moment_rule(Own)
        def rule(layer, x, factor=factor):
            return kv.moments.Moments(2 * x.mean, factor * x.variance)

        prediction = kv.moment_predict(model, x, likelihood=None, verbose=0)
        variances.append(prediction.variance)
    del kv.moments.rules.RULES[Own]
    np.testing.assert_allclose(variances[1], 2 * variances[0], rtol=1e-5)
