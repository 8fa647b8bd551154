"""Train and predict on several devices, or in several processes, with JAX.

KERAS_BACKEND=jax python -m examples.distribution [--shard data|model]

See docs/distribution.md.
"""

import argparse

import keras
import numpy as np

import keras_variance as kv

BATCH, ROWS = 64, 1024


def distribution(shard):
    """Examples over all devices; or over half, and the columns of weights over two."""
    if shard == "data":
        return keras.distribution.DataParallel(auto_shard_dataset=False)
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((len(devices) // 2, 2), ("batch", "columns"))
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*variance_dense.*(kernel|log_alpha|mask)"] = (None, "columns")
    return keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False)


def make_model():
    prior = {"prior": "log_uniform", "train_size": ROWS, "seed": 1}
    return keras.Sequential(
        [
            keras.Input((16,)),
            kv.VarianceDense(64, "relu", posterior="weight_alpha", **prior),
            keras.layers.Dense(4, "softmax"),
        ]
    )


def make_data(process, processes):
    """Examples, and the part of each batch that this process feeds."""
    x = np.random.default_rng(0).normal(size=(ROWS, 16)).astype("float32")
    y = x.reshape(ROWS, 4, 4).sum(axis=2).argmax(axis=1)
    own = np.arange(ROWS) % BATCH * processes // BATCH == process
    return x[own], y[own]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard", choices=("data", "model"), help="default: nothing")
    parser.add_argument(
        "--process", type=int, default=0, help="of this process, from 0"
    )
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--address", default="localhost:8476", help="of process 0")
    args = parser.parse_args()
    if args.processes > 1:
        keras.distribution.initialize(args.address, args.processes, args.process)
    if args.shard:
        keras.distribution.set_distribution(distribution(args.shard))
    keras.utils.set_random_seed(0)
    x, y = make_data(args.process, args.processes)
    options = {"batch_size": BATCH // args.processes, "verbose": 0}
    model = make_model()
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=5, shuffle=False, **options)
    loss, accuracy = model.evaluate(x, y, **options)
    prediction = kv.mc_predict(model, x, samples=20, seed=1, **options)
    devices = len(keras.distribution.list_devices())
    print(
        f"process {args.process}, {devices} devices: loss {loss:.3f}, "
        f"accuracy {accuracy:.3f}, entropy of {len(x)} predictions "
        f"{prediction.entropy.mean():.3f}"
    )


if __name__ == "__main__":
    main()
