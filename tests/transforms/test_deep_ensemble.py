"""`deep_ensemble`, and predictions of lists of models."""

import keras
import numpy as np
import pytest
from scipy import stats

import keras_variance as kv
from keras_variance.random import derive
from keras_variance.transforms import deep_ensemble, predictive, propagate_moments
from tests import backends

SAMPLES = 30


def member(*, random=True, softmax=True, outputs=3):
    """All members have the same names."""
    dense = kv.VarianceDense if random else keras.layers.Dense
    last = [keras.layers.Softmax(name="last")] if softmax else []
    return keras.Sequential(
        [
            keras.Input((4,), name="x"),
            dense(8, activation="relu", name="dense"),
            keras.layers.Dense(outputs, name="logits"),
            *last,
        ]
    )


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 4)).astype("float32")


def merged(samples):
    """What is expected of probabilities: a list of (batch, samples, classes)."""
    means = np.array([each.mean(axis=1) for each in samples], "float64")
    entropies = [stats.entropy(each, axis=-1).mean(axis=1) for each in samples]
    mean = means.mean(axis=0)
    within = np.mean([each.var(axis=1) for each in samples], axis=0)
    return {
        "mean": mean,
        "variance": within + means.var(axis=0),
        "between_variance": means.var(axis=0),
        "expected_entropy": np.mean(entropies, axis=0),
        "member_entropy": stats.entropy(means, axis=-1).mean(axis=0),
    }


def assert_close(actual, expected):
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, 1e-4, 1e-6, err_msg=name)


def test_statistics_of_known_and_of_random_members(x):
    models = [member(), member(random=False), member(softmax=False)]
    likelihood = [None, None, kv.likelihoods.Categorical(from_logits=True)]
    models[2].compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    result = deep_ensemble(models, SAMPLES, seed=3)
    samples = []
    for k, model in enumerate(models):
        if k == 1:
            samples.append(np.asarray(model(x))[:, None])
            continue
        each = predictive(
            model,
            SAMPLES,
            likelihood[k] or "auto",
            seed=derive(3, k),
            return_samples=True,
        )
        samples.append(np.asarray(each(x)["samples"]))
    assert_close(result(x), merged(samples))


def test_prediction_of_deterministic_models_disagrees_between_them_alone(x):
    models = [member(random=False) for _ in range(3)]
    p = np.array([model.predict(x, verbose=0) for model in models], "float64")
    for predict in (kv.mc_predict, kv.moment_predict):
        prediction = predict(models, x, verbose=0)
        entropy = stats.entropy(p.mean(axis=0), axis=-1)
        information = entropy - stats.entropy(p, axis=-1).mean(axis=0)
        np.testing.assert_allclose(prediction.mean, p.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(prediction.entropy, entropy, rtol=1e-4)
        for actual in (prediction.mutual_information, prediction.between_information):
            np.testing.assert_allclose(actual, information, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(
            prediction.variance, prediction.between_variance, rtol=1e-6
        )
        total = p.mean(axis=0) * (1 - p.mean(axis=0))  # of one-hot labels
        np.testing.assert_allclose(prediction.total_variance, total, rtol=1e-4)


def test_prediction_by_samples_and_by_moments(x):
    models = [member() for _ in range(3)]
    sampled = kv.mc_predict(models, x, 4_000, verbose=0, seed=0)
    moments = kv.moment_predict(models, x, verbose=0)
    each = [kv.moment_predict(model, x, verbose=0) for model in models]
    np.testing.assert_allclose(moments.mean, sum(p.mean for p in each) / 3, rtol=1e-5)
    np.testing.assert_allclose(moments.mean, sampled.mean, atol=0.02)
    for name in ("mutual_information", "between_information", "between_variance"):
        scale = getattr(sampled, name).max()
        np.testing.assert_allclose(
            getattr(moments, name), getattr(sampled, name), atol=0.15 * scale
        )
    assert (sampled.between_information < sampled.mutual_information).all()


def test_members_of_one_seed_draw_different_noise(x):
    model = member()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for make in (
        lambda: kv.mc_predict([model, twin], x, 1, seed=0, verbose=0).between_variance,
        lambda: deep_ensemble([model, twin], 1, seed=0)(x)["between_variance"],
    ):
        np.testing.assert_array_equal(make(), make())
        assert np.asarray(make()).max() > 0


def test_density_of_numbers(x):
    likelihood = kv.likelihoods.Gaussian()
    models = [member(softmax=False, outputs=2, random=k > 0) for k in range(2)]
    prediction = kv.moment_predict(models, x, likelihood=likelihood, verbose=0)
    each = [
        kv.moment_predict(models[1], x, likelihood=likelihood, verbose=0),
        np.asarray(models[0](x)),
    ]
    means = np.stack([each[0].mean, each[1][:, :1]])
    np.testing.assert_allclose(prediction.mean, means.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        prediction.variance, each[0].variance / 2 + means.var(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(
        prediction.aleatoric,
        (each[0].aleatoric + np.exp(each[1][:, 1:])) / 2,
        rtol=1e-4,
    )
    assert prediction.between_information is None


def test_several_outputs(x):
    def two():
        inputs = keras.Input((4,))
        hidden = kv.VarianceDense(8, activation="relu")(inputs)
        outputs = {
            "a": keras.layers.Dense(3, activation="softmax")(hidden),
            "b": keras.layers.Dense(2)(hidden),
        }
        return keras.Model(inputs, outputs)

    models = [two(), two()]
    prediction = kv.moment_predict(models, x, verbose=0)
    each = [propagate_moments(model, statistics=True)(x) for model in models]
    for name in ("a", "b"):
        mean = np.mean([p[name]["mean"] for p in each], axis=0)
        np.testing.assert_allclose(prediction[name].mean, mean, rtol=1e-5)
    assert prediction["b"].between_information is None


def test_file(x, tmp_path):
    result = deep_ensemble([member(), member(random=False)], moments=True)
    result.save(tmp_path / "deep.keras")
    loaded = keras.models.load_model(tmp_path / "deep.keras")
    expected = {name: np.asarray(each) for name, each in result(x).items()}
    assert_close(loaded(x), expected)


@backends.tensorflow_only
def test_export(x, tmp_path):
    import tensorflow as tf

    result = deep_ensemble([member(), member()], moments=True)
    result.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    assert_close(
        loaded.serve(x), {name: np.asarray(each) for name, each in result(x).items()}
    )


def test_losses_are_those_of_all_members(x):
    def with_prior():
        layer = kv.VarianceDense(
            3, posterior="layer_alpha", prior="ard", train_size=10, activation="softmax"
        )
        return keras.Sequential([keras.Input((4,)), layer])

    models = [with_prior(), with_prior()]
    result = deep_ensemble(models, 2)
    result(x)
    expected = sum(float(m.layers[0].kl_divergence()) / 10 for m in models)
    np.testing.assert_allclose(float(sum(result.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (list, "`models` must be a list of Keras models. Received: models="),
        (lambda: "model", "Received: models='model'"),
        (lambda: [1], r"Received: models=\[1\]"),
        (lambda: [member(), keras.Sequential([keras.layers.Dense(3)])], "built"),
        (lambda: [member()] * 2, "a list of different models. Received: models="),
        (lambda: [member(), member(outputs=4)], "same structure.*Received: "),
    ],
)
def test_bad_input(make, match):
    with pytest.raises(ValueError, match=match):
        deep_ensemble(make())


def test_samples_of_lists_are_refused(x):
    with pytest.raises(ValueError, match="Received: return_samples=True"):
        kv.mc_predict([member()], x, return_samples=True)
