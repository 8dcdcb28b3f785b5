"""How light G's images are."""

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.figures import Figures
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.subject import Subject


def brightness(subject: Subject, reals: Reals, group: Group) -> Figures:
    """`toy_brightness`: the mean pixel of 64 fresh images, in [-1, 1]."""
    return {"toy_brightness": float(subject.sample(64, group).double().mean())}
