from __future__ import annotations

import threading

import pytest

from infogan_dist.checkpoints.background import Background


def test_background_task_runs_and_the_next_one_waits_for_it() -> None:
    background, gate, done = Background(), threading.Event(), []

    def first() -> None:
        gate.wait(10)
        done.append("first")

    background.start(first)
    background.check()
    assert done == []
    gate.set()
    background.start(lambda: done.append("second"))
    background.wait()
    assert done == ["first", "second"]
    background.wait()


def test_background_failure_is_raised_once() -> None:
    background, failed = Background(), threading.Event()

    def fail() -> None:
        failed.set()
        raise OSError(28, "No space left on device")

    for ask in (background.wait, lambda: background.start(lambda: None)):
        background.start(fail)
        failed.wait(10)
        with pytest.raises(OSError, match="No space"):
            ask()
        background.wait()
    background.start(fail)
    while True:  # until the thread has ended it
        try:
            background.check()
        except OSError:
            break
