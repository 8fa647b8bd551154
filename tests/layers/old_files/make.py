"""The files beside this one, of variables saved by position.

git archive 5f27e76 | tar x -C /tmp/old     # the last version that saved them so
PYTHONPATH=/tmp/old python tests/layers/old_files/make.py by_position.keras pruned
git archive 1a293f5 | tar x -C /tmp/oldest  # the first one
PYTHONPATH=/tmp/oldest python tests/layers/old_files/make.py first.keras
"""

import sys
import zipfile
from pathlib import Path

import keras
import numpy as np

import keras_variance as kv

PRIOR = {"prior": "log_uniform", "train_size": 10}
POSTERIORS = ("zero_mean", "layer_alpha", "neuron_alpha", "weight_alpha", "additive")


def model(posteriors=POSTERIORS, prior=True, pruned=False):
    """A layer of each posterior twice: with a prior, or not, and without."""
    more = {"pruned": True} if pruned else {}
    layers = [keras.Input((3, 3, 2))]
    for posterior in posteriors:
        arguments = {"posterior": posterior, **(PRIOR if prior else {}), **more}
        layers.append(kv.VarianceConv2D(2, 1, use_bias=False, **arguments))
        layers.append(kv.VarianceDense(2, posterior=posterior))
    return keras.Sequential([*layers, keras.layers.Dense(3)])


def fill(model):
    """Give each variable but masks a value of its own, and each mask a pattern."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.dtype == "bool":
                weight.assign(np.arange(4).reshape(weight.shape) % 3 > 0)
            else:
                weight.assign(rng.normal(size=weight.shape))


def main(path, pruned=""):
    print(kv.__file__)
    made = model(pruned=bool(pruned))
    fill(made)
    made.save(path)
    # Keras does not compress
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, part in parts.items():
            file.writestr(name, part)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
