"""Formats metrics for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from infogan_dist.data.sources import images_of
from infogan_dist.evaluation.metric_values import Metrics

NEIGHBOURHOODS = ("precision", "recall", "density", "coverage")
SHOWN_SEPARATELY = (
    *(
        "checkpoint",
        "seed",
        "step",
        "images_seen",
        "Q",
        "refined",
        "data",
        "images",
        "split",
        "fresh_images",
        "versions",
        "matching",
        "failed",
    ),
    *(
        "code_error",
        "code_error_fitted_on_test",
        "code_error_interval",
        "code_error_averaged",
        "purity",
        "nmi",
        "ari",
        "mutual_information",
        "usage",
        "usage_entropy",
    ),
    *("mutual_information_ceiling", "calibration_error", "entropy_on_reals", "entropy_on_fakes"),
    *("factor_scores", "factor_floors", "factor_ceiling", "information_by_factor", "random_features"),
    *("frechet", "frechet_floor", "kernel", "kernel_floor"),
    *("continuous_effect", "continuous_on_reals"),
    *(f"{name}{ending}" for name in NEIGHBOURHOODS for ending in ("", "_ceiling")),
)
FACTOR_SCORES = {
    "mig": "MIG",
    "factor_vae": "FactorVAE",
    "sap": "predictability gap",
}  # the gap is no SAP: it has no linear SVM
NOT_DSPRITES = (
    "our sprites are not dSprites (rotation within 45 degrees, 50,000 images): do not compare with published scores"
)
COLUMNS = {  # of the table of runs, and their widths; the first fits its longest cell
    "run": 0,
    "seed": 6,
    "images seen": 12,
    "code error": 11,
    "95 % of the test set": 21,
    "averaged": 9,
    "L_I (nats)": 11,
    "non-digits": 11,
    "note": 0,
}


def run_report(metrics: Metrics) -> list[str]:
    """The lines that describe one checkpoint."""
    lines = [
        f"{metrics['checkpoint']}: seed {metrics['seed']}, {metrics['images_seen']} images seen, {_recognition(metrics)}",
        *(_agreement(metrics) if "code_error" in metrics else [_without_labels(metrics)]),
        *(_information(metrics) if "mutual_information" in metrics else []),
        *(_usage(metrics) if "usage" in metrics else []),
        *(_factors(metrics) if "factor_scores" in metrics else []),
        *(_strokes(metrics) if "continuous_on_reals" in metrics else []),
        *_others(metrics),
        *(_compared_images(metrics) if "random_features" in metrics else []),
    ]
    return [*lines, f"failed           {metrics['failed']}"] if "failed" in metrics else lines


def _recognition(metrics: Metrics) -> str:
    """Which Q was scored."""
    if "refined" not in metrics:
        return "Q of the checkpoint"
    refined = metrics["refined"]
    return f"Q refined on {refined['images']:,} images of G (seed {refined['seed']})"


def runs_table(rows: Sequence[Metrics], summary: Metrics) -> list[str]:
    """A header, a line for each run and control, and lines that summarise the runs."""
    cells = [_cells(row) for row in rows]
    width = max(len(cell["run"]) for cell in cells) + 2
    widths = {name: each for name, each in (COLUMNS | {"run": width}).items() if any(cell[name] for cell in cells)}
    heads = "".join(name.ljust(each) for name, each in widths.items()).rstrip()
    lines = ["".join(cell[name].ljust(each) for name, each in widths.items()).rstrip() for cell in cells]
    return [heads, *lines, *_summary(summary)]


def _summary(summary: Metrics) -> list[str]:
    said = f"{summary['runs']} run{'s' if summary['runs'] > 1 else ''}, {summary['failed']} failed"
    errors = summary.get("code_error", {})
    if "median" in errors:
        said += f"; code error: median {_percent(errors['median'])}"
    if "worst" in errors:
        said += f", {_range((errors['best'], errors['worst']))}"
    lines = [said]
    if "mean" in errors:
        lines.append(
            f"mean {_percent(errors['mean'])}, standard deviation {100 * errors['standard_deviation']:.2f} points over the runs"
        )
        lines.append(f"95 % intervals: {_range(errors['mean_interval'])} of the mean over seeds (Student's t)")
    if "test_interval" in errors:
        lines[-1] += f"; {_range(errors['test_interval'])} of the mean on other test images (binomial)"
    if "median" in (averaged := summary.get("code_error_averaged", {})):
        lines.append(f"with Q averaged over augmented copies: median {_percent(averaged['median'])}")
        if "mean" in averaged:
            lines[-1] += f", mean {_percent(averaged['mean'])}"
    return lines


def _cells(row: Metrics) -> dict[str, str]:
    bounds = row.get("mutual_information", {})
    return {
        "run": str(row.get("control", row.get("checkpoint"))),
        "seed": str(row.get("seed", "")),
        "images seen": str(row.get("images_seen", "")),
        "code error": _percent(row["code_error"]) if "code_error" in row else "",
        "95 % of the test set": _range(row["code_error_interval"]) if "code_error_interval" in row else "",
        "averaged": _percent(row["code_error_averaged"]) if "code_error_averaged" in row else "",
        "L_I (nats)": f"{next(iter(bounds.values())):.3f}" if bounds else "",
        "non-digits": _percent(row["non_digit_rate"]) if "non_digit_rate" in row else "",
        "note": _note(row),
    }


def _note(row: Metrics) -> str:
    notes = [
        *(["refined Q"] if "refined" in row else []),
        *([f"FAILED: {row['failed']}"] if "failed" in row else []),
        *([f"control on {row['data']}"] if "control" in row else []),
    ]
    return "; ".join(notes)


def _without_labels(metrics: Metrics) -> str:
    scored = images_of(metrics["split"])
    remedy = (
        "; it has no test part: data.held_out reserves images for evaluation" if metrics["split"] == "train" else ""
    )
    return f"no labels: only metrics without them, on {metrics['images']} {scored} of {metrics['data']}{remedy}"


def _agreement(metrics: Metrics) -> list[str]:
    matching, scored = metrics["matching"], images_of(metrics["split"])
    named = ", ".join(f"{number} = {name}" for number, name in matching["names"].items())
    unmatched = [
        f"{name.upper() if len(name) == 3 else name} {metrics[name]:.3f}"
        for name in ("nmi", "ari", "purity")
        if name in metrics
    ]
    averaged = (
        [
            f"                 {_percent(metrics['code_error_averaged'])} with Q averaged over 16 augmented copies of each image"
        ]
        if "code_error_averaged" in metrics
        else []
    )
    return [
        f"code error       {_percent(metrics['code_error'])} of {metrics['images']} {scored} of {metrics['data']}"
        f"; {_range(metrics['code_error_interval'])} is the binomial 95 % interval",
        f"                 {matching['code']} matched one to one on {matching['fitted_on']} train images: {named}",
        f"                 {_percent(metrics['code_error_fitted_on_test'])} with the matching fitted on the {scored} themselves",
        *averaged,
        f"clustering       {', '.join(unmatched)} (of 1, without a matching)",
        f"calibration      {_percent(metrics['calibration_error'])} expected calibration error of Q (ECE)",
    ]


def _information(metrics: Metrics) -> list[str]:
    ceilings = {name: f" of {ceiling:.3f}" for name, ceiling in metrics.get("mutual_information_ceiling", {}).items()}
    said = ", ".join(
        f"{name} {bound:.3f}{ceilings.get(name, '')}" for name, bound in metrics["mutual_information"].items()
    )
    return [f"information      L_I in nats on {metrics['fresh_images']} fresh images: {said}"]


def _usage(metrics: Metrics) -> list[str]:
    lines = []
    for name, shares in metrics["usage"].items():
        entropies = [metrics[key][name] for key in ("usage_entropy", "entropy_on_reals", "entropy_on_fakes")]
        spread, *each = (f"{entropy:.3f}" for entropy in entropies)
        ceiling = f"{metrics['mutual_information_ceiling'][name]:.3f}"
        lines += [
            f"usage            {name} on {images_of(metrics['split'])}, %: {' '.join(f'{100 * share:.1f}' for share in shares)}",
            f"                 entropy of Q's mean prediction {spread} of {ceiling} nats; mean entropy {each[0]}, and on fakes {each[1]}",
        ]
    return lines


def _factors(metrics: Metrics) -> list[str]:
    compared = dict(metrics.get("factor_floors", {}))
    if "factor_ceiling" in metrics:
        compared["FE and Q trained with the factors"] = metrics["factor_ceiling"]
    others = [f"                 {name}: {_factor_scores(scores)}" for name, scores in compared.items()]
    by_code = [
        f"                 information of {code}, nats: {', '.join(f'{name} {nats:.2f}' for name, nats in by_factor.items())}"
        for code, by_factor in metrics["information_by_factor"].items()
    ]
    caveat = [f"                 {NOT_DSPRITES}"] if metrics["data"] == "sprites" else []
    return [f"factors          {_factor_scores(metrics['factor_scores'])}", *others, *caveat, *by_code]


def _factor_scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{FACTOR_SCORES.get(name, name)} {score:.3f}" for name, score in scores.items())


def _strokes(metrics: Metrics) -> list[str]:
    """What each continuous code does to G's strokes, and whether Q predicts the same attribute from test digits."""
    lines = [
        "strokes          change from code -1 to 1 in G's images (Spearman's |rho|; rho of Q's prediction on digits)"
    ]
    for code, on_reals in metrics["continuous_on_reals"].items():
        effects = metrics["continuous_effect"][code]
        said = [
            f"{name} {_change(name, effects[name]['change'])} ({effects[name]['strength']:.2f}; {rho:+.2f})"
            for name, rho in on_reals.items()
        ]
        lines.append(f"                 {code}: {', '.join(said)}")
    return lines


def _change(attribute: str, change: float) -> str:
    """A change of a slant, which is in radians, in degrees; others in pixels."""
    return f"{math.degrees(change):+.1f}°" if attribute == "slant" else f"{change:+.2f} px"


def _compared_images(metrics: Metrics) -> list[str]:
    """G's images compared with test digits, in two feature spaces."""
    lines = ["images           compared with test digits; in parentheses, train digits compared with test digits"]
    spaces = {"reference classifier": metrics, "randomly initialised network": metrics["random_features"]}
    for network, values in spaces.items():
        distances = {name: f"{name}_floor" for name in ("frechet", "kernel") if name in values}
        shares = {name: f"{name}_ceiling" for name in NEIGHBOURHOODS}
        said = [
            f"{name} {_plain(values[name])} ({_plain(values[of_reals])})"
            for name, of_reals in (distances | shares).items()
        ]
        lines += [f"                 features of the {network}:", f"                 {', '.join(said)}"]
    return lines


def _others(metrics: Metrics) -> list[str]:
    """The metrics without a format above, those of plugins included."""
    return [
        f"{key.replace('_', ' '):<16} {_plain(value)}" for key, value in metrics.items() if key not in SHOWN_SEPARATELY
    ]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(ends: Sequence[float]) -> str:
    """Two fractions, such as `1.02 to 1.46 %`."""
    return f"{100 * ends[0]:.2f} to {_percent(ends[1])}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
