"""One step: a D update, then a G update on the same z and c. No I/O, and usable without Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.data.augmentation import Augmentation
from infogan_dist.latents import Codes
from infogan_dist.losses import (
    CodePosterior,
    adversarial_loss,
    clustering_losses,
    contrastive_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    information_bound,
    information_loss,
    negative_log_likelihoods,
)
from infogan_dist.networks.checkpointing import checkpointed
from infogan_dist.networks.class_prior import class_priors, move_class_priors
from infogan_dist.networks.freeze import frozen
from infogan_dist.training.engine import Engine
from infogan_dist.training.modules import DiscriminatorOutput, GeneratorOutput
from infogan_dist.training.nonfinite import Statistics, gradient_norm, poison_nonfinite
from infogan_dist.training.perturbation import Perturbation, Use
from infogan_dist.training.train_state import TrainState

CLASS_SHARES = "class shares"  # in the result of `discriminator_step`: Q's mean prediction on the reals of all processes, [sum of K]


@dataclass(frozen=True)
class Positives:
    """The positives of the clustering term: an augmented image [B, C, H, W] for each real, and the term's weight λ [] in this step."""

    images: Tensor
    weight: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """Reals [B, C, H, W] in [-1, 1], G's input [B, spec.dim] and the codes in it.

    `shared`, int64 [B/2], is the continuous code that two neighbouring images share, where the contrastive term is on.
    `augment_D` and `augment_G` augment Q's input in the D step and in the G step; None if Q sees the fakes themselves.
    `positives` belong to the reals if Q clusters them. `mix`, [B] in [0, 1), is the share of the real at each point between a real and
    a fake, if D's gradient is penalised there. `penalty_share`, [] in (0, 1], is the factor of gradient penalties in this step; None if
    it is always 1. `prior_rate`, [] in (0, 1], is how far learned class priors move in this step; None if
    they do not. `perturb` maps reals and fakes to D's input; None if D sees the images themselves.
    """

    reals: Tensor
    latent: Tensor
    codes: Codes
    shared: Tensor | None = None
    augment_D: Augmentation | None = None
    augment_G: Augmentation | None = None
    positives: Positives | None = None
    mix: Tensor | None = None
    penalty_share: Tensor | None = None
    prior_rate: Tensor | None = None
    perturb: Perturbation | None = None

    def first(self, images: int) -> MicroBatch:
        """The first images of the micro-batch, a multiple of the sizes of its groups (`batches.group_sizes`)."""

        def cut(augmentation: Augmentation | None) -> Augmentation | None:
            return augmentation and replace(augmentation, draws=augmentation.draws[:images])

        return MicroBatch(
            self.reals[:images],
            self.latent[:images],
            Codes(self.codes.categorical[:images], self.codes.continuous[:images]),
            None if self.shared is None else self.shared[: images // 2],
            cut(self.augment_D),
            cut(self.augment_G),
            self.positives and replace(self.positives, images=self.positives.images[:images]),
            None if self.mix is None else self.mix[:images],
            self.penalty_share,
            self.prior_rate,
            self.perturb and self.perturb.first(images),
        )


def train_step(state: TrainState, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """A D update, then a G update on the same z and c. Then learned class priors move. Returns metrics, means over the micro-batches, on
    the device.

    An update with a non-finite loss or gradient is skipped, and `gradient/D` or `gradient/G` is not finite. The D step does not change
    G, so both steps use the same images. Several micro-batches are drawn again in the G step, because keeping all their graphs
    would cost the memory that accumulation saves.
    """
    before = Statistics(state.owned_by_G.values())
    fakes = draw(state, micro_batches[0]) if len(micro_batches) == 1 else None
    metrics = discriminator_step(state, micro_batches, fakes) | generator_step(state, micro_batches, fakes, before)
    if micro_batches[0].prior_rate is not None:
        shares = metrics.pop(CLASS_SHARES).split(state.spec.categorical)
        finite = metrics["gradient/D"].isfinite()
        move_class_priors(class_priors(state.networks.G), shares, micro_batches[0].prior_rate, finite)
    state.engine.end_step()
    return metrics


def draw(state: TrainState, batch: MicroBatch) -> Tensor:
    """G's images of a micro-batch, [B, C, H, W]."""
    with state.engine.autocast():
        G, latent = state.networks.G, batch.latent
        return checkpointed(G, latent) if state.checkpointing else G(latent)


def discriminator_step(
    state: TrainState, micro_batches: Sequence[MicroBatch], fakes: Tensor | None = None
) -> dict[str, Tensor]:
    """Train FE and D on reals and `fakes`, drawn from the frozen G if None. Also train Q if `information_trains` is `trunk`.

    L_D = -E[log D(x)] - E[log(1 - D(G(z, c)))] + γ1/2 E|∇D(x)|² + γ2/2 E|∇D(G(z, c))|² for the standard adversarial loss.
    With Q, L_D also has -λ E[log Q(c | T(G(z, c)))] - λ_IIC I(Q(x), Q(T(x'))), T the augmentation and x' the positive of x.
    If class priors move in this step, the result also has CLASS_SHARES.
    """
    engine, share = state.engine, 1 / len(micro_batches)
    before = Statistics(state.owned_by_D.values())
    state.optimizer_D.zero_grad()
    metrics, shares = [], []
    for number, batch in enumerate(micro_batches, 1):
        with torch.no_grad(), frozen(state.networks.G):
            drawn = draw(state, batch) if fakes is None else fakes.detach()
            augmented = batch.augment_D(drawn) if batch.augment_D is not None else None
            perturb = _perturbation(state, batch)
            for_D = (perturb(batch.reals, "real_D"), perturb(drawn, "fake_D")) if perturb is not None else None
        positives = batch.positives.images if batch.positives is not None else None
        classes_of_reals = batch.prior_rate is not None
        with engine.gradients_of(state.discriminator_module, last=number == len(micro_batches)):
            out: DiscriminatorOutput = state.discriminator_module(
                batch.reals, drawn, augmented, positives, batch.mix, classes_of_reals, for_D
            )
            loss = discriminator_loss(out.real_logits, out.fake_logits, state.objective)
            metrics.append({"loss/D": loss.detach(), "score/real": _score(out.real_logits), **_accuracy(out)})
            if state.augment_probability is not None:
                metrics[-1]["score/real_sign"] = out.real_logits.detach().sign().double().mean()
            if out.fake_posterior is not None:  # D's update owns Q
                loss = loss + _information(state, out, batch)[0]
            if batch.positives is not None:
                clustering = _clustering(state, out)
                metrics[-1]["loss/clustering"] = clustering.detach()
                loss = loss + batch.positives.weight * clustering
            penalty = gradient_penalty(out.real_gradients, out.fake_gradients, out.gradients_between, state.objective)
            if penalty is not None:
                penalty = penalty if batch.penalty_share is None else batch.penalty_share * penalty
                metrics[-1]["loss/penalty"] = penalty.detach()
                loss = loss + penalty
            engine.backward(poison_nonfinite(loss) * share)
        if batch.prior_rate is not None:
            shares.append(_class_shares(state, out))
    found = _mean(metrics) | (
        {CLASS_SHARES: engine.mean_of_all(torch.stack(shares).mean(0), "class prior")} if shares else {}
    )
    return found | {"gradient/D": _update(engine, state.optimizer_D, state.optimizer.D.clip_norm, before)}


def generator_step(
    state: TrainState,
    micro_batches: Sequence[MicroBatch],
    fakes: Tensor | None = None,
    before: Statistics | None = None,
) -> dict[str, Tensor]:
    """Train G against the updated FE and D. Also train Q if `information_trains` is `heads`. The networks of D's optimizer are frozen.

    L_G = -E[log D(G(z, c))] - λ E[log Q(c | T(G(z, c)))], T the augmentation. `fakes` are the images of the only micro-batch, with
    their graph, and `before` are G's statistics before they were drawn. If None, images are drawn here.
    """
    engine, share, objective = state.engine, 1 / len(micro_batches), state.objective
    before = before or Statistics(state.owned_by_G.values())
    state.optimizer_G.zero_grad()
    metrics = []
    with frozen(*state.owned_by_D.values()):
        for number, batch in enumerate(micro_batches, 1):
            compared = batch.reals if adversarial_loss(objective).compares_with_reals else None
            perturb = _perturbation(state, batch)
            if compared is not None and perturb is not None:
                compared = perturb(compared, "real_G")
            with engine.gradients_of(state.generator_module, last=number == len(micro_batches)):
                drawn = draw(state, batch) if fakes is None else fakes
                augmented = batch.augment_G(drawn) if batch.augment_G is not None else None
                for_D = perturb(drawn, "fake_G") if perturb is not None else None
                out: GeneratorOutput = state.generator_module(drawn, augmented, compared, for_D)
                information, bounds = _information(state, out, batch)
                loss = generator_loss(out.fake_logits, out.real_logits, objective)
                loss = loss + information if objective.information_trains_G else loss
                engine.backward(poison_nonfinite(loss) * share)
            losses = {"loss/G": loss.detach(), "loss/info": information.detach()}
            scores = {"score/fake_before_G": _score(out.fake_logits)}
            metrics.append(losses | scores | {f"mi/{name}": bound.detach() for name, bound in bounds.items()})
    return _mean(metrics) | {"gradient/G": _update(engine, state.optimizer_G, state.optimizer.G.clip_norm, before)}


@torch.no_grad()
def fake_score(state: TrainState, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """D(G(z, c)) after G's update. Changes no state. Calls `forward`, which is not compiled."""
    G, FE, D = state.networks.G, state.networks.FE, state.networks.D
    scores = []
    with frozen(G, FE, D), state.engine.autocast():
        for batch in micro_batches:
            fakes, perturb = G.forward(batch.latent), _perturbation(state, batch)
            for_D = perturb(fakes, "fake_G") if perturb is not None else fakes
            scores.append({"score/fake_after_G": _score(D.forward(FE.forward(for_D)))})
    return _mean(scores)


def _perturbation(state: TrainState, batch: MicroBatch) -> Callable[[Tensor, Use], Tensor] | None:
    return None if batch.perturb is None else partial(batch.perturb, probability=state.augment_probability)


def _update(engine: Engine, optimizer: Optimizer, clip_norm: float, before: Statistics) -> Tensor:
    """Step the optimizer, with gradients clipped to the joint norm `clip_norm` unless it is 0. If their norm is not finite, skip the
    step and restore the statistics `before`. Returns the norm before clipping, []."""
    engine.unscale(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = gradient_norm(parameters)
    if clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    engine.update(optimizer, skip=1 - norm.isfinite().float())
    before.restore_unless(norm.isfinite())
    return norm


def _information(
    state: TrainState, out: DiscriminatorOutput | GeneratorOutput, batch: MicroBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The information term, plus the contrastive term if it is on, and L_I of each code on G's images without augmentation.

    Q predicts classes from augmented images if there are any, and continuous codes from the images, because augmentation randomises
    what these may encode.
    """
    assert out.fake_posterior is not None
    spec, objective = state.spec, state.objective
    posterior = CodePosterior.from_output(out.fake_posterior, spec, objective)
    nll = negative_log_likelihoods(posterior, batch.codes, spec)
    bounds = information_bound(nll, spec, class_priors(state.networks.G))
    if out.augmented_posterior is not None:
        of_augmented = CodePosterior.from_output(out.augmented_posterior, spec, objective)
        nll = negative_log_likelihoods(replace(posterior, logits=of_augmented.logits), batch.codes, spec)
    loss = information_loss(nll, spec, objective, out.fake_posterior.device)
    if batch.shared is not None:
        contrast = contrastive_loss(posterior.mean, batch.shared, objective.contrastive_scale)
        loss = loss + objective.lambda_contrastive * contrast
    return loss, bounds


def _clustering(state: TrainState, out: DiscriminatorOutput) -> Tensor:
    assert out.real_posterior is not None
    assert out.positive_posterior is not None
    posterior = CodePosterior.from_output(out.real_posterior, state.spec, state.objective)
    positives = CodePosterior.from_output(out.positive_posterior, state.spec, state.objective)
    mean_of_all = partial(state.engine.mean_of_all, what="clustering")
    of_codes = clustering_losses(posterior, positives, state.objective.clustering_entropy_weight, mean_of_all)
    return torch.stack(of_codes).sum()


@torch.no_grad()
def _class_shares(state: TrainState, out: DiscriminatorOutput) -> Tensor:
    """Q's mean prediction on this process's reals, [sum of K]: the classes of all categorical codes, one code after the other."""
    assert out.real_posterior is not None
    posterior = CodePosterior.from_output(out.real_posterior, state.spec, state.objective)
    return torch.cat([logits.softmax(1).mean(0) for logits in posterior.logits])


def _accuracy(out: DiscriminatorOutput) -> dict[str, Tensor]:
    correct = torch.cat([out.real_logits > 0, out.fake_logits < 0])
    return {"health/D_accuracy": correct.double().mean()}


def _score(logits: Tensor) -> Tensor:
    return logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).sigmoid().mean()


def _mean(metrics: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([each[key] for each in metrics]).mean() for key in metrics[0]}
