"""The pictures of a run: grids of fixed noise, and its curves."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.curves import write_curves
from infogan_dist.sampling.grids import Grid, fixed_grids, to_uint8, write_grid
from infogan_dist.training.main_folder import MainFolder
from infogan_dist.training.records import Records
from infogan_dist.training.train_state import TrainState


class Pictures:
    """Draws with G_ema, each rank a share; rank zero writes. Every rank makes one and calls `save`."""

    def __init__(self, config: Config, cluster: Cluster, folder: MainFolder, state: TrainState, records: Records):
        self._config, self._cluster, self._folder = config, cluster, folder
        self._state, self._records = state, records

    def save(self, step: int) -> None:
        """Write the grids of fixed noise and the curves after `step`."""
        for suffix, grid in fixed_grids(self._state.spec, self._config.seed).items():
            images = self._draw(grid).cpu()
            self._folder.do(partial(self._write_grid, images=images, columns=grid.columns, step=step, suffix=suffix))
        self._folder.do(self._write_curves)

    @torch.no_grad()
    def _draw(self, grid: Grid) -> Tensor:
        latent = self._state.spec.vector(grid.latents).to(self._cluster.device, self._cluster.dtype)
        G_ema = self._state.networks.G_ema
        batches = batches_of(len(latent))
        drawn = self._cluster.map_batches(batches, lambda ours: to_uint8(G_ema(latent[ours.to(latent.device)])))
        return drawn[: len(latent)]

    def _write_grid(self, folder: RunFolder, images: Tensor, columns: int, step: int, suffix: str) -> None:
        path = folder.sample_path(step, suffix)
        picture = write_grid(images, columns, path)
        self._folder.written[f"grid of {suffix}" if suffix else "grid"] = str(path)
        if self._records.trackers is not None:
            self._records.trackers.log_images({f"samples/{suffix}" if suffix else "samples": picture}, step)

    def _write_curves(self, folder: RunFolder) -> None:
        path = folder.path / "curves.png"
        write_curves(folder.rows(), path)
        self._folder.written["curves"] = str(path)
