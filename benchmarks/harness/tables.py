"""Writes the parts of Markdown tables that several measures share."""

from __future__ import annotations

from typing import Any

from .records import Rows, describe


def heading(row: dict[str, Any]) -> str:
    """Write the heading of a table: model, device, image, machine and command."""
    case, model = row["case"], row["model"]
    weights = " (that shape, random weights)" if model["name"].startswith("random:") else ""
    return (
        f"{model['name'].removeprefix('random:')}{weights}, {case['image_size']} px, on"
        f" {case['device']}; an image of {case['width']}x{case['height']},"
        f" {len(case['classes'])} classes, K = {case['passes']}, preset `paper`.\n\n"
        f"{describe(row['machine'])}\n\n`{row['command']}`"
    )


def or_dash(value: float | None, style: str) -> str:
    """Format a number, or a dash for None."""
    return "-" if value is None else format(value, style)


def not_timed(rows: Rows) -> str:
    """List the contenders that were skipped, by reason; an empty string if none was."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if "skipped" in row:
            reasons.setdefault(row["skipped"], []).append(row["contender"])
    lines = [f"- {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "\n".join(["Not timed:", "", *lines]) if lines else ""


def note_on_crf(timed: Rows) -> str:
    """Name the contenders of PyTorch that ran without pydensecrf2; an empty string if none did."""
    without = [row for row in timed if row.get("read_back", {}).get("crf") == "densecrf"]
    if not without:
        return ""
    names = ", ".join(row["contender"] for row in without)
    return (
        f"{names}: with the CRF of this package, as pydensecrf2 cannot be imported here. It"
        " takes a quarter of the time, so the ratios are smaller than they would be."
    )
