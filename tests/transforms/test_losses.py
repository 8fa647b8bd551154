"""The losses of a model, and of what is made of it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_variance as kv
from keras_variance.transforms import (
    average,
    ensemble,
    predictive,
    propagate_mean,
    propagate_moments,
    zero_mean,
)
from tests import backends
from tests.layers.cases import POSTERIORS

layers = keras.layers
TRAIN_SIZE = 50
PRIOR = {"posterior": "weight_alpha", "prior": "log_uniform", "train_size": TRAIN_SIZE}
X = np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4)


def zero(y, outputs):
    return 0.0 * ops.sum(outputs)


def dense(units=4, **arguments):
    return kv.VarianceDense(units, **PRIOR | arguments)


def shared():
    layer, x = dense(), keras.Input((4,))
    return keras.Model(x, layer(layer(x)))


def time_distributed():
    inner = layers.TimeDistributed(dense(3))
    return keras.Sequential([keras.Input((4,)), layers.Reshape((2, 2)), inner])


def frozen_kernel():
    model = keras.Sequential([keras.Input((4,)), dense(3)])
    model.layers[0].kernel.trainable = False
    return model


def frozen_layer():
    model = keras.Sequential([keras.Input((4,)), dense(3)])
    model.layers[0].trainable = False
    return model


def nested():
    inner = keras.Sequential([keras.Input((4,)), dense(), layers.ReLU()])
    x = keras.Input((4,))
    return keras.Model(x, dense(2, kl_weight=0.5)(inner(inner(x))))


def regularized():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, kernel_regularizer="l2"),
            dense(3, bias_regularizer="l1", bias_initializer="ones"),
            layers.Dense(2, kernel_regularizer="l2"),
        ]
    )


MODELS = {
    each.__name__: each
    for each in (
        shared,
        time_distributed,
        frozen_kernel,
        frozen_layer,
        nested,
        regularized,
    )
}
TRANSFORMS = {
    "ensemble": lambda model: ensemble(model, 2),
    "integrate_last": lambda model: ensemble(model, 2, integrate_last=True),
    "propagate_mean": propagate_mean,
    "zero_mean": zero_mean,
    "propagate_moments": lambda model: propagate_moments(model, likelihood=None),
    "predictive": lambda model: predictive(model, 2, likelihood=None),
    "average": lambda model: average(model, 2, likelihood=None),
}
HIDDEN = ("propagate_mean", "zero_mean", "propagate_moments")


def divergence(model):
    """The sum over layers, each once."""
    total = 0.0
    for layer in kv.layers.variance_layers(model):
        kl = float(layer.kl_divergence())
        total += float(layer.kl_weight) * kl / TRAIN_SIZE
    return total


def evaluated(model):
    structure = model(X[:1])
    y = keras.tree.map_structure(lambda _: np.zeros(8, "float32"), structure)
    model.compile(loss=keras.tree.map_structure(lambda _: zero, structure))
    value = model.evaluate(X, y, batch_size=4, verbose=0)
    return value[0] if isinstance(value, list) else value


@pytest.mark.parametrize("name", MODELS)
def test_divergence_is_a_loss_once(name):
    """Of the source and of everything that is made of it."""
    model = MODELS[name]()
    expected = divergence(model)
    if name == "regularized":
        stock = (model.layers[0], model.layers[2])
        expected += 0.01 * sum(float(ops.sum(each.kernel**2)) for each in stock)
        expected += 0.01 * float(ops.sum(model.layers[1].bias))
    assert expected > 0.005
    assert evaluated(model) == pytest.approx(expected, rel=1e-5)
    for key, transform in TRANSFORMS.items():
        if name == "time_distributed" and key in HIDDEN:
            continue
        result = transform(model)
        result(X)
        assert float(sum(result.losses)) == pytest.approx(expected, rel=1e-5), key
        if name in ("nested", "regularized"):
            assert evaluated(result) == pytest.approx(expected, rel=1e-5), key


def test_training_an_ensemble_trains_with_its_prior():
    """φ moves as far as in training the source, under a zero data loss."""

    def update(transform):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), dense(2)])
        result = transform(model)
        result.compile(keras.optimizers.SGD(1.0), zero)
        before = np.array(model.layers[0].phi)
        result.fit(X, np.zeros(8), batch_size=8, verbose=0)
        return np.asarray(model.layers[0].phi) - before

    expected = update(lambda model: model)
    assert (expected > 0).all()
    for transform in (TRANSFORMS["ensemble"], TRANSFORMS["propagate_moments"]):
        np.testing.assert_allclose(update(transform), expected, rtol=1e-4)


@pytest.mark.skipif(
    backends.BACKEND == "jax", reason="Keras's own Dropout fails so, too, on JAX"
)
@pytest.mark.parametrize("prior", kv.priors.MEMBERS)
def test_rematerialization(prior):
    """The divergence and its gradient are right under `keras.RematScope`."""

    def train(mode):
        keras.utils.set_random_seed(0)
        with keras.RematScope(mode=mode):
            layer = dense(3, prior=prior)
        model = keras.Sequential([keras.Input((4,)), layer, layers.Dense(2)])
        model.compile(keras.optimizers.SGD(1.0), zero)
        expected = divergence(model)
        loss = model.fit(X, np.zeros(8), batch_size=8, verbose=0).history["loss"][0]
        assert loss == pytest.approx(expected, rel=1e-5)
        return [np.array(weight) for weight in layer.trainable_weights]

    for a, b in zip(train("full"), train(None), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


VALID = [(posterior, prior) for posterior in POSTERIORS for prior in kv.priors.MEMBERS]


def pruned_layer(posterior, prior, rng, keep):
    layer = kv.VarianceDense(
        5, posterior=posterior, prior=prior, train_size=TRAIN_SIZE, use_bias=False
    )
    layer.build((None, 4))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    if keep is not None:
        layer.keep(keep)
    return layer


@pytest.mark.parametrize("posterior, prior", VALID)
def test_pruned_weights_have_no_divergence(posterior, prior, rng):
    """The divergence is the sum over the others, and so are its gradients."""
    keep = np.zeros((4, 5), bool)
    keep[1, 2] = keep[3, 2] = True
    layer = pruned_layer(posterior, prior, rng, keep)
    # What is left, as a layer of its own
    small = kv.VarianceDense(
        1, posterior=posterior, prior=prior, train_size=TRAIN_SIZE, use_bias=False
    )
    small.build((None, 2))
    small.kernel.assign(np.asarray(layer.kernel)[[1, 3], 2:3])
    if layer.phi is not None:
        phi = np.broadcast_to(layer.phi, (4, 5))[[1, 3], 2:3]
        shape = small.phi.shape
        small.phi.assign(phi[: shape[0], : shape[1]])
    gradients = []
    for each in (layer, small):
        kl, slopes = backends.gradients(each.kl_divergence, each.trainable_weights)
        gradients.append(slopes)
        if each is layer:
            total = float(kl)
    assert total == pytest.approx(float(kl), rel=1e-4, abs=1e-5)
    for all_, left in zip(*gradients, strict=True):
        assert np.isfinite(all_).all()
        np.testing.assert_allclose(all_.sum(), left.sum(), rtol=1e-3, atol=1e-5)
        if all_.shape == (4, 5):
            assert not all_[~keep].any()
    layer.keep(False)
    assert float(layer.kl_divergence()) == 0


@pytest.mark.parametrize("posterior", ["layer_alpha", "neuron_alpha"])
def test_pruned_weights_do_not_pull_a_shared_alpha(posterior, rng):
    """Nor do those of a unit that has none left."""
    layer = pruned_layer(posterior, "log_uniform", rng, None)
    layer.phi.assign(np.zeros(layer.phi.shape))
    slopes = []
    for keep in (True, np.arange(4)[:, None] < 1, np.arange(5)[None] < 0):
        layer.keep(keep)
        slopes += backends.gradients(layer.kl_divergence, [layer.phi])[1]
    everything, quarter, nothing = slopes
    np.testing.assert_allclose(quarter, everything / 4, rtol=1e-5)
    assert everything.all() and not nothing.any()


def test_activity_regularizers_are_kept():
    """Of a variance layer, on its own outputs; beside the divergence."""
    layer = dense(3, activity_regularizer=keras.regularizers.L2(0.1))
    model = keras.Sequential([keras.Input((4,)), layer, layers.Dense(2)])
    layer.phi.assign(np.full(layer.phi.shape, -60.0))
    hidden = np.asarray(layer(X))
    expected = 0.1 * np.square(hidden).sum() / len(X) + divergence(model)
    model(X)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    for name in ("propagate_mean", "ensemble"):
        result = TRANSFORMS[name](model)
        result(X)
        assert float(sum(result.losses)) == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("posterior", ["zero_mean", "layer_alpha", "additive"])
def test_what_was_traced_before_pruning(posterior, rng):
    """An ensemble that has predicted already predicts without the pruned weights."""
    layer = kv.VarianceDense(3, posterior=posterior, use_bias=False)
    model = keras.Sequential([keras.Input((4,)), layer])
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    compiled = ensemble(model, 3)
    compiled.compile("sgd", "mse")
    results = [compiled, predictive(model, 3, likelihood=None)]
    if posterior != "zero_mean":
        results += [ensemble(model, 3), propagate_mean(model), propagate_moments(model)]
    for result in results:
        assert np.any(_flat(result.predict(X, verbose=0)))
    kv.mc_predict(model, X, 3, verbose=0)
    kv.prune(model, threshold=1e9)
    for result in results:
        assert not np.any(_flat(result.predict(X, verbose=0)))
    prediction = kv.mc_predict(model, X, 3, verbose=0)
    assert not np.any(_flat(prediction[:2]))


def _flat(outputs):
    """Outputs up to the square root of the smallest variance."""
    outputs = np.concatenate([np.ravel(each) for each in keras.tree.flatten(outputs)])
    return np.where(np.abs(outputs) > 1e-10, outputs, 0)


def test_a_few_weights_are_left(rng):
    """Means and draws are those of the weights that are left."""
    layer = kv.VarianceDense(3, posterior="additive", use_bias=False)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.kernel.assign(rng.normal(size=(4, 3)))
    layer.phi.assign(rng.normal(size=(4, 3)))
    many, means = ensemble(model, 500), propagate_mean(model)
    many.predict(X, verbose=0)
    means.predict(X, verbose=0)
    kv.prune(model, 0.8)
    mean, scale = np.asarray(layer.kernel_mean), np.asarray(layer.kernel_scale)
    assert (scale != 0).sum() == 2
    np.testing.assert_allclose(
        means.predict(X, verbose=0), X @ mean, rtol=1e-4, atol=1e-6
    )
    draws = many.predict(X, verbose=0)
    stddev = np.sqrt(X**2 @ scale**2)
    # 24 comparisons, |z| < 6.5: a false alarm in 10⁸
    error = np.abs(draws.mean(axis=1) - X @ mean)
    assert (error <= 6.5 * stddev / np.sqrt(500) + 1e-6).all()
    kernel = np.asarray(kv.transforms.draw(model, seed=0).layers[-1].kernel)
    np.testing.assert_array_equal(kernel != 0, scale != 0)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.05),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_through_training(optimizer, rng):
    """θ at 0 and φ at its floor, whatever momentum is left from before."""
    layer = kv.VarianceDense(
        3, posterior="additive", prior="student_t", train_size=TRAIN_SIZE
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(OPTIMIZERS[optimizer](), "mse")
    y = rng.normal(size=(8, 3))
    model.fit(X, y, epochs=2, batch_size=4, verbose=0)
    kv.prune(model, 0.5)
    kept = np.asarray(layer.mask)
    theta, phi = np.array(layer.kernel), np.array(layer.phi)
    model.fit(X, y, epochs=2, batch_size=4, verbose=0)
    assert not np.asarray(layer.kernel)[~kept].any()
    assert (np.asarray(layer.phi)[~kept] == layer.posterior.pruned_phi).all()
    assert not np.asarray(layer.kernel_scale)[~kept].any()
    assert (np.asarray(layer.kernel) != theta)[kept].all()
    assert (np.asarray(layer.phi) != phi)[kept].all()
    assert kv.sparsity(model) == 0.5
