"""Run endpoints of a SavedModel in a process where Keras can't be imported.

    python query.py FOLDER INPUTS.npz OUTPUTS.npz

Each endpoint is called twice; outputs are named `endpoint/call/output`.
"""

import sys

import numpy as np

ABSENT = ("keras", "keras_variance", "tensorflow_probability")


def main(folder, inputs, outputs):
    sys.modules |= dict.fromkeys(ABSENT)
    import tensorflow as tf

    x = {name: tf.constant(array) for name, array in np.load(inputs).items()}
    seed = {"seed": tf.constant(7, tf.int64)}
    answers = {}
    for endpoint, function in tf.saved_model.load(folder).signatures.items():
        more = seed if endpoint == "serving_seeded" else {}
        for call in range(2):
            for name, value in function(**x, **more).items():
                answers[f"{endpoint}/{call}/{name}"] = value.numpy()
    np.savez(outputs, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
