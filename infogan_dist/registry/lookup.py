"""Looks records up by name: built-in records first, then those that plugins register as entry points."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from infogan_dist.errors import UserError


class Record(Protocol):
    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Record)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # of a plugin's record; names become parts of file names


class Registry(Generic[R]):
    """The records of one kind. Iteration yields the built-in records in order, then those of plugins by name.

    `what` (the kind) and `key` (the config key) are for messages. `group` is the entry point group of plugins; an entry point
    refers to a record. Entry points are read once per process, when a name is not built in or the registry is iterated.
    """

    def __init__(self, what: str, key: str, group: str, built_in: Sequence[R]):
        self.what, self.key, self.group = what, key, group
        self.built_in = {record.name: record for record in built_in}
        self._kind = type(built_in[0])
        self._loaded: dict[str, R] = {}

    def __getitem__(self, name: str) -> R:
        """The record called `name`. Raises UserError if there is none or its plugin is broken."""
        if name in self.built_in:
            return self.built_in[name]
        if name not in self._entry_points:
            raise UserError(self._unknown(name))
        if name not in self._loaded:
            self._loaded[name] = self._record_of(self._entry_points[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.built_in or name in self._entry_points)

    def __iter__(self) -> Iterator[R]:
        for name in (*self.built_in, *sorted(self._entry_points)):
            yield self[name]

    def load(self, name: str, field: str, kind: Any = object) -> Any:
        """Import the object that `field` of the record names, "module:attribute" or "module".

        Raises UserError if a plugin's object cannot be imported or is not a `kind`.
        """
        path: str = getattr(self[name], field)
        if name in self.built_in:
            return _import(path)
        try:
            found = _import(path)
        except Exception as error:
            raise self.broken(name, f"its {field} {path} cannot be imported ({_describe(error)})") from error
        if not isinstance(found, kind):
            raise self.broken(name, f"its {field} {path} is a {type(found).__name__}, not a {kind.__name__}")
        return found

    def broken(self, name: str, problem: str) -> UserError:
        """The error for a record that cannot be used. It names the plugin's distribution."""
        owner = f" of {_distribution(self._entry_points[name])}" if name not in self.built_in else ""
        return UserError(f"the {self.what} {json.dumps(name)}{owner} cannot be used: {problem}")

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        """Entry points by name. Raises UserError if two have one name."""
        found: dict[str, EntryPoint] = {}
        for each in entry_points(group=self.group):
            owner = _distribution(each)
            if each.name in self.built_in:
                raise UserError(
                    f"{owner} registers the {self.what} {json.dumps(each.name)}, which is built in; "
                    "uninstall it, or rename its entry point and record"
                )
            if each.name in found:
                raise UserError(
                    f"{owner} and {_distribution(found[each.name])} both register the {self.what} "
                    f"{json.dumps(each.name)}; uninstall one of them"
                )
            found[each.name] = each
        return found

    def _record_of(self, entry: EntryPoint) -> R:
        try:
            record = entry.load()
        except Exception as error:
            raise self.broken(
                entry.name, f"its record {entry.value} cannot be imported ({_describe(error)})"
            ) from error
        if not isinstance(record, self._kind):
            problem = f"its record {entry.value} is a {type(record).__name__}, not a {self._kind.__name__}"
            raise self.broken(entry.name, problem)
        if not NAME.fullmatch(entry.name):
            raise self.broken(entry.name, "its name may contain letters, digits, -, _ and . only")
        if record.name != entry.name:
            raise self.broken(entry.name, f"its record {entry.value} has the name {json.dumps(record.name)}")
        return record

    def _unknown(self, name: str) -> str:
        known = [*self.built_in, *sorted(self._entry_points)]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        valid = f"{', '.join(known[:-1])} or {known[-1]}, or the name of an installed plugin"
        return f"{self.key} = {json.dumps(name)}: it should be {valid}" + (f"; did you mean {near[0]}?" if near else "")


def _import(path: str) -> Any:
    module, _, attribute = path.partition(":")
    found = import_module(module)
    return attrgetter(attribute)(found) if attribute else found


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
