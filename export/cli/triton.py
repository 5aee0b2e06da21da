"""Adds `--triton` to `pnp-ovss export`: a model repository for Triton Inference Server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ...engine.cli.terminal import progress
from ...engine.model.folder import open_model
from ...engine.settings import Settings
from .fused import read_fused, writing_onnx


def triton_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--triton`."""
    return click.option(
        "--triton",
        "repository",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write a model repository for Triton Inference Server too: the fused graph, of pixels"
        " of 8 bits, and the builds of TensorRT that MODEL has of it.",
    )(function)


def check(repository: Path, of_fused: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse, before a long export, what cannot be written after it.

    Args:
        repository: path of the repository.
        of_fused: options of the fused graph; see `read_fused`.
        overwrite: whether a repository may be replaced.

    Raises:
        BackendError: a package is missing.
        InputError: an option cannot be used.
        OutputError: the repository would overwrite something.
    """
    _module().check_target(repository, overwrite)
    read_fused(Settings(), **of_fused)


def write(
    folder: Path, repository: Path, of_fused: Mapping[str, Any], overwrite: bool
) -> list[Path]:
    """Write a repository from a model folder; return the paths of its models.

    Args:
        folder: path of the model folder.
        repository: see `check`.
        of_fused: see `check`.
        overwrite: see `check`.
    """
    model = open_model(folder)
    try:
        fused = read_fused(model.manifest.settings, **of_fused)
        names = _module().write_repository(
            model, fused, repository, overwrite=overwrite, say=progress
        )
    finally:
        model.files.close()
    return [repository / name for name in names]


def _module() -> Any:
    """Import what writes repositories.

    Raises:
        BackendError: a package is missing.
    """
    with writing_onnx():
        from ..triton import repository

        return repository
