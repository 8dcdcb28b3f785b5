"""The errors that end a command, each with its exit code."""

from __future__ import annotations


class InfoganError(Exception):
    """Base of every error that the user sees as one line, without a traceback."""

    exit_code = 1
    concerns_one_rank = False
    """Whether every process prints it. False: one process per host does."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """`text` on one line, with unprintable characters escaped: names and values may come from untrusted files."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class UserError(InfoganError, ValueError):
    """The command line, the config or the data is wrong; the message names the fact and the remedy."""

    exit_code = 2


class Diverged(InfoganError):
    """Training produced numbers from which it cannot continue."""

    exit_code = 3


class NoUsableCheckpoint(InfoganError):
    """Checkpoints were expected, but none verifies or fits."""

    exit_code = 4


class CannotWrite(InfoganError):
    """The run folder cannot be written. The run ends, because it would lose what it trains; every rank prints it."""

    concerns_one_rank = True


class StoppedBySignal(InfoganError):
    """A signal stopped the run, which saved first and can be resumed."""

    exit_code = 75
