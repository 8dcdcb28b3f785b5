"""Saves the checkpoints of a run in progress, after checking that all ranks agree and that all numbers are finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.checkpoints.state import restore_networks
from infogan_dist.checkpoints.store import Checkpoint
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import Diverged, NoUsableCheckpoint, UserError
from infogan_dist.networks.batch_norm import local_buffers
from infogan_dist.training.main_folder import MainFolder
from infogan_dist.training.rollback import Rollback
from infogan_dist.training.train_state import TrainState


class Saving:
    """Saves every network and optimizer. Every rank makes one and calls every method."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        folder: MainFolder,
        state: TrainState,
        rollback: Rollback,
        images: Fingerprint | None,
        origins: Mapping[str, Any],
    ):
        self._config, self._cluster, self._folder = config, cluster, folder
        self._state, self._rollback = state, rollback
        self._constant = {"config": config.model_dump(mode="json"), **origins}
        self._constant |= {"data": images.model_dump()} if images else {}

    def check_agreement(self) -> None:
        """Raises Diverged unless everything in a checkpoint has the same bits on all ranks."""
        state = {
            f"{stem}.{name}": t for stem, tensors in self._state.state_dict().items() for name, t in tensors.items()
        }
        local = {f"{stem}.{name}" for stem, n in self._state.networks.named().items() for name in local_buffers(n)}
        self._cluster.check_agreement({name: tensor for name, tensor in state.items() if name not in local})

    def save(self, step: int, wait: bool = False) -> None:
        """Save the state after `step`. After the last step, or with `wait`, return when it is on the disk.

        If the state is not finite, the run rolls back and saves the result. Raises Diverged if the ranks differ.
        """
        wait = wait or step == self._config.train.steps
        self.check_agreement()
        self._rollback.report()
        try:
            self._write(step, wait)
        except Diverged as error:
            self._rollback.go_back(str(error))
            self._write(step, wait)

    def _write(self, step: int, wait: bool) -> None:
        state = self._state.state_dict()
        facts: dict[str, Any] = {
            "step": step,
            "images_seen": step * self._config.train.global_batch,
            "scaler": self._cluster.scaler_state(),
            "nonfinite": self._rollback.state(),
            **self._constant,
        }

        def write(folder: RunFolder) -> None:
            self._folder.written["checkpoint"] = str(folder.save_checkpoint(state, facts, wait))

        self._folder.do(write)


def initialise(state: TrainState, checkpoint: Checkpoint, cluster: Cluster) -> None:
    """Load the networks G, FE, D and Q of `checkpoint` into `state`, without its optimizers. G_ema starts at G. Every rank calls it.

    Raises UserError if shapes do not match.
    """
    networks = state.networks.named()
    G_ema = networks.pop("G_ema")
    tensors = cluster.on_main(lambda: checkpoint.load(*networks))
    try:
        restore_networks(networks, tensors)
    except NoUsableCheckpoint as error:
        raise UserError(
            f"--init-from {checkpoint.path} does not fit this config: {error}; use its values of latents.*, networks.* and data.*"
        ) from None
    G_ema.load_state_dict(state.networks.G.state_dict())


def restore(checkpoint: Checkpoint, state: TrainState, cluster: Cluster) -> None:
    """Load `checkpoint` into `state`. Every rank calls it and rank zero reads. Raises NoUsableCheckpoint if it does not match."""
    tensors = cluster.on_main(checkpoint.load)
    try:
        state.load_state_dict(tensors)
    except NoUsableCheckpoint as error:
        raise NoUsableCheckpoint(f"{checkpoint.path} belongs to another network: {error}") from None
    cluster.restore_scaler(checkpoint.manifest.get("scaler", {}))
