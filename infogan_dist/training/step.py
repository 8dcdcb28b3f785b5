"""One step: a D update, then a G update on the same z and c. No I/O, and usable without Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from infogan_dist.config.model import AdamConfig, ObjectiveConfig, OptimizerConfig
from infogan_dist.data.augmentation import View
from infogan_dist.distributed.masked import masked
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import (
    CodePosterior,
    adversarial_loss,
    clustering_loss,
    discriminator_loss,
    generator_loss,
    information_bound,
    information_loss,
    negative_log_likelihoods,
    slope_penalty,
)
from infogan_dist.networks import Networks
from infogan_dist.networks.freeze import frozen
from infogan_dist.training.modules import DiscriminatorOutput, GeneratorOutput, owned_networks
from infogan_dist.training.nonfinite import Statistics, gradient_norm, telling

FULL_RATE = "full_rate"  # of a parameter group: its learning rate before any schedule


@dataclass(frozen=True)
class Partners:
    """What the clustering term compares: for each real a view of an image of its kind, [B, C, H, W], and λ, [], of this step."""

    images: Tensor
    weight: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """Reals [B, C, H, W] in [-1, 1], G's input [B, spec.dim] and the codes in it.

    `view_D` and `view_G` are what Q sees of the fakes in D's and in G's step, where it does not see the fakes themselves;
    `partners` stand beside the reals where Q clusters them.
    """

    reals: Tensor
    latent: Tensor
    codes: Codes
    view_D: View | None = None
    view_G: View | None = None
    partners: Partners | None = None


class Engine(Protocol):
    """What a step asks of whoever runs it."""

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of calls that do not go through a side."""

    def gradients_of(self, side: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one micro-batch; `last` is the one whose gradients complete the update."""

    def backward(self, loss: Tensor) -> None: ...

    def mean_of_all(self, statistic: Tensor) -> Tensor:
        """A statistic of this process's part of a micro-batch, averaged over all parts, differentiably."""

    def unscale(self, optimizer: Optimizer) -> None:
        """Make the complete gradients that `optimizer` steps true to scale, where `backward` scaled the loss."""

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        """One update from complete, unscaled gradients; none where `skip`, [] on the device, is 1."""

    def end_step(self) -> None:
        """Both updates are done."""


class PlainEngine:
    """Runs a step as plain PyTorch does."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gradients_of(self, side: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean_of_all(self, statistic: Tensor) -> Tensor:
        return statistic

    def unscale(self, optimizer: Optimizer) -> None:
        pass

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        masked(optimizer, skip).step()

    def end_step(self) -> None:
        pass


@dataclass(frozen=True)
class Game:
    """The two players: each side as its engine prepared it, with the optimizer of the networks it owns."""

    networks: Networks
    discriminator_side: nn.Module
    generator_side: nn.Module
    optimizer_D: Optimizer
    optimizer_G: Optimizer
    spec: LatentSpec
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    engine: Engine


def build_optimizers(networks: Networks, objective: ObjectiveConfig, optimizer: OptimizerConfig) -> tuple[Adam, Adam]:
    """D's and G's Adam over the networks each side owns; Q at its own rate in the one that owns it.

    On a GPU a rate is a tensor there, and the updates can be recorded in a graph.
    """
    device = next(networks.G.parameters()).device
    on_gpu = device.type == "cuda"

    def adam(owned: dict[str, nn.Module], settings: AdamConfig) -> Adam:
        rates = {name: optimizer.Q.lr if name == "Q" else settings.lr for name in owned}
        groups = [
            {
                "params": list(network.parameters()),
                "lr": torch.tensor(rates[name], device=device) if on_gpu else rates[name],
                FULL_RATE: rates[name],
            }
            for name, network in owned.items()
        ]
        betas = (settings.beta1, settings.beta2)
        return Adam(groups, betas=betas, eps=settings.eps, fused=True, capturable=on_gpu)

    discriminator, generator = owned_networks(networks, objective)
    return adam(discriminator, optimizer.D), adam(generator, optimizer.G)


def train_step(game: Game, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """A D update, then a G update on the same z and c. The metrics are means over the micro-batches, on the device.

    An update with a loss or gradient that is not finite is skipped whole, without a word: `gradient/D` and `gradient/G` tell.
    The D step leaves G frozen, so G draws once for both; but several micro-batches are drawn anew in the G step, where
    keeping the graphs of all would cost the memory that accumulation saves.
    """
    before = Statistics(owned_networks(game.networks, game.objective)[1].values())
    fakes = draw(game, micro_batches[0]) if len(micro_batches) == 1 else None
    metrics = discriminator_step(game, micro_batches, fakes) | generator_step(game, micro_batches, fakes, before)
    game.engine.end_step()
    return metrics


def draw(game: Game, batch: MicroBatch) -> Tensor:
    """G's images of a micro-batch, [B, C, H, W]."""
    with game.engine.autocast():
        return game.networks.G(batch.latent)  # type: ignore[no-any-return]


def discriminator_step(
    game: Game, micro_batches: Sequence[MicroBatch], fakes: Tensor | None = None
) -> dict[str, Tensor]:
    """Train FE and D on reals and on `fakes`, or those of a G left frozen; and Q, where the trunk learns.

    L_D = -E[log D(x)] - E[log(1 - D(G(z, c)))] + γ1/2 E|∇D(x)|² + γ2/2 E|∇D(G(z, c))|², or as `objective.adversarial` has it;
    with Q, - λ E[log Q(c | T(G(z, c)))] - λ_IIC I(Q(x), Q(T(x'))), T the views and x' the partners, where there are any.
    """
    engine, share = game.engine, 1 / len(micro_batches)
    owned, _ = owned_networks(game.networks, game.objective)
    before = Statistics(owned.values())
    game.optimizer_D.zero_grad()
    metrics = []
    for number, batch in enumerate(micro_batches, 1):
        with torch.no_grad(), frozen(game.networks.G):
            judged = draw(game, batch) if fakes is None else fakes.detach()
            views = batch.view_D(judged) if batch.view_D is not None else None
        partners = batch.partners.images if batch.partners is not None else None
        with engine.gradients_of(game.discriminator_side, last=number == len(micro_batches)):
            out: DiscriminatorOutput = game.discriminator_side(batch.reals, judged, views, partners)
            loss = discriminator_loss(out.real_logits, out.fake_logits, game.objective)
            metrics.append({"loss/D": loss.detach(), "score/real": _score(out.real_logits), **_accuracy(out)})
            if out.fake_posterior is not None:  # this side owns Q
                loss = loss + _information(game, out, batch.codes)[0]
            if batch.partners is not None:
                clustering = _clustering(game, out)
                metrics[-1]["loss/clustering"] = clustering.detach()
                loss = loss + batch.partners.weight * clustering
            penalty = slope_penalty(out.real_slopes, out.fake_slopes, game.objective)
            if penalty is not None:
                metrics[-1]["loss/penalty"] = penalty.detach()
                loss = loss + penalty
            engine.backward(telling(loss) * share)
    return _mean(metrics) | {"gradient/D": _update(engine, game.optimizer_D, game.optimizer.D.clip_norm, before)}


def generator_step(
    game: Game, micro_batches: Sequence[MicroBatch], fakes: Tensor | None = None, before: Statistics | None = None
) -> dict[str, Tensor]:
    """Train G against the FE and D just updated, L_G = -E[log D(G(z, c))] + λ · -E[log Q(c | T(G(z, c)))], T the views where
    there are any; and Q, where the heads learn. What G's optimizer does not own passes gradients on and is left frozen.

    `fakes`, with the graph to G, are what it drew for the only micro-batch, and `before` are the statistics before it drew;
    without them it draws.
    """
    engine, share, objective = game.engine, 1 / len(micro_batches), game.objective
    others, owned = owned_networks(game.networks, objective)
    before = before or Statistics(owned.values())
    game.optimizer_G.zero_grad()
    metrics = []
    with frozen(*others.values()):
        for number, batch in enumerate(micro_batches, 1):
            compared = batch.reals if adversarial_loss(objective).compares_with_reals else None
            with engine.gradients_of(game.generator_side, last=number == len(micro_batches)):
                drawn = draw(game, batch) if fakes is None else fakes
                views = batch.view_G(drawn) if batch.view_G is not None else None
                out: GeneratorOutput = game.generator_side(drawn, views, compared)
                information, bounds = _information(game, out, batch.codes)
                loss = generator_loss(out.fake_logits, out.real_logits, objective)
                loss = loss + information if objective.information_trains_G else loss
                engine.backward(telling(loss) * share)
            losses = {"loss/G": loss.detach(), "loss/info": information.detach()}
            scores = {"score/fake_before_G": _score(out.fake_logits)}
            metrics.append(losses | scores | {f"mi/{name}": bound.detach() for name, bound in bounds.items()})
    return _mean(metrics) | {"gradient/G": _update(engine, game.optimizer_G, game.optimizer.G.clip_norm, before)}


def set_rates(game: Game, share: float) -> None:
    """Have the next updates use this share of every learning rate."""
    for optimizer in (game.optimizer_D, game.optimizer_G):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(group[FULL_RATE] * share)
            else:
                group["lr"] = group[FULL_RATE] * share


@torch.no_grad()
def fake_score(game: Game, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """D(G(z, c)) once more, after G's update. Moves nothing, and compiles nothing: `forward` is not compiled."""
    G, FE, D = game.networks.G, game.networks.FE, game.networks.D
    with frozen(G, FE, D), game.engine.autocast():
        logits = [D.forward(FE.forward(G.forward(batch.latent))) for batch in micro_batches]
    return _mean([{"score/fake_after_G": _score(each)} for each in logits])


def _update(engine: Engine, optimizer: Optimizer, clip_norm: float, before: Statistics) -> Tensor:
    """Step, the gradients scaled down to a joint norm of `clip_norm` where it is not 0; or skip the step and go back to the
    statistics `before`, where their norm is not finite. Returns this norm, []."""
    engine.unscale(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = gradient_norm(parameters)
    if clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    engine.update(optimizer, skip=1 - norm.isfinite().float())
    before.put_back_unless(norm.isfinite())
    return norm


def _information(
    game: Game, out: DiscriminatorOutput | GeneratorOutput, codes: Codes
) -> tuple[Tensor, dict[str, Tensor]]:
    """The information term, and the bounds by code on G's images themselves. Classes are read from views, where there are any;
    levels from the images: a view takes away what they may mean."""
    assert out.fake_posterior is not None
    posterior = CodePosterior.from_output(out.fake_posterior, game.spec)
    likelihoods = negative_log_likelihoods(posterior, codes, game.spec)
    bounds = information_bound(likelihoods, game.spec)
    if out.view_posterior is not None:
        of_views = CodePosterior.from_output(out.view_posterior, game.spec)
        likelihoods = negative_log_likelihoods(replace(posterior, logits=of_views.logits), codes, game.spec)
    return information_loss(likelihoods, game.spec, game.objective, out.fake_posterior.device), bounds


def _clustering(game: Game, out: DiscriminatorOutput) -> Tensor:
    assert out.real_posterior is not None
    assert out.partner_posterior is not None
    posterior = CodePosterior.from_output(out.real_posterior, game.spec)
    partners = CodePosterior.from_output(out.partner_posterior, game.spec)
    return clustering_loss(posterior, partners, game.objective.clustering_evenness, game.engine.mean_of_all)


def _accuracy(out: DiscriminatorOutput) -> dict[str, Tensor]:
    right = torch.cat([out.real_logits > 0, out.fake_logits < 0])
    return {"health/D_accuracy": right.double().mean()}


def _score(logits: Tensor) -> Tensor:
    return logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).sigmoid().mean()


def _mean(metrics: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([each[key] for each in metrics]).mean() for key in metrics[0]}
