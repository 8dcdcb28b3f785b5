"""What users copy: launch files, README commands and the wheel."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from infogan_dist import cli
from infogan_dist.cli.main import parse
from infogan_dist.config.reading import load_config
from tests.conftest import ROOT, clean_environment

PAGES = [ROOT / page for page in ("README.md", "launch/README.md", "infogan_dist/distributed/README.md")]


def commands() -> list[str]:
    """Every command of ours on the pages, from shell blocks and tables."""
    text = "\n".join(page.read_text() for page in PAGES)
    blocks = [
        line.partition(" #")[0] for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    inline = [found for found in re.findall(r"`([^`\n]+)`", text) if " train " in found or " sample " in found]
    return [
        line.strip()
        for line in blocks + inline
        if "infogan" in line and "CONFIG" not in line and "cpu --num" not in line
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "launch" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_launch_file_and_none_asks_for_a_precision(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "no"
    assert path.name in (ROOT / "launch" / "README.md").read_text()


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_pages_parses(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.replace("pip install -e . && ", ""))
    if words[0] == "accelerate":
        parsed = launch_command_parser().parse_args(words[2:])
        assert parsed.config_file is None or Path(parsed.config_file).exists()
        assert (parsed.module, parsed.training_script) == (True, "infogan_dist")
        words = parsed.training_script_args
    else:
        words = words[words.index("infogan-dist" if "infogan-dist" in words else "infogan_dist") + 1 :]
    options = parse(words)
    if words[0] == "train":
        load_config(options.config, options.overrides)


def test_the_pages_hold_commands() -> None:
    assert len(commands()) >= 10
    assert commands()[0] == "pip install -e . && accelerate launch -m infogan_dist train configs/quickstart.yaml"


def test_no_example_takes_a_class_for_a_digit() -> None:
    """Which digit a class draws is known once it has a name."""
    examples = [
        *commands(),
        *(line for path in Path(cli.__file__).parent.glob("*.py") for line in path.read_text().splitlines()),
    ]
    by_class = [example for example in examples if "--set categorical_0=7" in example and "--out" in example]
    assert len(by_class) >= 2
    assert all("--out class7.png" in example for example in by_class)


def test_quickstart_trains_from_the_wheel_alone(tmp_path: Path) -> None:
    """The wheel's files, away from the checkout, hold configs and digits; the libraries are this environment's."""
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    where = "import infogan_dist, sys; sys.stdout.write(infogan_dist.__file__)"
    environment = clean_environment(PYTHONPATH=str(tmp_path / "installed"))

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    assert run("-c", where).startswith(str(tmp_path))
    run("-m", "infogan_dist", "train", "quickstart", "train.steps=2", "networks.width=4")
    run("-m", "infogan_dist", "sample", "runs/quickstart", "--out", "a.png", "--count", "4")
    assert (tmp_path / "a.png").exists()
    run("-m", "infogan_dist", "explore", "runs/quickstart", "--html", "page.html")
    assert (tmp_path / "page.html").exists()
