"""`init`: from a folder of images to a config that trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from infogan_dist.__main__ import main
from infogan_dist.config.reading import load_config


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the colour images `My Photos`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "place"
    (place / "My Photos").mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (40, 50), (30 * number, 0, 200)).save(place / "My Photos" / f"{number}.png")
    monkeypatch.chdir(place)
    return place


def test_init_writes_a_config_that_loads_and_a_contact_sheet(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "My Photos", "--classes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "8 image files below My Photos" in printed
    assert "duration: about" in printed
    assert "memory: " in printed
    assert "next: infogan-dist train my-photos.yaml" in printed
    assert "infogan-dist encode runs/my-photos --images 'My Photos'" in printed
    config = load_config("my-photos.yaml")
    assert (config.output, config.data.root, config.latents.categorical) == ("runs/my-photos", "My Photos", (2,))
    assert Image.open("my-photos-images.png").width > 100
    assert main(["init", "My Photos"]) == 2
    assert "my-photos.yaml exists; give another file with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["."], "holds no images"),
        (["My Photos", "--out", "a.txt"], "--out a.txt does not end in .yaml"),
        (["My Photos", "--classes", "0"], "--classes"),
        (["My Photos", "--classes", "1"], "--classes"),
    ],
)
def test_what_is_refused_leaves_no_file(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if arguments == ["."]:
        for path in (place / "My Photos").iterdir():
            path.unlink()
    assert main(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["My Photos"]
