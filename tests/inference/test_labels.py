"""Padding, which masks tell, is no data: measures are those of the rest alone."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.inference.labels import masks

layers = keras.layers
# So little noise that measures of two models with other draws are the same
QUIET = kv.posteriors.LayerAlpha(-25.0)
CATEGORICAL = kv.likelihoods.Categorical(from_logits=True)
GAUSSIAN = kv.likelihoods.Gaussian(scale=0.5)


def stack(likelihood):
    outputs = 3 if likelihood is CATEGORICAL else 1
    return [kv.VarianceDense(8, "relu", posterior=QUIET), layers.Dense(outputs)]


class Tagger(keras.Model):
    """Of which Keras knows outputs only when it runs."""

    def __init__(self, layers_):
        super().__init__()
        self.masking, self.hidden, self.last = layers.Masking(), *layers_

    def call(self, inputs):
        return self.last(self.hidden(self.masking(inputs)))


def sequential(layers_, shape):
    return keras.Sequential([keras.Input(shape), *layers_])


def nested(layers_):
    """Its symbolic output has no mask, unlike what it returns."""
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, keras.Sequential([layers.Masking(), *layers_])(inputs))


def flat(layers_):
    return sequential([layers.Masking(), *layers_], (5, 4))


@pytest.fixture(params=[flat, nested, Tagger])
def kind(request):
    return request.param


@pytest.fixture(params=[CATEGORICAL, GAUSSIAN], ids=["classes", "numbers"])
def likelihood(request):
    return request.param


def data(rng, likelihood):
    """Sequences of 5 or fewer steps, labels that are invalid in padding, the mask."""
    x = rng.normal(size=(12, 5, 4)).astype("float32")
    mask = np.arange(5) < rng.integers(1, 6, size=(12, 1))
    mask[0] = True  # of whichever length
    x[~mask] = 0
    is_classes = likelihood is CATEGORICAL
    y = rng.integers(0, 3, size=(12, 5)) if is_classes else rng.normal(size=(12, 5))
    y[~mask] = -1 if is_classes else 1e6
    return x, y, mask


def pair(kind, likelihood, rng):
    """A model of sequences with data, and one of single steps with theirs."""
    layers_ = stack(likelihood)
    steps = sequential(layers_, (4,))
    model = kind(layers_)
    x, y, mask = data(rng, likelihood)
    model(x)
    return (model, x, y, mask), (steps, x[mask], y[mask])


def test_masks(kind, rng):
    (model, x, _, mask), (steps, rows, _) = pair(kind, CATEGORICAL, rng)
    found = masks(model, x, batch_size=5)
    assert [*found] == [0]
    np.testing.assert_array_equal(found[0], mask)
    assert masks(steps, rows) == {}
    with pytest.raises(ValueError, match=r"`x` must be data that is not all masked"):
        masks(model, 0 * x)


def test_masks_of_several_outputs(rng):
    tokens, numbers = keras.Input((4,), dtype="int32"), keras.Input((3,))
    vectors = layers.Embedding(9, 2, mask_zero=True)(tokens)
    outputs = {
        "word": layers.Dense(2)(kv.VarianceDense(3)(vectors)),
        "number": kv.VarianceDense(1)(numbers),
        "text": layers.Dense(2)(layers.GlobalAveragePooling1D()(vectors)),
    }
    model = keras.Model([tokens, numbers], outputs)
    x = np.array([[3, 1, 0, 0], [2, 0, 0, 0]])
    (found,) = masks(model, [x, np.ones((2, 3))]).values()
    np.testing.assert_array_equal(found, x != 0)


def test_noise_goes_on_where_it_was(rng):
    """Of a model whose masks were looked at."""
    (model, x, _, _), _ = pair(flat, CATEGORICAL, rng)
    states = [x.numpy() for x in model.non_trainable_variables]
    masks(model, x)
    for before, state in zip(states, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, state.numpy())


def test_log_likelihood(kind, likelihood, rng):
    (model, x, y, mask), steps = pair(kind, likelihood, rng)
    options = {"likelihood": likelihood, "samples": 3, "verbose": 0}
    values = kv.log_likelihood(model, x, y, **options)
    expected = kv.log_likelihood(*steps, **options)
    np.testing.assert_allclose(values[mask], expected, rtol=1e-3, atol=1e-4)
    assert not values[~mask].any()
    bound = kv.elbo(model, x, y, **options)
    assert bound.data_term == pytest.approx(expected.sum(), rel=1e-3)


def test_callback(kind, likelihood, rng):
    (model, x, y, _), (steps, x_steps, y_steps) = pair(kind, likelihood, rng)
    logs, expected = {}, {}
    for each, inputs, labels, found in (
        (model, x, y, logs),
        (steps, x_steps, y_steps, expected),
    ):
        callback = kv.callbacks.MCPredict(
            inputs, labels, 3, ("sample", "mean", "ensemble"), likelihood=likelihood
        )
        callback.set_model(each)
        callback.on_train_begin()
        callback.on_epoch_end(0, found)
    assert {"val_ensemble_nll", "val_mean_nll"} <= {*expected}
    assert logs == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", [flat, nested], indirect=True)
def test_evaluate(kind, likelihood, rng):
    (model, x, y, _), steps = pair(kind, likelihood, rng)
    found = kv.evaluate(model, x, y, likelihood, samples=3)
    expected = kv.evaluate(*steps, likelihood, samples=3)
    assert found.examples == len(x)
    for predictor, measures in expected.measures.items():
        assert found.measures[predictor] == pytest.approx(
            measures, rel=2e-3, abs=1e-3, nan_ok=True
        ), predictor


def test_evaluate_with_further_data(rng):
    """What is out of distribution, and what temperatures are fitted to, have padding
    too."""
    (model, x, y, mask), (steps, x_steps, _) = pair(nested, CATEGORICAL, rng)
    logits = steps.predict(x_steps, verbose=0)
    # Drawn from the model, so that there is a best temperature
    y[mask] = y_steps = (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)
    options = {"likelihood": CATEGORICAL, "samples": 3}
    predictors = {"predictors": ("samples",)}
    found = kv.evaluate(
        model, x, y, ood=3 * x[::-1], calibration=(x, y), **options, **predictors
    )
    expected = kv.evaluate(
        steps,
        x_steps,
        y_steps,
        ood=3 * x_steps,
        calibration=(x_steps, y_steps),
        **options,
        **predictors,
    )
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-3)
    assert "calibrated" in expected.measures
    for predictor, measures in expected.measures.items():
        for name, value in measures.items():
            if "mutual_information" not in name:  # of hardly any noise
                close = pytest.approx(value, rel=2e-3, abs=1e-3)
                assert found.measures[predictor][name] == close, (predictor, name)


@pytest.mark.parametrize("kind", [flat, nested], indirect=True)
def test_sparsity_curve(kind, likelihood, rng):
    (model, x, y, _), steps = pair(kind, likelihood, rng)
    options = {"sparsities": (0, 0.5), "samples": 3, "likelihood": likelihood}
    found = kv.sparsity_curve(model, x, y, **options)
    for point, expected in zip(
        found, kv.sparsity_curve(*steps, **options), strict=True
    ):
        np.testing.assert_allclose(
            np.array(point, float), np.array(expected, float), rtol=1e-3
        )


def test_refused_where_it_would_count(kind, rng):
    """Averages lose masks; each position of intervals has its own threshold."""
    (model, x, y, _), _ = pair(kind, GAUSSIAN, rng)
    match = r"`model` must be .*(no mask|Functional).*Received: model"
    with pytest.raises(ValueError, match=match):
        kv.calibration.conformal(model, x, y, 0.5, "absolute_residual")
    (model, x, y, _), _ = pair(kind, CATEGORICAL, rng)
    with pytest.raises(ValueError, match=match):
        kv.calibration.temperature_scaling(model, x, y, likelihood=CATEGORICAL)
    if kind is not Tagger:
        for likelihood in (CATEGORICAL, None):
            with pytest.raises(ValueError, match=match):
                kv.transforms.average(model, likelihood=likelihood)


def test_labels_of_another_length(rng):
    (model, x, y, _), _ = pair(flat, CATEGORICAL, rng)
    with pytest.raises(ValueError, match=r"`y` must be labels .*\(12, 5\).*Received: "):
        kv.elbo(model, x, y[:, :3], likelihood=CATEGORICAL, verbose=0)
