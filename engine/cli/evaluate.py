"""`pnp-ovss evaluate`: segmentation quality on a data set with masks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import click

from ..errors import InputError
from ..evaluation import DATASETS, ablate, evaluate, report, sweep, table, write
from ..evaluation.ablation import check_ablation
from ..evaluation.report import check_output
from ..methods.base import Present
from ..methods.pnp_ovss.every_map import open_every_map
from ..model.folder import open_model
from ..model.hub import ensure_exported
from ..precision import PrecisionChoice
from ..segmenter import Segmenter
from .options import NONE, choose_settings, placement_options, settings_options
from .placement import tell
from .segment_files import warn_if_untrained
from .terminal import bar, print_json, progress, say

_NO_SWEEP_HAS = ("ablation", "passes", "drop_schedule", "drop_mode", "crf", "match_threshold")
_SWEPT_WITH = {"passes": 1, "crf": NONE}


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
@click.option(
    "--images", "--pictures", type=click.IntRange(1), help="Only so many, from the first."
)
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
    threads: int | None,
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
    chosen.indices(images)  # refuses more than there are
    ensure_exported(model, progress)
    manifest = open_model(model, verify=False).manifest
    if manifest.all_heads:
        _refuse_what_no_sweep_has({**given, "ablation": ablation}, present)
    if output:
        check_output(output)

    given["background"] = given["background"] or chosen.background
    settings = choose_settings(manifest.settings, preset, given)
    parts = None
    how: dict[str, Any] = {"backend": backend, "precision": precision}
    placement = {**how, "device": device, "threads": threads}
    if manifest.all_heads:
        with closing(open_every_map(model, **placement)) as method:
            tell(method.placement)
            result = sweep(method, chosen, settings, images=images, progress=bar)
    else:
        run: dict[str, Any] = {"batch_size": batch_size, "progress": bar}
        with Segmenter.load(model, **placement) as segmenter:
            tell(segmenter.placement)
            warn_if_untrained(segmenter)
            if ablation:
                check_ablation(segmenter, **how)
            keep = output is not None
            result = evaluate(
                segmenter, chosen, settings, present=present, images=images, keep_labels=keep, **run
            )
            if ablation:
                parts = ablate(result, segmenter, **how, **run)
    told = report(result, parts)
    if output:
        write(output, result, told)
    if as_json:
        print_json(told)
        return
    for line in table(told):
        say(line)


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
