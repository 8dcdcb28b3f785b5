from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from infogan_dist.training import signals
from infogan_dist.training.signals import LAUNCHER_ENDED, Launcher, StopRequest, interruptible
from tests.conftest import ROOT, clean_environment

ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "no"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none"}


@pytest.fixture
def adopted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parents that this process seems to have: the first one until it is popped, then the second."""
    parents = [os.getppid(), 1]
    monkeypatch.setattr(os, "getppid", lambda: parents[0])
    return parents


def test_process_without_a_launcher_has_none_that_ends(adopted: list[int]) -> None:
    launcher = Launcher({"ACCELERATE_MIXED_PRECISION": "no"})
    adopted.pop(0)
    assert not launcher
    assert not launcher.ended
    with interruptible({}), StopRequest() as stop:
        assert signal.getsignal(LAUNCHER_ENDED) is signal.SIG_DFL
        assert not stop.requested


@pytest.mark.parametrize("environment", [ACCELERATE, TORCHRUN], ids=["accelerate", "torchrun"])
def test_end_of_the_launcher_interrupts_a_command(environment: dict[str, str], adopted: list[int]) -> None:
    with interruptible(environment):
        os.kill(os.getpid(), LAUNCHER_ENDED)  # the launcher's thread ended, but not the launcher
        time.sleep(0.02)
        adopted.pop(0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), LAUNCHER_ENDED)
    assert signal.getsignal(LAUNCHER_ENDED) is signal.SIG_DFL


def test_end_of_the_launcher_before_the_signal_was_requested_is_detected(
    adopted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "send_when_parent_ends", lambda number: adopted.pop(0) if number else None)
    with pytest.raises(KeyboardInterrupt), interruptible(ACCELERATE):
        pytest.fail("the command began")


def test_process_adopted_by_init_has_lost_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_command", lambda process: "systemd")
    with pytest.raises(KeyboardInterrupt), interruptible(TORCHRUN):
        pytest.fail("the command began")
    monkeypatch.setattr(signals, "_command", lambda process: "torchrun")  # in a container torchrun may be process 1
    assert not Launcher(TORCHRUN).ended


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, LAUNCHER_ENDED), (LAUNCHER_ENDED, signal.SIGTERM)])
def test_end_of_the_launcher_is_not_a_second_signal(
    numbers: tuple[signal.Signals, ...], adopted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, **ACCELERATE})
    heard: list[str] = []
    with StopRequest() as stop:
        stop.when_requested(lambda: heard.append("stop"))
        for number in numbers:
            if number == LAUNCHER_ENDED:
                adopted.pop(0)
            os.kill(os.getpid(), number)
            time.sleep(0.02)
            assert heard[:1] == ["stop"]  # from the signal handler, before `requested` is read
        assert stop.requested


def test_end_of_the_launcher_is_detected_without_a_signal(adopted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, **ACCELERATE})
    with StopRequest() as stop:
        assert not stop.requested
        adopted.pop(0)
        assert stop.requested


SIGNALLED_TWICE = """
import os, signal, sys, time
from infogan_dist.training.signals import StopRequest
with StopRequest() as stop:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(float(sys.argv[1]))
    print("still here", stop.requested)
"""


@pytest.mark.parametrize(
    ("environment", "pause", "output"),
    [(TORCHRUN, 0.05, "still here True\n"), (TORCHRUN, 2.1, ""), (ACCELERATE, 0.05, ""), ({}, 0.05, "")],
)
def test_signal_forwarded_by_torchrun_is_not_a_second_one(
    environment: dict[str, str], pause: float, output: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SIGNALLED_TWICE, str(pause)],
        env=clean_environment(PYTHONPATH=str(ROOT), **environment),
        capture_output=True,
        text=True,
    )
    assert result.stdout == output
    assert result.returncode == (0 if output else 75)
