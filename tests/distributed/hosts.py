"""What a model computes in one of several processes: a script.

KERAS_BACKEND=jax python -m tests.distributed.hosts FILE KIND [PROCESS PORT]

for one of two processes, each of which feeds its half of every batch, or for one that
feeds the whole. KIND: as for tests/distributed/devices.py.
"""

import sys

import keras
import numpy as np

import keras_variance as kv
from tests.distributed.devices import (
    ROWS,
    arrays,
    compiled,
    data,
    distribution,
    make_model,
)

BATCH = 16
# In the last batch for predictions each process has fewer examples
PREDICTED = np.arange(ROWS) % (BATCH // 2) < np.where(np.arange(ROWS) < 48, 8, 4)


def own(x, process):
    """The half of each batch that a process feeds."""
    batches = np.reshape(x, (-1, 2, BATCH // 2, *x.shape[1:]))
    return np.reshape(batches[:, process], (-1, *x.shape[1:]))


def refusals(model, x, y):
    """What does not work, and what is said about it."""
    calls = {
        "elbo": lambda: kv.elbo(model, x, y),
        "sparsity_curve": lambda: kv.sparsity_curve(model, x, y),
        "MCPredict": lambda: model.fit(
            x, y, callbacks=[kv.callbacks.MCPredict(x, y)], verbose=0
        ),
    }
    for name, call in calls.items():
        try:
            call()
        except RuntimeError as error:
            yield name, str(error)


def main(path, kind, process=None, port=None):
    (x, y), predicted, batch_size = data(), PREDICTED, BATCH
    if process is not None:
        process, batch_size = int(process), BATCH // 2
        keras.distribution.initialize(f"localhost:{port}", 2, process)
        x, y, predicted = (own(each, process) for each in (x, y, predicted))
    keras.distribution.set_distribution(distribution(kind, auto_shard_dataset=False))
    keras.utils.set_random_seed(0)
    model = compiled(make_model(), keras.optimizers.Adam(0.01))
    options = {"batch_size": batch_size, "verbose": 0}
    annealing = [kv.callbacks.KLAnnealing(epochs=2)]
    model.fit(x, y, epochs=2, shuffle=False, callbacks=annealing, **options)
    result = {f"fit: {k}": v for k, v in model.history.history.items()}
    result["sparsity"] = kv.prune(model, 0.5).total.sparsity
    model.fit(x, y, shuffle=False, **options)
    result["sparsity after fit"] = kv.sparsity(model)
    result["evaluate"] = model.evaluate(x, y, **options)
    result |= arrays(model)
    sampled = kv.mc_predict(model, x[predicted], 6, seed=1, **options)
    moments = kv.moment_predict(model, x[predicted], **options)
    result |= {"rows: mc_predict": sampled.mean, "rows: entropy": sampled.entropy}
    result["rows: moment_predict"] = moments.mean
    if process is not None:
        result |= dict(refusals(model, x, y))
    np.savez(path, **{k.replace("/", "."): np.asarray(v) for k, v in result.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
