"""Folders for the hub: what they hold, how they are pushed to a hub on this machine, and read from it and from its cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from infogan_dist import Generator
from infogan_dist.cli.main import main
from infogan_dist.config.reading import parse_config
from infogan_dist.errors import UserError
from infogan_dist.evaluation.code_names import CodeNames
from infogan_dist.export import huggingface, onnx
from infogan_dist.export.model import Model
from infogan_dist.export.model_card import write_card
from infogan_dist.networks import build_networks
from infogan_dist.sampling.pretrained import Provenance
from tests.conftest import Command, tiny
from tests.export.fake_hub import FakeHub, fake_hub
from tests.export.paths import places_in

constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub is not installed")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that this process asks, with a cache of its own, from an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with fake_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
        monkeypatch.setenv("HF_TOKEN", "a-token")
        yield found


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra onnx is not installed, which saves seconds."""
    monkeypatch.setattr(onnx, "is_available", lambda: False)


def card_of(folder: Path) -> tuple[dict[str, object], str]:
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_folder_holds_a_model_that_loads_and_what_describes_it(run: Path, tmp_path: Path, no_onnx: None) -> None:
    out = tmp_path / "hub"
    assert huggingface.write(Model.from_pretrained(str(run), with_q=True), out, torch.float32) == [out]
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    assert torch.equal(
        Generator.from_pretrained(out).sample(2, seed=0), Generator.from_pretrained(run).sample(2, seed=0)
    )
    assert parse_config(json.loads((out / "config.json").read_text())).networks.width == 4
    assert min(Image.open(out / "samples.png").size) > 10 * 28  # enlarged, with the classes beside the rows
    assert places_in(out) == []


def test_a_folder_with_something_in_it_stays(run: Path, tmp_path: Path, no_onnx: None) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "mine").touch()
    with pytest.raises(UserError, match="not an empty folder"):
        huggingface.write(Model.from_pretrained(str(run)), tmp_path / "hub", torch.float32)
    assert [path.name for path in tmp_path.rglob("*")] == ["hub", "mine"]


def test_the_card_has_results_data_weaknesses_and_licence(tmp_path: Path) -> None:
    config = tiny("x", "data.name=mnist", "seed=3", "objective={information_trains: trunk, lambda_clustering: 1}")
    names = CodeNames(code="categorical_0", labels={"0": 7, "2": 4}, code_error=0.02, data="mnist", step=9)
    scores = {"code_error": 0.0213, "nmi": 0.95, "mutual_information/categorical_0": 2.29}
    G = Generator(build_networks(config).G_ema, config, Provenance(9, 72_000))
    write_card(Model(G, None, names, scores), tmp_path, "samples.png", tmp_path / "README.md", "user/digits")
    header, text = card_of(tmp_path)
    assert header["license"] == "cc-by-sa-3.0"
    assert header["pipeline_tag"] == "unconditional-image-generation"
    assert header["library_name"] == "infogan_dist"
    (result,) = header["model-index"][0]["results"]  # type: ignore[index]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"code_error": 0.0213, "nmi": 0.95}
    for words in (
        'Generator.from_pretrained("user/digits")',
        "One run, seed 3, on test images of mnist",
        "| code error | 0.0213 |",
        "| L_I of `categorical_0` | 2.290 nats, at most 2.303 |",
        "72,000 images seen",
        "LeCun",
        "2.1% of the scored images",
        "clustered unlabelled real images",
        "| 0 | 7 |",
        "| 1 | ? |",
        "The training images are CC BY-SA 3.0",
    ):
        assert words in text, words


def test_the_card_of_images_of_ones_own_claims_nothing(run: Path, tmp_path: Path, no_onnx: None) -> None:
    huggingface.write(Model.from_pretrained(str(run)), tmp_path / "hub", torch.float32)
    header, text = card_of(tmp_path / "hub")
    assert not {"license", "datasets", "model-index"} & header.keys()
    for words in ("This model was not evaluated.", "Nothing shows that its classes agree", "add a `license`"):
        assert words in text, words


def test_a_model_is_pushed_read_from_the_hub_and_from_its_cache(
    run: Path, hub: FakeHub, no_onnx: None, infogan: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(run), "--to", "huggingface", "--out", "digits", "--push", "user/digits"]) == 0
    assert capsys.readouterr().out.splitlines() == ["digits", f"{hub.url}/user/digits"]
    assert hub.private == {"user/digits": True}
    assert hub.repos["user/digits"] == {path.name: path.read_bytes() for path in Path("digits").iterdir()}

    assert main(["sample", "user/digits", "--digit", "7", "--out", "online.png", "--count", "4"]) == 0
    assert {asked for asked in hub.asked if "resolve" in asked} == {
        f"{method} /user/digits/resolve/main/model.safetensors" for method in ("HEAD", "GET")
    }
    hub.asked.clear()
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    offline = infogan("sample", "user/digits", "--digit", 7, "--out", "offline.png", "--count", 4, **variables)
    assert offline.returncode == 0, offline.stderr
    assert hub.asked == []
    assert (tmp_path / "offline.png").read_bytes() == Path("online.png").read_bytes()


def test_what_the_hub_does_not_give_is_one_line(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos = {
        "user/pickles": {"pytorch_model.bin": b"x", "README.md": b"x"},
        "user/text": {"model.safetensors": b"text"},
    }
    hub.private = dict.fromkeys(hub.repos, False)
    expected = {
        "user/pickles": r"holds no model\.safetensors, only pickles, which are never read: pytorch_model\.bin",
        "user/nothing": "no hub repo of that name that you may read",
        "user/text": "is not a safetensors file",
    }
    for repo, words in expected.items():
        with pytest.raises(UserError, match=words) as caught:
            Generator.from_pretrained(repo)
        assert str(caught.value).isprintable()
    assert not any("pytorch_model.bin" in asked for asked in hub.asked)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the hub cannot be reached, and its cache does not hold it; give a run folder"):
        Generator.from_pretrained("user/pickles")


@pytest.mark.parametrize(
    ("private", "public", "words"), [(False, False, "is public; give --public"), (True, True, "is private; leave out")]
)
def test_a_repo_that_is_there_keeps_its_privacy(
    hub: FakeHub, tmp_path: Path, private: bool, public: bool, words: str
) -> None:
    hub.repos, hub.private = {"user/digits": {}}, {"user/digits": private}
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=words):
        huggingface.push(tmp_path, "user/digits", public)
    assert hub.repos == {"user/digits": {}}


def test_a_hub_that_cannot_be_reached_leaves_the_folder_and_the_command_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "a-token")
    with pytest.raises(UserError, match=r"is written and not pushed: .*; later: hf upload user/digits .* --private"):
        huggingface.push(tmp_path, "user/digits", public=False)
