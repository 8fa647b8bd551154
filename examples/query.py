"""Query a SavedModel that `keras_variance.export` wrote, with TensorFlow alone.

    python examples/query.py FOLDER/VERSION ROWS.npz

ROWS.npz has an array for each of the model's inputs, by its name. Prints what every
endpoint answers for the first row, and how long it takes.
"""

import argparse
import sys
import time

# Only to show that neither is needed: an import of them would fail
sys.modules |= dict.fromkeys(("keras", "keras_variance"))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("rows")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    signatures = tf.saved_model.load(args.folder).signatures
    inputs = signatures["serving_default"].structured_input_signature[1]
    x = {
        name: tf.constant(array, inputs[name].dtype)
        for name, array in np.load(args.rows).items()
    }
    print(f"{len(next(iter(x.values())))} rows, median of {args.repeats} calls")
    for endpoint, function in signatures.items():
        more = {"seed": tf.constant(1, tf.int64)} if "seeded" in endpoint else {}
        seconds = []
        for _ in range(args.repeats + 1):
            start = time.perf_counter()
            answer = {name: y.numpy() for name, y in function(**x, **more).items()}
            seconds.append(time.perf_counter() - start)
        print(f"\n{endpoint}: {1e3 * np.median(seconds[1:]):.1f} ms")
        for name, value in answer.items():
            first = np.array2string(value[0].ravel()[:10], precision=3)
            print(f"  {name:<20}{value.shape!s:<14}{first}")


if __name__ == "__main__":
    main()
