"""The figures in words."""

from __future__ import annotations

from typing import Any

MEGA, GIGA, MILLI, MICRO = 1e6, 1e9, 1e-3, 1e-6


def table(figures: dict[str, Any]) -> list[str]:
    """Lines for the user."""
    if "until" in figures:
        return [_until(figures["until"]), _memory(figures), f"on         {_whereon(figures)}"]
    return [
        f"images/s   {figures['images_per_second']:.1f} (median of {figures['repeats']}, spread {figures['spread']:.0%}): "
        f"{_whereon(figures)}",
        *(_against(figures) if "ratio" in figures else []),
        *_phases(figures),
        *_efficiency(figures),
        _upkeep(figures["upkeep"]),
        _memory(figures),
        f"start      the first step was done after {figures['seconds_to_first_step']:.1f} s",
        *_reductions(figures),
        *(_projected(figures["projection"], figures["processes"]) if "projection" in figures else []),
    ]


def _whereon(figures: dict[str, Any]) -> str:
    processes = figures["processes"]
    among = f"{processes} process{'es' if processes > 1 else ''} of {figures['global_batch'] // processes} images"
    threads = f"{figures['threads']} thread{'s' if figures['threads'] > 1 else ''}"
    return f"{among}, {figures['device']}, {figures['precision']}, {threads}"


def _until(until: dict[str, Any]) -> str:
    goal = f"{until['metric']} = {until['value']:g}"
    spent = f"{until['steps']} steps, {until['images_seen']} images and {until['seconds']:.1f} s"
    return f"until      {goal} {'reached after' if until['reached'] else 'not reached in'} {spent}"


def _against(figures: dict[str, Any]) -> list[str]:
    ratio, least, most = figures["ratio"], figures["smallest_ratio"], figures["largest_ratio"]
    theirs = f"{figures['against_images_per_second']:.1f} (spread {figures['against_spread']:.0%})"
    return [f"against    {theirs}: ours is {ratio:.2f} times as fast, {least:.2f} to {most:.2f} by alternation"]


def _phases(figures: dict[str, Any]) -> list[str]:
    phases = figures["phases"]
    total = sum(phases.values())
    said = (
        f"{name.replace('_', ' ')} {seconds / MILLI:.3g} ({seconds / total:.0%})" for name, seconds in phases.items()
    )
    return [
        f"phases     ms: {', '.join(said)}",
        f"           {total / MILLI:.3g} together; the step takes {figures['seconds'] / MILLI:.3g}",
    ]


def _efficiency(figures: dict[str, Any]) -> list[str]:
    limits = figures["limits"]
    known = ", ".join(f"{name} {rate / GIGA:.0f}" for name, rate in limits["operations_per_second"].items())
    each = " in each process" if figures["processes"] > 1 else ""
    return [
        f"computes   {figures['operations'] / GIGA:.3g} GFLOP a step at {figures['operations_per_second'] / GIGA:.0f} GFLOP/s{each}: "
        f"{figures['share_of_limit']:.1%} of what matrix products reach here",
        f"limits     GFLOP/s: {known}; copies read and write {limits['copied_bytes_per_second'] / GIGA:.1f} GB/s",
    ]


def _upkeep(upkeep: dict[str, dict[str, float]]) -> str:
    said = (
        f"{name} {each['share']:.2%} ({each['seconds'] / MILLI:.3g} ms every {each['every']} steps)"
        for name, each in upkeep.items()
    )
    return f"the loop   of a run's time: {', '.join(said)}"


def _memory(figures: dict[str, Any]) -> str:
    return f"memory     {figures['peak_memory_bytes'] / MEGA:.0f} MB at most"


def _reductions(figures: dict[str, Any]) -> list[str]:
    processes = figures["processes"]
    condition = "reduces" if processes > 1 else "would reduce"
    lines = [
        f"{condition:<10} {what}: {count} calls, {figures['reduced_bytes'][what] / MEGA:.3f} MB a step"
        for what, count in figures["reduce_calls"].items()
    ]
    if processes > 1:
        lines.append(f"reductions {1 - figures['seconds_without_reductions'] / figures['seconds']:.1%} of the step")
        lines.append(
            f"scaling    {figures['scaling']:.1%} of {processes} times what one process does while the others rest"
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
