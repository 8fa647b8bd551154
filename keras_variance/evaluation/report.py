"""`Evaluation`: what `evaluate` found, as a table, a dict, or a page."""

import dataclasses
from pathlib import Path

from keras_variance import checks
from keras_variance.evaluation import page, pictures

TITLES = {
    "sample": "one sample",
    "means": "means",
    "samples": "{} samples",
    "moments": "moments",
    "calibrated": "calibrated",
}
# What each measure is, and whether more or less of it is better
MEASURES = {
    "accuracy": ("accuracy", "↑", "share of examples whose class is predicted"),
    "rmse": ("RMSE", "↓", "root mean squared error"),
    "nll": ("NLL", "↓", "negative log-likelihood, nats per label"),
    "brier": ("Brier score", "↓", "squared error of the probabilities, summed"),
    "reliability": ("reliability", "↓", "its part that calibration would remove"),
    "resolution": ("resolution", "↑", "what knowing the example takes away from it"),
    "uncertainty": ("uncertainty", "", "the Brier score of the shares of the classes"),
    "ece": ("ECE", "↓", "mean gap of confidence and accuracy, 15 bins"),
    "adaptive_ece": ("adaptive ECE", "↓", "with bins of equal mass"),
    "classwise_ece": ("classwise ECE", "↓", "of every class's probability"),
    "aurc": ("AURC", "↓", "average error by coverage, the most certain kept"),
    "accuracy_at_90": ("accuracy at 90 %", "↑", "without the 10 % least certain"),
    "entropy": ("entropy", "", "average total uncertainty, nats"),
    "mutual_information": ("mutual information", "", "how samples disagree, nats"),
    "crps": ("CRPS", "↓", "ranked probability score, in units of the target"),
    "coverage_90": ("coverage of 90 %", "", "share of targets in their intervals"),
    "width_90": ("width of 90 %", "↓", "of these intervals"),
    "quantile_error": ("quantile error", "↓", "mean gap of levels and shares below"),
    "epistemic": ("epistemic stddev", "", "of the mean, over samples"),
    "aleatoric": ("aleatoric stddev", "", "of the target, given the weights"),
}
for _score, _title in (("entropy", "entropy"), ("mutual_information", "MI")):
    MEASURES |= {
        f"auroc_{_score}": (f"OOD AUROC, {_title}", "↑", "out of distribution"),
        f"aupr_{_score}": (f"OOD AUPR, {_title}", "↑", "out of distribution"),
        f"fpr95_{_score}": (f"OOD FPR95, {_title}", "↓", "false alarms at 95 % found"),
    }


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. `str()` is a table: a row per measure.

    Attributes:
        examples: The number of examples.
        samples: The number of samples.
        temperature: That of the calibrated predictor, or None.
        measures: {predictor: {measure: number}}.
        details: What pictures need, by predictor.
    """

    examples: int
    samples: int
    temperature: float | None
    measures: dict[str, dict[str, float]]
    details: dict = dataclasses.field(repr=False, compare=False)

    def to_dict(self) -> dict:
        """All numbers, in a dict that JSON can hold."""
        names = ("examples", "samples", "temperature")
        numbers = {name: getattr(self, name) for name in names}
        measures = {name: dict(each) for name, each in self.measures.items()}
        return {**numbers, "measures": measures}

    def rows(self):
        """The table: a list of (title, what it is, [text for each predictor])."""
        names = [name for name in MEASURES if self._has(name)]
        return [
            (f"{title} {better}".strip(), meaning, self._texts(name))
            for name in names
            for title, better, meaning in [MEASURES[name]]
        ]

    def titles(self):
        """Of the predictors."""
        return [TITLES[name].format(self.samples) for name in self.measures]

    def _has(self, name):
        return any(name in each for each in self.measures.values())

    def _texts(self, name):
        values = [each.get(name) for each in self.measures.values()]
        return ["–" if value is None else f"{value:.4f}" for value in values]

    def __str__(self):
        rows = self.rows()
        left = max(len(title) for title, *_ in rows)
        titles = self.titles()
        widths = [max(len(title), 7) for title in titles]

        def line(first, texts):
            cells = (f"{x:>{width}}" for x, width in zip(texts, widths, strict=True))
            return "  ".join([f"{first:<{left}}", *cells])

        lines = [line("", titles), *(line(title, texts) for title, _, texts in rows)]
        return "\n".join([f"{self.examples:,} examples{self._temperature()}", *lines])

    def _temperature(self):
        return "" if self.temperature is None else f", T = {self.temperature:.3f}"

    def to_html(self, path) -> Path:
        """Write one page with the table and pictures, which needs no other file.

        Args:
            path: Of the page, in a folder that exists.

        Returns:
            The path.

        Raises:
            ValueError: If the path is none.
            OSError: If it cannot be written.
        """
        path = checks.path("path", path)
        facts = f"{self.examples:,} examples, {self.samples} samples of the weights"
        details = dict(zip(self.titles(), self.details.values(), strict=True))
        text = page.html(
            facts + self._temperature(),
            self.titles(),
            self.rows(),
            pictures.of(details, TITLES["samples"].format(self.samples)),
        )
        path.write_text(text, encoding="utf-8")
        return path
