"""Files that users copy or install: Accelerate's launch files, and the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tests.conftest import ROOT, clean_environment


@pytest.mark.parametrize("path", sorted((ROOT / "launch" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_launch_file_and_none_asks_for_a_precision(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "no"
    assert path.name in (ROOT / "launch" / "README.md").read_text()


def test_quickstart_trains_from_the_wheel_alone(tmp_path: Path) -> None:
    """The wheel contains the configs, the digits and the page. Other libraries come from this environment."""
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
