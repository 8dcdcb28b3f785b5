"""The loop: `train` composes every other room. Read this first, then `steps`, `sides` and `objectives`."""

from __future__ import annotations

import torch

from infogan_dist.config import Config, dotted
from infogan_dist.data import ImageSource, ImageStream, open_images
from infogan_dist.distributed import Cluster, check_trackers, checksums
from infogan_dist.ema import update_average
from infogan_dist.errors import StoppedBySignal
from infogan_dist.interruption import StopRequest
from infogan_dist.latents import LatentSpec
from infogan_dist.launcher import Launch
from infogan_dist.networks import build_networks
from infogan_dist.randomness import Stream
from infogan_dist.run import Run
from infogan_dist.run_folder import admit
from infogan_dist.sides import build_sides, owned_networks
from infogan_dist.steps import Game, MicroBatch, build_optimizers, fake_score, train_step

A_HOSTS_OWN = ("output", "data.root", "train.threads")  # config keys that may differ between the hosts of a run
PROBED = 64  # images that the hosts compare


def train(config: Config, launch: Launch, resume: str = "auto") -> None:
    """Train one run to config.train.steps, continuing from its newest checkpoint that verifies. Every rank calls it.

    Raises UserError, NoUsableCheckpoint, Diverged, or StoppedBySignal after saving.
    """
    with StopRequest() as stop, Cluster(launch, config.train.threads, config.processes) as cluster:
        source = cluster.on_all(lambda: open_images(config.data))
        cluster.on_main(lambda: check_trackers(config.log.trackers))
        cluster.check_same(facts_of(config, source))
        admission = cluster.on_main(lambda: admit(config, resume, cluster.device))
        cluster.announce(*admission.notices)
        if admission.finished:
            cluster.announce(f"{config.output} is done; raise train.steps = {config.train.steps} to go on")
            return
        config = admission.config
        cluster.configure(config)
        game = build_game(config, cluster)
        batches = BatchStream(config, cluster, source)
        with Run(config, cluster, game, admission.checkpoint) as run:
            cluster.settle(game.networks.named().values(), lambda: train_step(game, batches.at(run.first_step)))
            for step in run.remaining_steps():
                batch = batches.at(step)
                metrics = train_step(game, batch)
                update_average(game.networks, config.train, step)
                if run.due(config.log.every, step):
                    run.record(step, metrics | fake_score(game, batch))
                if run.due(config.sample.every, step):
                    run.save_pictures(step)
                if run.due(config.processes.check_every, step):
                    run.check_agreement()
                stopping = run.due(cluster.poll_every, step) and cluster.any(stop.requested)
                if stopping or run.due(config.checkpoint.every, step):
                    run.save_checkpoint(step)
                if stopping and step < config.train.steps:
                    raise StoppedBySignal(f"stopped by a signal after step {step} and saved; the same command goes on")


def facts_of(config: Config, source: ImageSource) -> dict[str, object]:
    """What must be the same wherever a process of this run was started, by the name a user knows it by."""
    some = source.read(torch.linspace(0, len(source) - 1, min(len(source), PROBED)).long())
    images = {"the number of images": len(source), "the checksum of some images": checksums({"images": some}).item()}
    return {key: value for key, value in dotted(config).items() if key not in A_HOSTS_OWN} | images


def build_game(config: Config, cluster: Cluster) -> Game:
    """Networks from the seed, the two sides as the cluster wraps them, and their optimizers. Every rank calls it."""
    networks = build_networks(config).to(cluster.device, cluster.dtype)
    discriminator_side, generator_side = build_sides(networks, config.objective)
    optimizer_D, optimizer_G = build_optimizers(networks, config.objective, config.optimizer)
    not_of_G, _ = owned_networks(networks, config.objective)
    return Game(
        networks=networks,
        discriminator_side=cluster.prepare(discriminator_side),
        generator_side=cluster.prepare(generator_side, *not_of_G.values()),
        optimizer_D=cluster.prepare_optimizer(optimizer_D),
        optimizer_G=cluster.prepare_optimizer(optimizer_G),
        spec=LatentSpec.from_config(config.latents),
        objective=config.objective,
        optimizer=config.optimizer,
        engine=cluster,
    )


class BatchStream:
    """This rank's part of every step's global batch: the images and latents at its global positions."""

    def __init__(self, config: Config, cluster: Cluster, source: ImageSource):
        self._train, self._cluster = config.train, cluster
        self._reals = ImageStream(source, config.seed, cluster.device, cluster.dtype)
        self._spec, self._latents = LatentSpec.from_config(config.latents), Stream(config.seed, "latents")

    def at(self, step: int) -> list[MicroBatch]:
        """The micro-batches of `step`, counted from 1."""
        self._cluster.enters(f"reading the images of step {step}")
        batch = [self._micro_batch(positions) for positions in self._positions(step)]
        for positions in self._positions(step + 1):
            self._reals.prefetch(positions)
        return batch

    def _positions(self, step: int) -> list[torch.Tensor]:
        train = self._train
        return self._cluster.micro_batch_positions(
            (step - 1) * train.global_batch, train.global_batch, train.accumulate
        )

    def _micro_batch(self, positions: torch.Tensor) -> MicroBatch:
        latents = self._spec.draw(self._latents, positions.to(self._cluster.device))
        return MicroBatch(self._reals.at(positions), self._spec.vector(latents).to(self._cluster.dtype), latents.codes)
