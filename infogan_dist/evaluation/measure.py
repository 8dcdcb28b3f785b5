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

LIVE = 2000  # train images that a matching is fitted on, and images that G draws, during training
LIVE_TEST = 10_000  # test images during training: all of MNIST's


def measure(model: EvaluatedModel, reals: Reals, group: Group, during_training: bool = False) -> Metrics:
    """The metrics of all metrics, or of those that run during training. Every rank calls it and gets the same.

    Raises UserError where a plugin's metric is broken or gives a figure that another metric gives.
    """
    names = [record.name for record in METRICS if record.during_training or not during_training]
    functions: dict[str, Metric] = {name: METRICS.load(name, "implementation", Callable) for name in names}
    metrics: Metrics = {}
    for name, metric in functions.items():
        found = metric(model, reals, group)
        for taken in metrics.keys() & found.keys():
            raise METRICS.broken(name, f"it gives {taken}, which another metric gives")
        metrics |= found
    return metrics


def evaluate_networks(networks: Networks, config: Config, group: Group) -> dict[str, float]:
    """The metrics of the codes during training, numbers only: `code_error`, `mutual_information/categorical_0`, ...

    Quick: the matching is fitted on few images. Without labels, those that need none. Every rank calls it; nothing of the
    networks changes, and no label leaves it.
    """
    reals = group.on_all(lambda: _opened_once(config.data))
    with in_training(networks, config, fresh=LIVE) as model:
        metrics = measure(model, reals, group, during_training=True)
    metrics.pop("mutual_information_ceiling", None)  # the same in every row
    return flat(metrics)


@lru_cache(maxsize=1)
def _opened_once(data: DataConfig) -> Reals:
    return Reals.open(data, LIVE, LIVE_TEST)
