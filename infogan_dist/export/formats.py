"""The formats that `convert` writes and reads, by name. A new one is a module and a line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """`module` has `write(model: Model, out: Path, dtype: torch.dtype) -> list[Path]`, the files in the order of their names."""

    module: str
    ending: str
    """Of --out; empty for a folder."""


FORMATS = {
    "safetensors": Format("infogan_dist.export.safetensors", ".safetensors"),
    "onnx": Format("infogan_dist.export.onnx", ".onnx"),
    "torch-export": Format("infogan_dist.export.torch_export", ".pt2"),
    "huggingface": Format("infogan_dist.export.huggingface", ""),
}

IMPORTERS = {  # modules with `read(path: Path, config: Config | None) -> Imported`
    "natsu-mnist": "infogan_dist.export.importers.natsu_mnist",
    "pianomania": "infogan_dist.export.importers.pianomania",
    "accelerate": "infogan_dist.export.importers.accelerate",
}
