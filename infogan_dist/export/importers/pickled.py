"""State dicts that torch.save pickled, read without running anything that a pickle can name."""

from __future__ import annotations

import argparse
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from infogan_dist.errors import UserError
from infogan_dist.files import open_regular

LARGEST = 4 * 2**30  # bytes: a port's checkpoint of MNIST, with Adam's state, has 160 million
STREAMS = 5  # pickles at the start of a file of torch.save's older format
ALLOWED = {
    "argparse.Namespace",
    "collections.OrderedDict",
    *(f"torch._utils._rebuild_{what}" for what in ("tensor", "tensor_v2", "parameter")),
    *(
        f"torch.{kind}Storage"
        for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Byte", "Char", "Bool")
    ),
    *("torch.Size", "torch.device", "torch.float32", "torch.float64", "torch.float16", "torch.bfloat16", "torch.int64"),
}


def read_pickled(path: Path) -> Any:
    """What torch.save wrote: tensors, numbers, text and containers of them, on the CPU; of other types argparse.Namespace alone.

    Raises UserError for anything else. What a pickle asks to import is found by disassembling it, and named; torch's own
    `weights_only` reader, which imports and calls nothing else either, then reads it.
    """
    try:
        with open_regular(path) as file:
            _check_size(file)
            for name in _globals(file):
                if name not in ALLOWED:
                    raise UserError(
                        f"{path} holds a pickle that asks for {name[:200]}; no code was run. Only tensors are read"
                    )
            file.seek(0)
            with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
                warnings.simplefilter("ignore")  # of the format, on stderr
                return torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # a file of any bytes raises nearly anything
        reason = " ".join(str(error).partition(". ")[0].split())[:200]
        raise UserError(
            f"{path} is not a file of tensors that torch.save wrote: {reason or type(error).__name__}"
        ) from None


def mapping_in(found: Any, key: str, path: Path) -> Any:
    """What a checkpoint holds at `key`. Raises UserError where it holds nothing there."""
    if not isinstance(found, dict) or key not in found:
        raise UserError(f"{path} holds no {key}: it is not a checkpoint of this program")
    return found[key]


def tensors_in(found: Any, path: Path) -> dict[str, Tensor]:
    """A state_dict, in float32 where its numbers are of any float. Raises UserError where it is something else."""
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path} holds no state_dict")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{path} holds {str(name)[:100]!a}, which is not a tensor")
    return {name: tensor.detach().float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def _check_size(file: BufferedReader) -> None:
    size = file.seek(0, 2)
    if size > LARGEST:
        raise ValueError(f"it has {size:,} bytes, more than {LARGEST:,}")
    if zipfile.is_zipfile(file) and sum(part.file_size for part in zipfile.ZipFile(file).infolist()) > size:
        raise ValueError("it is compressed, which torch.save does not do")
    file.seek(0)


def _globals(file: BufferedReader) -> Iterator[str]:
    """The dotted names that the pickles of a file ask for."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        for _ in range(STREAMS):
            yield from _globals_of(file)
        return
    with zipfile.ZipFile(file) as parts:
        for name in parts.namelist():
            if name.endswith(".pkl"):
                yield from _globals_of(BytesIO(parts.read(name)))


def _globals_of(pickled: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":  # of the two texts before it, which may come from the memo
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)
    except Exception:  # no pickle from here on: what torch makes of it is said by torch
        return
