"""A variance layer on scikit-learn's digits: `python -m keras_variance`."""

import argparse
import importlib.util
import os
import warnings

# Messages of TensorFlow would bury the result
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_variance as kv

TEST_SIZE = 360
BATCH_SIZE = 50


def digits():
    """Training and test data: images of 8×8 from 0 to 1, and their classes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype("float32")
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=TEST_SIZE, random_state=0
    )
    return (x_train, y_train), (x_test, y_test)


def convolution(filters):
    return [
        keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
        keras.layers.BatchNormalization(momentum=0.9),
        keras.layers.ReLU(),
        keras.layers.MaxPooling2D(),
    ]


def trained(x, y, epochs: int) -> keras.Model:
    """A small convolutional network around a variance layer."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            *convolution(20),
            *convolution(50),
            layers.Flatten(),
            kv.VarianceDense(200, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    steps = epochs * -(-len(x) // BATCH_SIZE)
    rate = keras.optimizers.schedules.PolynomialDecay(3e-3, steps, 0.0)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, BATCH_SIZE, epochs, verbose=0)
    return model


def accuracies(model, x, y) -> dict:
    """Of one sample, of weights at their means, of an ensemble, and of moments."""
    with warnings.catch_warnings(action="ignore"):  # that it does not depend on x
        mean = kv.transforms.propagate_mean(model)
    predictions = {
        "one sample": model.predict(x, verbose=0),
        "mean of the weights": mean.predict(x, verbose=0),
        "average of 20 samples": kv.mc_predict(model, x, verbose=0).mean,
        "moments, one pass": kv.moment_predict(model, x, verbose=0).mean,
    }
    return {
        name: float(np.mean(p.argmax(axis=-1) == y)) for name, p in predictions.items()
    }


def main(arguments=None):
    parser = argparse.ArgumentParser("python -m keras_variance", description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if importlib.util.find_spec("sklearn") is None:
        parser.error('the demo needs scikit-learn: pip install "keras_variance[demo]"')
    keras.utils.set_random_seed(args.seed)
    data, test_data = digits()
    print(f"Training for {args.epochs} epochs …", flush=True)
    model = trained(*data, args.epochs)
    print(f"Accuracy on {TEST_SIZE} held-out images of digits")
    for name, accuracy in accuracies(model, *test_data).items():
        print(f"  {name:<22}{100 * accuracy:6.2f} %")


if __name__ == "__main__":
    main()
