"""Parts of Markdown tables that several measures share."""

from __future__ import annotations

from typing import Any

from .records import Rows, describe


def heading(row: dict[str, Any]) -> str:
    """Heading of a table: what was measured, on what, and the command that repeats it."""
    case, model = row["case"], row["model"]
    weights = " (that shape, random weights)" if model["name"].startswith("random:") else ""
    return (
        f"{model['name'].removeprefix('random:')}{weights}, {case['image_size']} px, on"
        f" {case['device']}; a picture of {case['width']}x{case['height']},"
        f" {len(case['classes'])} classes, K = {case['passes']}, preset `paper`.\n\n"
        f"{describe(row['machine'])}\n\n`{row['command']}`"
    )


def or_dash(value: float | None, style: str) -> str:
    """A number, if there is one."""
    return "-" if value is None else format(value, style)


def not_timed(rows: Rows) -> str:
    """List what was skipped, reason by reason; empty where nothing was."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if "skipped" in row:
            reasons.setdefault(row["skipped"], []).append(row["contender"])
    lines = [f"- {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "\n".join(["Not timed:", "", *lines]) if lines else ""


def note_on_crf(timed: Rows) -> str:
    """Say whose CRF was not pydensecrf2; empty where all of PyTorch's contenders had that."""
    own = [row for row in timed if row.get("read_back", {}).get("crf") == "densecrf"]
    if not own:
        return ""
    names = ", ".join(row["contender"] for row in own)
    return (
        f"{names}: with this package's own CRF, as pydensecrf2 cannot be imported here. It"
        " takes a quarter of the time, so the ratios are smaller than they would be."
    )
