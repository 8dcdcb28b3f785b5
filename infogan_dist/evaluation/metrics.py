"""Every metric of a subject, in the order of the report. A new metric is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from infogan_dist.config import Config, DataConfig
from infogan_dist.distributed import Group
from infogan_dist.evaluation.calibration import calibration
from infogan_dist.evaluation.clustering import clustering
from infogan_dist.evaluation.code_error import code_error
from infogan_dist.evaluation.factor_scores import factor_scores
from infogan_dist.evaluation.figures import Figures, flat
from infogan_dist.evaluation.image_figures import continuous_effect, image_figures
from infogan_dist.evaluation.information import information
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.subject import Subject, in_training
from infogan_dist.evaluation.usage import usage
from infogan_dist.networks import Networks

Metric = Callable[[Subject, Reals, Group], Figures]

CODES: tuple[Metric, ...] = (code_error, clustering, information, usage, calibration)
IMAGES: tuple[Metric, ...] = (image_figures, continuous_effect)
METRICS = (*CODES, factor_scores, *IMAGES)

LIVE = 2000  # train images that a matching is fitted on, and images that G draws, during training
LIVE_TEST = 10_000  # test images during training: all of MNIST's


def measured(subject: Subject, reals: Reals, group: Group, metrics: Sequence[Metric] = METRICS) -> Figures:
    """The figures of all metrics. Every rank calls it and gets the same."""
    figures: Figures = {}
    for metric in metrics:
        figures |= metric(subject, reals, group)
    return figures


def evaluate_networks(networks: Networks, config: Config, group: Group) -> dict[str, float]:
    """The figures of the codes during training, numbers only: `code_error`, `mutual_information/categorical_0`, ...

    Quick: the matching is fitted on few images. Without labels, those that need none. Every rank calls it; nothing of the
    networks changes, and no label leaves it.
    """
    reals = group.on_all(lambda: _opened_once(config.data))
    with in_training(networks, config, fresh=LIVE) as subject:
        figures = measured(subject, reals, group, CODES)
    figures.pop("mutual_information_ceiling", None)  # the same in every row
    return flat(figures)


@lru_cache(maxsize=1)
def _opened_once(data: DataConfig) -> Reals:
    return Reals.open(data, LIVE, LIVE_TEST)
