"""Models to measure: a checkpoint, or the shape of one with random weights; and its export."""

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
    """Refuse the name of a shape that there is none of.

    Raises:
        ModelError: there is no such shape.
    """
    if name.startswith(RANDOM) and name.removeprefix(RANDOM) not in SHAPES:
        known = ", ".join(RANDOM + shape for shape in SHAPES)
        raise ModelError(f"unknown model {name!r}", f"there are: {known}, or name a checkpoint")


def prepare(
    name: str, *, image_size: int, device: str, folder: Path, say: Callable[[str], None]
) -> PreparedModel:
    """A checkpoint and its export, made in a folder unless they are there.

    Args:
        name: "random:" and a key of `SHAPES`, which `check_name` sees to, or a checkpoint as for
            `export`.
        image_size: S.
        device: where it will run.
        folder: for what is made.
        say: is told of each step.

    Raises:
        ModelError: the checkpoint cannot be used.
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
    """Build what a backend runs, in the model's folder, unless it is there.

    Args:
        model: the model folder.
        backend: a key of `BUILDERS`.
        precision: of the arithmetic.
        device: that it is to run on.
        batches: pictures, or captions, in a call.
        tokens: of a caption.

    Raises:
        PnpOvssError: it cannot be built here.
        ImportError: a package is missing that builds it.
    """
    builder = importlib.import_module(f"pnp_ovss.export.build.{BUILDERS[backend]}")
    options: dict[str, Any] = {"batches": list(batches), "tokens": list(tokens)}
    if backend == "aotinductor":  # the others build for the first GPU
        options["device"] = device
    builder.build(model, target=backend, precision=precision, **options)


def identity(name: str, model: PreparedModel) -> dict[str, str]:
    """The model in a row of results: its name, and sha256 of graphs and weights."""
    opened = open_model(model.folder, verify=False)
    digests = {graph: builds.graph_sha256(opened, graph) for graph in ("vision", "salience")}
    return {"name": name, **{f"{graph}_sha256": digest for graph, digest in digests.items()}}
