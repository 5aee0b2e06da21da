"""Lists the families of checkpoints that can be exported."""

from __future__ import annotations

from ...engine.errors import ModelError
from . import blip
from .base import CheckpointFiles, Family

FAMILIES: list[Family] = [blip]


def family_of(files: CheckpointFiles) -> Family:
    """Return the family of a checkpoint.

    Raises:
        ModelError: the checkpoint is of no known family.
    """
    for family in FAMILIES:
        if family.recognises(files):
            return family
    kind = files.config.get("model_type")
    content = f"holds a {kind!r} model" if files.config else "has weights of no known model"
    raise ModelError(
        f"'{files.path}' {content}",
        f"families that can be exported: {', '.join(family.name for family in FAMILIES)}",
    )
