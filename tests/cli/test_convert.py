"""`convert` as a user meets it: what is refused before anything is written, and a disk that is full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infogan_dist.cli.main import main
from infogan_dist.export import onnx
from infogan_dist.export.formats import FORMATS, IMPORTERS
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("convert") / "run"
    train(tiny(output, "train.precision=fp32"), ONE_PROCESS)
    return output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("convert {run} --out a.onnx", ["--to", "--from", "required"]),
        ("convert {run} --to onnx --from accelerate --out a.onnx", ["--from", "not allowed with argument --to"]),
        ("convert {run} --to gguf --out a.gguf", ["gguf", "safetensors", "huggingface"]),
        ("convert {run} --from keras --out a.safetensors", ["keras", "natsu-mnist"]),
        ("convert {run} --to onnx --out a.pt2", ["a.pt2 does not end in .onnx"]),
        ("convert {run} --to torch-export --out a", ["a does not end in .pt2"]),
        ("convert {run} --from accelerate --out a.pt", ["a.pt does not end in .safetensors"]),
        ("convert {run} --to safetensors --dtype fp8 --out a.safetensors", ["fp8", "bf16"]),
        ("convert {run} --from accelerate --dtype fp16 --out a.safetensors", ["--dtype goes with --to"]),
        ("convert {run} --from accelerate --with-q --out a.safetensors", ["--with-q goes with --to"]),
        (
            "convert {run} --from natsu-mnist --config debug --out a.safetensors",
            ["--config goes with --from accelerate"],
        ),
        ("convert {run} --to onnx --push user/a --out a.onnx", ["--push goes with --to huggingface"]),
        ("convert {run} --to huggingface --public --out a", ["--public goes with --push"]),
        ("convert {run} --to huggingface --out {run}/hub", ["into the run"]),
        ("convert {run} --to onnx --out {run}/checkpoints/step-00000006/G.onnx", ["is inside the checkpoint"]),
        ("convert nowhere --to onnx --out a.onnx", ["there is no nowhere"]),
        ("convert nowhere --from natsu-mnist --out a.safetensors", ["nowhere cannot be read"]),
        ("convert {run} --from accelerate --out a.safetensors", ["which Accelerate's save_state writes"]),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(run.rglob("*"))
    assert main(arguments.format(run=run).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []
    assert sorted(run.rglob("*")) == before


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Within, this process can write no larger file, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name == "onnx" and not onnx.is_available():
        pytest.skip("the extra onnx is not installed")
    monkeypatch.chdir(tmp_path)
    if name == "huggingface":
        monkeypatch.setattr(onnx, "is_available", lambda: False)  # saves seconds
    out = f"deep/er/export{FORMATS[name].ending}"
    with files_of_at_most(4096):
        code = main(["convert", str(run), "--to", name, "--with-q", "--out", out])
    (line,) = capsys.readouterr().err.splitlines()
    assert (code, f"--out {out} cannot be written" in line, "File too large" in line) == (2, True, True), line
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in (*FORMATS, *IMPORTERS, "--dtype", "--with-q", "--push", "--public"))
