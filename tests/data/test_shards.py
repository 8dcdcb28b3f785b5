"""Tar files of images as a data set."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infogan_dist.__main__ import main
from infogan_dist.config.model import DataConfig
from infogan_dist.data import folder, stream
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.folder_look import FolderLook
from infogan_dist.errors import UserError
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, ROOT, clean_environment, tiny
from tests.data.tar_files import png, write_tar

GREYS = [10, 60, 110, 160, 210]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five images in shards of two and three, with a label beside each; also as files in `files`."""
    root = tmp_path / "shards"
    for name, greys in (("b.tar", GREYS[2:]), ("a.tar", GREYS[:2])):
        write_tar(
            root / name,
            [
                member
                for grey in greys
                for member in ((f"{grey:03}.png", png(grey)), (f"{grey:03}.cls", b"1"), (f"._{grey}.png", b"hidden"))
            ],
        )
        for grey in greys:
            path = tmp_path / "files" / name / f"{grey:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(grey))
    return root


def config(root: Path, name: str = "shards", **values: object) -> DataConfig:
    return DataConfig.model_validate({"name": name, "root": str(root), "image_size": 8, **values})


def greys_of(data: DataConfig) -> list[float]:
    source = open_images(data)
    return source.read(torch.arange(len(source))).float().mean((1, 2, 3)).tolist()


def test_shards_have_the_images_of_a_folder_with_the_same_files(shards: Path) -> None:
    assert greys_of(config(shards)) == GREYS
    ours, theirs = open_images(config(shards)), open_images(config(shards.parent / "files", "folder"))
    order = torch.tensor([4, 0, 0, 3])
    assert torch.equal(ours.read(order), theirs.read(order))
    assert greys_of(config(shards / "b.tar")) == GREYS[2:]
    assert greys_of(config(shards.parent)) == GREYS  # shards in subfolders


def test_the_first_broken_member_names_all(shards: Path) -> None:
    write_tar(shards / "c.tar", [("x.png", png(9)[:40]), ("y.png", b"text")])
    source = open_images(config(shards))
    assert source.read(torch.tensor([2])).unique().tolist() == [110]
    with pytest.raises(UserError, match=r"2 of 7 image files .*: c\.tar/x\.png \(.*\), c\.tar/y\.png \(.*skip_broken"):
        source.read(torch.tensor([5]))
    with pytest.raises(UserError, match="2 of 7 image files"):  # known from the cache
        open_images(config(shards))


def test_a_broken_member_is_replaced_by_the_next_image(shards: Path) -> None:
    write_tar(shards / "a.tar", [("1.png", png(10)), ("2.png", b"text")])
    for _ in range(2):
        assert greys_of(config(shards, skip_broken=True)) == [10, 110, 110, 160, 210]


def test_a_damaged_shard_is_refused_or_read_up_to_the_damage(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = (shards / "b.tar").read_bytes()
    (shards / "b.tar").write_bytes(content[: 6 * 1024])
    write_tar(shards / "c.tar", [("1.png", png(250))])
    (shards / "empty.tar").touch()
    with pytest.raises(UserError, match=r"2 of 4 shards are damaged: .*b\.tar \(.*\), .*empty\.tar \(.*skip_broken"):
        open_images(config(shards))
    folder._logged.clear()
    with caplog.at_level(logging.WARNING, "infogan_dist"):
        assert greys_of(config(shards, skip_broken=True)) == [10, 60, 110, 160, 250]
    assert "2 of 4 shards are damaged" in caplog.text


def test_bad_folders_and_shards_are_refused_by_name(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for root in ("nowhere", "empty", "files/a.tar/010.png"):
        with pytest.raises(
            UserError, match=rf"data\.root = .*{root} is neither a \.tar file nor a folder of \.tar files"
        ):
            open_images(config(tmp_path / root))
    with pytest.raises(UserError, match=r"nowhere\.tar cannot be read \(No such file"):
        open_images(config(tmp_path / "nowhere.tar"))
    write_tar(tmp_path / "texts.tar", [("1.txt", b"text"), ("1.seg.png", png(1))])
    with pytest.raises(UserError, match=r"texts\.tar has shards without images"):
        open_images(config(tmp_path / "texts.tar"))
    for other in ("060.jpg", "060.png"):
        write_tar(shards / "a.tar", [("060.png", png(60)), (other, png(61))])
        with pytest.raises(UserError, match=rf"a\.tar has two images with the key 060: 060\.png and {other}"):
            open_images(config(shards))


def test_a_look_at_shards_names_shards_copies_and_broken_members(shards: Path) -> None:
    write_tar(shards / "c.tar", [("x.png", b"text"), ("copy.png", png(60))])
    look = FolderLook.of(config(shards))
    assert "3 shards: a.tar 2, b.tar 3, c.tar 2" in " ".join(look.lines())
    warnings = " ".join(look.warnings(8))
    assert "c.tar/x.png" in warnings
    assert "a.tar/060.png = c.tar/copy.png" in warnings


def test_a_damaged_shard_ends_the_command_in_one_line(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "a.tar").write_bytes((shards / "a.tar").read_bytes()[:520])
    output = shards.parent / "run"
    assert main(["train", "debug", "data.name=shards", f"data.root={shards}", f"output={output}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(part in line for part in ("1 of 2 shards are damaged", "a.tar (it ends", "data.skip_broken=true"))
    assert not output.exists()


def networks(run: Path) -> dict[str, torch.Tensor]:
    """The weights after step 6."""
    files = sorted((run / "checkpoints/step-00000006").glob("*.safetensors"))
    assert len(files) == 7
    return {f"{file.stem}/{key}": value for file in files for key, value in load_file(file).items()}


def test_processes_and_a_resume_train_the_same_networks(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images stay on the disk; two processes have uneven shards, and five images for a batch of 12."""
    readers, read = set(), folder.FolderSource.read

    def noted(source: folder.FolderSource, indexes: torch.Tensor) -> torch.Tensor:
        readers.add(threading.current_thread().name.partition("_")[0])
        return read(source, indexes)

    monkeypatch.setattr(folder.FolderSource, "read", noted)
    outputs = {name: shards.parent / name for name in ("files-run", "one", "resumed", "two")}
    given, files = (
        f"data={{name: {name}, root: '{root}'}}"
        for name, root in (("shards", shards), ("folder", shards.parent / "files"))
    )
    train(tiny(outputs["files-run"], files), ONE_PROCESS)
    monkeypatch.setattr(stream, "RESIDENT_SHARE", 0)
    readers.clear()
    train(tiny(outputs["one"], given), ONE_PROCESS)
    assert "images" in readers
    train(tiny(outputs["resumed"], given), ONE_PROCESS, resume=str(outputs["one"] / "checkpoints/step-00000002"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    overrides = [
        *("networks.width=4", "sample.every=0", "checkpoint.every=2", "log.every=1"),
        "train={global_batch: 12, steps: 6, precision: fp64, threads: 1, ema_half_life_images: 100}",
    ]
    command = ["-m", "tests.data.shards_worker", "train", "debug", f"output={outputs['two']}", *overrides, given]
    result = subprocess.run([*launcher, *command], cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    one = networks(outputs["one"])
    for other in ("files-run", "resumed"):
        assert all(torch.equal(one[key], value) for key, value in networks(outputs[other]).items())
    for key, value in networks(outputs["two"]).items():
        assert (one[key].double() - value.double()).abs().max() <= 1e-9, key
