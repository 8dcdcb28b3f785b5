"""Injects faults into a real process by name: `kill@5` kills it within step 5, `kill@5#1` only if it is rank 1.

`python -m tests.faults.faults FAULT[,FAULT …] COMMAND …` runs `python -m infogan_dist COMMAND …` with these faults.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.data import neighbours, stream
from infogan_dist.sampling import grids as sampling
from infogan_dist.training import batches, pictures, records
from infogan_dist.training import step as steps
from infogan_dist.training.signals import SIGNALS

SLOW = 1.0  # seconds that a slow rank loses in a step
SLOW_CHUNK = 0.6  # seconds for each of the 20 chunks of a slow search for neighbours
SLOW_DISK = 0.03  # seconds for each of about ten fsyncs of a save
HANGS = 3600.0
TIMEOUT = 240.0  # seconds that a process waits for another one
SLICE = 0.02  # seconds between polls

Act = Callable[..., object]  # called with the arguments of the function that it precedes


def main(arguments: list[str]) -> int:
    """Run a command of the package with faults. Returns its exit code."""
    from infogan_dist.__main__ import main as run_command

    wanted, *command = arguments
    once, _, faults = wanted.rpartition(":once:")
    if not once or _first_time(Path(once)):
        for name in filter(None, faults.split(",")):
            inject(name)
    return run_command(command)


def _first_time(file: Path) -> bool:
    """Whether this rank has not yet made its file: with `FILE:once:FAULT` a restarted rank has no fault."""
    own = file.with_name(f"{file.name}-{os.environ.get('RANK', '0')}")
    first = not own.exists()
    own.touch()
    return first


def inject(fault: str) -> None:
    """Inject the fault `name`, `name=value`, `name@step` or `name@step#rank`."""
    fault, _, rank = fault.partition("#")
    if rank and rank != os.environ.get("RANK", "0"):
        return
    name, _, value = fault.partition("=")
    name, _, step = name.partition("@")
    if step:
        _at_step(int(step), *STEPWISE[name])
    else:
        ALWAYS[name](value)


# Faults in one step: an act, and the function before which it is called


def _at_step(number: int, wrap: Callable[[Act], None], act: Act) -> None:
    """Have `wrap` call `act` during step `number` only."""
    real = batches.BatchStream.at
    now = [0]

    def at(stream: Any, step: int) -> Any:
        now[0] = step
        return real(stream, step)

    batches.BatchStream.at = at  # type: ignore[method-assign]
    wrap(lambda *arguments: act(*arguments) if now[0] == number else None)


def _before(owner: Any, name: str) -> Callable[[Act], None]:
    """Returns a function that makes its argument run before each call of `owner.name`."""

    def wrap(act: Act) -> None:
        real = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            act(*arguments)
            return real(*arguments, **named)

        setattr(owner, name, wrapped)

    return wrap


def _kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _send(number: signal.Signals) -> Act:
    return lambda *_: os.kill(os.getpid(), number)


def _once(act: Act) -> Act:
    left = [act]
    return lambda *arguments: left.pop()(*arguments) if left else None


def _end_launcher(number: signal.Signals) -> Act:
    """Send a signal to the launcher, and wait until the run has received the request to stop."""

    def act(*_: object) -> None:
        os.kill(os.getppid(), number)
        deadline = time.monotonic() + TIMEOUT
        while "stopping" not in Path("run/.lock").read_text() and time.monotonic() < deadline:
            time.sleep(SLICE)

    return act


def _hold(*_: object) -> None:
    """Wait until the test makes the file `release`."""
    deadline = time.monotonic() + TIMEOUT
    while not Path("release").exists() and time.monotonic() < deadline:
        time.sleep(SLICE)


def _rot(*_: object) -> None:
    for image in Path("images").iterdir():
        image.write_bytes(b"rotten")


def _fill_disk(*_: object) -> None:
    """Fill the disk of the run."""
    with suppress(OSError), Path("disk/more").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def _terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate_twice(*_: object) -> None:
    _terminate()
    time.sleep(SLICE)  # so that the handler of the first signal runs
    _terminate()
    time.sleep(SLICE)


def _sleep(*_: object) -> None:
    time.sleep(SLOW)


def _drift(state: Any, *_: object) -> None:
    """Change a weight on this rank only, as faulty memory or an unreduced gradient would."""
    with torch.no_grad():
        next(state.networks.D.parameters()).view(-1)[0] += 1e-9


def _set_nan(state: Any, micro_batches: Any, *_: object) -> None:
    for batch in micro_batches:
        batch.reals.fill_(float("nan"))


def _break_networks(state: Any, *_: object) -> None:
    next(state.networks.G.parameters()).data.fill_(float("nan"))  # invisible to autograd, like a memory fault


STEPWISE: dict[str, tuple[Callable[[Act], None], Act]] = {
    "kill": (_before(steps, "generator_step"), _kill),  # after D's update and before G's
    "kill-in-save": (_before(checkpoints, "sync"), _kill),
    **{number.name: (_before(steps, "generator_step"), _send(number)) for number in SIGNALS},
    "rot": (_before(steps, "generator_step"), _rot),
    "fill-disk": (_before(steps, "generator_step"), _fill_disk),
    "term-in-save": (_before(checkpoints, "sync"), _once(_terminate)),
    "terms-in-save": (_before(checkpoints, "sync"), _terminate),
    "term-in-sampling": (_before(pictures, "write_grid"), _terminate),
    "term-in-evaluation": (_before(records, "evaluate_networks"), _terminate),
    "term-twice": (_before(steps, "generator_step"), _terminate_twice),
    "term-launcher": (_before(steps, "generator_step"), _once(_end_launcher(signal.SIGTERM))),
    "kill-launcher": (_before(steps, "generator_step"), _once(_end_launcher(signal.SIGKILL))),
    "hold-save": (_before(checkpoints, "sync"), _hold),
    "hang": (_before(steps, "generator_step"), lambda *_: time.sleep(HANGS)),
    "slow": (_before(steps, "generator_step"), _sleep),
    "drift": (_before(steps, "generator_step"), _drift),
    "nan-images": (_before(steps, "discriminator_step"), _set_nan),
    "nan-weights": (_before(steps, "generator_step"), _break_networks),
}


# Faults of the whole process


def _crash_at_event(value: str) -> None:
    """`crash=FOLDER:EVENT:MODE`: end as by kill -9 at this file event in the folder, `before` it or with the file `torn`."""
    from ckpt_chaos.inject import arm

    folder, event, mode = value.rsplit(":", 2)
    arm(folder, crash_at=int(event), mode=mode, torn_python=True)


def _list_events(value: str) -> None:
    """`events=FOLDER:LOG`: log the file events in the folder, one per line."""
    from ckpt_chaos.inject import arm

    folder, log = value.rsplit(":", 1)
    arm(folder, log_path=log, torn_python=True)


def _limit_file_size(value: str) -> None:
    """`filesize=BYTES`: limit the size of files, as a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), int(value)))


def _poison_pickle(value: str) -> None:
    """`no-pickle`: unpickling raises an error."""
    import pickle

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("something was unpickled")

    pickle.load = pickle.loads = pickle.Unpickler = refuse  # type: ignore[assignment,misc]
    torch.load = refuse


def _draw_nothing(value: str) -> None:
    """`no-pictures`: draw none, because they take most of the time of a tiny run."""
    pictures.Pictures.save = lambda self, step: None  # type: ignore[method-assign]


def _search_slowly(value: str) -> None:
    """`slow-neighbours`: a search of 20 slow chunks."""
    neighbours._CHUNK, neighbours.SIDE = 500, 8
    _before(neighbours, "deskewed")(lambda *_: time.sleep(SLOW_CHUNK))


ALWAYS: dict[str, Callable[[str], None]] = {
    "crash": _crash_at_event,
    "events": _list_events,
    "filesize": _limit_file_size,
    "no-pickle": _poison_pickle,
    "streamed": lambda value: setattr(stream, "RESIDENT_SHARE", 0),  # no data set fits in memory
    "ctrl-c-while-drawing": lambda value: _before(sampling, "write_grid")(_send(signal.SIGINT)),
    "sigterm-while-drawing": lambda value: _before(sampling, "write_grid")(_send(signal.SIGTERM)),
    "slow-disk": lambda value: _before(checkpoints, "sync")(lambda *_: time.sleep(SLOW_DISK)),
    "no-pictures": _draw_nothing,
    "slow-neighbours": _search_slowly,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
