"""The losses of InfoGAN as pure functions of tensors, in the papers' order and notation. All values are in nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu, softplus
from torch.special import entr

from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.registry.losses import ADVERSARIAL_LOSSES

SMALLEST_JOINT = 1e-6  # lower bound of a joint probability before its logarithm
SMALLEST_SQUARE = 1e-20  # of a gradient's norm: the derivative of a square root is infinite at 0


@dataclass(frozen=True)
class CodePosterior:
    """Q(c | x): logits [B, K] of each categorical code; mean and log-variance [B, n] of the continuous codes."""

    logits: tuple[Tensor, ...]
    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_output(cls, output: Tensor, spec: LatentSpec, objective: ObjectiveConfig) -> CodePosterior:
        """Split Q's output [B, spec.posterior_dim], in float32 or higher. A fixed variance is 1."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        *logits, mean, log_variance = output.split([*spec.categorical, spec.continuous, spec.continuous], dim=1)
        if objective.continuous_likelihood == "fixed":
            log_variance = torch.zeros_like(log_variance)
        return cls(tuple(logits), mean, log_variance)


@dataclass(frozen=True)
class AdversarialLoss:
    """D's and G's loss as functions of logits [n, 1], float32 or higher, n the number of images or packs. Each returns a scalar.

    `discriminator` takes (real_logits, fake_logits), and the target of reals if its record says so. `generator` takes (fake_logits,
    real_logits), whose real_logits are None unless `compares_with_reals`. D is undecided at a logit of 0.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    compares_with_reals: bool = False


def adversarial_loss(objective: ObjectiveConfig) -> AdversarialLoss:
    """The loss named by `objective.adversarial`. Raises UserError if its plugin is broken."""
    loss: AdversarialLoss = ADVERSARIAL_LOSSES.load(objective.adversarial, "implementation", AdversarialLoss)
    return loss


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, objective: ObjectiveConfig) -> Tensor:
    """D's adversarial loss, with D's target for reals lowered by `label_smoothing`."""
    real_target = (1 - objective.label_smoothing,) if objective.label_smoothing else ()
    loss = adversarial_loss(objective).discriminator
    return loss(_full_precision(real_logits), _full_precision(fake_logits), *real_target)


def generator_loss(fake_logits: Tensor, real_logits: Tensor | None, objective: ObjectiveConfig) -> Tensor:
    """G's adversarial loss. `real_logits` is None unless the loss compares with reals."""
    return adversarial_loss(objective).generator(
        _full_precision(fake_logits), None if real_logits is None else _full_precision(real_logits)
    )


def _cross_entropy_D(real_logits: Tensor, fake_logits: Tensor, real_target: float = 1.0) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z, c)))], reals 1 and fakes 0 (Goodfellow et al. 2014, Eq. 1). With a target t for reals the first
    term is -E[t log D(x) + (1 - t) log(1 - D(x))] (Salimans et al. 2016, section 3.4)."""
    of_reals = softplus(-real_logits)
    if real_target < 1:
        of_reals = of_reals + (1 - real_target) * real_logits
    return of_reals.mean() + softplus(fake_logits).mean()


def _cross_entropy_G(fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
    """-E[log D(G(z, c))], the non-saturating form (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake_logits).mean()


def _relativistic_D(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log σ(l(x) - l(G(z, c)))] of the logits l of pairs (Jolicoeur-Martineau 2019, Eq. 3; Huang et al. 2024)."""
    return softplus(fake_logits - real_logits).mean()


def _relativistic_G(fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
    """-E[log σ(l(G(z, c)) - l(x))] (Jolicoeur-Martineau 2019, Eq. 4)."""
    assert real_logits is not None
    return softplus(-(fake_logits - real_logits)).mean()


def _hinge_D(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z, c)))] (Lim and Ye 2017, Eq. 4)."""
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def _least_squares_D(real_logits: Tensor, fake_logits: Tensor, real_target: float = 1.0) -> Tensor:
    """½ E[(D(x) - 1)²] + ½ E[(D(G(z, c)) + 1)²], with a target other than 1 for reals if given (Mao et al. 2017, Eq. 8)."""
    return 0.5 * (real_logits - real_target).square().mean() + 0.5 * (fake_logits + 1).square().mean()


def _least_squares_G(fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
    """½ E[D(G(z, c))²] (Mao et al. 2017, Eq. 8)."""
    return 0.5 * fake_logits.square().mean()


def _wasserstein_D(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[D(G(z, c))] - E[D(x)] (Arjovsky et al. 2017, Eq. 2)."""
    return fake_logits.mean() - real_logits.mean()


def _critic_G(fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
    """-E[D(G(z, c))], for the hinge and the Wasserstein loss."""
    return -fake_logits.mean()


def zero_loss(*logits: Tensor) -> Tensor:
    """0, with gradients of 0 for the networks behind `logits`: DDP needs a gradient for every parameter."""
    return 0 * torch.cat(logits).sum()


STANDARD = AdversarialLoss(_cross_entropy_D, _cross_entropy_G)
RELATIVISTIC = AdversarialLoss(_relativistic_D, _relativistic_G, compares_with_reals=True)
HINGE = AdversarialLoss(_hinge_D, _critic_G)
LEAST_SQUARES = AdversarialLoss(_least_squares_D, _least_squares_G)
WASSERSTEIN = AdversarialLoss(_wasserstein_D, _critic_G)
NONE = AdversarialLoss(zero_loss, lambda fake_logits, _: zero_loss(fake_logits))


def squared_gradients(logits: Tensor, images: Tensor) -> Tensor:
    """|∇D(x)|² of each logit, of which gradient penalties are functions, with x the image or the pack that D scores. Differentiable once
    more."""
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.square().reshape(len(logits), -1).sum(1)


def gradient_penalty(
    real: Tensor | None, fake: Tensor | None, between: Tensor | None, objective: ObjectiveConfig
) -> Tensor | None:
    """γ1/2 E|∇D(x)|² + γ2/2 E|∇D(G(z, c))|² + λ E(|∇D(x')| - 1)² from squared gradients [n]; None if there are none.

    R1 and R2 of Mescheder et al. 2018, Eqs. 9 and 10. x' are points between reals and fakes (Gulrajani et al. 2017, Eq. 3).
    """
    weighted = [(objective.r1_gamma, real), (objective.r2_gamma, fake)]
    terms = [gamma / 2 * gradients.mean() for gamma, gradients in weighted if gradients is not None]
    if between is not None:
        norms = between.clamp_min(SMALLEST_SQUARE).sqrt()
        terms.append(objective.lambda_gradient_penalty * (norms - 1).square().mean())
    return torch.stack(terms).sum() if terms else None


def negative_log_likelihoods(posterior: CodePosterior, codes: Codes, spec: LatentSpec) -> dict[str, Tensor]:
    """-E[log Q(c | x)] of each code: cross-entropy of a class, Gaussian with learned variance of a continuous code."""
    classes = codes.categorical.unbind(1)
    categorical = [cross_entropy(logits, c) for logits, c in zip(posterior.logits, classes, strict=True)]
    squared = (codes.continuous.to(posterior.mean) - posterior.mean).square() * torch.exp(-posterior.log_variance)
    gaussian = 0.5 * (math.log(2 * math.pi) + posterior.log_variance + squared)
    return dict(zip(spec.code_names, [*categorical, *gaussian.mean(0)], strict=True))


def information_loss(
    nll: dict[str, Tensor], spec: LatentSpec, objective: ObjectiveConfig, device: torch.device | None = None
) -> Tensor:
    """λ · -E[log Q(c | x)] summed over the codes: -λ L_I without its constant H(c) (Chen et al. 2016, Eqs. 5 and 6).

    If there are no codes, 0 on `device`."""
    weight = dict.fromkeys(spec.categorical_names, objective.lambda_categorical)
    weight |= dict.fromkeys(spec.continuous_names, objective.lambda_continuous)
    terms = (weight[name] * value for name, value in nll.items())
    return sum(terms, start=torch.zeros((), device=device))


def information_bound(nll: dict[str, Tensor], spec: LatentSpec, priors: Sequence[Tensor] = ()) -> dict[str, Tensor]:
    """L_I of each code: H(c) + E[log Q(c | G(z, c))] (Chen et al. 2016, Eq. 5). At most H(c) for classes, which is ln K if they are
    uniform. `priors` are the current learned ones, [K] each; without them the spec's count."""
    entropies: dict[str, float | Tensor] = {**spec.entropies()}
    entropies |= {name: entr(p).sum() for name, p in zip(spec.categorical_names, priors, strict=False)}
    return {name: entropy - nll[name] for name, entropy in entropies.items()}


def information_ceilings(spec: LatentSpec, objective: ObjectiveConfig) -> dict[str, float]:
    """The largest L_I in nats by code: H(c) of classes; ln 2 - ln(2π)/2 where Q's Gaussian has variance 1. With a learned variance
    a continuous code has none."""
    fixed = objective.continuous_likelihood == "fixed"
    of_continuous = dict.fromkeys(spec.continuous_names, math.log(2) - math.log(2 * math.pi) / 2) if fixed else {}
    return spec.ceilings() | of_continuous


def contrastive_loss(mean: Tensor, shared: Tensor, scale: float) -> Tensor:
    """Cross-entropy in nats of naming the continuous code that two images share, from Q's means (after Lin et al. 2020, Eq. 4).

    `mean` [B, n]: images 2i and 2i + 1 are a pair and share code `shared`[i], int64 [B/2]. The logit of a code is the negative
    squared difference of its two means over 2 `scale`².
    """
    first, second = mean.unflatten(0, (-1, 2)).unbind(1)
    return cross_entropy(-(first - second).square() / (2 * scale**2), shared)


def clustering_losses(
    posterior: CodePosterior,
    positives: CodePosterior,
    entropy_weight: float = 1.0,
    mean_of_all: Callable[[Tensor], Tensor] = lambda joint: joint,
) -> list[Tensor]:
    """-I(c, c') between Q's classes of the two images of a positive pair, by categorical code (Ji et al. 2019, Eq. 3).

    I = H(c) + H(c') - H(c, c'), with H(c) and H(c') multiplied by `entropy_weight` (their entropy coefficient): they favour an
    even use of the classes. `mean_of_all` averages a statistic over the processes.
    """
    of_codes = zip(posterior.logits, positives.logits, strict=True)
    joints = [mean_of_all(first.softmax(1).T @ second.softmax(1) / len(first)) for first, second in of_codes]
    return [-mutual_information(joint, entropy_weight) for joint in joints]


def mutual_information(joint: Tensor, entropy_weight: float = 1.0) -> Tensor:
    """I of the joint distribution [K, K], symmetrised first, with both marginal entropies multiplied by `entropy_weight`
    (Ji et al. 2019, Eqs. 2 and 3)."""
    joint = ((joint + joint.T) / 2).clamp_min(SMALLEST_JOINT)
    marginal = joint.sum(1).log()
    return (joint * (joint.log() - entropy_weight * marginal[:, None] - entropy_weight * marginal[None, :])).sum()


def _full_precision(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
