"""Clustering that starts once G's images show their classes: when L_I of every categorical code has reached a share of H(c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.special import entr

from infogan_dist.checkpoints.state import check_match
from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.latents import LatentSpec
from infogan_dist.training.schedule import clustering_length, earliest_clustering

CHECK_EVERY = 10  # steps, over which L_I is averaged: the host waits for the device once in them
DECIMALS = 9  # of the mean: a tie does not depend on rounding, and so not on the number of processes
NOT_STARTED = -1


class ClusteringStart:
    """Decides when clustering starts with `objective.clustering_after`. Every rank makes one, and all have the same tensors.

    `images` are the images seen when the weight of clustering starts to rise, None before it is decided. `priors` are the learned
    class priors of G, [K] each.
    """

    def __init__(self, config: Config, cluster: Cluster, spec: LatentSpec, priors: Sequence[Tensor] = ()):
        self._config, self._cluster, self._spec, self._priors = config, cluster, spec, priors
        device = cluster.device
        self._sum = torch.zeros(len(spec.categorical), dtype=torch.float64, device=device)  # of L_I / H(c) by code
        self._steps = torch.zeros((), dtype=torch.float64, device=device)  # in this sum
        self._start = torch.full((), NOT_STARTED, device=device)
        self.images: int | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint."""
        return {"information": self._sum, "steps": self._steps, "start": self._start}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the result of `state_dict`. Raises NoUsableCheckpoint if it does not match. Waits for the device."""
        ours = self.state_dict()
        check_match(tensors, ours, "clustering")
        for name, tensor in ours.items():
            tensor.copy_(tensors[name])
        start = int(self._start)
        self.images = None if start == NOT_STARTED else start

    @torch.no_grad()
    def observe(self, step: int, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add L_I of `step` to the mean; decide at every CHECK_EVERY-th step. Returns `images` as a metric once it is known. Every rank
        calls it. A skipped step is left out."""
        if self.images is None:
            bounds = torch.stack([metrics[f"mi/{name}"].double() for name in self._spec.categorical_names])
            shares = self._cluster.mean_of_all(bounds / self._entropies(), "clustering start")
            finite = shares.isfinite().all()
            self._sum.add_(torch.where(finite, shares, 0.0))
            self._steps.add_(finite)
            if step % CHECK_EVERY == 0:
                self._decide(step)
        return {} if self.images is None else {"clustering/start": self._start.double()}

    def _decide(self, step: int) -> None:
        shares = (self._sum / self._steps.clamp_min(1)).round(decimals=DECIMALS).tolist()
        self._sum.zero_()
        self._steps.zero_()
        config, batch = self._config, self._config.train.global_batch
        if step * batch < earliest_clustering(config):
            return
        if min(shares) >= config.objective.clustering_after:
            self.images = (step + 1) * batch  # a step later, because the images of the next step are already being read
            self._start.fill_(self.images)
            found = ", ".join(f"{share:.3f}" for share in shares)
            self._cluster.announce(f"clustering starts at {self.images:,} images: L_I is {found} of H(c)")
        else:
            self._warn(step, shares)

    def _warn(self, step: int, shares: Sequence[float]) -> None:
        """Warn once when clustering would have its full weight with the earliest start, and at the last check of the run."""
        batch, objective = self._config.train.global_batch, self._config.objective
        full = earliest_clustering(self._config) + clustering_length(self._config)
        is_late = (step - CHECK_EVERY) * batch < full <= step * batch
        if is_late or step + CHECK_EVERY > self._config.train.steps:
            lowest, name = min(zip(shares, self._spec.categorical_names, strict=True))
            self._cluster.announce(
                f"warning: clustering has not started after {step * batch:,} images: L_I of {name} is {lowest:.3f} of H(c) on average "
                f"over {CHECK_EVERY} steps; lower objective.clustering_after = {objective.clustering_after}, or set it to 0 to start "
                "at objective.clustering_from"
            )

    def _entropies(self) -> Tensor:
        """H(c) of each categorical code, float64 [codes]."""
        if self._priors:
            return torch.stack([entr(prior.double()).sum() for prior in self._priors])
        entropies = self._spec.entropies()
        return self._sum.new_tensor([entropies[name] for name in self._spec.categorical_names])
