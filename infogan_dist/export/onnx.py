"""ONNX: G, and FE with Q beside it, in plain operators of the standard. Checked with onnxruntime before a file appears.

Such a file runs where neither torch nor this package is installed; its metadata say what each column of the input means.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infogan_dist.errors import UserError
from infogan_dist.export.model import Model
from infogan_dist.export.parts import Part, parts
from infogan_dist.files import atomic_write

OPSET = 20
CHECKED_BATCHES = (1, 3, 64)
TOLERANCE = (
    1e-4  # largest difference to torch, of values up to 1; larger values may differ by as large a share of the largest
)
LARGEST = 2**31  # bytes: protobuf's limit
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def is_available() -> bool:
    """Whether the extra is installed."""
    return all(find_spec(name) is not None for name in NEEDED)


def write(model: Model, out: Path, dtype: torch.dtype) -> list[Path]:
    """Write G as `out`, and FE with Q as NAME-recognizer.onnx beside it, or no file at all.

    Raises UserError where the extra is not installed, or where onnxruntime computes something else than torch.
    """
    if not is_available():
        raise UserError(f"--to onnx needs {', '.join(NEEDED)}: pip install 'infogan-dist[onnx]'")
    files = parts(model, out, dtype)
    with ExitStack() as stack:
        for path, part in files.items():
            partial = stack.enter_context(atomic_write(path))
            partial.write_bytes(_without_paths(_traced(part)).SerializeToString())
            _check(partial, part, path.name)
    return list(files)


def _traced(part: Part) -> Any:
    """The part as an onnx.ModelProto."""
    size = sum(tensor.nbytes for tensor in part.network.state_dict().values())
    if size >= LARGEST:
        raise UserError(
            f"the weights have {size:,} bytes, and an ONNX file holds less than {LARGEST:,}; use safetensors"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        program = torch.onnx.export(
            part.network,
            (part.example(2),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            input_names=[part.input_name],
            output_names=[part.output_name],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.ClearField("metadata_props")
    for key, value in part.metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def _without_paths(proto: Any) -> Any:
    """The same without what torch notes of its own source: hundreds of paths of this machine."""
    graph = proto.graph
    for noted in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    proto.ClearField("doc_string")
    return proto


@torch.no_grad()
def _check(path: Path, part: Part, name: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    network: nn.Module = part.network
    for batch in CHECKED_BATCHES:
        x = part.example(batch)
        expected = network(x)
        (y,) = session.run(None, {part.input_name: x.numpy()})
        difference = (torch.from_numpy(y) - expected).abs().max().item()
        if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
            raise UserError(
                f"onnxruntime {onnxruntime.__version__} computes {name} with a difference of {difference:g} to torch at a batch "
                f"of {batch}; it was not written"
            )
