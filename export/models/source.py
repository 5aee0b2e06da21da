"""Finds the files of a checkpoint: a folder, a file, or a download from the Hugging Face hub."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...engine.errors import ModelError, reason
from ...engine.json_text import decode_json
from ...engine.model.folder import is_hub_id
from ...engine.model.manifest import Checkpoint as Origin
from ...engine.paths import expanded
from .base import CheckpointFiles

_HUB_FILES = ["config.json", "tokenizer*", "vocab*", "merges.txt", "model*.safetensors*"]


def find_checkpoint(checkpoint: str, revision: str | None = None) -> tuple[CheckpointFiles, Origin]:
    """Find the files of a checkpoint on this machine, or download them.

    Args:
        checkpoint: hub id, Hugging Face folder, or file of weights (`.pth`).
        revision: branch, tag or commit of a hub id.

    Returns:
        The files of the checkpoint, and its origin for the manifest.

    Raises:
        ModelError: the checkpoint cannot be found, downloaded or read.
    """
    if revision and not is_hub_id(checkpoint):
        raise ModelError(
            f"revision is {revision!r}", "only a hub id has revisions: leave --revision out"
        )
    path = expanded(checkpoint)
    if path.is_file():
        return CheckpointFiles(path, weights=read_weights(path)), Origin(path.name)
    if path.is_dir():
        return CheckpointFiles(path, config=_config(path)), Origin(path.name)
    if is_hub_id(checkpoint):
        folder = _download(checkpoint, revision)
        commit = folder.name  # the hub's cache names a snapshot by its commit
        return CheckpointFiles(folder, config=_config(folder)), Origin(checkpoint, commit)
    raise ModelError(
        f"no checkpoint {checkpoint!r}: no such file or folder, and no hub id",
        "give a hub id (Salesforce/blip-itm-large-flickr), a folder, or a .pth file",
    )


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read the weights of a PyTorch file, without running code in it (`weights_only`).

    Args:
        path: path of the file, which holds the weights, or a dictionary with them under "model".

    Returns:
        The weights by their keys, on the CPU.

    Raises:
        ModelError: the file cannot be read, or holds no weights.
    """
    try:
        # Files of PyTorch before 1.6 are not zipped, and cannot be mapped into memory.
        zipped = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # raised by pickle, zipfile or torch
        raise ModelError(
            f"'{path}' cannot be read as a PyTorch checkpoint: {reason(error)}",
            "download it again; files that hold more than weights are refused",
        ) from error
    weights = content.get("model", content) if isinstance(content, dict) else None
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
        )
    ):
        raise ModelError(
            f"'{path}' holds no weights: neither at its top level nor under the key 'model'",
            "take a checkpoint as its authors published it (model_large_retrieval_flickr.pth)",
        )
    return weights


def _config(folder: Path) -> dict[str, object]:
    try:
        config = decode_json((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"'{folder}' is not a Hugging Face checkpoint: no readable config.json",
            "save one with the model's save_pretrained",
        ) from error
    return config if isinstance(config, dict) else {}


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=_HUB_FILES))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(hub_id, revision=revision, allow_patterns=["pytorch_model*"])
    except Exception as error:  # raised for HTTP errors, time-outs, the cache, names
        raise ModelError(
            f"cannot fetch {hub_id!r} from the Hugging Face hub: {reason(error)}",
            "check the name and the network, or give a folder or .pth file on this machine",
        ) from error
    return folder
