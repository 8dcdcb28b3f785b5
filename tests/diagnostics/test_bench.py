from __future__ import annotations

import itertools
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.bench import Baseline, timing
from infogan_dist.diagnostics.bench.against import Comparison, environment_of, rate_in
from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.diagnostics.bench.limits import Limits, precisions
from infogan_dist.diagnostics.bench.measure import efficiency
from infogan_dist.diagnostics.bench.memory_traffic import memory_traffic
from infogan_dist.diagnostics.bench.phases import PHASES, PhaseClock, TimedEngine, seconds_by_phase
from infogan_dist.diagnostics.bench.timing import Timing, spread
from infogan_dist.diagnostics.bench.work import Work, product_of, work_of
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from tests.conftest import ONE_PROCESS, Command, refused, tensors_of, tiny

TINY = ("debug", "networks.width=4", "train.precision=fp64", "train.threads=1")
SMALLEST = ("networks.width=1", "latents={noise: [{dim: 6}], categorical: [10], continuous: 0}")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    config = tiny("x")
    with Cluster(ONE_PROCESS, config.train.threads, config.processes) as cluster:
        cluster.configure(config)
        yield cluster


def bench_trainer(cluster: Cluster, *overrides: str) -> BenchTrainer:
    config = tiny("x", *SMALLEST, *overrides)
    return BenchTrainer(config, cluster, open_images(config.data))


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


# The command


def test_one_process_predicts_the_operations_and_reductions_of_two(infogan: Command, tmp_path: Path) -> None:
    metrics, temporary = {}, tmp_path / "temporary"
    temporary.mkdir()
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        link = ["--bandwidth", 10, "--latency", 20] if processes == 1 else []
        result = infogan(
            "bench", *TINY, "--json", out, "--project", 4, *link, processes=processes, TMPDIR=str(temporary)
        )
        assert result.returncode == 0, result.stderr
        assert "images/s" in result.stdout
        metrics[processes] = json.loads(out.read_text())
    one, two = metrics[1], metrics[2]
    assert one["reduce_calls"] == two["reduce_calls"]
    assert {key: size * (2 if key == "batch norm" else 1) for key, size in one["reduced_bytes"].items()} == two[
        "reduced_bytes"
    ]
    assert one["operations"] == 2 * two["operations"], "each process computes half of them"
    for measured in (one, two):
        assert measured["images_per_second"] == pytest.approx(measured["global_batch"] / measured["seconds"])
        assert measured["projection"]["seconds"] > measured["seconds_without_reductions"]
        assert measured["spread"] >= 0
        assert measured["share_of_limit"] * measured["limits"]["operations_per_second"]["fp64"] == pytest.approx(
            measured["operations"] / measured["seconds"]
        )
        assert measured["peak_memory_bytes"] > 0
        assert measured["seconds_to_first_step"] > 0
    assert tuple(one["phases"]) == PHASES
    assert tuple(two["phases"]) == (*PHASES, "reduce")
    assert two["phases"]["reduce"] == pytest.approx(two["seconds"] - two["seconds_without_reductions"])
    assert (one["processes"], two["processes"], one["threads"], one["device"]) == (1, 2, 1, "cpu")
    assert two["scaling"] > 0
    assert "scaling" not in one
    assert "error_here" in two["projection"]
    assert "error_here" not in one["projection"]
    assert {path.name for path in tmp_path.iterdir()} == {"1.json", "2.json", "temporary"}, "no run folder"
    assert not [path for path in temporary.iterdir() if path.name.startswith("infogan-bench")]


def test_against_reads_the_json_that_bench_prints(infogan: Command, tmp_path: Path) -> None:
    other = python("import json; print('measured:'); print(json.dumps({'images_per_second': 100}))")
    result = infogan("bench", *TINY, "--against", other, "--alternations", 3, "--json", "-")
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout.splitlines()[-1])
    assert metrics["against_images_per_second"] == 100
    assert metrics["repeats"] == 3
    assert metrics["ratio"] == pytest.approx(metrics["images_per_second"] / 100)
    assert metrics["smallest_ratio"] <= metrics["ratio"] <= metrics["largest_ratio"]
    assert rate_in(result.stdout) == metrics["images_per_second"]
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--project", "4"], ["--bandwidth", "--latency"]),
        (["--json", "/proc/x.json"], ["--json /proc/x.json cannot be written"]),
        (["--bandwidth", "4"], ["both or neither"]),
        (["--bandwidth", "4", "--latency", "1"], ["add --project N"]),
        (["--project", "4", "--bandwidth", "-1", "--latency", "1"], ["-1 is not a positive number"]),
        (["--alternations", "4"], ["add --against COMMAND"]),
        (["--against", "no-such-command"], ["--against 'no-such-command' cannot be started"]),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    infogan: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    refused(infogan("bench", *TINY, "--json", "metrics.json", *arguments), *words)
    assert list(tmp_path.iterdir()) == [], "nothing is created"


def test_several_processes_cannot_be_compared_with_a_command(infogan: Command) -> None:
    result = infogan("bench", *TINY, "--against", "true", processes=2)
    assert "infogan-dist: --against compares one process with one; start one, not 2" in result.stderr.splitlines()


# Rates


def test_the_median_and_spread_of_repeats() -> None:
    timing = Timing((2.0, 1.0, 4.0))
    assert (timing.median, timing.spread) == (2.0, 1.5)
    assert spread([3.0, 3.0]) == 0


def test_the_ratio_is_the_median_of_the_alternations_ratios() -> None:
    comparison = Comparison(Timing((1.0, 2.0, 4.0)), (10.0, 1.0, 2.0))  # 100, 50 and 25 images/s of 100 images
    assert comparison.metrics(100) == {
        "against_images_per_second": 2.0,
        "against_spread": 9 / 2,
        "ratio": 12.5,  # the median of 10, 50 and 12.5; the ratio of the medians is 25
        "smallest_ratio": 10.0,
        "largest_ratio": 50.0,
    }


def test_steps_are_timed_in_alternation(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 1e-9)
    order: list[str] = []
    timings = timing.alternate({name: lambda name=name: order.append(name) for name in "ab"}, cluster)  # type: ignore[misc]
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == ["a", "b"] * (timing.REPEATS + 1)
    assert {name: len(each.seconds) for name, each in timings.items()} == dict.fromkeys("ab", timing.REPEATS)


# Phases


class FakeClock:
    """A clock whose time a test sets."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_time_belongs_to_the_phase_entered_last() -> None:
    now, waits = FakeClock(), []
    clock = PhaseClock(lambda: waits.append(now.time), now)
    now.time = 1
    with clock.within("D_forward", then="data"):
        now.time = 3
        with clock.within("G_draw"):
            now.time = 7
        now.time = 15
    now.time = 31
    clock.enter("other")
    assert {name: seconds for name, seconds in clock.seconds.items() if seconds} == {
        **{"other": 1, "D_forward": 2 + 8, "G_draw": 4, "data": 16}
    }
    assert waits == [0, 1, 3, 7, 15, 31], "it waits for the device at each boundary"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_enters_the_phases_in_order(cluster: Cluster, accumulate: int) -> None:
    trainer = bench_trainer(cluster, f"train.accumulate={accumulate}", "optimizer.D.clip_norm=1")
    clock = PhaseClock(lambda: None)
    entered: list[str] = []
    enter = clock.enter
    clock.enter = lambda phase: (entered.append(phase), enter(phase))[1]  # type: ignore[method-assign, func-returns-value]
    trainer.step(observe=lambda state: TimedEngine(state, clock))
    named = [phase for phase, _ in itertools.groupby(phase for phase in entered if phase != "other")]
    updates = ["D_forward", "D_backward", "D_update", "G_forward", "G_backward", "G_update"]
    if accumulate == 1:
        assert named == ["G_draw", *updates, "average"]
    else:  # G draws in each micro-batch again, in the G step inside its forward
        micro_D = ["G_draw", "D_forward", "D_backward"]
        micro_G = ["G_forward", "G_draw", "G_forward", "G_backward"]
        assert named == [*micro_D * 2, "D_update", *micro_G * 2, "G_update", "average"]


def test_the_phases_add_up_to_the_steps_and_do_not_change_the_networks(cluster: Cluster) -> None:
    timed, plain = bench_trainer(cluster), bench_trainer(cluster)
    before = time.perf_counter()
    phases = seconds_by_phase(timed, 3)
    elapsed = time.perf_counter() - before
    assert tuple(phases) == PHASES
    assert all(seconds > 0 for seconds in phases.values())
    assert sum(phases.values()) * 3 <= elapsed
    for _ in range(3):
        plain.step()
    for name, network in plain.state.networks.named().items():
        for key, tensor in tensors_of(network).items():
            assert torch.equal(tensor, timed.state.networks.named()[name].state_dict()[key]), (name, key)


# Work and limits


def paper28_multiplications(owner: str) -> int:
    """Multiplications per image in one step at width 1 with 6 + 10 latents, counted by hand; each pass over a layer costs its once."""
    lift, spread, up, to_image = 16 * 16, 16 * 98, 2 * 16 * 1 * 49, 1 * 16 * 1 * 196
    from_image, down, gather = 1 * 16 * 1 * 196, 1 * 16 * 2 * 49, 98 * 16
    G, FE, D, Q = lift + spread + up + to_image, from_image + down + gather, 16 * 1, 16 * 128 + 128 * 10
    drawing = G
    D_step = 2 * (FE + D) + 2 * (2 * FE - from_image + 2 * D)  # reals and fakes; images need no gradient
    G_step = FE + D + Q + FE + D + Q + 2 * G - lift  # through frozen FE, D and Q to G; latents need no gradient
    of_Qs_weights = {"heads": Q, "trunk": Q + 2 * Q}[owner]  # in the D step, with a forward on the fakes
    return drawing + D_step + G_step + of_Qs_weights


@pytest.mark.parametrize("owner", ["heads", "trunk"])
def test_the_operations_of_a_step_equal_those_counted_by_hand(cluster: Cluster, owner: str) -> None:
    trainer = bench_trainer(cluster, f"objective.information_trains={owner}")
    work = work_of(trainer.plain_step, trainer.state.networks.named().values())
    assert work.operations == 2 * 12 * paper28_multiplications(owner)
    assert work.products[0] == (24 * 196, 16, 1) == max(work.products, key=math.prod)
    assert (12, 16, 98) in work.products


@pytest.mark.parametrize(
    ("layer", "shape", "product"),
    [
        (nn.Linear(5, 7), (3, 5), (3, 5, 7)),
        (nn.Conv2d(2, 5, 4, 2, 1), (3, 2, 8, 8), (3 * 16, 32, 5)),
        (nn.ConvTranspose2d(2, 5, 4, 2, 1), (3, 2, 8, 8), (3 * 64, 2, 80)),
    ],
)
def test_a_layer_as_a_matrix_product(layer: nn.Module, shape: tuple[int, ...], product: tuple[int, int, int]) -> None:
    x = torch.zeros(shape)
    assert product_of(layer, x, layer(x)) == product
    work = work_of(lambda: layer(x), [layer])
    assert work == Work(2 * math.prod(product), (product,))


def test_the_share_of_the_limit_uses_the_precision_of_the_run() -> None:
    limits = Limits({"fp32": 100.0, "bf16": 400.0}, 8.0)
    metrics = efficiency(Work(200, ()), {"adam": 1, "norms": 3}, limits, 2.0, "bf16")
    assert (metrics["operations"], metrics["operations_per_second"], metrics["share_of_limit"]) == (200, 100, 0.25)
    assert metrics["limits"] == {"operations_per_second": limits.operations, "copied_bytes_per_second": 8.0}
    assert metrics["share_of_limits"] == (200 / 400 + 4 / 8) / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bytes_that_a_step_moves_equal_those_counted_by_hand(cluster: Cluster, precision: str) -> None:
    cluster.configure(tiny("x", f"train.precision={precision}"))
    trainer = bench_trainer(cluster, f"train.precision={precision}")
    networks = {name: list(network.parameters()) for name, network in trainer.state.networks.named().items()}
    weights = {name: sum(p.numel() for p in parameters) for name, parameters in networks.items()}
    matrices = {name: sum(p.numel() for p in parameters if p.dim() > 1) for name, parameters in networks.items()}
    element = 2 if precision == "bf16" else 4
    # drawing; D's update with gradients; the frozen networks, and Q, in G's update
    cast = 2 * matrices["G"] + (2 + 1) * (matrices["FE"] + matrices["D"]) + 2 * matrices["Q"]
    # G's images; reals and fakes in D's update, fakes in G's; Q on fakes
    normalised = (16 + 98 + 196) + (2 + 1) * (98 + 16) + 128
    assert memory_traffic(trainer.plain_step, trainer.state) == {
        "adam": 7 * 4 * sum(weights[name] for name in ("G", "FE", "D", "Q")),
        "average": 3 * 4 * weights["G"],
        "casts": cast * (4 + 2) if precision == "bf16" else 0,
        "norms": 12 * normalised * (3 + 5) * element,
    }


def test_the_precision_of_the_run_is_always_measured() -> None:
    cpu = torch.device("cpu")
    assert precisions("fp32", cpu)[0] == "fp32"
    assert precisions("fp64", cpu)[-1] == "fp64"
    assert "fp16" not in precisions("fp32", cpu)
    assert len(set(precisions("bf16", cpu))) == len(precisions("bf16", cpu))


# --against


@pytest.mark.parametrize(
    ("output", "rate"),
    [
        ('{"images_per_second": 3}', 3.0),
        ('words\n{"images_per_second": 3.5, "size": 28}\nmore words\n', 3.5),
        ('{"images_per_second": 1}\n{"images_per_second": 2}\n{"other": 4}', 2.0),
        ('{"images_per_second": 0}', None),
        ('{"images_per_second": NaN}', None),
        ('{"images_per_second": "3"}', None),
        ('[{"images_per_second": 3}]\n7\n"images_per_second"', None),
        ("", None),
    ],
)
def test_the_last_json_line_with_a_rate_is_used(output: str, rate: float | None) -> None:
    assert rate_in(output) == rate


def test_the_command_has_our_threads_and_none_of_our_launchers_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = """
import json, os
assert "WORLD_SIZE" not in os.environ
print(json.dumps({"images_per_second": int(os.environ["OMP_NUM_THREADS"])}))
"""
    assert Baseline.parse(python(code), 1).images_per_second(environment_of(7)) == 7


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", ["--against is empty"]),
        ("echo 'unended", ["unended", "cannot be read"]),
        ("no-such-command x", ["'no-such-command x'", "cannot be started"]),
        (python("import sys; sys.exit('first\\nlast line')"), ["failed with exit code 1", "last line"]),
        (python("print('{}')"), ["printed no JSON line", "images_per_second", "nothing"]),
        (python("import sys; print('fast', file=sys.stderr)"), ["printed no JSON line", "fast"]),
    ],
)
def test_a_command_that_prints_no_rate_is_named(command: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Baseline.parse(command, 1).images_per_second(environment_of(1))
    assert all(word in str(caught.value) for word in [*words, command[:20]])
    assert "\n" not in str(caught.value)
    assert "first" not in str(caught.value).rpartition("; its last line")[2]
