"""The `refine` command: fits a fresh FE and Q on augmented images of a trained G, with their codes as labels.

It reads no real image. FE is not taken from the run: D has trained it on reals, and one layer on it could not correct its features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.store import REFINED, Checkpoint
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import CodePosterior, information_loss, negative_log_likelihoods
from infogan_dist.networks import build_networks
from infogan_dist.networks.class_prior import spec_of
from infogan_dist.networks.loading import load_network
from infogan_dist.randomness import Stream

IMAGES = 300_000
BATCH = 128  # even: an image pastes from its neighbour
DRAWN_AT_ONCE = 64  # batches: a draw is about 100 small operations for any number of rows
RATE = 1e-3  # Adam's learning rate at the start; it decays to 0 with a cosine
REPORTS = 10  # lines of progress

Report = Callable[[int, Tensor], object]


@dataclass(frozen=True)
class _Batch:
    """G's input [BATCH, spec.dim], the codes in it, and the random numbers of its augmentation."""

    latent: Tensor
    codes: Codes
    draws: Tensor


def refine(path: Path, launch: Launch, images: int = IMAGES, seed: int | None = None, overwrite: bool = False) -> Path:
    """Fit FE and Q on at least `images` images of G_ema and write RUN/refined, a checkpoint folder with G_ema, FE and Q. Returns it.

    `path` is a run folder, whose newest checkpoint is used, or a checkpoint folder in one. `seed` is the run's by default. Equal
    arguments give equal bytes on equal devices and numbers of threads. Nothing is written before the end.

    Raises UserError for several processes, a path without a run, codes that cannot be fitted, or a RUN/refined that exists without
    `overwrite`; NoUsableCheckpoint if no checkpoint verifies; Diverged if a weight is not finite.
    """
    if launch.processes > 1:
        raise UserError(f"refine runs on one process, not {launch.processes}; start it without a launcher")
    checkpoint, run = _found(path)
    config, target = checkpoint.config, run / REFINED
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists; --overwrite replaces it")
    if not config.latents.categorical or not config.objective.lambda_categorical:
        lacks = "no categorical code" if not config.latents.categorical else "objective.lambda_categorical = 0"
        raise UserError(f"{path} has {lacks}; refine fits Q to classes")
    seed = config.seed if seed is None else seed
    with Group(launch, config.train.threads, ProcessesConfig()) as group:
        G = _generator(checkpoint).to(group.device)
        steps = -(-images // BATCH)
        group.announce(f"refine: {steps * BATCH:,} images of G after step {checkpoint.step:,}, no real image")

        def report(step: int, loss: Tensor) -> None:
            if step * REPORTS // steps > (step - 1) * REPORTS // steps:
                group.announce(f"refine: {step * BATCH:,} of {steps * BATCH:,} images, loss {loss.item():.4f}")

        FE, Q = fit(G, config, steps, seed, report)
        state = {"G_ema": G.state_dict(), "FE": FE.state_dict(), "Q": Q.state_dict()}
        recorded = {key: checkpoint.manifest[key] for key in ("data",) if key in checkpoint.manifest}
        facts = {
            "step": checkpoint.step,
            "images_seen": checkpoint.images_seen,
            "config": config.model_dump(mode="json"),
            "refined": {"images": steps * BATCH, "seed": seed},
            **recorded,
        }
        try:
            checkpoints.save_refined(run, state, facts)
        except OSError as error:
            raise UserError(f"{target} cannot be written: {error}") from error
        group.announce(f"refined: {target}")
    return target


def fit(
    G: nn.Module, config: Config, steps: int, seed: int, report: Report = lambda step, loss: None
) -> tuple[nn.Module, nn.Module]:
    """FE and Q with new initial weights, trained for `steps` batches of G's images by the information term of the objective.

    G is in evaluation mode. As in training with `information_from: augmented`, Q predicts classes from augmented images and continuous
    codes from the images. The shares of cuts and pastes decay with the learning rate. `report` gets each step and its loss [].
    """
    weight = next(G.parameters())
    networks = build_networks(config.model_copy(update={"seed": seed})).to(weight.device, weight.dtype)
    FE, Q, spec = networks.FE, networks.Q, spec_of(config.latents, G)
    optimizer = Adam([*FE.parameters(), *Q.parameters()], lr=RATE, fused=True)
    for step, batch in enumerate(_batches(spec, config, seed, steps, weight.device), 1):
        share = (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        with torch.no_grad():
            fakes = G(batch.latent.to(weight.dtype))
            strength = torch.full((), share, device=weight.device)
            augmented = Augmentation(config.augmentation, batch.draws, strength)(fakes)
        posterior = CodePosterior.from_output(Q(FE(augmented)), spec, config.objective)
        if spec.continuous:
            of_images = CodePosterior.from_output(Q(FE(fakes)), spec, config.objective)
            posterior = replace(of_images, logits=posterior.logits)
        nll = negative_log_likelihoods(posterior, batch.codes, spec)
        loss = information_loss(nll, spec, config.objective, weight.device)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report(step, loss.detach())
    return FE.eval(), Q.eval()


def _batches(spec: LatentSpec, config: Config, seed: int, steps: int, device: torch.device) -> Iterator[_Batch]:
    """`steps` batches. Row i of all of them together depends only on the seed and i."""
    stream = Stream(seed, "refine")
    latents, augmentation = stream.derived("latents"), stream.derived("augmentation")
    for first in range(0, steps, DRAWN_AT_ONCE):
        positions = torch.arange(first * BATCH, min(first + DRAWN_AT_ONCE, steps) * BATCH, device=device)
        drawn = spec.draw(latents, positions)
        draws = draws_at(augmentation, positions, config.augmentation)
        for rows in torch.arange(len(positions), device=device).split(BATCH):
            here = drawn.at(rows)
            yield _Batch(spec.vector(here), here.codes, draws[rows])


def _found(path: Path) -> tuple[Checkpoint, Path]:
    """The checkpoint that `path` means, and its run folder."""
    if path.suffix == ".safetensors":
        raise UserError(f"{path} is an exported file; refine writes into a run folder: give one")
    checkpoint = checkpoints.find(path)
    if checkpoint.path.parent.name != "checkpoints":
        raise UserError(f"{path} is not in a run folder; refine writes into one: give a run folder")
    return checkpoint, checkpoint.path.parent.parent


def _generator(checkpoint: Checkpoint) -> nn.Module:
    try:
        G = load_network("G_ema", checkpoint.config, checkpoint.load("G_ema")["G_ema"])
    except ValueError as error:
        raise UserError(f"{checkpoint.path} does not hold the weights its config describes: {error}") from error
    return G.eval().requires_grad_(False)
