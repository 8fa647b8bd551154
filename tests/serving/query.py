"""Run endpoints of SavedModels in a process where Keras can't be imported.

    python query.py OUTPUTS.npz FOLDER...

Each folder has the model in `model/1` and its inputs in `x.npz`. Each endpoint is
called twice; outputs are named `folder/endpoint/call/output`.
"""

import sys
from pathlib import Path

import numpy as np

ABSENT = ("keras", "keras_variance", "tensorflow_probability")


def main(outputs, *folders):
    sys.modules |= dict.fromkeys(ABSENT)
    import tensorflow as tf

    seed = {"seed": tf.constant(7, tf.int64)}
    answers = {}
    for folder in map(Path, folders):
        inputs = np.load(folder / "x.npz").items()
        x = {name: tf.constant(array) for name, array in inputs}
        served = tf.saved_model.load(folder / "model" / "1")
        for endpoint, function in served.signatures.items():
            more = seed if endpoint == "serving_seeded" else {}
            for call in range(2):
                for name, value in function(**x, **more).items():
                    key = f"{folder.name}/{endpoint}/{call}/{name}"
                    answers[key] = value.numpy()
    np.savez(outputs, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
