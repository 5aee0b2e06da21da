"""Report an evaluation as JSON, as lines to read, and in a folder with figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError, writing_to
from ..json_text import decode_json, indented_json
from ..paths import expanded
from ..result.files import check_folder, replacing
from .ablation import Ablation
from .evaluate import Evaluation
from .extra import require
from .metrics import rounded
from .sweep import Sweep

REPORT = "report.json"

Report = dict[str, Any]
Figures = dict[str, Callable[[Path], None]]
"""Function that draws each figure, by its file name."""

_CURE = "choose another folder with --output"


def report(result: Evaluation | Sweep, ablation: Ablation | None = None) -> Report:
    """Tell a result in numbers, strings, lists and dicts, ready for JSON; None for no number.

    Args:
        result: what `evaluate` or `sweep` returned.
        ablation: what `ablate` returned for the evaluation.
    """
    if isinstance(result, Sweep):
        return {
            "dataset": result.dataset.name,
            "images": result.images,
            "layers": result.layers,
            "heads": result.heads,
            "miou_per_head": [[rounded(value) for value in row] for row in result.miou],
            "settings": asdict(result.settings),
            "model": result.model,
        }
    told = {
        "dataset": result.dataset.name,
        "images": len(result.scores),
        "present": result.present,
        **_scores(result),
        "per_class": result.per_class,
        "boundary_per_class": result.boundary_per_class,
        "per_image": [rounded(score) for _, score in sorted(result.scores.items())],
        "settings": asdict(result.settings),
        "model": result.model,
    }
    if ablation:
        for key, rows in (("ablation", ablation.stages), ("drop_modes", ablation.drop_modes)):
            told[key] = [
                {"name": variant.name, **_scores(one), **_placement(one)} for variant, one in rows
            ]
    return told


def table(report: Report) -> Iterator[str]:
    """Write a report in lines to read."""
    yield f"{report['dataset']}, {report['images']} images"
    if "miou_per_head" in report:
        yield "mIoU    " + "".join(f"{f'head {head}':>9}" for head in report["heads"])
        for layer, row in zip(report["layers"], report["miou_per_head"], strict=True):
            yield f"layer {layer:<2}" + "".join(_cell(value, 9) for value in row)
        return
    yield f"{'':24}     IoU  boundary F"
    for name, iou in report["per_class"].items():
        if iou is not None:
            yield f"{name:24}{_cell(iou, 8)}{_cell(report['boundary_per_class'][name], 12)}"
    for key in ("ablation", "drop_modes"):
        if key in report:
            yield ""
            yield f"{key.replace('_', ' '):24}    mIoU    pixels  boundary F"
            yield from map(_row, report[key])
    yield ""
    yield f"{'mIoU':24}{_cell(report['miou'], 8)}"
    yield f"{'pixel accuracy':24}{_cell(report['pixel_accuracy'], 8)}"
    yield f"{'boundary F':24}{_cell(report['boundary_f'], 8)}"


def check_output(folder: str | Path) -> None:
    """Make the folder, and find out whether `write` can write there.

    Raises:
        BackendError: Matplotlib is not installed, which draws the figures.
        InputError: it holds a `report.json` of something else.
        OutputError: it cannot be written to.
    """
    require("matplotlib", "figures need")
    folder = expanded(folder)
    path = folder / REPORT
    if path.exists():
        try:
            ours = path.is_file() and "dataset" in decode_json(path.read_bytes(), Report)
        except (OSError, ValueError):
            ours = False
        if not ours:
            raise InputError(f"'{path}' is no report of an evaluation", _CURE)
    check_folder(folder)


def write(folder: str | Path, result: Evaluation | Sweep, report: Report) -> None:
    """Write `report.json` and the figures of a result into a folder.

    The report is written first: should a figure fail, the numbers are there. The contact sheet is
    drawn where label maps were kept.

    Args:
        folder: folder to write to, made if need be.
        result: what `evaluate` or `sweep` returned.
        report: what `report` told of it.

    Raises:
        BackendError, InputError, OutputError: as `check_output`.
    """
    folder = expanded(folder)
    check_output(folder)
    from .figures import figures

    with writing_to(folder, _CURE):
        with replacing({REPORT: folder / REPORT}) as parts:
            parts[REPORT].write_bytes(indented_json(report))
        drawn = figures(result)
        with replacing({name: folder / name for name in drawn}) as parts:
            for name, draw in drawn.items():
                draw(parts[name])


def _scores(evaluation: Evaluation) -> Report:
    return {
        "miou": rounded(evaluation.miou),
        "pixel_accuracy": rounded(evaluation.pixel_accuracy),
        "boundary_f": rounded(evaluation.boundary_f),
    }


def _placement(evaluation: Evaluation) -> Report:
    """Tell what ran a variant, as a model without its gradient may run elsewhere."""
    model = evaluation.model
    return {key: model.get(key) for key in ("device", "backend", "precision")}


def _row(entry: Report) -> str:
    return (
        f"{entry['name']:24}{_cell(entry['miou'], 8)}{_cell(entry['pixel_accuracy'], 10)}"
        f"{_cell(entry['boundary_f'], 12)}"
    )


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.3f}"
