"""Ways to predict, compared epoch by epoch as a stochastic network is trained."""

import warnings

import keras
import matplotlib
import numpy as np
from keras import ops

import keras_variance as kv
from examples.paper import common, experiment

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SAMPLES = 20
PREDICTORS = {
    "mean": "weights at their means",
    "sample": "one sample",
    "ensemble": f"{SAMPLES} samples",
    "zero_mean": "one sample, without means",
}


class Follow(keras.callbacks.Callback):
    """Puts predictions by each of `PREDICTORS` into the logs, and log α.

    `val_{predictor}_accuracy` (from 0 to 1), `val_{predictor}_nll` (nats) and
    `log_alpha_{layer}` (the layer's median). Each epoch draws the same noise, so that
    differences are the network's, and training that resumes has equal logs.

    The layers up to the first variance layer, most of the work, run once for all.

    Args:
        x: Images, (examples, …).
        y: Integer labels, (examples,).
        batch_size: Integer, of predictions.
    """

    def __init__(self, x, y, batch_size=500):
        super().__init__()
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.predictors = None

    def on_epoch_end(self, epoch, logs=None):
        if self.predictors is None:
            self.prefix, suffix = split(self.model)
            keras.utils.set_random_seed(0)
            self.predictors = Predictors(suffix)
            self.start = {each.path: ops.copy(each) for each in self._generators()}
        for each in self._generators():
            each.assign(ops.copy(self.start[each.path]))  # JAX deletes it
        features = self.prefix.predict(self.x, self.batch_size, verbose=0)
        predictions = self.predictors.predict(features, self.batch_size, verbose=0)
        for name, p in predictions.items():
            likelihood = p[np.arange(len(p)), self.y]
            logs[f"val_{name}_accuracy"] = common.accuracy(self.y, p)
            logs[f"val_{name}_nll"] = -np.mean(np.log(np.maximum(likelihood, 1e-30)))
        logs |= log_alphas(self.model)

    def _generators(self):
        """The states of the predictors' random generators."""
        weights = {id(each) for each in self.predictors.weights}
        return [each for each in self.predictors.variables if id(each) not in weights]


def log_alphas(model):
    """The median of log α by the name of a variance layer, as a column of a log."""
    return {
        f"log_alpha_{layer.name}": float(np.median(layer.log_alpha))
        for layer in kv.layers.variance_layers(model)
    }


def split(model):
    """A `Sequential` model up to its first variance layer, and the rest of it."""
    stochastic = [isinstance(each, kv.VarianceLayer) for each in model.layers]
    first = stochastic.index(True)
    prefix = keras.Sequential([keras.Input(model.input_shape[1:])])
    for layer in model.layers[:first]:
        prefix.add(layer)
    suffix = keras.Sequential([keras.Input(prefix.output_shape[1:])])
    for layer in model.layers[first:]:
        suffix.add(layer)
    return prefix, suffix


class Predictors(keras.Model):
    """Class probabilities by each of `PREDICTORS`: a dict of (batch, classes)."""

    def __init__(self, model):
        super().__init__()
        with warnings.catch_warnings():  # that means of 0 say nothing is the subject
            warnings.simplefilter("ignore", UserWarning)
            self.mean = kv.transforms.propagate_mean(model)
        self.sample = kv.transforms.ensemble(model, 1, seed=0)
        self.ensemble = kv.transforms.ensemble(model, SAMPLES, seed=1)
        self.zero_mean = kv.transforms.zero_mean(model)

    def call(self, inputs):
        logits = {name: getattr(self, name)(inputs) for name in PREDICTORS}
        p = {name: ops.softmax(each, axis=-1) for name, each in logits.items()}
        for name in ("sample", "ensemble"):
            p[name] = ops.mean(p[name], axis=1)
        return p


def followed(rows):
    """What `Follow` has put into a log, from its rows: {name: values by epoch}.

    `{predictor}_accuracy` in percent, `{predictor}_nll` in nats, and `log_alpha`, or
    `log_alpha_{layer}` if there are several layers.
    """
    values = {key: [float(row[key]) for row in rows] for key in _columns(rows)}
    layers = [key for key in values if key.startswith("log_alpha_")]
    names = {layers[0]: "log_alpha"} if len(layers) == 1 else {}
    result = {names.get(key, key): values[key] for key in layers}
    for name in PREDICTORS:
        accuracies = values[f"val_{name}_accuracy"]
        result[f"{name}_accuracy"] = [100 * each for each in accuracies]
        result[f"{name}_nll"] = values[f"val_{name}_nll"]
    return result


def _columns(rows):
    return [key for key in rows[0] if key.startswith(("val_", "log_alpha_"))]


def plot(columns, path):
    """Draw a picture, epoch by epoch: accuracies above, log α below.

    Args:
        columns: {title: (what `followed` returns, {layer: log α by epoch})}.
        path: Of the picture.
    """
    count = len(columns)
    size = (4 * count, 6)
    figure, axes = plt.subplots(
        2, count, figsize=size, sharex=True, sharey="row", squeeze=False
    )
    for (above, below), (title, (log, alphas)) in zip(
        axes.T, columns.items(), strict=True
    ):
        accuracies = {
            f"{name}_accuracy": np.divide(log[f"{name}_accuracy"], 100)
            for name in PREDICTORS
        }
        kv.plots.phase_transition(accuracies, above).get_legend().remove()
        above.set(title=title, xlabel="", ylabel="")
        for layer, values in alphas.items():
            below.plot(range(1, len(values) + 1), values, label=layer)
        below.set(xlabel="epoch")
        for axis in (above, below):
            axis.grid(alpha=0.3)
    axes[0, 0].set(ylabel="test accuracy, %")
    axes[1, 0].set(ylabel="log α")
    axes[1, -1].legend(fontsize="small")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.legend(handles, PREDICTORS.values(), ncols=4, loc="lower center")
    experiment.save(figure, path)
