"""Prepares models to measure: a checkpoint, given or with random weights, and its export."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pnp_ovss.engine.errors import ModelError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.model.manifest import MANIFEST
from pnp_ovss.export import export
from pnp_ovss.export.build import BUILDERS
from pnp_ovss.export.models import blip
from pnp_ovss.export.models.wordpiece import bert

from .prepared import PreparedModel
from .random_models import SEED, SHAPES, random_blip, save_checkpoint

RANDOM = "random:"


def check_name(name: str) -> None:
    """Refuse an unknown shape of random weights.

    Args:
        name: "random:" and a key of `SHAPES`, or any checkpoint.

    Raises:
        ModelError: The name begins with "random:", and the shape is unknown.
    """
    if name.startswith(RANDOM) and name.removeprefix(RANDOM) not in SHAPES:
        known = ", ".join(RANDOM + shape for shape in SHAPES)
        raise ModelError(f"unknown model {name!r}", f"take one of {known}, or a checkpoint")


def prepare(
    name: str, *, image_size: int, device: str, folder: Path, say: Callable[[str], None]
) -> PreparedModel:
    """Make a checkpoint and its export, unless the folder has them already.

    Args:
        name: "random:" and a key of `SHAPES` (see `check_name`), or a checkpoint that
            `pnp_ovss.export.export` takes.
        image_size: Side of the model's square input, in pixels.
        device: Device that the model will run on, "cpu" or "cuda:N".
        folder: Folder for the checkpoint and the export.
        say: Function that is called with a line of text at each step.

    Raises:
        ModelError: The checkpoint cannot be read or exported.
    """
    checkpoint = name
    stem = name.replace(":", "-").replace("/", "--").strip("-.")
    if name.startswith(RANDOM):
        checkpoint = str(folder / f"{stem}-checkpoint")
        if not Path(checkpoint).exists():
            say(f"making {name}")
            shape = SHAPES[name.removeprefix(RANDOM)]
            model = random_blip(shape["vision"], shape["text"], seed=SEED)
            blip.resize(model, (image_size, image_size))
            save_checkpoint(model, bert(), Path(checkpoint))
    target = folder / f"{stem}-{image_size}"
    if not (target / MANIFEST).exists():
        say(f"exporting {name}")
        trained = not name.startswith(RANDOM)
        export(checkpoint, target, image_size=image_size, trained=trained, overwrite=True)
    return PreparedModel(checkpoint, target, device)


def build(
    model: ModelFolder,
    backend: str,
    precision: str,
    *,
    device: str,
    batches: Sequence[int],
    tokens: Sequence[int],
) -> None:
    """Build a model for a backend, unless its folder has that build already.

    Args:
        model: Model folder, which also stores the build.
        backend: Backend that needs a build, a key of `BUILDERS`.
        precision: Precision of the arithmetic, such as "bf16".
        device: Device that the build will run on, "cpu" or "cuda:N".
        batches: Batch sizes that the build serves: images, or captions, in a call.
        tokens: Caption lengths that the build serves, in tokens.

    Raises:
        PnpOvssError: This machine cannot build the model for the backend.
        ImportError: A package that builds for the backend is missing.
    """
    builder = importlib.import_module(f"pnp_ovss.export.build.{BUILDERS[backend]}")
    options: dict[str, Any] = {"batches": list(batches), "tokens": list(tokens)}
    if backend == "aotinductor":  # the others build for the first GPU
        options["device"] = device
    builder.build(model, target=backend, precision=precision, **options)


def identity(name: str, model: PreparedModel) -> dict[str, str]:
    """Identify a model in recorded rows: by its name, and the sha256 of each graph with weights."""
    opened = open_model(model.folder, verify=False)
    digests = {graph: builds.graph_sha256(opened, graph) for graph in ("vision", "salience")}
    return {"name": name, **{f"{graph}_sha256": digest for graph, digest in digests.items()}}
