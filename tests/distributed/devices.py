"""What models compute on the devices of one process: a script.

KERAS_BACKEND=jax JAX_NUM_CPU_DEVICES=4 python -m tests.distributed.devices KIND FILE

writes arrays by name, which must not depend on the kind of distribution: "one" (a
single device), "data" or "model".
"""

import sys

import keras
import numpy as np

import keras_variance as kv

ROWS = 64
SHARDED = ("kernel", "log_alpha", "log_variance", "mask")


def distribution(kind, **options):
    """None for one device; examples on 4, or on 2 and the weights' columns on 2."""
    if kind == "one":
        return None
    if kind == "data":
        return keras.distribution.DataParallel(**options)
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "columns"))
    layout = keras.distribution.LayoutMap(mesh)
    for name in SHARDED:
        layout[f".*{name}"] = (None, "columns")
    return keras.distribution.ModelParallel(layout_map=layout, **options)


def make_model():
    prior = {"prior": "log_uniform", "train_size": ROWS}
    first = {"use_bias": False, "seed": 1}  # a bias before BatchNorm has no gradient
    layers = [
        keras.Input((6,)),
        kv.VarianceDense(8, posterior="weight_alpha", pruned=True, **prior, **first),
        keras.layers.BatchNormalization(),
        kv.VarianceDense(8, "relu", estimator="flipout", seed=2),
        kv.VarianceDense(
            4, "softmax", posterior="additive", estimator="weight_sampling", **prior
        ),
    ]
    return keras.Sequential(layers)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 6)).astype("float32")
    return x, x[:, :4].argmax(axis=1)


def compiled(model, optimizer):
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def arrays(model):
    """The weights, by path."""
    return {each.path: keras.ops.convert_to_numpy(each) for each in model.weights}


def shards(model):
    """How many different parts each of the variables to be sharded has."""
    variables = [each for each in model.variables if each.path.endswith(SHARDED)]
    indices = [
        each.value.sharding.devices_indices_map(each.shape) for each in variables
    ]
    return np.array([len(set(map(str, each.values()))) for each in indices])


def step(model, x, y):
    """Loss, KL divergences and gradients: what a step of size 1 takes away."""
    result = {}
    for layer in model.layers:
        if getattr(layer, "prior", None):
            result[f"KL of {layer.name}"] = layer.kl_divergence()
    before = arrays(compiled(model, keras.optimizers.SGD(1.0)))
    result["loss"] = model.train_on_batch(x, y)[0]
    after = arrays(model)
    for path in [each.path for each in model.trainable_weights]:
        result[f"gradient of {path}"] = before[path] - after[path]
    return result


def training(model, x, y):
    callbacks = [
        kv.callbacks.KLAnnealing(epochs=2),
        kv.callbacks.MCPredict(x, y, samples=4, batch_size=32),
        kv.callbacks.GradualPruning(0.25, end=2, layers=["variance_dense_1"]),
    ]
    compiled(model, keras.optimizers.Adam(0.01))
    model.fit(x, y, 16, epochs=3, verbose=0, callbacks=callbacks, shuffle=False)
    result = {f"fit: {k}": v for k, v in model.history.history.items()}
    result["evaluate"] = model.evaluate(x, y, batch_size=16, verbose=0)
    return result


def predictions(model, x, y):
    options = {"batch_size": 16, "verbose": 0}
    sampled = kv.mc_predict(model, x, 6, seed=1, return_samples=True, **options)
    moments = kv.moment_predict(model, x, **options)
    result = {f"mc_predict: {k}": v for k, v in sampled._asdict().items()}
    result |= {f"moment_predict: {k}": v for k, v in moments._asdict().items()}
    result = {k: v for k, v in result.items() if v is not None}
    result["elbo"] = kv.elbo(model, x, y, 6, seed=1, **options)
    result["predict"] = model.predict(x, **options)
    result["draw"] = kv.transforms.draw(model, seed=1).predict(x, **options)
    with kv.random.held(model):
        result["held"] = [model.predict(x[:16], **options) for _ in range(2)]
    return result


def pruning(model, x, y):
    """Also of a layer that has no mask before, and in training."""
    report = kv.prune(model, 0.5)
    result = {"sparsity": [each.sparsity for each in report.layers]}
    model.fit(x, y, 16, verbose=0, shuffle=False)
    masks = [each for each in model.variables if each.path.endswith("mask")]
    result |= {each.path: each for each in masks}
    result["sparsity after fit"] = kv.sparsity(model)
    return result


def equal_rows():
    """Outputs of equal rows, (rows, outputs), which differ by their noise alone."""
    x, result = np.ones((16, 6), "float32"), {}
    for estimator in kv.estimators.MEMBERS:
        layer = kv.VarianceDense(4, estimator=estimator, seed=5)
        model = keras.Sequential([keras.Input((6,)), layer])
        result[f"rows: {estimator}"] = model.predict(x, batch_size=16, verbose=0)
    return result


def refusals(model, x, y):
    """What is said about batches that devices cannot share."""
    options = {"batch_size": 16, "verbose": 0}
    calls = (
        lambda: kv.mc_predict(model, x[:63], **options),
        lambda: kv.moment_predict(model, x[:63], **options),
        lambda: kv.elbo(model, x[:63], y[:63], **options),
        lambda: model.fit(
            x, y, 16, callbacks=[kv.callbacks.MCPredict(x[:63], y[:63], batch_size=16)]
        ),
    )
    for call in calls:
        try:
            call()
        except ValueError as error:
            yield str(error)


def main(kind, path):
    keras.utils.set_random_seed(0)
    keras.distribution.set_distribution(distribution(kind))
    (x, y), model = data(), make_model()
    result = {f"initial {path}": array for path, array in arrays(model).items()}
    result |= equal_rows() | step(model, x, y) | training(model, x, y)
    result |= predictions(model, x, y) | pruning(model, x, y)
    model.save(path.replace(".npz", ".keras"))
    loaded = keras.models.load_model(path.replace(".npz", ".keras"))
    result |= {f"loaded {path}": array for path, array in arrays(loaded).items()}
    result |= {"shards": shards(model), "shards of loaded": shards(loaded)}
    if kind != "one":
        result["refusals"] = np.array([*refusals(model, x, y)])
        model.predict(x, verbose=0)  # the model has its weights
    convert = keras.ops.convert_to_numpy
    refused = {"refusals": result.pop("refusals", [])}
    saved = {k.replace("/", "."): convert(v) for k, v in result.items()}
    np.savez(path, **saved, **refused)


if __name__ == "__main__":
    main(*sys.argv[1:])
