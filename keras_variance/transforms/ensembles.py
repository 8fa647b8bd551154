"""`ensemble`: many samples in one call."""

import keras
from keras import ops, tree

from keras_variance import _keras, checks
from keras_variance.random import SeedGenerator
from keras_variance.transforms.moments import heads
from keras_variance.transforms.sampling import Draws
from keras_variance.transforms.sources import (
    check_random,
    check_visible_noise,
    hides_noise,
    is_source,
)
from keras_variance.transforms.walk import Interpreter, is_functional, partial


def ensemble(
    model: keras.Model,
    samples: int = 20,
    shared_noise: bool = True,
    seed: int | None = None,
    dropout: bool = False,
    integrate_last: bool = False,
) -> keras.Model:
    """A model that draws all samples of an ensemble in one call.

    What comes before the first random layer is computed once, and the moments of that
    layer (local reparameterization and moment matching); the rest runs on
    batch · samples examples, in parts that fit the cache.

    Args:
        model: A built model with variance layers, or with `dropout`. A subclassed
            model, and a layer that has variance layers inside, is called once for
            each sample if Keras cannot trace its call, or the call does more than
            return its outputs.
        samples: Integer ≥ 1, the number of samples.
        shared_noise: Whether sample k has the same noise for every example of the
            batch. Each example still sees independent samples; examples are
            correlated, and far less noise is drawn.
        seed: Integer that makes the noise repeatable.
        dropout: Whether stock dropout and noise layers are random too, as in
            training: Monte Carlo dropout. BatchNorm stays as in inference.
        integrate_last: Whether the last variance layers are integrated and not drawn:
            each sample is then the mean over their noise, by `propagate_moments`.

    Returns:
        A Keras model with the same inputs, weights and losses, whose outputs have the
        shape (batch, samples, …).

    Raises:
        ValueError: If nothing in the model is random, or `samples` is below 1.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> tuple(ensemble(model, samples=5)(np.ones((2, 4))).shape)
    (2, 5, 3)

    References: Variance Networks (https://arxiv.org/abs/1803.03764): test-time
    averaging; Gal & Ghahramani, Dropout as a Bayesian Approximation
    (https://arxiv.org/abs/1506.02142).
    """
    options = {"dropout": dropout, "integrate_last": integrate_last}
    return Ensemble(model, samples, shared_noise, seed, **options).as_model()


@keras.saving.register_keras_serializable("keras_variance")
class Ensemble(Interpreter):
    """A model, walked with samples: the one layer of `ensemble`."""

    def __init__(
        self,
        model,
        samples=20,
        shared_noise=True,
        seed=None,
        dropout=False,
        integrate_last=False,
        head="quasi_monte_carlo",
        **kwargs,
    ):
        dropout = checks.flag("dropout", dropout)
        check_random(model, dropout)
        super().__init__(model, **kwargs)
        self.samples = checks.integer("samples", samples, minimum=1)
        self.shared_noise = checks.flag("shared_noise", shared_noise)
        self.seed = checks.seed(seed)
        self.dropout = dropout
        self.integrate_last = checks.flag("integrate_last", integrate_last)
        self.head = heads.get(head)
        self.seed_generator = SeedGenerator(self.seed)

    def as_model(self):
        if self.integrate_last and is_functional(self.model):
            self.check()
        return super().as_model()

    def call(self, inputs, training=None, mask=None):
        draws = self.draws(inputs, training, mask)
        outputs = draws.collect(lambda chunk: [_mean_and_mask(x.mean) for x in chunk])
        return draws.pack([_keras.set_mask(*each) for each in outputs])

    def draws(self, inputs, training=None, mask=None, at_once=None) -> "Draws":
        """The samples of a batch, to be drawn; at most `at_once` at the same time."""
        inputs = self.standardized(inputs, mask)
        noise = is_source(self.dropout), hides_noise(self.dropout)
        program = partial(self.model, inputs, *noise, training)
        check_visible_noise((step.operation for step in program.steps), self.dropout)
        rows = ops.shape(next(x for x in tree.flatten(inputs) if x is not None))[0]
        at_once = at_once or self.samples
        return Draws(self, program, self.samples, rows, training, at_once)

    def output_spec(self, spec):
        shape = (spec.shape[0], self.samples, *spec.shape[1:])
        return keras.KerasTensor(shape, spec.dtype)

    def get_config(self):
        names = ("samples", "shared_noise", "seed", "dropout", "integrate_last")
        config = {name: getattr(self, name) for name in names}
        config["head"] = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), **config}


def _mean_and_mask(x):
    mask = _keras.get_mask(x)
    return (x,) if mask is None else (x, mask)
