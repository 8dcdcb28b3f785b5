from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from infogan_dist.checkpoints.resume import decide_resume
from infogan_dist.config.model import DataConfig
from infogan_dist.data.fingerprint import SAMPLED, Fingerprint, fingerprint
from infogan_dist.data.sources import ArraySource, open_images
from infogan_dist.errors import UserError
from infogan_dist.registry.data_sets import DATA_SETS
from tests.checkpoints.test_run_folder import CPU, with_checkpoints
from tests.conftest import tiny


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randint(2, 254, (count, 1, 8, 8), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def of(images: Tensor) -> Fingerprint:
    return fingerprint(ArraySource(images))


def test_fingerprint_samples_at_most_64_images_from_the_first_to_the_last() -> None:
    class Counting(ArraySource):
        indexes: Tensor

        def read(self, indexes: Tensor) -> Tensor:
            self.indexes = indexes
            return super().read(indexes)

    for count, sampled in ((1, 1), (5, 5), (64, 64), (1000, SAMPLED)):
        source = Counting(noise(count))
        found = fingerprint(source)
        assert len(source.indexes.unique()) == sampled
        assert (source.indexes[0], source.indexes[-1]) == (0, count - 1)
        assert found.images == count
        assert Fingerprint.model_validate(json.loads(found.model_dump_json())) == found


def test_thumbnail_is_the_mean_of_each_quarter() -> None:
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    image[..., :2, :2], image[..., :2, 2:], image[:, 0, 2:, 2:] = 16, 255, 3
    assert of(image).thumbnails == "10ff0001"


def test_equal_and_differently_rounded_images_do_not_differ() -> None:
    images = noise(100)
    assert of(images).difference(of(images)) is None
    off = torch.randint(-1, 2, images.shape, generator=torch.Generator().manual_seed(1))
    rounded = of((images + off).to(torch.uint8))
    assert rounded.checksum != of(images).checksum
    assert of(images).difference(rounded) is None


def test_different_images_differ_and_are_counted() -> None:
    images = noise(64)
    assert of(images).difference(of(images[1:])) == "64 images then, 63 now"
    assert of(images).difference(of(noise(64, seed=1))) == "64 of 64 sampled images differ"
    one = images.clone()
    one[5] = 255 - one[5].flip(-1)
    assert of(images).difference(of(one)) == "1 of 64 sampled images differ"
    shuffled = open_images(DataConfig()).read(torch.arange(10_000).flip(0))
    assert "sampled images differ" in str(fingerprint(open_images(DataConfig())).difference(of(shuffled)))


@pytest.mark.parametrize(
    "changes", [{"images": -1}, {"images": 1.5}, {"thumbnails": "xy"}, {"thumbnails": "abc"}, {"checksum": 7}]
)
def test_invalid_recorded_fingerprint_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fingerprint.model_validate(of(noise(2)).model_dump() | changes)


def test_extra_thumbnail_in_a_manifest_is_a_difference() -> None:
    found = of(noise(3))
    forged = found.model_copy(update={"thumbnails": found.thumbnails + "00000000", "checksum": ""})
    assert forged.difference(found) == "another sample of images"


def test_checkpoint_without_fingerprint_is_refused_only_for_a_redrawn_data_set(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (28, 28), 9).save(tmp_path / "images" / "a.png")
    folder = tiny(tmp_path / "folder", f"data={{name: folder, root: {tmp_path / 'images'}}}")
    mini = tiny(tmp_path / "mini")
    for config in (folder, mini):
        with_checkpoints(config, 2)
    checkpoint = decide_resume(folder, "auto", CPU, fingerprint(open_images(folder.data))).checkpoint
    assert checkpoint is not None
    assert checkpoint.step == 2
    with pytest.raises(UserError, match="trained on other images of mnist-mini") as caught:
        decide_resume(mini, "auto", CPU, fingerprint(open_images(mini.data)))
    assert DATA_SETS["mnist-mini"].redrawn in str(caught.value)
    assert "choose another output" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_new_run_cannot_start_from_a_checkpoint_on_other_images(tmp_path: Path) -> None:
    with_checkpoints(tiny(tmp_path / "run"), 2)
    checkpoint = str(tmp_path / "run" / "checkpoints" / "step-00000002")
    with pytest.raises(UserError, match="other images of mnist-mini"):
        decide_resume(tiny(tmp_path / "fork"), checkpoint, CPU, of(noise(4)))
