"""This rank's part of every global batch: reals, latents and augmentations, as functions of global positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.data.host_memory import release_freed_memory
from infogan_dist.data.neighbours import EXHAUSTIVE_LIMIT, PART_SIZE, nearest_neighbours
from infogan_dist.data.sources import ImageSource
from infogan_dist.data.stream import ImageCache, ImageStream
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.latents import Codes, Latents, LatentSpec, classes_of
from infogan_dist.randomness import Stream
from infogan_dist.training.clustering_start import ClusteringStart
from infogan_dist.training.perturbation import PerturbationStream
from infogan_dist.training.schedule import annealing, clustering_weight, penalty_share, prior_rate
from infogan_dist.training.step import MicroBatch, Positives

DRAWN_AT_ONCE = 8192  # images: a draw is about 100 small operations for any number of rows
POSITIVES = "partner"  # the stream that augments positives: its name determines the numbers

Draws = dict[str, Tensor]  # [B, n] each, by purpose


def images_before(config: Config, step: int) -> int:
    """The images seen when `step`, counted from 1, begins."""
    return (step - 1) * config.train.global_batch


class BatchStream:
    """This rank's part of every step's global batch. Every rank makes one. The data do not depend on the number of ranks.

    `priors` are the class priors of G if they are learned: the tensors that training moves, [K] each. The classes of a step are
    drawn from them when the step begins. `clustering_start` says when clustering starts with `objective.clustering_after`.

    Raises UserError if a key needs pairs or larger groups of images, and a rank's images per micro-batch do not divide into these.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        source: ImageSource,
        priors: Sequence[Tensor] = (),
        clustering_start: ClusteringStart | None = None,
    ):
        self._clustering_start = clustering_start
        self._config, self._cluster, self._source, self._priors = config, cluster, source, priors
        self._reals, self._images = (
            ImageStream(len(source), config.seed),
            ImageCache(source, cluster.device, cluster.dtype, show_progress=cluster.is_main),
        )
        self._spec, self._latents = LatentSpec.from_config(config.latents), Stream(config.seed, "latents")
        self._augmentations, self._mix = (
            Stream(config.seed, "views"),
            Stream(config.seed, "points between reals and fakes"),
        )
        self._perturbations = PerturbationStream(config)
        self._at_once = max(1, DRAWN_AT_ONCE // config.train.global_batch)
        self._drawn: dict[int, list[Draws]] = {}
        _check_groups(config, cluster.processes)
        assert len(priors) == len(self._spec.priors), "a learned prior is drawn from"

    def at(self, step: int) -> list[MicroBatch]:
        """The micro-batches of `step`, counted from 1."""
        self._cluster.heartbeat(f"reading the images of step {step}")
        if step not in self._drawn:
            self._drawn = self._draw(step)
        shares = self._positions(step)
        batches = [self._batch(step, *share) for share in zip(shares, self._drawn[step], strict=True)]
        for positions in self._positions(step + 1):
            self._images.prefetch(*self._indexes(step + 1, positions))
        return batches

    def images_of(self, step: int) -> list[int]:
        """The indices in the data set of all images of `step`, on all ranks."""
        first = images_before(self._config, step)
        return self._reals.at(torch.arange(first, first + self._config.train.global_batch)).tolist()

    def preview(self, count: int) -> tuple[Tensor, Tensor | None]:
        """The first reals [count, C, H, W], and augmented as Q sees fakes and positives; None if Q sees no augmentation. `count` is
        even."""
        positions, objective = torch.arange(count), self._config.objective
        reals = self._images.read(self._reals.at(positions))
        if objective.information_from != "augmented" and not objective.lambda_clustering:
            return reals, None
        draws = draws_at(self._augmentations.derived("D"), positions.to(reals.device), self._config.augmentation)
        return reals, Augmentation(self._config.augmentation, draws, torch.ones((), device=reals.device))(reals)

    @cached_property
    def _neighbours(self) -> Tensor:
        """The nearest neighbours of every image, int64 [N, n]. Every rank calls it and gets the same."""
        if len(self._source) < 2:
            return torch.zeros(1, 1, dtype=torch.int64)
        parts = f" in random parts of at most {PART_SIZE}" if len(self._source) > EXHAUSTIVE_LIMIT else ""
        self._cluster.announce(f"finding the nearest neighbours of {len(self._source)} images{parts}")
        neighbours = nearest_neighbours(self._source, workers=self._cluster)
        release_freed_memory()
        return neighbours

    def _batch(self, step: int, positions: Tensor, drawn: Draws) -> MicroBatch:
        reals, *positive_images = self._images.read_together(*self._indexes(step, positions))
        annealed = annealing(self._config, images_before(self._config, step))
        strength = torch.full((), annealed, device=reals.device)  # a kernel: the host does not wait for a copy
        augment = {
            name: Augmentation(self._config.augmentation, drawn[name], strength)
            for name in ("D", "G", POSITIVES)
            if name in drawn
        }
        positives = None
        for images in positive_images:
            weight = self._clustering_weight(step)
            positives = Positives(augment[POSITIVES](images), torch.full_like(strength, weight))
        codes, latent, rate = Codes(drawn["categorical"], drawn["continuous"]), drawn["latent"], None
        if self._priors:
            codes = Codes(classes_of(drawn["classes"], self._priors), codes.continuous)
            latent = self._spec.vector(Latents(latent[:, : self._spec.noise_dim], codes))
            moves = prior_rate(self._config, images_before(self._config, step))
            rate = torch.full_like(strength, moves) if moves else None
        shared = drawn["shared"][::2] if "shared" in drawn else None
        mix = drawn["mix"][:, 0] if "mix" in drawn else None
        of_Q = augment.get("D"), augment.get("G")
        penalty = None
        if self._config.schedule.penalty_final < 1:
            penalty = torch.full_like(strength, penalty_share(self._config, images_before(self._config, step)))
        perturb = self._perturbations.at(images_before(self._config, step), positions, drawn, reals)
        return MicroBatch(reals, latent, codes, shared, *of_Q, positives, mix, penalty, rate, perturb)

    def _clustering_weight(self, step: int) -> float:
        started = self._clustering_start.images if self._clustering_start is not None else None
        return clustering_weight(self._config, images_before(self._config, step), started)

    def _indexes(self, step: int, positions: Tensor) -> list[Tensor]:
        """The indices of the reals at `positions` and, if `step` has clustering, of their positives."""
        reals = self._reals.at(positions)
        return [reals, self._positive_indexes(step, positions)] if self._clustering_weight(step) else [reals]

    def _positive_indexes(self, step: int, positions: Tensor) -> Tensor:
        annealed = annealing(self._config, images_before(self._config, step))
        share = self._config.objective.neighbour_positives * annealed
        return self._reals.positives_at(positions, share, lambda: self._neighbours)

    def _positions(self, step: int) -> list[Tensor]:
        train = self._config.train
        return self._cluster.micro_batch_positions(
            images_before(self._config, step), train.global_batch, train.accumulate
        )

    def _draw(self, step: int) -> dict[int, list[Draws]]:
        """The random numbers of `step` and adjacent steps. Steps are grouped by their number, so a resumed run draws the same groups as
        an uninterrupted one."""
        first = step - (step - 1) % self._at_once
        steps = range(first, first + self._at_once)
        shares = [positions for each in steps for positions in self._positions(each)]
        drawn = self._rows(torch.cat(shares).to(self._cluster.device))
        split = (
            dict(zip(drawn, rows, strict=True))
            for rows in zip(*(rows.split(len(shares[0])) for rows in drawn.values()), strict=True)
        )
        return {each: list(islice(split, self._config.train.accumulate)) for each in steps}

    def _rows(self, positions: Tensor) -> Draws:
        latents, objective = self._spec.draw(self._latents, positions), self._config.objective
        shared: Draws = {}
        if objective.lambda_contrastive:
            codes, named = self._spec.share_in_pairs(latents.codes, self._latents.derived("pairs"), positions)
            latents, shared = replace(latents, codes=codes), {"shared": named.repeat_interleave(2)}
        drawn = {
            "latent": self._spec.vector(latents).to(self._cluster.dtype),
            "categorical": latents.codes.categorical,
            "continuous": latents.codes.continuous,
        }
        if self._priors:
            drawn["classes"] = self._spec.class_draws(self._latents, positions)
        first = positions - positions % self._config.networks.pack  # a pack is one point in D's input space
        mix = {"mix": self._mix.uniform(first, 1)} if objective.lambda_gradient_penalty else {}
        augmented = ["D", "G"] if objective.information_from == "augmented" else []
        augmented += [POSITIVES] if objective.lambda_clustering else []
        config = self._config.augmentation
        draws = {name: draws_at(self._augmentations.derived(name), positions, config) for name in augmented}
        return drawn | shared | mix | draws | self._perturbations.draws_at(positions)


def group_sizes(config: Config) -> dict[str, int]:
    """The keys, with their values, that need groups of consecutive images in each micro-batch of a process, and the size of the groups."""
    objective, networks = config.objective, config.networks
    augments = objective.information_from == "augmented" or objective.lambda_clustering > 0
    sizes = {
        f"augmentation.paste = {config.augmentation.paste}": 2 if augments and config.augmentation.paste else 1,
        f"objective.lambda_contrastive = {objective.lambda_contrastive}": 2 if objective.lambda_contrastive else 1,
        f"networks.minibatch_std = {networks.minibatch_std}": networks.minibatch_std or 1,
        f"networks.pack = {networks.pack}": networks.pack,
    }
    return {key: size for key, size in sizes.items() if size > 1}


def batch_unit(config: Config) -> int:
    """The number of images of which the micro-batch of a process is a multiple."""
    return math.lcm(*group_sizes(config).values())


def _check_groups(config: Config, processes: int) -> None:
    share = config.train.global_batch // (processes * config.train.accumulate)
    for key, size in group_sizes(config).items():
        if share % size:
            raise UserError(
                f"{key} needs {'pairs of' if size == 2 else f'groups of {size}'} images, but train.global_batch = "
                f"{config.train.global_batch} gives each process {share} per micro-batch; use a batch that gives a multiple of {size}"
            )
