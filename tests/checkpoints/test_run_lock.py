from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from infogan_dist.checkpoints.run_lock import Holder, RunLock, holder_of, wait_while_stopping
from infogan_dist.errors import StoppedBySignal, UserError

US = f"process {os.getpid()} on {socket.gethostname()}"


def wait(folder: Path, seconds: float = 60, interrupted: bool = False) -> list[str]:
    """The announced messages."""
    announced: list[str] = []
    wait_while_stopping(folder, seconds, announced.append, lambda: interrupted)
    return announced


def test_lock_file_names_the_holder_and_whether_it_is_stopping(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "none") is None
    lock = RunLock(tmp_path)
    assert holder_of(tmp_path) == Holder(US, stopping=False)
    with pytest.raises(UserError, match=f"in use by {US}; wait for it or choose another output"):
        RunLock(tmp_path)
    lock.mark_stopping()
    lock.mark_stopping()
    assert (tmp_path / ".lock").read_text() == f"{US}\nstopping\n"
    assert holder_of(tmp_path) == Holder(US, stopping=True)
    with pytest.raises(UserError, match=f"in use by {US}, which is stopping; give the same command again"):
        RunLock(tmp_path)
    lock.close()
    lock.mark_stopping()  # a late signal
    assert holder_of(tmp_path) is None
    RunLock(tmp_path).close()
    assert (tmp_path / ".lock").read_text() == f"{US}\n"


def test_only_a_stopping_holder_is_waited_for(tmp_path: Path) -> None:
    assert wait(tmp_path) == []
    lock = RunLock(tmp_path)
    assert wait(tmp_path) == []
    lock.mark_stopping()
    threading.Timer(0.5, lock.close).start()
    assert wait(tmp_path) == [f"waiting up to 60 s for {US}, which is stopping, to leave {tmp_path}"]


def test_wait_for_a_stopping_holder_times_out(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.mark_stopping()
    with pytest.raises(UserError, match=r"did not end within 0\.2 s; give the same command again"):
        wait(tmp_path, seconds=0.2)
    with pytest.raises(StoppedBySignal):
        wait(tmp_path, interrupted=True)
    lock.close()


def test_lock_file_may_contain_any_bytes(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff\0\n" * 9)
    lock = RunLock(tmp_path)
    assert holder_of(tmp_path) == Holder(US, stopping=False)
    lock.close()
