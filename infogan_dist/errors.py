"""The ways a command can end other than well, each with the exit code of the contract."""

from __future__ import annotations


class InfoganError(Exception):
    """Base of every failure that is told to the user in one line, without a traceback."""

    exit_code = 1
    concerns_one_rank = False
    """Whether every process says it, rather than one of each host."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """In one line, with escapes for what a terminal would obey or cannot show: names and values may come from any file."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class UserError(InfoganError, ValueError):
    """The command line, the config or the data is wrong; the message names the fact and the remedy."""

    exit_code = 2


class Diverged(InfoganError):
    """Training produced numbers that cannot be trained on."""

    exit_code = 3


class NoUsableCheckpoint(InfoganError):
    """Checkpoints were expected and none of them verifies."""

    exit_code = 4


class CannotWrite(InfoganError):
    """The run folder takes no more: a run that cannot save spends hours that it will lose. Every rank's log says so."""

    concerns_one_rank = True


class StoppedBySignal(InfoganError):
    """A signal asked the run to stop; it saved and can be resumed."""

    exit_code = 75
