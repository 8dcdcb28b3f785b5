"""The metrics, one record each, in the order of `evaluate`'s table. To add one, add a file in evaluation/metrics/ and a record."""

from __future__ import annotations

from dataclasses import dataclass

from infogan_dist.registry.lookup import Registry


@dataclass(frozen=True, kw_only=True)
class MetricRecord:
    name: str
    implementation: str
    """`module:function` that maps (EvaluatedModel, Reals, Group) to Metrics. Every rank calls it. It leaves out what does not apply."""
    during_training: bool = False
    """Whether `evaluate.every` computes it too, on fewer images."""


_HERE = "infogan_dist.evaluation.metrics"

METRICS = Registry(
    "metric",
    "the metric",
    "infogan_dist.metrics",
    [
        MetricRecord(name="code_error", implementation=f"{_HERE}.code_error:code_error", during_training=True),
        MetricRecord(name="clustering", implementation=f"{_HERE}.clustering:clustering", during_training=True),
        MetricRecord(name="information", implementation=f"{_HERE}.information:information", during_training=True),
        MetricRecord(name="usage", implementation=f"{_HERE}.usage:usage", during_training=True),
        MetricRecord(name="calibration", implementation=f"{_HERE}.calibration:calibration", during_training=True),
        MetricRecord(name="factor_scores", implementation=f"{_HERE}.factor_scores:factor_scores"),
        MetricRecord(name="image_metrics", implementation=f"{_HERE}.image_metrics:image_metrics"),
        MetricRecord(name="stacked_modes", implementation=f"{_HERE}.stacked_modes:stacked_modes"),
        MetricRecord(name="continuous_effect", implementation=f"{_HERE}.continuous:continuous_effect"),
        MetricRecord(name="continuous_on_reals", implementation=f"{_HERE}.continuous:continuous_on_reals"),
    ],
)
