"""Runs the metrics of registry/metrics.py, and those of plugins, on a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from infogan_dist.config.model import DataConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel, in_training
from infogan_dist.evaluation.metric_values import Metrics, flat
from infogan_dist.evaluation.reals import Reals
from infogan_dist.networks import Networks
from infogan_dist.registry.metrics import METRICS

Metric = Callable[[EvaluatedModel, Reals, Group], Metrics]

LIVE = 2000  # during training: train images for the matching, and images that G draws
LIVE_TEST = 10_000  # during training: test images, all of MNIST's


def measure(model: EvaluatedModel, reals: Reals, group: Group, during_training: bool = False) -> Metrics:
    """The values of all metrics, or of those that run during training. Every rank calls it and gets the same values.

    Raises UserError where a plugin's metric is broken or returns a key of another metric.
    """
    names = [record.name for record in METRICS if record.during_training or not during_training]
    functions: dict[str, Metric] = {name: METRICS.load(name, "implementation", Callable) for name in names}
    metrics: Metrics = {}
    for name, metric in functions.items():
        found = metric(model, reals, group)
        for taken in metrics.keys() & found.keys():
            raise METRICS.broken(name, f"it returns {taken}, as another metric does")
        metrics |= found
    return metrics


def evaluate_networks(networks: Networks, config: Config, group: Group) -> dict[str, float]:
    """The metrics during training, floats only: `code_error`, `mutual_information/categorical_0`, ... Every rank calls it.

    It fits the matching on few images, changes nothing in the networks, and returns no label.
    """
    reals = group.on_all(lambda: _opened_once(config.data))
    with in_training(networks, config, fresh=LIVE) as model:
        metrics = measure(model, reals, group, during_training=True)
    metrics.pop("mutual_information_ceiling", None)  # the same in every row
    return flat(metrics)


@lru_cache(maxsize=1)
def _opened_once(data: DataConfig) -> Reals:
    return Reals.open(data, LIVE, LIVE_TEST)
