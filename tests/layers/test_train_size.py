"""The number of training examples, by which the KL divergence is divided."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from tests import backends

PRIOR = {"posterior": "additive", "prior": "normal"}
X = np.ones((8, 4), "float32")


def zero(y, outputs):
    return 0.0 * outputs


def new(**arguments):
    """A layer in a nested model, and one beside it that has no prior."""
    layer = kv.VarianceDense(3, **PRIOR, **arguments)
    inner = keras.Sequential([keras.Input((4,)), layer])
    model = keras.Sequential([keras.Input((4,)), inner, kv.VarianceDense(2)])
    model.compile(keras.optimizers.SGD(0.0), zero)
    return model, layer


def losses(model):
    """Of training, evaluation and an eager call."""
    y = np.zeros((8, 2))
    fitted = model.fit(X, y, verbose=0).history["loss"][0]
    return fitted, model.evaluate(X, y, verbose=0), float(sum(model.losses))


def test_takes_effect_in_a_compiled_model():
    """In what is made of it, too."""
    model, layer = new(train_size=100)
    ensemble = kv.transforms.ensemble(model, 2)
    ensemble.compile(loss=zero)
    kl = float(layer.kl_divergence())
    for train_size in (100, 10, 2.5):
        kv.set_train_size(model, train_size)
        np.testing.assert_allclose(losses(model), kl / train_size, rtol=1e-5)
        value = ensemble.evaluate(X, np.zeros((8, 2, 2)), verbose=0)
        np.testing.assert_allclose(value, kl / train_size, rtol=1e-5)


def test_needed_when_the_loss_is():
    """The layer can be built, and predict, without."""
    model, layer = new()
    model.predict(X, verbose=0)
    kl = float(layer.kl_divergence())
    match = r"`train_size=\.\.\.`, or call `keras_variance.set_train_size\("
    with pytest.raises(ValueError, match=match):
        _ = model.losses
    with pytest.raises(ValueError, match=match):
        model.fit(X, np.zeros((8, 2)), verbose=0)
    kv.set_train_size(model, 10)
    np.testing.assert_allclose(losses(model), kl / 10, rtol=1e-5)


def test_belongs_to_the_model_and_not_to_its_weights(tmp_path):
    path = tmp_path / "model.keras"
    model, _ = new(train_size=100)
    kv.set_train_size(model, 10)
    model.save(path)
    loaded = keras.models.load_model(path, compile=False)
    assert [x.train_size for x in kv.layers.variance_layers(loaded)] == [10, 10]
    np.testing.assert_allclose(sum(loaded.losses), sum(model.losses), rtol=1e-6)
    other, layer = new(train_size=50)
    other.load_weights(path)
    other.set_weights(model.get_weights())
    assert layer.train_size == 50
    kl = float(layer.kl_divergence())
    np.testing.assert_allclose(losses(other), kl / 50, rtol=1e-5)


def test_mirrored(strategy):
    with strategy.scope():
        model, layer = new(train_size=100)
    kl = float(layer.kl_divergence())
    for train_size in (100, 10):
        kv.set_train_size(model, train_size)
        np.testing.assert_allclose(losses(model)[:2], kl / train_size, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("generator", [False, True])
def test_check(validation, generator):
    """Of the examples of an epoch, whose last batch is smaller."""
    data = X, np.zeros((8, 2))
    options = {"verbose": 0, "callbacks": [kv.callbacks.CheckTrainSize()]}
    if validation:
        options["validation_data"] = [each[:3] for each in data]

    def batches():
        for start in (0, 3, 6):
            yield tuple(each[start : start + 3] for each in data)

    def fit(model):
        if generator:
            return model.fit(batches(), shuffle=False, **options)
        return model.fit(*data, batch_size=3, epochs=2, **options)

    fit(new(train_size=8)[0])
    for wrong in (3, 7, 9):  # 3: both the size and the number of batches
        model, layer = new(train_size=wrong)
        match = f"'{layer.name}'.*epoch has 8. Received: train_size={wrong}$"
        with pytest.raises(ValueError, match=match):
            fit(model)


def test_check_needs_a_prior():
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"has a `prior`. Received: model="):
        model.fit(
            X, np.zeros((8, 2)), verbose=0, callbacks=[kv.callbacks.CheckTrainSize()]
        )


@pytest.mark.skipif(backends.BACKEND == "torch", reason="PyTorch has no tracing")
def test_a_layer_made_in_a_stateless_scope():
    """Where an assignment would be lost."""
    with keras.StatelessScope():
        layer = kv.VarianceDense(3, **PRIOR, train_size=10)
    layer.build((None, 4))
    kl = float(layer.kl_divergence())
    np.testing.assert_allclose(layer.losses[0], kl / 10, rtol=1e-6)
