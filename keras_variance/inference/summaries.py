"""`summary`: where the information of each variance layer sits, as a table."""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_variance import checks, estimators
from keras_variance.distributions import noises, posteriors
from keras_variance.layers.paths import find_variance_layers
from keras_variance.layers.weights import RandomWeights

QUANTILES = (0.05, 0.5, 0.95)
# Widths of the table, in characters: below `WIDE` the names of estimators break,
# to leave room for those of the layers; below `MINIMUM` there is none.
WIDE = 88
MINIMUM = 76


class LayerStatistics(NamedTuple):
    """What the weights of a variance layer are: a row of `summary`.

    A weight has mean μ and standard deviation σ, and is pruned if both are
    exactly 0.

    Attributes:
        name: The layer's name.
        class_name: The name of its class.
        posterior, noise, estimator: Their identifiers, as `"zero_mean"`, or the
            names of their classes where they are of no family's `MEMBERS`.
        quantity: What `quantiles` are of: `"sigma"`, |σ|, for zero mean, else
            `"log_alpha"`, log(σ²/μ²).
        quantiles: The 5 %, 50 % and 95 % quantiles over the weights that are
            not pruned; NaN if there is none.
        kl: KL(posterior‖prior) in nats, without `kl_weight`; None without a
            prior.
        sparsity: Share of the weights that are pruned, from 0 to 1.
        log_alpha: log(Σσ²/Σμ²), one α for the layer: infinite for zero mean,
            NaN if all weights are pruned, or one is NaN or infinite.
        verdict: Where the information sits, by `log_alpha`: `"mean"` below 3,
            `"variance"` above 7, `"mixed"` between; `"none"` if all weights are
            pruned, `"nan"` if one is NaN or infinite.
    """

    name: str
    class_name: str
    posterior: str
    noise: str
    estimator: str
    quantity: str
    quantiles: tuple[float, float, float]
    kl: float | None
    sparsity: float
    log_alpha: float
    verdict: str


def layer_statistics(layer: RandomWeights) -> LayerStatistics:
    """Statistics of the weights of one variance layer.

    The verdict rests on log α = log(Σσ²/Σμ²), which is the learned log α of a
    `layer_alpha` layer. At log α = 3 the noise of a weight is 4 times its mean,
    which sums over many inputs still show; at log α = 7 it is 33 times.

    The noise of the layer is not touched: the KL divergence of a Monte Carlo
    prior is estimated with a fixed seed.

    Args:
        layer: A variance layer that is built.

    Returns:
        A `LayerStatistics`.

    Raises:
        ValueError: If it is none, or not built.

    Example:

    >>> import keras_variance as kv
    >>> layer = kv.VarianceDense(3, posterior="layer_alpha")
    >>> layer.build((None, 4))
    >>> statistics = layer_statistics(layer)
    >>> statistics.quantity, statistics.quantiles, statistics.verdict
    ('log_alpha', (-5.0, -5.0, -5.0), 'mean')

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), Theorem 1
    and Table 1: with a growing α the mean loses its information.
    """
    is_one = isinstance(layer, RandomWeights)
    checks.require(is_one, "layer", "a variance layer, of one model", layer)
    checks.built("layer", layer)
    zero_mean = all(weight.mean is None for weight in layer.random_weights)
    mean = _of_each_entry(layer, lambda weight: 0.0 if zero_mean else weight.mean)
    scale = _of_each_entry(layer, lambda weight: weight.scale)
    values = np.abs(scale)
    if not zero_mean:
        values = _of_each_entry(layer, lambda weight: weight.log_alpha)
    left = (mean != 0) | (scale != 0)
    log_alpha = _log(np.sum(scale**2)) - _log(np.sum(mean**2))
    verdict = _verdict(log_alpha) if left.any() else "none"
    return LayerStatistics(
        name=layer.name,
        class_name=type(layer).__name__,
        posterior=_identifier(layer.posterior, posteriors.MEMBERS),
        noise=_identifier(layer.noise, noises.MEMBERS),
        estimator=_identifier(layer.estimator, estimators.MEMBERS),
        quantity="sigma" if zero_mean else "log_alpha",
        quantiles=_quantiles(values[left]),
        kl=_kl(layer),
        sparsity=1 - float(np.mean(left)),
        log_alpha=log_alpha,
        verdict=verdict,
    )


def summary(
    model: keras.Model,
    print_fn: Callable[[str], object] | None = None,
    line_length: int | None = None,
) -> None:
    """Print a table of a model's variance layers, one row each.

    The columns are those of `LayerStatistics`; `layer_statistics` returns them.

    Args:
        model: A model that is built; layers of nested models count too.
        print_fn: Function that takes the whole table as plain text. Defaults to
            printing, with colors where the terminal has them.
        line_length: Width of the table in characters, at least 76. Defaults to
            what the table needs, up to the terminal's width.

    Raises:
        ValueError: If the model is not built or has no variance layer, or for a
            `line_length` below 76.

    Example:

    >>> import keras_variance as kv
    >>> layer = kv.VarianceDense(3, kernel_initializer="ones", name="dense")
    >>> model = keras.Sequential([keras.Input((4,)), layer], name="small")
    >>> summary(model, line_length=80)
    Model: "small"
    ┏━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━┳━━━━━━━┳━━━━━━━━━━┓
    ┃ Layer            ┃ Posterior           ┃ σ/log α ┃     KL ┃ Zeros ┃ Verdict  ┃
    ┃ (class)          ┃ noise               ┃     5 % ┃ (nats) ┃   (%) ┃          ┃
    ┃                  ┃ estimator           ┃    50 % ┃        ┃       ┃          ┃
    ┃                  ┃                     ┃    95 % ┃        ┃       ┃          ┃
    ┡━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━╇━━━━━━━╇━━━━━━━━━━┩
    │ dense            │ zero_mean           │       σ │      - │   0.0 │ variance │
    │ (VarianceDense)  │ gaussian            │    1.00 │        │       │          │
    │                  │ local_              │    1.00 │        │       │          │
    │                  │ reparameterization  │    1.00 │        │       │          │
    └──────────────────┴─────────────────────┴─────────┴────────┴───────┴──────────┘
     Verdict: does the information sit in the mean or in the variance?
    """
    layers = find_variance_layers(model, built=True)
    if line_length is not None:
        line_length = checks.integer("line_length", line_length, minimum=MINIMUM)
    known = print_fn is None or callable(print_fn)
    checks.require(known, "print_fn", "a function, or None", print_fn)
    rows = [layer_statistics(layer) for layer in layers]
    if print_fn is None and not keras.config.is_interactive_logging_enabled():
        from absl import logging

        print_fn = logging.info
    _print(model.name, rows, print_fn, line_length)


def _of_each_entry(layer, value):
    """`value(weight)` of each random weight, broadcast to it: one array, (entries,),
    in double precision."""
    arrays = [
        np.broadcast_to(ops.convert_to_numpy(value(weight)), weight.shape)
        for weight in layer.random_weights
    ]
    return np.concatenate([array.ravel() for array in arrays]).astype("float64")


def _log(x):
    return -math.inf if x == 0 else math.log(x)


def _quantiles(values):
    if not values.size:
        return (math.nan,) * len(QUANTILES)
    # Without interpolation, which has no answer beside an infinite log α
    return tuple(np.quantile(values, QUANTILES, method="inverted_cdf").tolist())


def _kl(layer):
    if layer.prior is None:
        return None
    kl = layer.kl_divergence(keras.random.SeedGenerator(0))
    return float(ops.convert_to_numpy(kl))


def _verdict(log_alpha):
    if math.isnan(log_alpha):
        return "nan"
    if log_alpha < 3:
        return "mean"
    return "variance" if log_alpha > 7 else "mixed"


def _identifier(member, members):
    """The name of a member's class in its family, or else the class's own."""
    names = {cls: name for name, cls in members.items()}
    return names.get(type(member), type(member).__name__)


def _print(name, rows, print_fn, line_length):
    from rich.console import Console
    from rich.markup import escape

    plain = {"force_terminal": False, "color_system": None} if print_fn else {}
    console = Console(highlight=False, width=line_length, **plain)
    console.width = max(console.width, MINIMUM)
    if print_fn:
        console.begin_capture()
    console.print(f'[bold]Model: "{escape(name)}"[/]')
    console.print(_table(rows, line_length, wide=console.width >= WIDE))
    console.print(" Verdict: does the information sit in the mean or in the variance?")
    if print_fn:
        print_fn(console.end_capture())


def _table(rows, line_length, wide):
    from rich.table import Column, Table

    number = {"no_wrap": True, "justify": "right", "style": "color(34)"}
    table = Table(
        Column(_header("Layer", "(class)"), overflow="fold"),
        Column(_header("Posterior", "noise", "estimator"), no_wrap=True),
        Column(_header("σ/log α", "5 %", "50 %", "95 %"), **number),
        Column(_header("KL", "(nats)"), **number),
        Column(_header("Zeros", "(%)"), **number),
        Column(_header("Verdict"), no_wrap=True),
        width=line_length,
        show_lines=True,
    )
    for row in rows:
        table.add_row(*_cells(row, wide))
    return table


def _header(*lines):
    """A header whose lines stand over the same lines of the cells."""
    # rich aligns headers at the bottom.
    return "\n".join(lines) + "\n" * (4 - len(lines))


def _cells(row, wide):
    from rich.markup import escape

    estimator = row.estimator if wide else row.estimator.replace("_", "_\n")
    label = "σ" if row.quantity == "sigma" else "log α"
    return (
        f"{escape(row.name)}\n([color(33)]{row.class_name}[/])",
        f"{row.posterior}\n{row.noise}\n{estimator}",
        "\n".join([label, *map(_format, row.quantiles)]),
        "-" if row.kl is None else _format(row.kl),
        f"{100 * row.sparsity:.1f}",
        row.verdict,
    )


def _format(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:#.3g}"
