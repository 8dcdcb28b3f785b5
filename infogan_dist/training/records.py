"""What a run records: rows of metrics.jsonl and timing.jsonl, trackers, progress and collapse warnings."""

from __future__ import annotations

from torch import Tensor

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import images_of, scored_split
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.trackers import Trackers
from infogan_dist.errors import Diverged
from infogan_dist.evaluation.measure import evaluate_networks
from infogan_dist.training.collapse import QUIET_ROWS, collapse_warnings, new_warnings
from infogan_dist.training.main_folder import MainFolder
from infogan_dist.training.probe import derived
from infogan_dist.training.progress import Progress
from infogan_dist.training.timing import RunClock, learning_rates
from infogan_dist.training.train_state import TrainState


class Records:
    """Records the metrics of a run; `first_step` is the first that it trains. Every rank makes one."""

    def __init__(self, config: Config, cluster: Cluster, folder: MainFolder, state: TrainState, first_step: int):
        self._config, self._cluster, self._folder, self._state = config, cluster, folder, state
        self.progress = Progress(first_step - 1, config.train.steps, visible=cluster.is_main)
        self._clock = RunClock(folder.do(RunFolder.seconds_spent), (first_step - 1) * config.train.global_batch)
        self.trackers: Trackers | None = None
        """Rank zero's."""
        self._recent = folder.do(lambda opened: opened.newest_rows("train", config.collapse.rows + QUIET_ROWS))

        def start(opened: RunFolder) -> None:
            self.trackers = Trackers(config, opened.run_id(), first_step, cluster.announce)

        if config.log.trackers:
            folder.do(start)

    def add(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Record the metrics of `step` and log new collapse warnings. Waits for the device.

        Raises Diverged on a collapse warning where `collapse.stop` is set.
        """
        spec, objective, collapse = self._state.spec, self._config.objective, self._config.collapse
        numbers = self._cluster.mean(metrics)
        numbers |= derived(numbers, spec)
        images_seen = step * self._config.train.global_batch
        rows = [*self._recent, {"images_seen": images_seen, **numbers}]
        warnings = collapse_warnings(rows, spec, objective, collapse)
        numbers["collapse/warnings"] = len(warnings)
        self._recent.append({"images_seen": images_seen, **numbers})
        timing = self._clock.row(images_seen) | learning_rates(self._state)

        def write(folder: RunFolder) -> None:
            folder.record("train", step, images_seen, numbers)
            folder.record_timing(step, images_seen, timing)

        self._folder.do(write)
        if self.trackers is not None:
            self.trackers.log(numbers | timing, step)
        self.progress.show(step, numbers, timing["images_per_second"])
        for warning in new_warnings(rows, spec, objective, collapse):
            self._cluster.announce(f"warning: {warning.message}")
        if warnings and collapse.stop:
            raise Diverged(f"training collapsed at step {step} (collapse.stop = true): {warnings[0].message}")

    def evaluate(self, step: int) -> None:
        """Evaluate the codes and record the metrics. Nothing in the training depends on them."""
        metrics = evaluate_networks(self._state.networks, self._config, self._cluster)
        images_seen = step * self._config.train.global_batch
        self._folder.do(lambda folder: folder.record("evaluate", step, images_seen, metrics))
        scored, error = images_of(scored_split(self._config.data)), metrics.get("code_error")
        what = "evaluated, without labels" if error is None else "code error"
        self._folder.written[what] = f"{'' if error is None else f'{error:.2%} of '}the {scored}, after step {step}"

    def close(self, error: BaseException | None) -> None:
        """Close the progress bar and end the trackers."""
        self.progress.close()
        if self.trackers is not None:
            self.trackers.finish(getattr(error, "exit_code", 1) if error is not None else 0)
