"""`average`: a plain classifier or regression of averages, as a Keras model."""

import keras
from keras import tree

from keras_variance.transforms.masks import check_unmasked
from keras_variance.transforms.moments.propagate import float_spec
from keras_variance.transforms.outputs import resolve
from keras_variance.transforms.predictives import CHUNK, Predictive
from keras_variance.types import AnyLikelihood


def average(
    model: keras.Model,
    samples: int = 20,
    likelihood: AnyLikelihood = "auto",
    chunk_size: int = CHUNK,
    seed: int | None = None,
    dropout: bool = False,
    integrate_last: bool = False,
) -> keras.Model:
    """A model that returns its predictions, averaged over samples of the weights.

        p(y | x) = 1/K Σ p(y | x, w_k)

    A plain classifier or regression in one call, differentiable in its inputs and its
    weights, for what takes any Keras model: attacks, explanations, distillation. Its
    gradient is that of the average; with fresh noise in each call, a step of
    "expectation over transformation" takes its expectation over `samples`.

    Args:
        model, samples, likelihood, chunk_size, seed, dropout, integrate_last: As for
            `predictive`.

    Returns:
        A Keras model with the same inputs, weights and losses, and outputs of the same
        shapes, in single precision: the `mean` of `predictive`; probabilities of
        classes, also of a model whose outputs are logits. Take their logarithm as it
        is: Keras's losses clip probabilities, which leaves no gradient where the model
        is sure. Outputs that are mean and log variance become those of the Gaussian
        with the mean and the total variance of the average, which is a mixture (of
        StudentT likewise); with a fixed `scale` they are means.

    Raises:
        ValueError: As `predictive`, or if outputs have a mask.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(3), keras.layers.Softmax()]
    ... )
    >>> tuple(average(model, samples=50)(np.ones((2, 4))).shape)
    (2, 3)

    Reference: Athalye, Carlini & Wagner, Obfuscated Gradients Give a False Sense of
    Security (https://arxiv.org/abs/1802.00420), section 4.2.
    """
    likelihood = resolve(model, likelihood)
    check_unmasked(model, "averages lack it")
    return Average(
        model,
        samples,
        likelihood,
        chunk_size,
        seed=seed,
        dropout=dropout,
        integrate_last=integrate_last,
    ).as_model()


@keras.saving.register_keras_serializable("keras_variance")
class Average(Predictive):
    """A model, walked with samples, of which the average is kept: the one layer of
    `average`."""

    def call(self, inputs, training=None, mask=None):
        draws = self.draws(inputs, training, mask, self.chunk_size)
        return draws.pack(self.averages(draws))

    def compute_output_spec(self, inputs, training=None, mask=None):
        specs = self.model.compute_output_spec(inputs)
        return tree.map_structure(float_spec, specs)
