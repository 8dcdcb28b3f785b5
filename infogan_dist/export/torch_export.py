"""torch.export's .pt2: G, and FE with Q beside it, for programs that have torch and not this package.

It is written and never read here: the format holds a pickle (of sample inputs, which cannot be left out), and torch unpickles what
it finds in such a file. Load only files that you trust: `torch.export.load(path).module()(latents)`.
"""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from pathlib import Path

import torch

from infogan_dist.export.model import Model
from infogan_dist.export.parts import Part, parts
from infogan_dist.files import atomic_write

NOTED = (
    "stack_trace",
    "nn_module_stack",
    "source_fn_stack",
    "torch_fn",
    "from_node",
)  # by torch at each node: paths of files
EXTRA_FILE = "infogan_dist.json"


def write(model: Model, out: Path, dtype: torch.dtype) -> list[Path]:
    """Write G as `out`, and FE with Q as NAME-recognizer.pt2 beside it, or no file at all."""
    files = parts(model, out, dtype)
    with ExitStack() as stack:
        for path, part in files.items():
            stack.enter_context(atomic_write(path)).write_bytes(_exported(part))
    return list(files)


def _exported(part: Part) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(part.network, (part.example(2),), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        for key in NOTED:
            node.meta.pop(key, None)
    buffer = io.BytesIO()  # torch's writer of files says of a full disk no more than that it failed
    torch.export.save(program, buffer, extra_files={EXTRA_FILE: json.dumps(part.metadata)})
    return buffer.getvalue()
