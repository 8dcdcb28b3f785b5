"""The pictures of a run: its reals, grids of fixed noise, and curves."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.captions import Captions
from infogan_dist.sampling.curves import write_curves
from infogan_dist.sampling.grids import Grid, fixed_grids, to_uint8, write_grid
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.main_folder import MainFolder
from infogan_dist.training.records import Records
from infogan_dist.training.train_state import TrainState

REALS_ROWS, REALS_COLUMNS = 4, 10  # of reals.png


class Pictures:
    """Draws images with G_ema on all ranks, and writes pictures on rank zero. Every rank makes one and calls `save`."""

    def __init__(self, config: Config, cluster: Cluster, folder: MainFolder, state: TrainState, records: Records):
        self._config, self._cluster, self._folder = config, cluster, folder
        self._state, self._records = state, records

    def save_reals(self, batches: BatchStream) -> None:
        """Write reals.png: some reals as the networks see them, each row followed by its augmentation if Q sees any."""

        def write(folder: RunFolder) -> None:
            reals, augmented = batches.preview(REALS_ROWS * REALS_COLUMNS)
            rows = ["reals"] * REALS_ROWS
            images = reals.split(REALS_COLUMNS)
            if augmented is not None:
                rows = ["reals", "augmented for Q"] * REALS_ROWS
                images = tuple(row for pair in zip(images, augmented.split(REALS_COLUMNS), strict=True) for row in pair)
            title = f"{folder.path.resolve().name}, {self._config.data.name}"
            captions = Captions(title=title, rows=rows)
            write_grid(to_uint8(torch.cat(images)).cpu(), REALS_COLUMNS, folder.path / "reals.png", captions)
            self._folder.written["reals"] = str(folder.path / "reals.png")

        self._folder.do(write)

    def save(self, step: int) -> None:
        """Write the grids of fixed noise and the curves after `step`."""
        for suffix, grid in fixed_grids(self._state.spec, self._config.seed).items():
            images = self._draw(grid).cpu()
            self._folder.do(partial(self._write_grid, images=images, grid=grid, step=step, suffix=suffix))
        self._folder.do(self._write_curves)

    @torch.no_grad()
    def _draw(self, grid: Grid) -> Tensor:
        latent = self._state.spec.vector(grid.latents).to(self._cluster.device, self._cluster.dtype)
        G_ema = self._state.networks.G_ema
        batches = batches_of(len(latent))
        drawn = self._cluster.map_batches(batches, lambda ours: to_uint8(G_ema(latent[ours.to(latent.device)])))
        return drawn[: len(latent)]

    def _write_grid(self, folder: RunFolder, images: Tensor, grid: Grid, step: int, suffix: str) -> None:
        path = folder.sample_path(step, suffix)
        images_seen = step * self._config.train.global_batch
        title = f"{folder.path.resolve().name}, step {step:,}, {images_seen:,} images seen"
        picture = write_grid(images, grid.columns, path, grid.titled(title))
        self._folder.written[f"grid of {suffix}" if suffix else "grid"] = str(path)
        if self._records.trackers is not None:
            self._records.trackers.log_images({f"samples/{suffix}" if suffix else "samples": picture}, step)

    def _write_curves(self, folder: RunFolder) -> None:
        path = folder.path / "curves.png"
        write_curves(folder.rows(), path, self._config)
        self._folder.written["curves"] = str(path)
