"""One run in progress: what is due, what is recorded, drawn and saved. Every rank calls every method."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.checkpoints.store import Checkpoint, Origin
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint
from infogan_dist.data.sources import images_of, scored_split
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.trackers import Trackers
from infogan_dist.errors import Diverged, NoUsableCheckpoint
from infogan_dist.evaluation.measure import evaluate_networks
from infogan_dist.networks.batch_norm import local_buffers
from infogan_dist.sampling.curves import write_curves
from infogan_dist.sampling.grids import Grid, batches_of, fixed_grids, to_uint8, write_grid
from infogan_dist.training.collapse import new_signs, signs
from infogan_dist.training.probe import derived
from infogan_dist.training.progress import shown
from infogan_dist.training.rollback import NORMS, BadSteps, in_words
from infogan_dist.training.trainer import Trainer

Result = TypeVar("Result")


class Run:
    """Opens the run folder on rank zero and puts the trainer in the state of `checkpoint`, if there is one.

    As a context it marks how the run ended. Raises UserError where the folder is in use or cannot be written.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        trainer: Trainer,
        checkpoint: Checkpoint | None,
        images: Fingerprint | None = None,
        resumed_from: Sequence[Origin] = (),
        debug: bool = False,
    ):
        self._config, self._cluster, self._state = config, cluster, trainer.state
        self._start = checkpoint.step if checkpoint else 0
        self.first_step = self._start + 1
        self._folder: RunFolder | None = None
        self._written: dict[str, str] = {}
        saved: dict[str, int] = {}
        if checkpoint is not None:
            self._restore(checkpoint)
            saved = checkpoint.manifest.get("bad_steps", {})
        self._images_of = trainer.batches.images_of
        self._data = {"data": images.model_dump()} if images else {}
        self._bad_steps = BadSteps(config.bad_steps, cluster.device, saved)
        self._resumed_from = list(resumed_from)
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._trackers: Trackers | None = None  # rank zero's
        cluster.on_main(lambda: self._open(checkpoint, debug))
        try:
            self._recent = self._on_main(lambda folder: folder.newest_rows("train", config.collapse.rows))
            if config.log.trackers:
                self._on_main(self._start_trackers)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> Self:
        train, cluster = self._config.train, self._cluster
        share = train.global_batch // cluster.processes
        among = f"{cluster.processes} process{'es' if cluster.processes > 1 else ''} of {share} images"
        whence = f"continuing after step {self._start}" if self._start else "from the start"
        cluster.announce(
            f"training {self._config.output} {whence}: {among} a step, {cluster.device.type}, {train.precision}"
        )
        self._bar = tqdm(
            total=train.steps,
            initial=self._start,
            unit="step",
            disable=not cluster.is_main,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 10,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._folder is not None:
            if isinstance(error, Diverged):
                self._write_post_mortem(self._folder, error)
            try:
                self._folder.__exit__(kind, error, trace)
            finally:
                if self._trackers is not None:
                    self._trackers.finish(getattr(error, "exit_code", 1) if error is not None else 0)
        if kind is None:
            self._cluster.announce(*(f"{what}: {path}" for what, path in self._written.items()))

    def mark_stopping(self) -> None:
        """Let other commands in this folder wait for this run's end. A signal handler may call it."""
        if self._folder is not None:
            self._folder.mark_stopping()

    def remaining_steps(self) -> Iterator[int]:
        """The steps still to train, counted from 1, with a progress bar on rank zero."""
        for step in range(self.first_step, self._config.train.steps + 1):
            yield step
            self._bar.update()

    def due(self, every: int, step: int) -> bool:
        """Whether something done every so many steps (0: never) is due; on the last step everything is."""
        return step == self._config.train.steps or (every > 0 and step % every == 0)

    def watch(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Note whether an update was skipped; at some steps, tell of those that were, and go back where they are too many.

        Raises Diverged where the run may not go back once more, or has nothing to go back to.
        """
        config, bad = self._config, self._bad_steps
        bad.note(step, metrics)
        if self.due(config.bad_steps.look_every, step) or self.due(config.log.every, step):
            self._look()
        if bad.too_many(step):
            self._go_back(f"{bad.in_a_row} steps in a row up to step {step} had a loss or gradient that is not finite")

    def record(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Add a row to metrics.jsonl, the trackers and the bar, and warn of new signs of collapse. Waits for the device.

        Raises Diverged on a sign of collapse where `collapse.stop` says so.
        """
        numbers = self._cluster.mean(metrics)
        numbers |= derived(numbers, self._state.spec)
        images_seen = step * self._config.train.global_batch
        known, config = [*self._recent, {"images_seen": images_seen, **numbers}], self._config
        found = signs(known, self._state.spec, config.objective, config.collapse)
        numbers["collapse/signs"] = len(found)
        self._recent.append({"images_seen": images_seen, **numbers})
        self._on_main(lambda folder: folder.record("train", step, images_seen, numbers))
        if self._trackers is not None:
            self._trackers.log(numbers, step)
        self._bar.set_postfix(shown(numbers), refresh=False)
        for sign in new_signs(known, self._state.spec, config.objective, config.collapse):
            self._cluster.announce(f"warning: {sign.message}")
        if found and config.collapse.stop:
            raise Diverged(f"training collapsed at step {step} (collapse.stop = true): {found[0].message}")

    def save_pictures(self, step: int) -> None:
        """Draw the fixed-noise grids with G_ema, each rank a share, and write them and the curves on rank zero."""
        for suffix, grid in fixed_grids(self._state.spec, self._config.seed).items():
            images = self._draw(grid).cpu()
            self._on_main(partial(self._write_grid, images=images, columns=grid.columns, step=step, suffix=suffix))
        self._on_main(self._write_curves)

    def evaluate(self, step: int) -> None:
        """Measure the codes: a row of metrics.jsonl, and a line for the user. Nothing else sees the figures."""
        figures = evaluate_networks(self._state.networks, self._config, self._cluster)
        images_seen = step * self._config.train.global_batch
        self._on_main(lambda folder: folder.record("evaluate", step, images_seen, figures))
        scored, error = images_of(scored_split(self._config.data)), figures.get("code_error")
        what = "evaluated, without labels" if error is None else "code error"
        self._written[what] = f"{'' if error is None else f'{error:.2%} of '}the {scored}, after step {step}"

    def check_agreement(self) -> None:
        """Raises Diverged unless every rank holds the same bits of everything that a checkpoint holds."""
        state = {
            f"{stem}.{name}": t for stem, tensors in self._state.state_dict().items() for name, t in tensors.items()
        }
        own = {f"{stem}.{name}" for stem, n in self._state.networks.named().items() for name in local_buffers(n)}
        self._cluster.check_agreement({name: tensor for name, tensor in state.items() if name not in own})

    def save_checkpoint(self, step: int, wait: bool = False) -> None:
        """Save every network and optimizer on rank zero, whole or not at all; Diverged where the ranks do not agree.

        On the last step, or where told to, `wait` until it is on the disk.
        """
        wait = wait or step == self._config.train.steps
        self.check_agreement()
        self._look()
        facts = {
            "step": step,
            "images_seen": step * self._config.train.global_batch,
            "config": self._config.model_dump(mode="json"),
            "scaler": self._cluster.scaler_state(),
            "bad_steps": self._bad_steps.state(),
            "resumed_from": self._resumed_from,
            **self._data,
        }
        try:
            self._save(facts, wait)
        except Diverged as broken:  # a state that is not finite is never saved
            self._go_back(str(broken))
            self._save(facts | {"bad_steps": self._bad_steps.state()}, wait)

    def _save(self, facts: dict[str, Any], wait: bool) -> None:
        state = self._state.state_dict()
        self._on_main(lambda folder: self._note("checkpoint", folder.save_checkpoint(state, facts, wait)))

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = self._cluster.on_main(checkpoint.load)
        try:
            self._state.load_state_dict(state)
        except NoUsableCheckpoint as error:
            raise NoUsableCheckpoint(f"{checkpoint.path} is of another network: {error}") from None
        self._cluster.restore_scaler(checkpoint.manifest.get("scaler", {}))

    def _go_back(self, why: str) -> None:
        """Take the state of the newest checkpoint that verifies; the step goes on counting, and the stream on.

        Raises Diverged where the run may not go back once more, or has nothing to go back to.
        """
        bad, may = self._bad_steps, self._config.bad_steps.rollbacks
        see = f"see {self._config.output}/post_mortem.json"
        if not bad.goes_back():
            raise Diverged(f"training diverged for good after going back {may} times: {why}; {see}")
        checkpoint, complaints = self._on_main(RunFolder.newest_checkpoint)
        if checkpoint is None:
            raise Diverged(f"training diverged with no checkpoint to go back to: {why}; {see}")
        self._restore(checkpoint)
        skipping = [f"skipping a damaged checkpoint: {complaint}" for complaint in complaints]
        to = f"back to the state of step {checkpoint.step} ({bad.rollbacks} of {may} times)"
        self._cluster.announce(*skipping, f"warning: {why}; {to}")

    def _look(self) -> None:
        """Tell of the steps that were skipped since the last look."""
        skipped = self._bad_steps.look()
        if skipped:
            self._cluster.announce(f"warning: {in_words(skipped)}")
        for each in skipped:
            facts = {"sides": each.sides, "images": self._images_of(each.step)}
            images_seen = each.step * self._config.train.global_batch
            row = partial(RunFolder.append, kind="skipped", step=each.step, images_seen=images_seen, facts=facts)
            self._on_main(row)

    def _write_post_mortem(self, folder: RunFolder, error: Diverged) -> None:
        bad = self._bad_steps
        with suppress(OSError):  # the error itself is more than its trace
            folder.write_post_mortem(
                {
                    "error": str(error),
                    "bad_steps": bad.state(),
                    "gradient_norms": [
                        {"step": step} | dict(zip(NORMS, norms, strict=True)) for step, norms in bad.last
                    ],
                    "config": self._config.model_dump(mode="json"),
                }
            )

    @torch.no_grad()
    def _draw(self, grid: Grid) -> Tensor:
        latent = self._state.spec.vector(grid.latents).to(self._cluster.device, self._cluster.dtype)
        G_ema = self._state.networks.G_ema
        batches = batches_of(len(latent))
        drawn = self._cluster.map_batches(batches, lambda ours: to_uint8(G_ema(latent[ours.to(latent.device)])))
        return drawn[: len(latent)]

    def _open(self, checkpoint: Checkpoint | None, debug: bool) -> None:
        self._folder = RunFolder(self._config, checkpoint, debug)
        self._cluster.when_lost(self._folder.mark_failed)

    def _start_trackers(self, folder: RunFolder) -> None:
        self._trackers = Trackers(self._config, folder.run_id(), self.first_step, self._cluster.announce)

    def _on_main(self, write: Callable[[RunFolder], Result]) -> Result:
        def guarded() -> Result:
            assert self._folder is not None
            with self._folder.writing():
                return write(self._folder)

        return self._cluster.on_main(guarded)

    def _write_grid(self, folder: RunFolder, images: Tensor, columns: int, step: int, suffix: str) -> None:
        path = folder.sample_path(step, suffix)
        picture = write_grid(images, columns, path)
        self._note(f"grid of {suffix}" if suffix else "grid", path)
        if self._trackers is not None:
            self._trackers.log_images({f"samples/{suffix}" if suffix else "samples": picture}, step)

    def _write_curves(self, folder: RunFolder) -> None:
        path = folder.path / "curves.png"
        write_curves(folder.rows(), path)
        self._note("curves", path)

    def _note(self, what: str, path: object) -> None:
        self._written[what] = str(path)
