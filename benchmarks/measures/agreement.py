"""What a device makes of the demo model, against the CPU in fp32: the sample pictures, to labels.

There is no clock in it. The CPU runs ONNX Runtime in fp32 and the CRF in C++; the device runs each
contender, and the CRF too. The settings are the demo model's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.cli.demo import samples
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import DEMO, find_model, open_model
from pnp_ovss.engine.model.signature import CAPTION_LENGTHS
from pnp_ovss.export.build import BUILDERS
from pnp_ovss.export.validate import relative_error

from ..contenders.base import LIMITS, Skipped, SkippedError, skipped_if_it_fails
from ..harness.models import build
from ..harness.records import Rows, describe

LABELS_LIMIT = 1e-3  # of a picture's pixels, in fp32


class AgreementRow(msgspec.Struct, frozen=True, kw_only=True):
    """A contender on a picture, against the CPU.

    Attributes:
        contender: backend and precision.
        device: that it ran on.
        picture: its file's name.
        maps_error: largest difference of the class maps, relative to their largest value.
        other_labels: part of the pixels with another label, after the CRF.
        other_labels_without_crf: likewise, of the refined maps.
        machine: processor, versions.
        command: that repeats it.
    """

    contender: str
    device: str
    picture: str
    maps_error: float
    other_labels: float
    other_labels_without_crf: float
    machine: dict[str, Any]
    command: str

    @property
    def is_off(self) -> bool:
        """Whether it is in fp32 and does not agree; in lower precisions no limit is set."""
        labels = max(self.other_labels, self.other_labels_without_crf)
        agrees = self.maps_error <= LIMITS["fp32"] and labels <= LABELS_LIMIT
        return self.contender.endswith("-fp32") and not agrees


class _SampleResult(NamedTuple):
    """What comes of a sample picture, in a run with the CRF and another one without.

    Attributes:
        maps: class maps of the first run, float32 [C, gh, gw].
        maps_again: those of the second.
        labels: of the first, uint16 [H, W].
        labels_without_crf: of the second.
    """

    maps: np.ndarray
    maps_again: np.ndarray
    labels: np.ndarray
    labels_without_crf: np.ndarray


def measure(
    names: Sequence[str],
    *,
    device: str,
    folder: Path,
    build_first: bool,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[AgreementRow | Skipped]:
    """A row for each contender and sample picture.

    Args:
        names: of `registry.ENGINE_SEGMENTERS`.
        device: "cpu" or "cuda:N".
        folder: for a copy of the demo model beside which builds lie, or are made. Where there is
            no copy and nothing is built, those of the user's cache are taken.
        build_first: build what a contender runs, unless it is there.
        about: fields of every row.
        say: is told of each step.
    """
    copy = folder / DEMO
    if build_first and not copy.exists():
        shutil.copytree(find_model(DEMO), copy)
    model = copy if copy.exists() else DEMO
    say("the CPU in fp32")
    wanted = _segment_samples(model, "onnxruntime", "cpu", "fp32")
    for name in names:
        backend, _, precision = name.rpartition("-")
        try:
            with skipped_if_it_fails():
                if build_first and backend in BUILDERS:
                    say(f"building {name}")
                    build(
                        open_model(model),
                        backend,
                        precision,
                        device=device,
                        batches=builds.BATCHES,
                        tokens=CAPTION_LENGTHS,
                    )
                say(f"{name} on {device}")
                found = _segment_samples(model, backend, device, precision)
        except SkippedError as error:
            yield Skipped(name, device, str(error), failed=error.failed)
            continue
        for (path, _), own, other in zip(samples(), found, wanted, strict=True):
            yield AgreementRow(
                contender=name,
                device=device,
                picture=path.name,
                maps_error=max(
                    relative_error(own.maps, other.maps),
                    relative_error(own.maps_again, other.maps),
                ),
                other_labels=_other(own.labels, other.labels),
                other_labels_without_crf=_other(own.labels_without_crf, other.labels_without_crf),
                **about,
            )


def _segment_samples(
    model: str | Path, backend: str, device: str, precision: Any
) -> list[_SampleResult]:
    with Segmenter.load(model, backend=backend, device=device, precision=precision) as segmenter:
        settings = segmenter.settings
        results = []
        for path, classes in samples():
            # Twice: a GPU may replay the second time what it recorded.
            whole, bare = (
                segmenter.segment(path, classes, settings=replace(settings, crf=crf))
                for crf in ("densecrf", None)
            )
            results.append(
                _SampleResult(whole.class_maps, bare.class_maps, whole.labels, bare.labels)
            )
    return results


def _other(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean(found != wanted))


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    compared = [row for row in rows if "maps_error" in row]
    skipped = [f"- {row['contender']}: {row['skipped']}" for row in rows if "skipped" in row]
    parts = []
    if compared:
        about = compared[0]
        lines = [
            "| contender | device | picture | maps off by | other labels | without CRF |",
            "|---|---|---|---:|---:|---:|",
            *(
                f"| {row['contender']} | {row['device']} | {row['picture']}"
                f" | {row['maps_error']:.1e} | {100 * row['other_labels']:.3f} %"
                f" | {100 * row['other_labels_without_crf']:.3f} % |"
                for row in compared
            ),
        ]
        parts = [
            f"{describe(about['machine'])}\n\n`{about['command']}`",
            "The demo model on the sample pictures, against ONNX Runtime in fp32 and the CRF on the"
            " CPU.",
            "\n".join(lines),
        ]
    if skipped:
        parts.append("\n".join(["Not compared:", "", *skipped]))
    return "\n\n".join(parts)
