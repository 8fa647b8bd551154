"""What moments do not follow through, estimated from samples of its inputs."""

from keras import ops, random, tree

from keras_variance import _keras
from keras_variance.distributions.posteriors import TINY
from keras_variance.estimators import merge, split
from keras_variance.random import Stream, derive
from keras_variance.transforms.moments import dependence
from keras_variance.transforms.moments.rules import (
    Moments,
    UnsupportedError,
    name_of,
)
from keras_variance.transforms.repeating import mask_of, repeat, separately, with_mask
from keras_variance.transforms.walk import Known

# Of all noise: a call is told nothing of other calls but mean and variance
SEED = 0


def estimated(step, args, kwargs, samples):
    """`Moments` of a call's outputs, from calls with Gaussian inputs.

    Half of the noise is the other half's negative. With the outputs y₊ and y₋ of such a
    pair, e = (y₊ + y₋) / 2 and o = (y₊ − y₋) / 2,

        E[y] = E[e],  Var[y] = Var[e] + E[o²]

    Each is estimated without bias, and the mean of a linear function has no error. All
    examples have the same noise, every time: what is computed is a function of them.

    Args:
        step: A `walk.Step`.
        args, kwargs: Of its call, with `Known`s and `Moments` for values of the graph.
        samples: Even number ≥ 4 of calls, made as one on batch · samples examples; a
            layer with noise inside is called for each.

    Raises:
        ValueError: If an input is random and of integers.
    """
    given = [x for x in tree.flatten((args, kwargs)) if isinstance(x, Moments)]
    inputs = [*{id(x): x for x in given if x.variance is not None}.values()]
    if not all("float" in x.spec.dtype for x in step.unknowns):
        raise UnsupportedError(
            f"'{name_of(step.operation)}' has random inputs that are no "
            f"floating-point numbers, which have no moments. Received: {step.operation}"
        )
    drawn = {id(x): _draws(x, samples, derive(SEED, k)) for k, x in enumerate(inputs)}

    def draws(x):
        if isinstance(x, Moments):
            return drawn[id(x)] if id(x) in drawn else _copies(x.mean, samples)
        return _copies(x.tensor, samples) if isinstance(x, Known) else x

    args, kwargs = tree.map_structure(draws, (args, kwargs))
    if step.is_source:
        stream = _stream(step.operation, derive(SEED, len(inputs)))
        outputs = separately(step.operation, samples, stream, args, kwargs)
    else:
        outputs = step.operation(*args, **kwargs)
    origins = dependence.merged(step.operation, inputs, step.is_source)
    return tree.map_structure(lambda y: _moments(y, samples).from_(origins), outputs)


def _copies(x, samples):
    return with_mask(repeat, x, samples)


def _draws(x, samples, seed):
    """Of Gaussian variables: (batch · samples, …)."""
    shape = (samples // 2, *ops.shape(x.mean)[1:])
    noise = random.normal(shape, dtype=x.mean.dtype, seed=seed)
    deviations = ops.sqrt(x.variance + TINY)[:, None] * ops.concatenate([noise, -noise])
    draws = merge(x.mean[:, None] + deviations)
    mask = mask_of(x.mean)
    return draws if mask is None else _keras.set_mask(draws, repeat(mask, samples))


def _moments(y, samples):
    mask = mask_of(y)
    plus, minus = ops.split(split(Moments.of(y).mean, samples), 2, axis=1)
    even, odd = (plus + minus) / 2, (plus - minus) / 2
    mean = ops.mean(even, axis=1)
    squares = ops.sum(ops.square(even - mean[:, None]), axis=1) / (samples // 2 - 1)
    x = Moments(mean, squares + ops.mean(ops.square(odd), axis=1))
    if mask is not None:
        _keras.set_mask(mean, split(mask, samples)[:, 0])
    return x


def _stream(layer, seed):
    generator, *_ = _keras.seed_generators(layer)
    return Stream(ops.convert_to_tensor([seed, 0], generator.state.dtype))
