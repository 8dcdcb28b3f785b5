"""YAML 1.2 core schema on top of PyYAML, which implements 1.1: here `2e-4` is a number and `no` is a string.

Files, command-line overrides and dumps share one resolver, so a value survives a round trip.
Source: yaml.org/spec/1.2.2, section 10.3.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from infogan_dist.errors import UserError

_CORE_RESOLVERS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)

MAX_NODES = 100_000  # of a document; ours have about 100
MAX_DIGITS = 1000  # of an integer; Python converts at most 4300 to text
_TAG_ERRORS = (KeyError, TypeError, AttributeError)  # what PyYAML raises for `!!bool x` or `!!timestamp x`


class _CoreLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a string", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} occurs twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


class _CoreDumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in _CORE_RESOLVERS:
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
    _CoreDumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_CoreLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def load(text: str, where: str) -> Any:
    """Parse one YAML document. Raises UserError that names `where` and the line."""
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
        if root is not None:
            _check_size(root)
        return yaml.load(text, Loader=_CoreLoader)  # noqa: S506 - _CoreLoader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where}{line} is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError, *_TAG_ERRORS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where} is not valid YAML: {reason}") from error


def _check_size(root: yaml.Node) -> None:
    """Raises ValueError for a small document that its aliases make infinite or huge."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MAX_NODES  # until it is known: an alias may put a node inside itself
            below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + (sum(map(size, below)) if isinstance(below, list) else 0)
        return sizes[id(node)]

    if size(root) >= MAX_NODES:
        raise ValueError(f"with its aliases it has more than {MAX_NODES} values")


def dump(value: Any) -> str:
    """Block-style text that `load` reads back as an equal value. Keys keep their order."""
    return str(yaml.dump(value, Dumper=_CoreDumper, sort_keys=False, default_flow_style=None, width=120))


def inline(value: Any) -> str:
    """YAML in one line, for a command line or a table."""
    text = yaml.dump(value, Dumper=_CoreDumper, sort_keys=False, default_flow_style=True, width=2**31)
    return str(text).removesuffix("\n...\n").strip()


def flow_items(text: str, where: str) -> list[str]:
    """The items of `1,2,3` or `[10],[5,2]` as text: split at the commas of a YAML flow sequence. Raises UserError."""
    if "," not in text:
        return [text]
    sequence = f"[{text}]"
    try:
        root = yaml.compose(sequence, Loader=_CoreLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{where}, {text}, is not valid YAML; put quotes around a value with special characters"
        ) from error
    assert isinstance(root, yaml.SequenceNode)
    return [sequence[item.start_mark.index : item.end_mark.index] for item in root.value]


def scalar(text: str) -> str:
    """`text` as a YAML value that `load` reads back unchanged, with quotes only if it needs them."""
    try:
        plain = load(text, "") == text
    except UserError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def key_lines(text: str) -> dict[str, int]:
    """The line number, counted from 1, of each dotted key of a mapping document. `text` must be valid YAML."""
    root = yaml.compose(text, Loader=_CoreLoader)
    return dict(_lines_below(root, "")) if root is not None else {}


def _lines_below(node: yaml.Node, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            yield path, key.start_mark.line + 1
            yield from _lines_below(value, f"{path}.")
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield f"{prefix}{position}", item.start_mark.line + 1
            yield from _lines_below(item, f"{prefix}{position}.")
