"""Prints the metrics of `bench`."""

from __future__ import annotations

from typing import Any

MEGA, GIGA, MILLI, MICRO = 1e6, 1e9, 1e-3, 1e-6


def table(metrics: dict[str, Any]) -> list[str]:
    """Lines for the user."""
    return [
        f"images/s   {metrics['images_per_second']:.1f} (median of {metrics['repeats']}, spread {metrics['spread']:.0%}): "
        f"{_whereon(metrics)}",
        *(_against(metrics) if "ratio" in metrics else []),
        *_phases(metrics),
        *_efficiency(metrics),
        _memory(metrics),
        f"start      the first step was done after {metrics['seconds_to_first_step']:.1f} s",
        *_reductions(metrics),
        *(_projected(metrics["projection"], metrics["processes"]) if "projection" in metrics else []),
    ]


def _whereon(metrics: dict[str, Any]) -> str:
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
    said = (
        f"{name.replace('_', ' ')} {seconds / MILLI:.3g} ({seconds / total:.0%})" for name, seconds in phases.items()
    )
    return [
        f"phases     ms: {', '.join(said)}",
        f"           {total / MILLI:.3g} together; the step takes {metrics['seconds'] / MILLI:.3g}",
    ]


def _efficiency(metrics: dict[str, Any]) -> list[str]:
    limits = metrics["limits"]
    known = ", ".join(f"{name} {rate / GIGA:.0f}" for name, rate in limits["operations_per_second"].items())
    each = " in each process" if metrics["processes"] > 1 else ""
    return [
        f"computes   {metrics['operations'] / GIGA:.3g} GFLOP a step at {metrics['operations_per_second'] / GIGA:.0f} GFLOP/s{each}: "
        f"{metrics['share_of_limit']:.1%} of what matrix products reach here",
        f"limits     GFLOP/s: {known}; copies read and write {limits['copied_bytes_per_second'] / GIGA:.1f} GB/s",
    ]


def _memory(metrics: dict[str, Any]) -> str:
    return f"memory     {metrics['peak_memory_bytes'] / MEGA:.0f} MB at most"


def _reductions(metrics: dict[str, Any]) -> list[str]:
    processes = metrics["processes"]
    condition = "reduces" if processes > 1 else "would reduce"
    lines = [
        f"{condition:<10} {what}: {count} calls, {metrics['reduced_bytes'][what] / MEGA:.3f} MB a step"
        for what, count in metrics["reduce_calls"].items()
    ]
    if processes > 1:
        lines.append(f"reductions {1 - metrics['seconds_without_reductions'] / metrics['seconds']:.1%} of the step")
        lines.append(
            f"scaling    {metrics['scaling']:.1%} of {processes} times what one process does while the others rest"
        )
    return lines


def _projected(projection: dict[str, Any], processes: int) -> list[str]:
    link = projection["link"]
    speed, delay = f"{link['bytes_per_second'] / GIGA:.3g} GB/s", f"{link['latency_seconds'] / MICRO:.3g} us"
    many = f"{projection['processes']} processes of {projection['images_per_process']} images"
    step = f"{projection['seconds']:.4g} s a step, {projection['efficiency']:.1%} of linear"
    lines = [f"projected  {many}: {step}, over {speed} and {delay}"]
    if "error_here" in projection:
        error = f"{projection['error_here']:+.1%} for the {processes} processes measured here over their own link"
        lines.append(f"the model  is off by {error}")
    return lines
