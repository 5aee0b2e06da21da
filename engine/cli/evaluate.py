"""`pnp-ovss evaluate`: segmentation quality on a data set with masks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from ..errors import BackendError, InputError, writing_to
from ..evaluation.datasets import DATASETS
from ..methods.base import Present
from ..model.folder import open_model
from ..model.hub import ensure_exported
from ..precision import PrecisionChoice
from ..result.files import check_folder, describe, replacing
from ..segmenter import Segmenter
from ..settings import Settings
from .options import NONE, choose_settings, placement_options, settings_options
from .placement import tell
from .segment_files import warn_if_untrained
from .terminal import bar, print_json, progress, say

if TYPE_CHECKING:
    from ..evaluation.datasets.base import Dataset
    from ..evaluation.evaluate import Evaluation

REPORT = "report.json"
_NO_SWEEP_HAS = ("ablation", "passes", "drop_schedule", "drop_mode", "crf", "match_threshold")
_SWEPT_WITH = {"passes": 1, "crf": NONE}

Report = dict[str, Any]
Figures = dict[str, Callable[[Path], None]]
"""File name -> what draws it."""


@dataclass(frozen=True)
class _Job:
    """What to run on what."""

    dataset: Dataset
    images: int
    model: str
    backend: str
    device: str
    precision: PrecisionChoice
    preset: str | None
    given: dict[str, Any]

    def settings(self, recommended: Settings) -> Settings:
        """The data set's own rule about the background stands unless the caller sets another."""
        background = self.given["background"] or self.dataset.background
        return choose_settings(recommended, self.preset, {**self.given, "background": background})

    def described(self) -> Report:
        """For the report."""
        return {"dataset": self.dataset.name, "images": self.images}


@click.command("evaluate")
@click.argument("dataset", type=click.Choice(list(DATASETS)))
@click.option(
    "-m", "--model", default="demo", show_default=True, help="A model folder, a hub id, or 'demo'."
)
@click.option(
    "--present",
    type=click.Choice(get_args(Present)),
    default="given",
    show_default=True,
    help="Name the classes of each image, or the whole vocabulary and keep those that match.",
)
@click.option("--images", type=click.IntRange(1), help="Only so many, from the first.")
@click.option("--ablation", is_flag=True, help="Also take the method apart, stage by stage.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for report.json and figures: confusion matrix, contact sheet; or the sweep.",
)
@settings_options
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Images that go through the model together.",
)
@placement_options
@click.option("--json", "as_json", is_flag=True, help="Print the report on standard output.")
def command(
    dataset: str,
    model: str,
    present: Present,
    images: int | None,
    ablation: bool,
    output: Path | None,
    preset: str | None,
    batch_size: int,
    backend: str,
    device: str,
    precision: PrecisionChoice,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure segmentation quality on DATASET.

    stickers: 500 images of cut-out emoji, with a background. stickers-context: the same, on named
    textures that leave none. They are made on the spot, and only the demo model knows their names.

    A model exported with --all-heads is swept: the mIoU of every layer and head by itself, in one
    pass without a CRF.
    """
    chosen = DATASETS[dataset]
    if images and images > chosen.images:
        raise InputError(f"{images} images", f"{dataset} has {chosen.images}")
    ensure_exported(model, progress)
    all_heads = open_model(model, verify=False).manifest.all_heads
    if all_heads:
        _refuse_what_no_sweep_has({**given, "ablation": ablation}, present)
    if ablation:
        _require("onnx", "the ablation needs")
    if output:
        _require("matplotlib", "figures need")
        output = _output_folder(output.expanduser())

    job = _Job(chosen, images or chosen.images, model, backend, device, precision, preset, given)
    if all_heads:
        report, figures = _swept(job)
    else:
        report, figures = _evaluated(job, present, batch_size, ablation)
    if output:
        _write(output, report, figures)
    if as_json:
        print_json(report)
        return
    for line in _table(report):
        say(line)


def _evaluated(
    job: _Job, present: Present, batch_size: int, ablation: bool
) -> tuple[Report, Figures]:
    """Segment and count."""
    from ..evaluation.evaluate import evaluate

    def run(segmenter: Segmenter, settings: Settings, label: str) -> Evaluation:
        return evaluate(
            segmenter,
            job.dataset,
            settings,
            present=present,
            images=job.images,
            batch_size=batch_size,
            progress=lambda items: bar(items, job.images, label),
        )

    with Segmenter.load(
        job.model, backend=job.backend, device=job.device, precision=job.precision
    ) as segmenter:
        settings = job.settings(segmenter.settings)
        segmenter.check_classes(job.dataset.vocabulary, settings)
        tell(segmenter.placement)
        warn_if_untrained(segmenter)
        whole = run(segmenter, settings, job.dataset.name)
        report: Report = {
            **job.described(),
            "present": present,
            **_scores(whole),
            "per_class": whole.per_class,
            "boundary_per_class": whole.boundary_per_class,
            "per_image": whole.scores.round(6).tolist(),
            "settings": asdict(settings),
            "model": describe(segmenter.model.manifest, segmenter.placement),
        }
        if ablation:
            report |= _ablation(segmenter, job, settings, whole, run)
    return report, {
        "confusion.png": lambda path: _figures().confusion_matrix(whole, path),
        "contact-sheet.png": lambda path: _figures().contact_sheet(whole, path),
    }


def _ablation(
    segmenter: Segmenter,
    job: _Job,
    settings: Settings,
    whole: Evaluation,
    run: Callable[[Segmenter, Settings, str], Evaluation],
) -> Report:
    """The method stage by stage, and its drop modes; `whole` is what `settings` gave."""
    from ..evaluation import ablation

    with (
        ablation.attention_only(segmenter.model) as folder,
        Segmenter.load(folder, backend=job.backend, device=segmenter.device) as bare,
    ):
        known = {(settings, True): _scores(whole)}

        def scores(one: ablation.Variant) -> Report:
            key = (one.settings, one.gradient)
            if key not in known:
                known[key] = _scores(
                    run(segmenter if one.gradient else bare, one.settings, one.name)
                )
            return known[key]

        return {
            key: [{"name": one.name, **scores(one)} for one in variants]
            for key, variants in (
                ("ablation", ablation.stages(settings)),
                ("drop_modes", ablation.drop_modes(settings)),
            )
        }


def _swept(job: _Job) -> tuple[Report, Figures]:
    """Every layer and head by itself."""
    from ..evaluation.sweep import sweep
    from ..methods.pnp_ovss.every_map import open_every_map

    method = open_every_map(
        job.model, backend=job.backend, device=job.device, precision=job.precision
    )
    with closing(method):
        manifest = method.graphs.manifest
        settings = replace(job.settings(manifest.settings), passes=1, crf=None)
        method.encode(job.dataset.vocabulary, settings)
        tell(method.placement)
        found = sweep(
            method,
            job.dataset,
            settings,
            images=job.images,
            progress=lambda items: bar(items, job.images, job.dataset.name),
        )
    report = {
        **job.described(),
        "layers": found.layers,
        "heads": found.heads,
        "miou_per_head": found.miou.round(6).tolist(),
        "settings": asdict(settings),
        "model": describe(manifest, method.placement),
    }
    return report, {"layers-and-heads.png": lambda path: _figures().layers_and_heads(found, path)}


def _refuse_what_no_sweep_has(given: dict[str, Any], present: Present) -> None:
    asked = [
        name
        for name in _NO_SWEEP_HAS
        if given[name] not in (None, False) and given[name] != _SWEPT_WITH.get(name)
    ]
    asked += ["present"] if present == "match" else []
    if asked:
        raise InputError(
            f"--{asked[0].replace('_', '-')} is not for a model exported with --all-heads",
            "leave it out, or export the checkpoint with --layer and --head",
        )


def _output_folder(folder: Path) -> Path:
    """The folder, which can be written to and holds nothing but earlier results.

    Raises:
        InputError: it holds a `report.json` of something else.
        OutputError: it cannot be written to.
    """
    report = folder / REPORT
    if report.exists():
        try:
            ours = "dataset" in msgspec.json.decode(report.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError):
            ours = False
        if not ours:
            raise InputError(
                f"'{report}' is no report of an evaluation", "choose another folder with --output"
            )
    check_folder(folder)
    return folder


def _write(folder: Path, report: Report, figures: Figures) -> None:
    """The report first: should a figure fail, the numbers are there."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    with writing_to(folder, "choose another folder with --output"):
        with replacing({REPORT: folder / REPORT}) as parts:
            parts[REPORT].write_bytes(text)
        with replacing({name: folder / name for name in figures}) as parts:
            for name, draw in figures.items():
                draw(parts[name])


def _figures() -> ModuleType:
    """The module that needs Matplotlib."""
    from ..evaluation import figures

    return figures


def _scores(evaluation: Evaluation) -> Report:
    return {
        "miou": round(evaluation.miou, 6),
        "pixel_accuracy": round(evaluation.pixel_accuracy, 6),
        "boundary_f": round(evaluation.boundary_f, 6),
    }


def _require(package: str, purpose: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise BackendError(
            f"{purpose} {package}: {error}", "pip install 'pnp-ovss[evaluate]'"
        ) from error


def _table(report: Report) -> Iterator[str]:
    """A report in lines to read."""
    yield f"{report['dataset']}, {report['images']} images"
    if "miou_per_head" in report:
        yield "mIoU    " + "".join(f"{f'head {head}':>9}" for head in report["heads"])
        for layer, row in zip(report["layers"], report["miou_per_head"], strict=True):
            yield f"layer {layer:<2}" + "".join(f"{value:9.3f}" for value in row)
        return
    yield f"{'':24}     IoU  boundary F"
    for name, iou in report["per_class"].items():
        if iou is not None:
            yield f"{name:24}{iou:8.3f}{report['boundary_per_class'][name]:12.3f}"
    for key in ("ablation", "drop_modes"):
        if key in report:
            yield ""
            yield f"{key.replace('_', ' '):24}    mIoU    pixels  boundary F"
            yield from map(_row, report[key])
    yield ""
    yield f"{'mIoU':24}{report['miou']:8.3f}"
    yield f"{'pixel accuracy':24}{report['pixel_accuracy']:8.3f}"
    yield f"{'boundary F':24}{report['boundary_f']:8.3f}"


def _row(entry: Report) -> str:
    return (
        f"{entry['name']:24}{entry['miou']:8.3f}{entry['pixel_accuracy']:10.3f}"
        f"{entry['boundary_f']:12.3f}"
    )
