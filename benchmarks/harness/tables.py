"""Tables and plots of whole segmenters, and the README's copy of the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pnp_ovss.engine.errors import InputError

from ..contenders.base import PIXELS
from .records import Rows, describe

STAGES = (
    "decode",
    "preprocess",
    "vision",
    "salience",
    "match of each class",
    "between passes",
    "refine",
    "crf",
    "write",
    "other",
)
_SHOWN = {"vision", "salience", "refine", "crf"}  # have columns of their own


def heading(row: dict[str, Any]) -> str:
    """What was measured, on what, and the command that repeats it."""
    case, model = row["case"], row["model"]
    weights = " (that shape, random weights)" if model["name"].startswith("random:") else ""
    return (
        f"{model['name'].removeprefix('random:')}{weights}, {case['image_size']} px, on"
        f" {case['device']}; a picture of {case['width']}x{case['height']},"
        f" {len(case['classes'])} classes, K = {case['passes']}, preset `paper`.\n\n"
        f"{describe(row['machine'])}\n\n`{row['command']}`"
    )


def end_to_end(rows: Rows) -> str:
    """The rows of `end_to_end` as Markdown, device by device."""
    return "\n\n".join(_on_device(own) for own in _by_device(rows).values())


def _by_device(rows: Rows) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["case"]["device"] if "case" in row else row["device"], []).append(row)
    return found


def _on_device(rows: Rows) -> str:
    timed = [row for row in rows if "median_s" in row]
    if not timed:
        return _skipped(rows)
    clock = f"The clock: {timed[0]['contract']}. Median (5th to 95th percentile) of"
    clock += (
        f" {timed[0]['rounds']} rounds; in brackets after a ratio, where its median lies by 95 %"
    )
    clock += " of a bootstrap."
    parts = [heading(timed[0]), clock, _times(timed), _of_crf(timed), _skipped(rows)]
    return "\n\n".join(filter(None, parts))


def _of_crf(timed: Rows) -> str:
    """Whether PyTorch's contenders ran another CRF than their users would."""
    own = [row for row in timed if row.get("read_back", {}).get("crf") == "densecrf"]
    if not own:
        return ""
    names = ", ".join(row["contender"] for row in own)
    return (
        f"{names}: with this package's own CRF, as pydensecrf2 cannot be imported here. It"
        " takes a quarter of the time, so the ratios are smaller than they would be."
    )


def _times(timed: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| contender | a picture, s | times `released` | times `lean` | vision, s | salience, s"
        " | refine, CRF, s | the rest, s | peak MiB | loaded, s | maps off by | same labels |",
        "|---|" + "---:|" * 11,
    ]
    for row in timed:
        own = row["stages"]
        rest = sum(seconds for name, seconds in own.items() if name not in _SHOWN)
        lines.append(
            f"| {row['contender']}{'' if row['drop_mode'] == PIXELS else ' *'}"
            f" | {row['median_s']:.3g} ({row['p05_s']:.3g} to {row['p95_s']:.3g})"
            f" | {_ratio(row, 'released')} | {_ratio(row, 'lean')}"
            f" | {own.get('vision', 0):.3f} | {own.get('salience', 0):.3f}"
            f" | {own.get('refine', 0) + own.get('crf', 0):.3f} | {rest:.3f}"
            f" | {row['peak_memory_mib']:.0f} | {row['load_s']:.1f}"
            f" | {or_dash(row['maps_error'], '.0e')} | {or_dash(row['same_labels'], '.4f')} |"
        )
    if any(row["drop_mode"] != PIXELS for row in timed):
        lines += ["", "\\* another way of dropping patches than the paper's: another result."]
    return "\n".join(lines)


def _ratio(row: dict[str, Any], other: str) -> str:
    ratio, interval = row[f"ratio_to_{other}"], row[f"ratio_to_{other}_interval"]
    if ratio is None:
        return "-"
    return f"{ratio:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def or_dash(value: float | None, style: str) -> str:
    """A number, if there is one."""
    return "-" if value is None else format(value, style)


def _skipped(rows: Rows) -> str:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if "skipped" in row:
            reasons.setdefault(row["skipped"], []).append(row["contender"])
    lines = [f"- {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "\n".join(["Not timed:", "", *lines]) if lines else ""


def stages(rows: Rows) -> str:
    """The stages of each contender as Markdown."""
    timed = [row for row in rows if "stages" in row]
    if not timed:
        return _skipped(rows)
    there = [name for name in STAGES if any(row["stages"].get(name, 0) > 5e-4 for row in timed)]
    lines = [
        "| contender | " + " | ".join(f"{name}, ms" for name in there) + " | together, ms |",
        "|---|" + "---:|" * (len(there) + 1),
    ]
    for row in timed:
        own = [1000 * row["stages"].get(name, 0) for name in there]
        together = 1000 * sum(row["stages"].values())
        lines.append(
            f"| {row['contender']} | "
            + " | ".join(f"{one:.0f}" for one in own)
            + f" | {together:.0f} |"
        )
    note = (
        "Vision and salience are those of all K passes; PyTorch's back-propagation counts to the"
        " salience, through the image encoder too in `released`. Only the engine scores each class."
    )
    parts = [heading(timed[0]), "\n".join(lines), note, _of_crf(timed), _skipped(rows)]
    return "\n\n".join(filter(None, parts))


def draw_stages(rows: Rows, output: Path) -> None:
    """Stacked bars, PNG: the time of each stage of each contender."""
    timed = [row for row in rows if "stages" in row]
    figure = Figure(figsize=(9, 1.2 + 0.34 * max(1, len(timed))), layout="constrained")
    axes = figure.subplots()
    several = len({row["case"]["device"] for row in timed}) > 1
    names = [
        f"{row['contender']}, {row['case']['device']}" if several else row["contender"]
        for row in timed
    ]
    left = np.zeros(len(timed))
    for number, stage in enumerate(STAGES):
        seconds = np.array([row["stages"].get(stage, 0) for row in timed])
        if seconds.max(initial=0) > 0:
            axes.barh(names, seconds, left=left, label=stage, color=f"C{number}")
            left += seconds
    axes.invert_yaxis()
    axes.set(xlabel="seconds a picture")
    for name, whole in zip(names, left, strict=True):
        axes.annotate(f" {whole:.2f}", (whole, name), va="center", fontsize=8)
    axes.margins(x=0.08)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(output, dpi=110)


def insert(text: str, name: str, table: str) -> str:
    """A document with a table in its place, between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        InputError: the document has no such place.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(first)
    _, closed, after = rest.partition(last)
    if not (found and closed):
        raise InputError(f"there is no place {first} ... {last}", "put both where the table goes")
    return f"{before}{first}\n\n{table}\n\n{last}{after}"


def summary(rows: Rows) -> str:
    """Short tables for the README: what it runs on, seconds, ratios, memory."""
    parts = []
    for own in _by_device(rows).values():
        timed = [row for row in own if "median_s" in row]
        lines = [
            "| | seconds a picture | times `released` | times `lean` | peak memory |",
            "|---|---:|---:|---:|---:|",
            *(
                f"| {row['contender']} | {row['median_s']:.2f}"
                f" | {_plain(row['ratio_to_released'])} | {_plain(row['ratio_to_lean'])}"
                f" | {row['peak_memory_mib'] / 1024:.1f} GiB |"
                for row in timed
            ),
        ]
        parts += [heading(timed[0]), "\n".join(lines), _of_crf(timed)] if timed else []
    return "\n\n".join(filter(None, parts))


def _plain(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}"
