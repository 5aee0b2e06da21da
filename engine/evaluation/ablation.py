"""Take the method apart, as in the paper's table of ablations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..errors import BackendError
from ..precision import PrecisionChoice
from ..segmenter import Segmenter
from ..settings import CHOICES, Settings
from .evaluate import Evaluation, Progress, evaluate, silent
from .extra import require


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: what the row adds to the row above, or how it differs.
        settings: settings in force.
        gradient: whether salience is attention times gradient, or attention alone.
    """

    name: str
    settings: Settings
    gradient: bool = True


@dataclass(frozen=True, eq=False)
class Ablation:
    """Evaluations of the variants of a method.

    Attributes:
        stages: evaluation of each variant of `stages`.
        drop_modes: evaluation of each variant of `drop_modes`.
    """

    stages: list[tuple[Variant, Evaluation]]
    drop_modes: list[tuple[Variant, Evaluation]]


def ablate(
    whole: Evaluation,
    segmenter: Segmenter,
    *,
    backend: str = "auto",
    precision: PrecisionChoice = "auto",
    batch_size: int = 8,
    progress: Progress = silent,
) -> Ablation:
    """Take the method apart: evaluate it stage by stage, and with each drop mode.

    Args:
        whole: evaluation with all stages; its images are segmented again with other settings.
        segmenter: model of that evaluation.
        backend: backend for the model without its gradient; see `Segmenter.load`.
        precision: precision of the same.
        batch_size: number of images that go through the model together.
        progress: shows how far each variant is.

    Raises:
        BackendError: onnx is not installed, or the backend or precision cannot be had without a
            build, of which the model without its gradient has none.
        ModelError: the gradient cannot be left out of the model.
        OutputError: the temporary copy of the model cannot be written.
    """
    done = {(whole.settings, True): whole}
    with _attention_alone(segmenter, backend, precision) as bare:

        def run(variant: Variant) -> tuple[Variant, Evaluation]:
            key = (variant.settings, variant.gradient)
            if key not in done:
                done[key] = evaluate(
                    segmenter if variant.gradient else bare,
                    whole.dataset,
                    variant.settings,
                    present=whole.present,
                    images=sorted(whole.scores),
                    batch_size=batch_size,
                    progress=lambda items, length, label: progress(items, length, variant.name),
                )
            return variant, done[key]

        return Ablation(
            [run(variant) for variant in stages(whole.settings)],
            [run(variant) for variant in drop_modes(whole.settings)],
        )


def check_ablation(segmenter: Segmenter, *, backend: str, precision: PrecisionChoice) -> None:
    """Check, before any image is segmented, that `ablate` can load what it needs; see there."""
    with _attention_alone(segmenter, backend, precision):
        pass


@contextmanager
def _attention_alone(
    segmenter: Segmenter, backend: str, precision: PrecisionChoice
) -> Iterator[Segmenter]:
    """Load a model without its gradient, on the same device; see `ablate` for the errors."""
    require("onnx", "the ablation needs")
    from .attention import attention_only

    with attention_only(segmenter.model) as folder:
        try:
            bare = Segmenter.load(
                folder,
                backend=backend,
                device=segmenter.device,
                precision=precision,
                threads=segmenter.threads,
            )
        except BackendError as error:
            raise BackendError(
                "the ablation also runs the model without its gradient, of which there are no"
                f" builds: {error.cause}",
                "take --device cpu and --precision fp32, and --backend onnxruntime or openvino",
            ) from error
        with bare:
            yield bare


def stages(settings: Settings) -> list[Variant]:
    """List the method's stages, from bare attention to all of the settings.

    Settings without Salience DropOut are the last row, after a row that has it.
    """
    passes = _several_passes(settings)
    bare = replace(settings, passes=1, blur=0.0, crf=None)
    dropping = replace(bare, passes=passes)
    blurred = replace(dropping, blur=settings.blur)
    whole = replace(settings, passes=passes)
    variants = [
        Variant("attention only", bare, gradient=False),
        Variant("+ GradCAM", bare),
        Variant("+ Salience DropOut", dropping),
        Variant("+ blur", blurred),
    ]
    if settings.crf:
        variants.append(Variant("+ dense CRF", whole))
    if settings != whole:
        variants.append(Variant("- Salience DropOut", settings))
    return variants


def drop_modes(settings: Settings) -> list[Variant]:
    """List the drop modes; settings of one pass, which drops nothing, get several passes."""
    passes = _several_passes(settings)
    return [
        Variant(f"drop mode {mode!r}", replace(settings, passes=passes, drop_mode=mode))
        for mode in CHOICES["drop_mode"]
    ]


def _several_passes(settings: Settings) -> int:
    return settings.passes if settings.passes > 1 else Settings().passes
