"""Models on the Hugging Face hub: one safetensors file of a repo is downloaded and cached, and nothing else is read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from infogan_dist.errors import UserError

MODEL = "model.safetensors"  # the file of a hub repo, and of the folder that `convert --to huggingface` writes
WHAT_LOADS = "a run folder, a checkpoint folder, an exported .safetensors file or a hub repo"
TIMEOUT = 10  # seconds until the cache is looked at instead
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def is_repo(name: str) -> bool:
    """Whether `name` can only mean a hub repo, `user/name`: there is no such path here, and no folder that could contain it."""
    return _REPO.fullmatch(name) is not None and not os.path.lexists(name) and not os.path.lexists(Path(name).parent)


def download(repo: str) -> Path:
    """The local path of a repo's model.safetensors, from the hub or its cache (HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE count).

    Raises UserError where there is none, also in a repo that holds only pickles.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise UserError(f"there is no {repo} here; to read it from the hub: pip install 'infogan-dist[hub]'") from None
    try:
        _check_files(repo, HfApi().model_info(repo, timeout=TIMEOUT))
        is_offline = False
    except UserError:
        raise
    except RepositoryNotFoundError as error:
        raise UserError(f"there is no {repo} here, and no hub repo of that name that you may read") from error
    except Exception:  # any error of the HTTP library: it cannot connect
        is_offline = True
    try:
        return Path(hf_hub_download(repo, MODEL, local_files_only=is_offline))
    except LocalEntryNotFoundError as error:
        reason = "the hub cannot be reached, and its cache does not hold it"
        raise UserError(f"there is no {repo} here; {reason}; give {WHAT_LOADS}") from error
    except Exception as error:
        raise UserError(f"the hub repo {repo} cannot be read: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error of the hub says, without its advice."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _check_files(repo: str, info: Any) -> None:
    """Raises UserError where a repo has no file that could be read."""
    names = [file.rfilename for file in info.siblings or []]
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if MODEL not in names:
        only = f", only pickles, which are never read: {', '.join(pickles[:3])}" if pickles else ""
        raise UserError(f"the hub repo {repo} holds no {MODEL}{only}")
