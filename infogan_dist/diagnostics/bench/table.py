"""Formats the metrics of `bench`."""

from __future__ import annotations

from typing import Any

MEGA, GIGA, MILLI, MICRO = 1e6, 1e9, 1e-3, 1e-6


def table(metrics: dict[str, Any]) -> list[str]:
    """The lines that `bench` prints."""
    return [
        f"images/s   {metrics['images_per_second']:.1f} (median of {metrics['repeats']}, spread {metrics['spread']:.0%}): "
        f"{_setup(metrics)}",
        *(_against(metrics) if "ratio" in metrics else []),
        *_phases(metrics),
        *_efficiency(metrics),
        _memory(metrics),
        f"start      {metrics['seconds_to_first_step']:.1f} s to the end of the first step",
        *_reductions(metrics),
        *(_projected(metrics["projection"], metrics["processes"]) if "projection" in metrics else []),
    ]


def _setup(metrics: dict[str, Any]) -> str:
    processes = metrics["processes"]
    among = f"{processes} process{'es' if processes > 1 else ''} of {metrics['global_batch'] // processes} images"
    threads = f"{metrics['threads']} thread{'s' if metrics['threads'] > 1 else ''}"
    return f"{among}, {metrics['device']}, {metrics['precision']}, {threads}"


def _against(metrics: dict[str, Any]) -> list[str]:
    ratio, least, most = metrics["ratio"], metrics["smallest_ratio"], metrics["largest_ratio"]
    theirs = f"{metrics['against_images_per_second']:.1f} (spread {metrics['against_spread']:.0%})"
    return [f"against    {theirs}: ours is {ratio:.2f} times as fast, {least:.2f} to {most:.2f} by alternation"]


def _phases(metrics: dict[str, Any]) -> list[str]:
    phases = metrics["phases"]
    total = sum(phases.values())
    listed = (
        f"{name.replace('_', ' ')} {seconds / MILLI:.3g} ({seconds / total:.0%})" for name, seconds in phases.items()
    )
    return [
        f"phases     ms: {', '.join(listed)}",
        f"           {total / MILLI:.3g} in total; the step takes {metrics['seconds'] / MILLI:.3g}",
    ]


def _efficiency(metrics: dict[str, Any]) -> list[str]:
    limits = metrics["limits"]
    known = ", ".join(f"{name} {rate / GIGA:.0f}" for name, rate in limits["operations_per_second"].items())
    each = " per process" if metrics["processes"] > 1 else ""
    moved = ", ".join(f"{cause} {size / MEGA:.3g}" for cause, size in metrics["moved_bytes"].items())
    return [
        f"operations {metrics['operations'] / GIGA:.3g} GFLOP per step at {metrics['operations_per_second'] / GIGA:.0f} GFLOP/s{each}: "
        f"{metrics['share_of_limit']:.1%} of the limit of matrix products",
        f"moved      {moved} MB per step; with their time at the rate of copies {metrics['share_of_limits']:.1%} of the limits",
        f"limits     GFLOP/s: {known}; copies {limits['copied_bytes_per_second'] / GIGA:.1f} GB/s, read and written",
    ]


def _memory(metrics: dict[str, Any]) -> str:
    return f"memory     {metrics['peak_memory_bytes'] / MEGA:.0f} MB peak"


def _reductions(metrics: dict[str, Any]) -> list[str]:
    processes = metrics["processes"]
    condition = "reduces" if processes > 1 else "would reduce"
    lines = [
        f"{condition:<10} {what}: {count} calls, {metrics['reduced_bytes'][what] / MEGA:.3f} MB per step"
        for what, count in metrics["reduce_calls"].items()
    ]
    if processes > 1:
        lines.append(f"reductions {1 - metrics['seconds_without_reductions'] / metrics['seconds']:.1%} of the step")
        lines.append(
            f"scaling    {metrics['scaling']:.1%} of {processes} times the rate of one process while the others are idle"
        )
    return lines


def _projected(projection: dict[str, Any], processes: int) -> list[str]:
    link = projection["link"]
    speed, delay = f"{link['bytes_per_second'] / GIGA:.3g} GB/s", f"{link['latency_seconds'] / MICRO:.3g} us"
    many = f"{projection['processes']} processes of {projection['images_per_process']} images"
    step = f"{projection['seconds']:.4g} s per step, {projection['efficiency']:.1%} of linear"
    lines = [f"projected  {many}: {step}, over {speed} and {delay}"]
    if "error_here" in projection:
        error = (
            f"{projection['error_here']:+.1%} of the step measured on {processes} processes here, over their own link"
        )
        lines.append(f"error      of the projection: {error}")
    return lines
