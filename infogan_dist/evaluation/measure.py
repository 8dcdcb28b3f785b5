"""Runs the metrics of registry/metrics.py, and those of plugins, on a subject."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from infogan_dist.config.model import DataConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.figures import Figures, flat
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.subject import Subject, in_training
from infogan_dist.networks import Networks
from infogan_dist.registry.metrics import METRICS

Metric = Callable[[Subject, Reals, Group], Figures]

LIVE = 2000  # train images that a matching is fitted on, and images that G draws, during training
LIVE_TEST = 10_000  # test images during training: all of MNIST's


def measure(subject: Subject, reals: Reals, group: Group, during_training: bool = False) -> Figures:
    """The figures of all metrics, or of those that run during training. Every rank calls it and gets the same.

    Raises UserError where a plugin's metric is broken or gives a figure that another metric gives.
    """
    names = [record.name for record in METRICS if record.during_training or not during_training]
    metrics: dict[str, Metric] = {name: METRICS.load(name, "implementation", Callable) for name in names}
    figures: Figures = {}
    for name, metric in metrics.items():
        found = metric(subject, reals, group)
        for taken in figures.keys() & found.keys():
            raise METRICS.broken(name, f"it gives {taken}, which another metric gives")
        figures |= found
    return figures


def evaluate_networks(networks: Networks, config: Config, group: Group) -> dict[str, float]:
    """The figures of the codes during training, numbers only: `code_error`, `mutual_information/categorical_0`, ...

    Quick: the matching is fitted on few images. Without labels, those that need none. Every rank calls it; nothing of the
    networks changes, and no label leaves it.
    """
    reals = group.on_all(lambda: _opened_once(config.data))
    with in_training(networks, config, fresh=LIVE) as subject:
        figures = measure(subject, reals, group, during_training=True)
    figures.pop("mutual_information_ceiling", None)  # the same in every row
    return flat(figures)


@lru_cache(maxsize=1)
def _opened_once(data: DataConfig) -> Reals:
    return Reals.open(data, LIVE, LIVE_TEST)
