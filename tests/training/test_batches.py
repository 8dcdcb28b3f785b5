from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infogan_dist.checkpoints.store import find
from infogan_dist.config.schema import Config
from infogan_dist.data import stream as data_stream
from infogan_dist.data.sources import ArraySource, open_images
from infogan_dist.data.stream import ImageStream
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.training import batches
from infogan_dist.training.batches import BatchStream, images_before
from infogan_dist.training.loop import train
from infogan_dist.training.schedule import annealing
from infogan_dist.training.step import MicroBatch
from tests.conftest import ONE_PROCESS, Command, refused, tiny

RECIPE = (
    "latents.balanced=true",
    "objective={information_trains: trunk, information_from: augmented, lambda_clustering: 1, clustering_from: 0.24, "
    "clustering_in_full: 0.48, neighbour_positives: 0.5}",
    "schedule={images: 100, kind: linear, anneal_from: 0.24, anneal_until: 0.72}",
)


@pytest.fixture
def few_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the search: the neighbour of each image is the next one."""
    monkeypatch.setattr(
        batches, "nearest_neighbours", lambda source, workers: ((torch.arange(len(source)) + 1) % len(source))[:, None]
    )


def in_stream(config: Config, use: Callable[[BatchStream], None]) -> None:
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        use(BatchStream(config, cluster, open_images(config.data)))


@pytest.mark.parametrize("preset", ["digits", "objects"])
def test_the_preview_shows_reals_and_their_augmentations(preset: str) -> None:
    def check(stream: BatchStream) -> None:
        reals, augmented = stream.preview(4)
        assert augmented is not None
        assert augmented.shape == reals.shape == (4, 1, 28, 28)
        assert not augmented.equal(reals)

    in_stream(tiny("x", *RECIPE, f"augmentation.preset={preset}"), check)


@pytest.mark.usefixtures("few_neighbours")
def test_positives_appear_when_clustering_starts_and_its_weight_rises() -> None:
    def check(stream: BatchStream) -> None:
        weights = [
            batch.positives.weight.item() if batch.positives else None
            for step in range(1, 7)
            for batch in stream.at(step)
        ]
        assert weights == [None, None, None, 0.5, 1.0, 1.0]

    in_stream(tiny("x", *RECIPE), check)


@pytest.mark.usefixtures("few_neighbours")
def test_stream_that_starts_later_gives_the_same_batches() -> None:
    def tensors(batch: MicroBatch) -> list[Tensor]:
        assert batch.augment_D is not None
        assert batch.augment_G is not None
        assert batch.positives is not None
        return [
            batch.reals,
            batch.latent,
            batch.augment_D.draws,
            batch.augment_G.draws,
            batch.positives.images,
            batch.augment_D.strength,
        ]

    def check(stream: BatchStream) -> None:
        for step in (1, 4, 5):
            found[step] = stream.at(step)[0]
        assert not torch.equal(found[5].augment_D.draws, found[5].augment_G.draws)  # type: ignore[union-attr] - fresh at each use

    found: dict[int, MicroBatch] = {}
    in_stream(tiny("x", *RECIPE), check)
    late = {}
    in_stream(tiny("x", *RECIPE), lambda stream: late.update({5: stream.at(5)[0]}))
    for ours, theirs in zip(tensors(found[5]), tensors(late[5]), strict=True):
        assert torch.equal(ours, theirs)


def test_some_positives_are_neighbours_and_the_others_the_image_itself() -> None:
    stream, neighbours = ImageStream(100, seed=0), (torch.arange(100) + 1)[:, None] % 100
    positions = torch.arange(5000)
    own = stream.at(positions)
    positives = stream.positives_at(positions, 0.3, lambda: neighbours)
    moved = positives != own
    assert torch.equal(positives[moved], (own[moved] + 1) % 100)
    assert moved.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(stream.positives_at(positions[7:], 0.3, lambda: neighbours), positives[7:])
    assert torch.equal(stream.positives_at(positions, 0.0, lambda: pytest.fail("needs none")), own)


def test_single_image_is_its_own_positive() -> None:
    config = tiny("x", *RECIPE)
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        stream = BatchStream(config, cluster, ArraySource(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)))
        assert len(stream.at(6)[0].reals) == 12


class CountingSource(ArraySource):
    """Records the images that were read, in order."""

    def __init__(self, count: int):
        super().__init__(torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 28, 28))
        self.indexes: list[int] = []

    def read(self, indexes: Tensor) -> Tensor:
        self.indexes += indexes.tolist()
        return super().read(indexes)


@pytest.mark.usefixtures("few_neighbours")
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_each_image_of_a_step_is_read_once(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches_of(source: ArraySource) -> list[list[MicroBatch]]:
        """The micro-batches of three steps. Counts reads from the first step on, including those prefetched for the next one."""
        with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
            cluster.configure(config)
            stream = BatchStream(config, cluster, source)
            stream.at(5)
            if isinstance(source, CountingSource):
                stream._images._reader.submit(lambda: None).result()
                source.indexes.clear()
            found = [stream.at(step) for step in (6, 7, 8)]
            stream._images._reader.submit(lambda: None).result()
            return found

    config = tiny("x", *RECIPE, f"objective.neighbour_positives={share}", "train.accumulate=2")
    resident = batches_of(CountingSource(96))
    monkeypatch.setattr(data_stream, "RESIDENT_SHARE", 0)
    source = CountingSource(96)
    streamed = batches_of(source)
    wanted: list[int] = []
    for step, micro_batches in zip((6, 7, 8), streamed, strict=True):
        for ours, theirs in zip(micro_batches, resident[step - 6], strict=True):
            assert torch.equal(ours.reals, theirs.reals)
            assert ours.positives is not None
            assert theirs.positives is not None
            assert torch.equal(ours.positives.images, theirs.positives.images)
    order = ImageStream(96, config.seed)
    for step in (7, 8, 9):  # prefetched in the previous steps
        for positions in torch.arange(12 * (step - 1), 12 * step).chunk(2):
            annealed = annealing(config, images_before(config, step))
            positives = order.positives_at(positions, share * annealed, lambda: (torch.arange(1, 97) % 96)[:, None])
            wanted += torch.cat([order.at(positions), positives]).unique().tolist()
    assert source.indexes == wanted
    assert len(wanted) == 36 if not share else len(wanted) > 36


def test_paste_with_an_odd_number_of_images_is_refused(infogan: Command, tmp_path: Path) -> None:
    result = infogan("train", "debug", "output=run", "train.global_batch=15", *RECIPE)
    refused(result, "augmentation.paste = 0.5", "train.global_batch = 15", "gives each process 15 per micro-batch")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("few_neighbours")
def test_run_with_every_feature_resumes_bit_for_bit(tmp_path: Path) -> None:
    def weights(output: str, *steps: int) -> dict[str, Tensor]:
        for last in steps:
            train(tiny(tmp_path / output, *RECIPE, f"train.steps={last}"), ONE_PROCESS)
        state = find(tmp_path / output).load()
        return {f"{stem}/{key}": tensor for stem, tensors in state.items() for key, tensor in tensors.items()}

    whole, resumed = weights("whole", 6), weights("resumed", 4, 6)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_contradicting_objective_keys_are_refused(infogan: Command) -> None:
    heads = infogan("train", "debug", "objective.lambda_clustering=1")
    refused(heads, "objective.lambda_clustering = 1", "needs objective.information_trains = trunk")
    alone = infogan("train", "debug", "objective.neighbour_positives=0.5")
    refused(alone, "objective.neighbour_positives = 0.5", "lambda_clustering")
    late = infogan("train", "debug", "schedule={kind: linear, anneal_from: 0.5, anneal_until: 0.5}")
    refused(late, "schedule.anneal_until = 0.5 is not after schedule.anneal_from = 0.5")
