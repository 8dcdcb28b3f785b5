"""`explore` as a user meets it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from infogan_dist.cli.main import main
from infogan_dist.export.page import build
from tests.conftest import ROOT, Command, clean_environment
from tests.export.page.conftest import PAPER28, make_run

COST = r"0\.\d MB, about \d+\.\d ms an image in a browser"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("explore") / "run", *PAPER28)


def test_it_writes_one_file_or_a_space(run: Path, infogan: Command, tmp_path: Path) -> None:
    written = infogan("explore", run, "--html", "deep/page.html")
    assert written.returncode == 0, written.stderr
    assert re.fullmatch(rf"deep/page\.html\n{COST}\n", written.stdout)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]
    html = (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in html
    assert str(run.parent) not in html  # no path of this machine
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", html.partition("<script")[0])

    assert main(["explore", str(run), "--space", str(tmp_path / "space")]) == 0
    assert (tmp_path / "space" / "index.html").read_text(encoding="utf-8") == html
    card = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\ntitle: "Draw a digit"\nsdk: static\n')
    (tmp_path / "space" / ".git").mkdir()  # a clone of the Space is written again
    assert main(["explore", str(run), "--space", str(tmp_path / "space")]) == 0


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert main(["explore", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    inside = run / "checkpoints" / "step-00000006" / "a.html"
    before = sorted([*tmp_path.rglob("*"), *run.rglob("*")])
    for arguments, words in {
        (run, "--html", "page.txt"): ["page.txt does not end in .html"],
        (run, "--html", "a.html", "--space", "b"): ["not allowed with"],
        (run, "--port", "70000"): ["70000 is not a port"],
        (run, "--html", "folder.html"): ["folder.html is a folder"],
        (run, "--space", "full"): ["full holds notes.txt", "empty folder"],
        (run, "--html", inside): ["is inside the checkpoint"],
        ("nowhere", "--html", "a.html"): ["there is no nowhere"],
        ("G.safetensors", "--html", "a.html"): ["G.safetensors is an exported file", "run folder"],
    }.items():
        line = complaint([*map(str, arguments)], capsys)
        assert all(word in line for word in words), line
    assert sorted([*tmp_path.rglob("*"), *run.rglob("*")]) == before


def test_networks_too_large_for_a_file_are_served(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "LARGEST", 1000)
    line = complaint([str(run), "--html", str(tmp_path / "a.html")], capsys)
    assert f"`infogan-dist explore {run}` serves a page" in line
    assert list(tmp_path.iterdir()) == []


def test_it_serves_until_it_is_ended_and_that_is_success(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infogan_dist", "explore", str(run), "--port", "0"]
    environment = clean_environment(PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        assert re.fullmatch(COST, process.stdout.readline().strip())
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"Draw a digit" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
