"""Disentanglement scores for images with known factors: MIG, FactorVAE, a gap in predictability like SAP's, and DCI.

`codes` are Q's predictions on N images, `factors` the factors that the images were drawn from. A categorical code is one
discrete variable, not a group of one-hot columns, which would spread its information over many variables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from infogan_dist.evaluation.contingency import contingency
from infogan_dist.randomness import Stream

BINS = 20  # of a continuous variable where a score needs a discrete one (Locatello et al. 2019, appendix C)
VOTES = 800  # to fit the majority vote, and as many to score it (Kim & Mnih 2018, appendix B)
IMAGES_OF_A_VOTE = 200  # Kim & Mnih 2018, appendix B
LEAST_DEVIATION = 0.05  # standard deviation of a code that votes; those below are pruned, as disentanglement_lib does
_TREES = 30
_TRAINED_ON = 0.8  # share of the images that DCI's trees are fitted on; the rest score them


@dataclass(frozen=True)
class Variables:
    """Codes or factors of N images: float [N, V], and whether each of the V is discrete, with class numbers from 0."""

    values: Tensor
    discrete: tuple[bool, ...]

    def as_classes(self) -> list[Tensor]:
        """Each variable as int64 [N]: its class numbers where it is discrete, else its bin among `BINS` of equal width."""
        return [_binned(column, kind) for column, kind in zip(self.values.T, self.discrete, strict=True)]


def mutual_information_gap(codes: Variables, factors: Variables) -> float:
    """MIG: the mean over factors of (I(best code) - I(second best)) / H(factor) (Chen et al. 2018, Eq. 6)."""
    entropies = [_mutual_information(factor, factor) for factor in factors.as_classes()]
    by_factor = information(codes, factors).T.tolist()
    return _mean([_gap(of_codes) / entropy for of_codes, entropy in zip(by_factor, entropies, strict=True)])


def information(codes: Variables, factors: Variables) -> Tensor:
    """Mutual information of each code with each factor in nats, float64 [codes, factors]. Continuous variables are binned."""
    of_factors = factors.as_classes()
    nats = [[_mutual_information(code, factor) for factor in of_factors] for code in codes.as_classes()]
    return torch.tensor(nats, dtype=torch.float64)


def factor_vae_score(codes: Variables, factors: Variables, stream: Stream) -> float:
    """Accuracy of the code with the least variance at naming the fixed factor (Kim & Mnih 2018, section 4). Chance is 1 / factors.

    Each vote fixes one factor over `IMAGES_OF_A_VOTE` images. The majority vote is fitted on half of the votes and scored on the
    rest. The variance of a discrete code is Gini's (Dupont 2018, section 4). Codes whose standard deviation is below
    LEAST_DEVIATION are left out, the threshold of disentanglement_lib for codes of unit scale; 0 where all are.
    """
    spread = _spreads(codes)
    active = spread.sqrt() >= LEAST_DEVIATION
    if not active.any():
        return 0.0
    classes = factors.as_classes()
    held = stream.derived("factor").integers(torch.arange(2 * VOTES), 1, below=len(classes))[:, 0]
    like = stream.derived("image").integers(torch.arange(2 * VOTES), 1, below=len(codes.values))[:, 0]
    picks = stream.derived("others").bits(torch.arange(2 * VOTES), IMAGES_OF_A_VOTE)
    chosen = []
    for factor, image, draws in zip(held.tolist(), like.tolist(), picks, strict=True):
        alike = (classes[factor] == classes[factor][image]).nonzero()[:, 0]
        group = Variables(codes.values[alike[draws % len(alike)]], codes.discrete)
        chosen.append(torch.where(active, _spreads(group) / spread, torch.inf).argmin())
    votes = torch.zeros(len(spread), len(classes), dtype=torch.int64)
    votes.index_put_((torch.stack(chosen[:VOTES]), held[:VOTES]), torch.tensor(1), accumulate=True)
    return (votes.argmax(1)[torch.stack(chosen[VOTES:])] == held[VOTES:]).double().mean().item()


def predictability_gap(codes: Variables, factors: Variables) -> float:
    """The mean over factors of the score of the best code minus that of the second best, after SAP (Kumar et al. 2018, section 3).

    The score of a continuous factor is the R² of linear regression, as in SAP; for a discrete code, of the class means. The score
    of a discrete factor is the accuracy of the majority label of each class or bin of the code, where SAP thresholds the code and
    disentanglement_lib, which scores all factors as discrete, fits a linear SVM: the values are not comparable with theirs.
    """
    gaps = []
    for factor, is_class in zip(factors.values.T.double(), factors.discrete, strict=True):
        scores = []
        for code, binned, in_classes in zip(codes.values.T.double(), codes.as_classes(), codes.discrete, strict=True):
            if is_class:
                scores.append(_majority_accuracy(binned, factor.long()))
            else:
                scores.append(_r_squared(one_hot(binned).double() if in_classes else code[:, None], factor))
        gaps.append(_gap(scores))
    return _mean(gaps)


def disentanglement_completeness_informativeness(
    codes: Variables, factors: Variables, stream: Stream
) -> dict[str, float]:
    """DCI from feature importances of random forests (Eastwood & Williams 2018, section 3); empty without scikit-learn.

    informativeness: accuracy or R² on images that were not fitted, mean over factors. See `importance_scores` for the others.
    """
    if find_spec("sklearn") is None:  # the extra `evaluate` is not installed
        return {}
    importance, scores = _forests(codes, factors, stream)
    return {**importance_scores(importance), "informativeness": _mean(scores)}


def importance_scores(importance: Tensor) -> dict[str, float]:
    """`disentanglement` and `completeness` of the importance of each code for each factor, float64 [codes, factors].

    disentanglement: 1 - entropy of each code's importance over factors, mean weighted by the code's total importance.
    completeness: 1 - entropy of each factor's importance over codes, mean weighted by the factor's, as in disentanglement_lib.
    """
    return {
        "disentanglement": _weighted_concentration(importance),
        "completeness": _weighted_concentration(importance.T),
    }


def _weighted_concentration(importance: Tensor) -> float:
    """1 - relative entropy of each row, mean weighted by the sums of the rows; 0 where all importance is 0."""
    sums = importance.sum(1)
    concentration = 1 - _relative_entropy(importance / sums[:, None].clamp(min=1e-12))
    return ((sums * concentration).sum() / importance.sum().clamp(min=1e-12)).item()


def _forests(codes: Variables, factors: Variables, stream: Stream) -> tuple[Tensor, list[float]]:
    """The importance of each code for each factor, [codes, factors], and the score of each factor's forest on the test images."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    classes = codes.as_classes()
    kinds = list(enumerate(codes.discrete))
    blocks = [one_hot(classes[i]).double() if kind else codes.values[:, i : i + 1].double() for i, kind in kinds]
    inputs, widths = torch.cat(blocks, dim=1).numpy(), [block.shape[1] for block in blocks]
    order = stream.permutation(0, len(inputs)).numpy()
    train, test = order[: round(_TRAINED_ON * len(order))], order[round(_TRAINED_ON * len(order)) :]
    importances, scores = [], []
    for number, (factor, kind) in enumerate(zip(factors.values.T, factors.discrete, strict=True)):
        seed = int(stream.derived("trees").bits(torch.tensor([number]), 1))
        forest: Any = (RandomForestClassifier if kind else RandomForestRegressor)(_TREES, random_state=seed)
        target = factor.numpy()
        forest.fit(inputs[train], target[train])
        scores.append(float(forest.score(inputs[test], target[test])))
        importances.append(
            torch.stack([part.sum() for part in torch.tensor(forest.feature_importances_).split(widths)])
        )
    return torch.stack(importances, dim=1), scores


def _binned(column: Tensor, discrete: bool) -> Tensor:
    if discrete:
        return column.long()
    column = column.double()
    low, high = column.min(), column.max()
    return ((column - low) / (high - low).clamp(min=1e-12) * BINS).long().clamp(max=BINS - 1)


def _mutual_information(a: Tensor, b: Tensor) -> float:
    """I(a; b) in nats, of classes int64 [N] each. I(a; a) is the entropy of a."""
    joint = contingency(a, b).double() / len(a)
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return torch.where(joint > 0, joint * torch.log(joint / independent), 0.0).sum().item()


def _spreads(variables: Variables) -> Tensor:
    """Variance of each variable, float64 [V]; of a discrete one Gini's: half the probability that two of its values differ."""
    spreads = []
    for column, discrete in zip(variables.values.T.double(), variables.discrete, strict=True):
        counts = column.long().bincount().double() if discrete else column
        pairs = len(column) * (len(column) - 1)
        spreads.append((len(column) ** 2 - counts.square().sum()) / (2 * pairs) if discrete else column.var())
    return torch.stack(spreads)


def _majority_accuracy(code: Tensor, factor: Tensor) -> float:
    return contingency(code, factor).amax(1).sum().item() / len(code)


def _r_squared(inputs: Tensor, target: Tensor) -> float:
    """R² of linear regression with an intercept, of inputs [N, I] on target [N]; 0 where the target is constant."""
    x, y = inputs - inputs.mean(0), target - target.mean()
    total = y.square().sum().item()
    residual = (y - x @ torch.linalg.pinv(x) @ y).square().sum().item()
    return 1 - residual / total if total > 0 else 0.0


def _relative_entropy(shares: Tensor) -> Tensor:
    """Entropy of each row [.., K] divided by ln K; 0 where K is 1."""
    entropy = -torch.xlogy(shares, shares).sum(1)
    return entropy / math.log(shares.shape[1]) if shares.shape[1] > 1 else entropy


def _gap(scores: list[float]) -> float:
    """The best score minus the second best; the best itself where it is the only one."""
    first, second = sorted([*scores, 0.0], reverse=True)[:2]
    return first - second


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
