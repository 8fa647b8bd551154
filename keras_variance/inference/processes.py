"""Predictions with `keras.distribution`: on several devices, in several processes."""

import keras
from keras import ops, tree


def count():
    """The number of processes that the current distribution is over."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.num_processes


def check_one(name):
    """Raise RuntimeError if there are several: for what reads predictions of all
    examples."""
    if count() > 1:
        raise RuntimeError(
            f"`{name}` works in one process: save the model and load it there. "
            f"Received: a distribution over {count()} processes"
        )


def check_batches(examples, batch_size):
    """Raise ValueError if devices cannot share each batch of so many examples: Keras's
    `predict` fails then, after it has taken the model's weights away."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return
    devices = max(distribution.num_model_replicas // distribution.num_processes, 1)
    sizes = {min(batch_size, examples), examples % batch_size}
    if any(size % devices for size in sizes):
        raise ValueError(
            f"Argument `batch_size` must give batches for {devices} devices to share, "
            f"the last one too: multiples of {devices} examples. "
            f"Received: batch_size={batch_size}, with {examples} examples"
        )


class Gathered(keras.Model):
    """A model that returns the outputs for the examples of all processes on each.

    A process can read no others: `predict` of stock models raises an error.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs, training=None):
        outputs = self.model(inputs, training=training)
        rows = tree.flatten(outputs)[0].shape[0]
        shard = ops.arange(rows) // (rows // _shards())
        return tree.map_structure(_replicated, (outputs, shard))

    def predict(self, x, **options):
        """Outputs for the examples that this process has given, in their order."""
        outputs, shard = super().predict(x, **options)
        own = shard == keras.distribution.distribution().data_shard_id
        return tree.map_structure(lambda x: x[own], outputs)


def _shards():
    """The number of processes that give different examples."""
    distribution = keras.distribution.distribution()
    return min(distribution.num_model_replicas, distribution.num_processes)


def _replicated(x):
    mesh = keras.distribution.distribution().device_mesh
    layout = keras.distribution.TensorLayout([None] * len(x.shape), mesh)
    return keras.distribution.distribute_tensor(x, layout)
