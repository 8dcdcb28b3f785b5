"""READMEs: their commands parse or run, their links exist, and they and the package use the terms of the field.

A block that starts with ```bash run or ```python run is run, in an empty folder with the shipped configs and a small trained run in
runs/quickstart. Commands of other bash blocks, and of code spans, are parsed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from infogan_dist import cli
from infogan_dist.cli.main import parse
from infogan_dist.config.reading import load_config
from infogan_dist.errors import UserError
from infogan_dist.sweep.combinations import combinations
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, ROOT, clean_environment, tiny

FOLDERS = ("configs", "infogan_dist", "launch", "tests")
READMES = [
    ROOT / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("README.md")),
]
SOURCES = [
    *READMES,
    *sorted((ROOT / "infogan_dist").rglob("*.py")),
    *sorted((ROOT / "configs").glob("*.yaml")),
    *sorted(path for path in (ROOT / "launch").rglob("*") if path.is_file() and path.suffix != ".md"),
]

# Words of an earlier dialect, with the term to use instead
WORDS = {
    r"soundness|telling": "nonfinite",
    r"untouched": "frozen, unchanged",
    r"views": "augmentations, augmented images",
    r"partners": "positives, positive pairs",
    r"\w*evenness": "entropy weight",
    r"own_cores": "pin_cores",
    r"judge[sd]?": "reference classifier, checks",
    r"opponents?": "baseline",
    r"upkeep": "overhead",
    r"admission|rehears(e|al)": "resume, preflight",
    r"shelf": "image cache",
    r"told": "logged, warned, printed, named",
    r"signs? of collapse|alarms?": "collapse warning",
    r"(a|last) words? (to|of)|without a word|in words(?!\()": "message, silently",
    r"lost (is|are)": "you lose",
    r"(goes|went) on": "continues, resumes",
    r"held against": "compared with",
    r"stood|found wanting|its mood|moods|wants|whatever|nothing of|so many|its kin": "a plain verb",
}
DIALECT = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
EXEMPT = ("infogan_dist/config/version1.py",)  # translates the old names
ALLOWED = {  # names of random streams are part of the numbers
    "infogan_dist/evaluation/reference_classifier.py": ('"judge/shifts"', '"judge/non-digits"', 'f"judge/{name}"'),
    "infogan_dist/training/batches.py": ('Stream(config.seed, "views")',),
    "infogan_dist/data/stream.py": ('Stream(seed, "partners")',),
}

OURS = re.compile(r"\binfogan[-_]dist (\w+)")
PLACEHOLDER = re.compile(r"\bCONFIG\b|\bRUN\b|…|\.\.\.")
REFUSED = ("accelerate launch --cpu --num_processes 2",)  # shown as what not to do


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def identify(value: object) -> str:
    return name_of(value) if isinstance(value, Path) else str(value)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    """Every command in the bash blocks of a page, and every command of ours in its code spans."""
    lines = [line for kind in ("bash", "bash run") for block in blocks(page, kind) for line in block.splitlines()]
    found = [
        part.removeprefix("do ").strip()
        for line in lines
        for part in re.split(r" && |; ", line.partition(" #")[0])
        if part.strip() not in ("", "do", "done") and not part.startswith(("for ", "#"))
    ]
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    spans = [
        span for span in re.findall(r"`([^`\n]+)`", text) if (ours := OURS.search(span)) and ours[1] in cli.COMMANDS
    ]
    return [*found, *(span for span in spans if not PLACEHOLDER.search(span) and not span.startswith(REFUSED))]


def arguments(command: str) -> list[str] | None:
    """What our program gets from a command; None where it does not start it. Launchers parse their own part."""
    words = shlex.split(re.sub(r"\$\w+", "1", command))
    if words[:2] == ["accelerate", "launch"]:
        launched = launch_command_parser().parse_args(words[2:])
        assert launched.config_file is None or Path(launched.config_file).exists()
    elif words[0] == "torchrun":
        launched = get_args_parser().parse_args(words[1:])
    else:
        names = [number for number, word in enumerate(words) if word in ("infogan-dist", "infogan_dist")]
        return words[names[0] + 1 :] if names else None
    assert (launched.module, launched.training_script) == (True, "infogan_dist")
    return list(launched.training_script_args)


def written_by_init(config: str, page: Path) -> bool:
    """Whether a command of the page writes this config for a folder of images, which the reader has."""
    return any(command.startswith("infogan-dist init ") and f"--out {config}" in command for command in commands(page))


def test_the_readmes_contain_commands() -> None:
    counts = {name_of(page): len(commands(page)) for page in READMES}
    assert counts["README.md"] >= 2
    assert counts["launch/README.md"] >= 8
    assert min(counts[f"{folder}/README.md"] for folder in ("configs", "infogan_dist/evaluation")) >= 5
    assert commands(ROOT / "README.md")[:2] == [
        "pip install -e .",
        "accelerate launch -m infogan_dist train configs/quickstart.yaml",
    ]


@pytest.mark.parametrize(
    ("page", "command"), [(page, each) for page in READMES for each in commands(page)], ids=identify
)
def test_every_command_parses(page: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ours = arguments(command)
    if ours is None:
        paths = [word for word in shlex.split(command) if "/" in word and "://" not in word]
        assert all(Path(path).exists() for path in paths if shlex.split(command)[0] == "pytest")
        return
    try:
        options = parse(ours)
        if ours[0] == "sweep":
            for each in combinations(options.overrides, options.output):
                load_config(options.config, each.overrides)
        elif hasattr(options, "overrides") and not written_by_init(options.config, page):
            load_config(options.config, options.overrides)
        if ours[0] == "config":
            options.run(options)
    except UserError as error:
        pytest.fail(f"{page}: {error}")


def test_no_example_takes_a_class_for_a_digit() -> None:
    """Without code names, nothing is known about which digit a class draws."""
    sources = [*READMES, *Path(cli.__file__).parent.glob("*.py")]
    lines = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    by_class = [line for line in lines if "--set categorical_0=7" in line and "--out" in line]
    assert by_class
    assert all("--out class7.png" in line for line in by_class)


# Blocks that run


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped configs, a program infogan-dist, and a trained run of 2 steps in runs/quickstart."""
    folder = tmp_path_factory.mktemp("readmes")
    (folder / "configs").symlink_to(ROOT / "configs")
    program = folder / "bin" / "infogan-dist"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m infogan_dist "$@"\n')
    program.chmod(0o755)
    train(tiny(folder / "runs" / "quickstart", "train.steps=2", "train.precision=fp32"), ONE_PROCESS)
    return folder


RUN_BLOCKS = [
    (page, language, block)
    for page in READMES
    for language in ("bash", "python")
    for block in blocks(page, f"{language} run")
]


def test_some_blocks_run() -> None:
    assert {language for _, language, _ in RUN_BLOCKS} == {"bash", "python"}


@pytest.mark.parametrize(
    ("page", "language", "block"), RUN_BLOCKS, ids=[f"{name_of(page)}: {block[:40]}" for page, _, block in RUN_BLOCKS]
)
def test_a_block_that_is_marked_runs(workplace: Path, page: Path, language: str, block: str) -> None:
    start = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    path = f"{workplace / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = clean_environment(PYTHONPATH=str(ROOT), PATH=path)
    result = subprocess.run(
        [*start, block], cwd=workplace, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, f"{page}\n{result.stdout}{result.stderr}"


# Links


def links(page: Path) -> list[str]:
    """Targets of links and images that are no web addresses, and paths of files in code spans."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|toml|md|sbatch))`", text)
    return [*targets, *(path for path in paths if not path.startswith("runs/"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), [(page, link) for page in READMES for link in links(page)], ids=identify)
def test_every_link_exists(page: Path, link: str) -> None:
    target, _, anchor = link.partition("#")
    candidates = [page.parent / target, ROOT / target, ROOT / "infogan_dist" / target]
    found = next((path for path in candidates if path.exists()), None) if target else page
    assert found is not None, f"{name_of(page)} names {target}, which does not exist"
    assert not anchor or anchor in anchors(found)


def test_the_readmes_link_to_each_other() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in READMES for link in links(page)}
    alone = {name_of(page) for page in READMES if page not in linked and page.parent not in linked}
    assert alone <= {"README.md", ".github/CONTRIBUTING.md"}


# Language


def dialect(path: Path) -> list[str]:
    """The lines of a file with a word of WORDS, except for what ALLOWED names."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for allowed in ALLOWED.get(name_of(path), ()):
            line = line.replace(allowed, "")
        found += [f"{name_of(path)}:{number}: {word[0]!r} in {line.strip()}" for word in DIALECT.finditer(line)]
    return found


@pytest.mark.parametrize("path", [path for path in SOURCES if name_of(path) not in EXEMPT], ids=identify)
def test_the_terms_of_the_field_are_used(path: Path) -> None:
    assert dialect(path) == []


def test_the_allowed_lines_exist() -> None:
    for name, allowed in ALLOWED.items():
        assert all(each in (ROOT / name).read_text(encoding="utf-8") for each in allowed)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("the ranks are Told in words", ["Told", "in words"]),
        ("lost are the steps since then", ["lost are"]),
        ("x.view(3), untold, retell, partnership, a judgement, adjudge", []),
        ("clustering_evenness: 1.5", ["clustering_evenness"]),
    ],
)
def test_words_are_found_at_word_boundaries(line: str, words: list[str]) -> None:
    assert [found[0] for found in DIALECT.finditer(line)] == words


def test_the_top_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200
