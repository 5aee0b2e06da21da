"""The families of checkpoints that can be exported."""

from __future__ import annotations

from ...engine.errors import ModelError
from . import blip
from .base import CheckpointFiles, Family

FAMILIES: list[Family] = [blip]


def family_of(files: CheckpointFiles) -> Family:
    """The family of a checkpoint.

    Raises:
        ModelError: it is of none that is known.
    """
    for family in FAMILIES:
        if family.recognises(files):
            return family
    kind = files.config.get("model_type")
    what = f"holds a {kind!r} model" if files.config else "has weights of no known model"
    raise ModelError(
        f"'{files.path}' {what}",
        f"families that can be exported: {', '.join(family.name for family in FAMILIES)}",
    )
