"""The pictures of an `Evaluation`'s page."""

import io

from keras_variance import plots


def of(details, preferred):
    """(title, PNG) of each picture.

    Args:
        details: What pictures need, by the title of the predictor.
        preferred: The predictor whose entropy is drawn, if it is there.
    """
    one = details.get(preferred, next(iter(details.values())))
    if "quantiles" in one:
        return [("Targets below predicted quantiles", png(_quantiles, details))]
    found = [
        ("Reliability: calibrated on the diagonal", png(_reliability, details)),
        ("Error of what is kept, the most certain first", png(_risk, details)),
    ]
    if "entropy" in one:
        title = f"Entropy in and out of distribution, {preferred}"
        found.append((title, png(_entropy, one["entropy"])))
    return found


def png(draw, *args) -> bytes:
    """The picture that `draw(ax, *args)` draws."""
    from matplotlib.figure import Figure

    figure = Figure((5, 3.75), layout="constrained")
    draw(figure.subplots(), *args)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _reliability(ax, details):
    for title, each in details.items():
        labels, p = each["labels"], each["probabilities"]
        plots.reliability_diagram(labels, p, ax=ax, label=title)
    ax.legend()


def _risk(ax, details):
    for title, each in details.items():
        plots.risk_coverage(each["curve"], ax=ax, label=title)
    ax.set_ylabel("share of errors")
    ax.legend()


def _entropy(ax, entropy):
    inside, outside = entropy
    plots.entropy_histogram(inside.ravel(), outside.ravel(), ax=ax)


def _quantiles(ax, details):
    ax.plot([0, 1], [0, 1], color="gray", linestyle=":", zorder=0)
    for title, each in details.items():
        levels, observed, _ = each["quantiles"]
        ax.plot(levels, observed, marker="o", label=title)
    ax.set(xlabel="level of the quantile", ylabel="share of targets below it")
    ax.legend()
