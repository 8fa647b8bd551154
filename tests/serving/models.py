"""Models that tests export, and their data."""

import keras

import keras_variance as kv

STATISTICS = ("mean", "variance", "entropy", "mutual_information", "aleatoric")
layers = keras.layers


def sequential():
    return keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(8, "relu"),
            kv.VarianceDense(8, use_bias=False, activation="relu"),
            layers.Dense(3, "softmax"),
        ]
    )


def multiple():
    """Two inputs, two outputs: probabilities, and a number without rules of such."""
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    h = layers.Concatenate()([kv.VarianceDense(6)(left), right])
    h = kv.VarianceDense(5, posterior="layer_alpha", activation="relu")(h)
    label = layers.Dense(3, "softmax", name="label")(h)
    return keras.Model(
        {"left": left, "right": right}, [label, layers.Dense(1, name="size")(h)]
    )


MODELS = {"sequential": sequential, "multiple": multiple}


def data(model, rng, rows=3):
    return {
        each.name: rng.normal(size=(rows, *each.shape[1:])).astype("float32")
        for each in keras.tree.flatten(model.inputs)
    }
