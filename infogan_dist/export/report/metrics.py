"""How each metric is written: its title and meaning, as a percentage or a number, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infogan_dist.export.report.scores import Scores


@dataclass(frozen=True)
class Metric:
    """A metric of the report. `key` is its path in evaluate's JSON."""

    key: str
    title: str
    meaning: str = ""
    better: Literal["lower", "higher", ""] = ""
    percent: bool = False
    limit: str = ""
    """The best value that it can have, where that is the same for every run."""
    floor_key: str = ""
    """The metric that holds its floor: what real images score."""

    def text(self, value: float) -> str:
        if self.percent:
            return f"{100 * value:.2f} %"
        digits = f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
        return digits.removeprefix("-") if float(digits) == 0 else digits

    def bound(self, scores: Scores) -> str:
        """Its ceiling or floor where that is measured or depends on the run; empty where there is none."""
        group, _, code = self.key.partition("/")
        if group in _UP_TO_LN_K and code in scores.ceilings:
            return f"of {self.text(scores.ceilings[code])}"
        return f"floor {self.text(scores.metrics[self.floor_key])}" if self.floor_key in scores.metrics else ""


_UP_TO_LN_K = ("mutual_information", "usage_entropy")

KNOWN = (
    Metric(
        "code_error",
        "Code error",
        "test images in another class than the one matched to their label",
        "lower",
        True,
        "0 %",
    ),
    Metric(
        "code_error_fitted_on_test",
        "Code error, matched on test",
        "the matching is fitted on the test images",
        "lower",
        True,
        "0 %",
    ),
    Metric(
        "code_error_averaged",
        "Code error, averaged",
        "Q's mean prediction over 16 augmented copies of each test image",
        "lower",
        True,
        "0 %",
    ),
    Metric("purity", "Purity", "test images with the most frequent label of their class", "higher", False, "1"),
    Metric("nmi", "NMI", "normalised mutual information of classes and labels", "higher", False, "1"),
    Metric("ari", "ARI", "adjusted Rand index of classes and labels", "higher", False, "1"),
    Metric("mutual_information", "Mutual information", "nats, on images that G draws", "higher"),
    Metric(
        "usage_entropy",
        "Usage entropy",
        "nats, of Q's mean prediction on test images; less than ln K where a class is rare",
        "higher",
    ),
    Metric("entropy_on_reals", "Entropy on reals", "nats, mean of Q's predictions on test images", "lower", False, "0"),
    Metric(
        "entropy_on_fakes",
        "Entropy on fakes",
        "nats, mean of Q's predictions on images that G draws",
        "lower",
        False,
        "0",
    ),
    Metric("calibration_error", "Calibration error", "expected calibration error (ECE) of Q", "lower", True, "0 %"),
    Metric(
        "traversal_consistency",
        "Traversal consistency",
        "fakes that are read as the digit of their class",
        "higher",
        True,
        "100 %",
    ),
    Metric(
        "non_digit_rate",
        "Non-digits",
        "fakes that are less certain than 99 % of real digits; 1 % of reals are",
        "lower",
        True,
    ),
    Metric("mode_coverage", "Mode coverage", "classes of the reals that G draws", "higher", True, "100 %"),
    Metric(
        "stacked_modes/modes",
        "Modes of stacked MNIST",
        "triples of digits among 26,000 images that G draws",
        "higher",
        limit="1,000",
    ),
    Metric(
        "stacked_modes/reverse_kl",
        "Reverse KL of stacked MNIST",
        "nats, of the triples drawn from the triples of the reals",
        "lower",
        floor_key="stacked_modes/reverse_kl_floor",
    ),
    Metric("factor_scores/mig", "MIG", "mutual information gap of Q's codes", "higher", limit="1"),
    Metric("factor_scores/factor_vae", "FactorVAE score", "accuracy of a majority vote", "higher", limit="1"),
    Metric(
        "factor_scores/sap",
        "Predictability gap",
        "of the best and second best code; SAP has a linear SVM",
        "higher",
        limit="1",
    ),
    Metric("factor_scores/disentanglement", "DCI disentanglement", "", "higher", limit="1"),
    Metric("factor_scores/completeness", "DCI completeness", "", "higher", limit="1"),
    Metric("factor_scores/informativeness", "DCI informativeness", "", "higher", limit="1"),
    Metric("reverse_kl", "Reverse KL", "nats, of the classes drawn from the classes of the reals", "lower", False, "0"),
    Metric(
        "frechet",
        "Fréchet distance",
        "to test images, in the reference classifier's features; not the FID",
        "lower",
        floor_key="frechet_floor",
    ),
    Metric(
        "kernel",
        "Kernel distance",
        "squared MMD to test images, in the same features",
        "lower",
        floor_key="kernel_floor",
    ),
    Metric("precision", "Precision", "fakes within the reals' neighbourhoods", "higher", False, "1"),
    Metric("recall", "Recall", "reals within the fakes' neighbourhoods", "higher", False, "1"),
    Metric("density", "Density", "mean number of reals' neighbourhoods that a fake is in, divided by 5", "higher"),
    Metric("coverage", "Coverage", "reals with a fake in their neighbourhood", "higher", False, "1"),
)
_HIDDEN = (
    *("frechet_floor", "kernel_floor"),
    *(f"stacked_modes/{key}" for key in ("modes_of_reals", "reverse_kl_floor", "images")),
)


def metrics_of(every: list[Scores]) -> list[Metric]:
    """The metrics that any run has, the known ones first."""
    keys = list(dict.fromkeys(key for scores in every for key in scores.metrics if key not in _HIDDEN))
    order = [metric.key for metric in KNOWN]

    def place(key: str) -> int:
        found = (name for name in (key, key.partition("/")[0]) if name in order)
        return next((order.index(name) for name in found), len(order))

    return [_metric(key) for key in sorted(keys, key=place)]


def _metric(key: str) -> Metric:
    group, _, rest = key.partition("/")
    known = next((metric for metric in KNOWN if metric.key == key), None)
    if known is not None:
        return known
    known = next((metric for metric in KNOWN if metric.key == group), None)
    title = known.title if known is not None else group.replace("_", " ").capitalize()
    title += f", {rest.replace('/', ', ')}" if rest else ""
    if known is None:
        return Metric(key, title)
    return Metric(key, title, known.meaning, known.better, known.percent, known.limit, known.floor_key)
