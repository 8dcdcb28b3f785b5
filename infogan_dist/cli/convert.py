"""`convert`: a trained model in other formats, and models of other programs in ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from infogan_dist.cli.arguments import path, write_result
from infogan_dist.errors import UserError
from infogan_dist.export.formats import FORMATS, IMPORTERS

if TYPE_CHECKING:
    from infogan_dist.config.schema import Config

HELP = "writes a model in another format, or reads another program's"
EXAMPLE = (
    "infogan-dist convert runs/quickstart --to safetensors --with-q --out digits.safetensors\n"
    "         infogan-dist convert runs/quickstart --to onnx --out digits.onnx\n"
    "         infogan-dist convert runs/quickstart --to huggingface --out digits --push USER/digits\n"
    "         infogan-dist convert model_final_MNIST --from natsu-mnist --out digits.safetensors"
)
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a run folder, a checkpoint folder, an exported file or a hub repo; with --from, a file of that program",
    )
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument(
        "--to",
        choices=FORMATS,
        help="the format to write. safetensors: read by this package; onnx: runs without PyTorch;\n"
        "torch-export: for PyTorch without this package, written and never read here (it holds a pickle);\n"
        "huggingface: a folder for the hub, with a model card",
    )
    direction.add_argument("--from", choices=IMPORTERS, dest="source", help="the program whose file is read")
    parser.add_argument("--out", required=True, type=path, help="the file to write, or the folder of huggingface")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights in the file (fp32); all compute in fp32")
    parser.add_argument(
        "--with-q",
        action="store_true",
        help="FE and Q as well, which read codes from images: in the same safetensors file,\n"
        "or as one network in NAME-recognizer beside --out",
    )
    parser.add_argument("--push", metavar="REPO", help="with --to huggingface: upload the folder to this repo, private")
    parser.add_argument("--public", action="store_true", help="with --push: a repo that everybody sees")
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        help="with --from accelerate: what the weights were trained with, if no config.yaml lies beside them",
    )


def run(options: argparse.Namespace) -> None:
    _check_options(options)
    _check_out(options.out, FORMATS[options.to or "safetensors"].ending)
    if options.source is not None:
        _import(options)
    else:
        _export(options)


def _export(options: argparse.Namespace) -> None:
    from importlib import import_module

    import torch

    from infogan_dist.export.model import Model

    model = Model.from_pretrained(options.checkpoint, options.with_q)
    writer, dtype = import_module(FORMATS[options.to].module), getattr(torch, DTYPES[options.dtype or "fp32"])
    written: list[Path] = []
    named = {"repo": options.push} if options.push else {}
    write_result(lambda: written.extend(writer.write(model, options.out, dtype, **named)), options.out)
    for beside in written[1:]:
        print(beside)
    if options.push:
        print(writer.push(options.out, options.push, options.public))


def _import(options: argparse.Namespace) -> None:
    from importlib import import_module

    from infogan_dist.sampling import pretrained

    reader = import_module(IMPORTERS[options.source])
    imported = reader.read(Path(options.checkpoint), _config(options.config))
    write_result(lambda: pretrained.save(imported.model, options.out), options.out)
    if imported.left_out:
        print(imported.left_out)


def _config(name: str | None) -> Config | None:
    from infogan_dist.config.reading import load_config

    return load_config(name) if name is not None else None


def _check_options(options: argparse.Namespace) -> None:
    """Raises UserError for options that say nothing here."""
    if options.source is not None:
        for flag, given in {"--dtype": options.dtype, "--with-q": options.with_q, "--push": options.push}.items():
            if given:
                raise UserError(f"{flag} goes with --to, not with --from")
    if options.config is not None and options.source != "accelerate":
        raise UserError("--config goes with --from accelerate")
    if options.push and options.to != "huggingface":
        raise UserError("--push goes with --to huggingface")
    if options.public and not options.push:
        raise UserError("--public goes with --push")


def _check_out(out: Path, ending: str) -> None:
    """Raises UserError where the result cannot go to `out`; an empty ending means a folder."""
    from infogan_dist.checkpoints import store

    holder = store.holder(out)
    if not ending:
        if holder is not None:
            raise UserError(f"--out {out} would write a folder into the run {holder}; choose a path outside it")
        return
    if out.suffix != ending:
        raise UserError(f"--out {out} does not end in {ending}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; choose another name")
    if holder is not None and store.is_checkpoint(holder):
        raise UserError(f"--out {out} is inside the checkpoint {holder}; choose a path outside it")
