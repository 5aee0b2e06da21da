"""What runs a model, told once a command on standard error."""

from __future__ import annotations

from ..runners.placement import Placement
from .terminal import complain


def tell(placement: Placement) -> None:
    """Say what runs a model in one line, with what was merely absent; warnings follow, with cures.

    Args:
        placement: of the model.
    """
    absent = [one for one in placement.passed_over if one.severity == "note"]
    names = [one.name.removesuffix(f" on {placement.device}") for one in absent]
    listed = ", ".join(f"{name} ({one.reason})" for name, one in zip(names, absent, strict=True))
    complain(f"note: running {placement}" + (listed and f"; passed over: {listed}"))
    for one in placement.passed_over:
        if one.severity == "warning":
            complain(f"warning: passed over {one.name}: {one.reason}", one.cure)
