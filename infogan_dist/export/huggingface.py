"""A folder as the Hugging Face hub shows it: weights, ONNX, config, a picture and a model card; and how it is pushed.

`Generator.from_pretrained("user/name")` reads its model.safetensors.
"""

from __future__ import annotations

from pathlib import Path

import torch

from infogan_dist.errors import UserError
from infogan_dist.export import onnx, safetensors
from infogan_dist.export.model import Model
from infogan_dist.export.model_card import write_card
from infogan_dist.files import atomic_folder
from infogan_dist.sampling.grids import fixed_grids, to_uint8, write_grid
from infogan_dist.sampling.hub import MODEL, first_line

ONNX_MODEL, CONFIG, PICTURE, CARD = "model.onnx", "config.json", "samples.png", "README.md"


def write(model: Model, out: Path, dtype: torch.dtype, repo: str | None = None) -> list[Path]:
    """Write the folder `out`, or nothing. Without the extra `onnx` it holds no ONNX. The card calls the model `repo`.

    Raises UserError where `out` holds something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} is there and not an empty folder; choose another name")
    with atomic_folder(out) as folder:
        safetensors.write(model, folder / MODEL, dtype)
        if onnx.is_available():
            onnx.write(model, folder / ONNX_MODEL, dtype)
        (folder / CONFIG).write_text(model.G.config.without_paths().model_dump_json(indent=1) + "\n", encoding="utf-8")
        grid = fixed_grids(model.G.spec, seed=0)[""]
        write_grid(to_uint8(model.G.draw(grid.latents)), grid.columns, folder / PICTURE, grid.captions)
        write_card(model, folder, PICTURE, folder / CARD, repo or "user/name")
    return [out]


def push(folder: Path, repo: str, public: bool) -> str:
    """Upload a folder that `write` made to a hub repo, which is made where there is none, and return its address.

    Raises UserError where the hub refuses, or where the repo is there already and public though it should be private, or the reverse.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("--push needs huggingface_hub: pip install 'infogan-dist[hub]'") from None
    api = HfApi()
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        if api.model_info(repo).private == public:
            remedy = "leave out --public, or publish it there" if public else "give --public, or another repo"
            raise UserError(
                f"{folder} is written and not pushed: {repo} is {'private' if public else 'public'}; {remedy}"
            )
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Model of infogan_dist")
    except UserError:
        raise
    except Exception as error:  # errors of the hub and of its HTTP library
        later = f"hf upload {repo} {folder}{'' if public else ' --private'}"
        raise UserError(f"{folder} is written and not pushed: {first_line(error)}; later: {later}") from error
    return f"{api.endpoint}/{repo}"
