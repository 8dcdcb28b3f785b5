"""Renders the report's template."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

import infogan_dist
from infogan_dist.data.sources import images_of
from infogan_dist.errors import UserError
from infogan_dist.export.html import base_style, policy_hash
from infogan_dist.export.report import bound as bounds
from infogan_dist.export.report import comparison
from infogan_dist.export.report.code_sheet import CodeSheet, code_sheet
from infogan_dist.export.report.curves import panels, swatch
from infogan_dist.export.report.pictures import pictures
from infogan_dist.export.report.reproduction import configs_and_commands, data_sets, versions
from infogan_dist.export.report.runs import Run, read_runs
from infogan_dist.export.report.scores import Scores, read_scores
from infogan_dist.export.report.table import has_failed, score_table

LIMIT = 2_000_000  # bytes of a report


@dataclass(frozen=True)
class Shown:
    """One run as the template shows it."""

    run: Run
    scores: Scores
    sheet: CodeSheet
    notes: tuple[str, ...]
    anchor: str
    failed: bool

    @property
    def time(self) -> str:
        seconds = self.run.timing[-1].get("seconds") if self.run.timing else None
        return duration(seconds) if seconds is not None else ""


def report(paths: Sequence[Path], score_files: Sequence[Path] = ()) -> str:
    """The page of the runs at `paths`. Raises UserError for a path without a run, a wrong file of scores, or too many runs."""
    runs = read_runs(paths)
    scores, controls = read_scores(runs, score_files)
    drawn = pictures([run.path for run in runs])
    shown = [
        Shown(
            run,
            found,
            code_sheet(run, found, pictured),
            tuple(_notes(run, found)),
            f"run-{number}",
            has_failed(run, found),
        )
        for number, (run, found, pictured) in enumerate(zip(runs, scores, drawn, strict=True), 1)
    ]
    groups = comparison.groups(runs)
    configs, commands = configs_and_commands(runs)
    style = "\n" + base_style() + _asset("plot.css") + _asset("report.css")
    page = _template().render(
        policy=f"default-src 'none'; style-src {policy_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - a file of this package
        **_heading(runs, scores),
        shown=shown,
        timed=any(each.time for each in shown),
        table=score_table(groups, dict(zip(runs, scores, strict=True))),
        sources=_sources(scores),
        controls=controls,
        bound=bounds.bound(runs, scores),
        panels=panels(runs),
        differences=comparison.differences(runs),
        configs=configs,
        commands=commands,
        changes=comparison.changes(configs[0].config) if configs else [],
        data=data_sets(runs),
        versions=versions(runs),
        made_with=infogan_dist.__version__,
    )
    size = len(page.encode())
    if size > LIMIT:
        raise UserError(
            f"a report on these {len(runs)} runs has {size / 1e6:.1f} MB, more than {LIMIT / 1e6:g} MB; give fewer runs"
        )
    return page


def bound_file(paths: Sequence[Path], score_files: Sequence[Path] = ()) -> str:
    """The picture of L_I and the code error of the runs at `paths`, as an SVG file. Raises UserError as `report`, and for too few runs."""
    runs = read_runs(paths)
    found = bounds.bound(runs, read_scores(runs, score_files)[0])
    if found is None:
        raise UserError(
            f"the picture needs {bounds.FEWEST} runs with a code error, L_I and H(c); measure them with "
            "`infogan-dist evaluate RUN ... --json FILE`, and give the file as --scores"
        )
    return bounds.picture(found.points, base_style() + _asset("plot.css"))


def duration(seconds: float) -> str:
    """42 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "svg": Markup,  # curves.py and bound.py escape
        "swatch": lambda style: Markup(swatch(style)),  # noqa: S704 - a constant
        "breakable": lambda text: Markup(re.sub(r"(?<=[,._/])(?=.)", "<wbr>", str(escape(text)))),  # noqa: S704 - escaped
    }
    return environment.from_string(_asset("report.html"))


def _asset(name: str) -> str:
    return files("infogan_dist.export.report").joinpath("assets", name).read_text(encoding="utf-8")


def _heading(runs: Sequence[Run], scores: Sequence[Scores]) -> dict[str, str]:
    data = list(dict.fromkeys(run.config.data.name for run in runs if run.config is not None))
    families = list(dict.fromkeys(run.config.networks.family for run in runs if run.config is not None))
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    states = Counter("failed" if has_failed(run, found) else run.state for run, found in zip(runs, scores, strict=True))
    counted = ", ".join(f"{count} {state}" for state, count in states.items()) if len(runs) > 1 else next(iter(states))
    seen = sorted({run.images_seen for run in runs})
    images = f"{seen[0]:,}" if len(seen) == 1 else f"{seen[0]:,} to {seen[-1]:,}"
    networks = f" Networks: {', '.join(families)}." if families else ""
    return {
        "title": title,
        "subtitle": f"InfoGAN on {', '.join(data)}" if data else "InfoGAN",
        "lead": f"{counted.capitalize()}. {images} images seen.{networks}",
    }


def _notes(run: Run, scores: Scores) -> list[str]:
    """Problems of a run, a sentence each."""
    notes = list(run.problems)
    warned = [row for row in run.training if row.get("collapse/warnings") or row.get("collapse/signs")]
    if (
        scores.failed is not None
        and scores.failed not in " ".join(notes)
        and not scores.failed.startswith("training failed")
    ):
        notes.append(scores.failed)
    if run.skipped:
        notes.append(f"updates skipped in {run.skipped} step{'s' if run.skipped > 1 else ''}: not finite")
    if warned:
        notes.append(
            f"collapse warnings in {len(warned)} of {len(run.training)} logged rows, first at step {warned[0]['step']}"
        )
    scored = scores.facts.get("step")
    if scored is not None and scored != run.step:
        notes.append(f"scored at step {scored}")
    return notes


def _sources(scores: Sequence[Scores]) -> list[str]:
    """The data that was scored, a sentence each."""
    files: dict[str, dict[str, None]] = {}
    for found in scores:
        facts = found.facts
        if found.source == "metrics.jsonl":
            during = "Evaluations during training, on fewer images than infogan-dist evaluate uses"
            files.setdefault(during, {})[found.source] = None
        elif "images" in facts:
            fresh = f"; {facts['fresh_images']:,} images drawn by G" if "fresh_images" in facts else ""
            on = f"On {facts['images']:,} {images_of(facts['split'])} of {facts['data']}{fresh}"
            files.setdefault(on, {})[found.source] = None
    return [f"{sentence} ({', '.join(names)})." for sentence, names in files.items()]
