"""Prediction without samples: one pass of moments."""

from keras import tree

from keras_variance.inference.predict import Prediction, predict, prediction_of
from keras_variance.transforms.moments import propagate_moments
from keras_variance.transforms.rewrite import functional


def moment_predict(
    model,
    x,
    batch_size: int = 32,
    from_logits: bool = False,
    head="quasi_monte_carlo",
    dropout: bool = False,
    verbose="auto",
) -> Prediction:
    """Predict as `mc_predict` with many samples does, in one deterministic pass.

    The mutual information is the entropy of the mean minus the expected entropy:
    that of the head's points (`"quasi_monte_carlo"`), by quadrature (a sigmoid), or
    else to second order, ½ Σ Var[pᵢ] / E[pᵢ].

    Args:
        model: A built Sequential or Functional model with variance layers.
        x, batch_size, verbose: As for `mc_predict`.
        from_logits, head, dropout: As for `transforms.propagate_moments`.

    Returns:
        A `Prediction` of NumPy arrays without samples; for a model with several
        outputs, the structure of its outputs with a `Prediction` for each.

    Raises:
        ValueError: As `transforms.propagate_moments`.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(8, "relu"), keras.layers.Dense(3)]
    ... )
    >>> p = moment_predict(model, np.ones((2, 4)), from_logits=True, verbose=0)
    >>> p.mean.shape, p.mutual_information.shape
    ((2, 3), (2,))
    """
    moments = propagate_moments(model, from_logits, head, dropout, statistics=True)
    statistics = predict(moments, x, batch_size, verbose)
    return tree.map_structure_up_to(
        functional(model).output,
        lambda each: prediction_of(each, from_logits),
        statistics,
    )
