"""The training loop. Read this first, then `trainer`, `step`, `modules` and `losses`."""

from __future__ import annotations

from pathlib import Path

from infogan_dist.checkpoints.resume import decide_resume
from infogan_dist.checkpoints.run_lock import WAIT, wait_while_stopping
from infogan_dist.checkpoints.state import check_described
from infogan_dist.config.reading import dotted
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint, fingerprint
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.launcher import Launch
from infogan_dist.distributed.trackers import check_trackers
from infogan_dist.errors import StoppedBySignal
from infogan_dist.training.probe import Probe
from infogan_dist.training.profiling import not_profiled, profiled
from infogan_dist.training.run import Run
from infogan_dist.training.schedule import length_mismatch
from infogan_dist.training.signals import StopRequest
from infogan_dist.training.trainer import Trainer

A_HOSTS_OWN = ("output", "data.root", "train.threads")  # config keys that may differ between the hosts of a run


def train(
    config: Config, launch: Launch, resume: str = "auto", init_from: Path | None = None, profile: bool = False
) -> None:
    """Train one run to config.train.steps, continuing from its newest checkpoint that verifies. Every rank calls it.

    `resume` is `auto`, `never` or a checkpoint to continue; `init_from` a checkpoint whose networks a new run starts from. With
    `profile`, some steps are profiled.

    Raises UserError, NoUsableCheckpoint, Diverged, or StoppedBySignal after saving.
    """
    with StopRequest() as stop, Cluster(launch, config.train.threads, config.processes) as cluster:
        source = cluster.on_all(lambda: open_images(config.data))
        cluster.on_main(lambda: check_trackers(config.log.trackers))
        images = cluster.on_all(lambda: fingerprint(source))
        cluster.check_same(facts_of(config, images))
        cluster.on_main(lambda: _wait_while_stopping(config, cluster, stop))
        start = cluster.on_main(lambda: decide_resume(config, resume, cluster.device, images, init_from))
        cluster.announce(*start.notices)
        if start.finished:
            assert start.checkpoint is not None
            step = start.checkpoint.step
            cluster.announce(f"{config.output} is done at step {step}; set train.steps above {step} to continue it")
            return
        config, checkpoint = start.config, start.checkpoint
        if checkpoint is not None:
            cluster.on_main(lambda: check_described(checkpoint, config))
        if mismatch := length_mismatch(config):
            cluster.announce(mismatch)
        cluster.configure(config)
        trainer = Trainer(config, cluster, source)
        probe = Probe(trainer.state, config.seed)
        if cluster.any(stop.requested):
            raise StoppedBySignal("stopped by a signal before training; the same command continues")
        profiling = profiled(cluster, config.output) if profile else not_profiled()
        with (
            Run(config, cluster, trainer, start, images) as run,
            profiling as step_is_done,
        ):
            run.pictures.save_reals(trainer.batches)
            trainer.warm_up_ddp(run.first_step)
            stop.when_requested(run.mark_stopping)
            for step in run.remaining_steps():
                metrics = trainer.step(step)
                logged = run.due(config.log.every, step)
                run.rollback.watch(step, metrics, now=logged)
                if logged:
                    run.records.add(step, metrics | probe(trainer.batch))
                if config.evaluate.every and run.due(config.evaluate.every, step):
                    run.records.evaluate(step)
                if run.due(config.sample.every, step):
                    run.pictures.save(step)
                if run.due(config.processes.check_every, step):
                    run.saving.check_agreement()
                stopping = run.due(cluster.poll_every, step) and cluster.any(stop.requested)
                if stopping:
                    run.mark_stopping()  # the signal may have come to another rank
                if stopping or run.due(config.checkpoint.every, step):
                    run.saving.save(step, wait=stopping)
                step_is_done()
                if stopping and step < config.train.steps:
                    raise StoppedBySignal(
                        f"stopped by a signal after step {step} and saved; the same command continues"
                    )


def _wait_while_stopping(config: Config, cluster: Cluster, stop: StopRequest) -> None:
    """Wait for a process that is stopping in the output folder: it still saves. The other ranks' watchdogs must not end them."""
    seconds = min(WAIT, config.processes.timeout / 2)
    wait_while_stopping(Path(config.output), seconds, cluster.announce, lambda: stop.requested)


def facts_of(config: Config, images: Fingerprint) -> dict[str, object]:
    """What must be the same wherever a process of this run was started, by the name a user knows it by."""
    of_images = {"the number of images": images.images, "the checksum of some images": images.checksum}
    return {key: value for key, value in dotted(config).items() if key not in A_HOSTS_OWN} | of_images
