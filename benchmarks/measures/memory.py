"""Calculate on the CPU the memory that the engine takes on a GPU.

It has three parts, each checked against what is allocated on the CPU. For a graph, the live tensors
are counted node by node; what the process of ONNX Runtime grows by is recorded next to it. For a
batch, the sizes of its arrays are summed up. For refinement, arrays are counted while the engine's
code runs on arrays without memory. Tests hold the last two to what NumPy allocates.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from PIL import Image

from pnp_ovss.engine.methods.pnp_ovss.graphs import MAX_CAPTIONS
from pnp_ovss.engine.model.builds import BATCHES
from pnp_ovss.engine.model.manifest import Preprocess
from pnp_ovss.engine.model.signature import CAPTION_LENGTHS, Profile, Signature
from pnp_ovss.export.graphs import builder
from pnp_ovss.export.graphs.precision import convert
from pnp_ovss.export.models import blip

from ..harness.random_models import SEED, SHAPES, random_blip
from ..harness.records import Rows, describe
from ..harness.resident import resident_growth
from .live_tensors import graph_memory
from .refinement_memory import lattice_vertices, refinement_memory

NOTE = (
    "Calculated, not measured: no GPU was at hand. Weights; of each graph, the tensors alive"
    " at once, its nodes run in order and none fused or in place (a backend that fuses takes less);"
    " the arrays of a batch during its passes; those of the refinement. What a CUDA context, the"
    " workspaces of cuDNN, cuBLAS and TensorRT, CUDA graphs, and blocks that CuPy's pool cannot"
    " reuse add is not known: leave a margin for it."
)

IMAGE_SIZES = ((640, 480), (1632, 1224), (3264, 2448), (8160, 6120))
LABELS = (3, 21)

_LONGEST, _SHORTEST = max(CAPTION_LENGTHS), min(CAPTION_LENGTHS)


def measure(
    models: Sequence[str],
    image_size: int,
    checked: Sequence[str],
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Measure the rows of graphs, of the arrays of batches, and of images that are refined.

    Args:
        models: keys of `SHAPES`.
        image_size: S.
        checked: the models whose graphs ONNX Runtime runs, too.
        about: fields of every row.
        say: is told of each step.
    """
    for name in models:
        for row in _of_model(name, image_size, name in checked, say):
            yield {"model": name, "image_size": image_size, **row, **about}
    for content, image in _contents().items():
        vertices = lattice_vertices(image)
        for width, height in IMAGE_SIZES:
            say(f"refining {width}x{height} pixels of {content}")
            grown = width * height / (image.width * image.height)
            scaled = {dimensions: int(count * grown) for dimensions, count in vertices.items()}
            for labels in LABELS:
                yield {
                    "what": "refinement",
                    "content": content,
                    "width": width,
                    "height": height,
                    "labels": labels,
                    "vertices": scaled,
                    "bytes": refinement_memory(width, height, labels, scaled),
                    **about,
                }


def _of_model(
    name: str, image_size: int, checked: bool, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    say(f"making {name}")
    model = random_blip(SHAPES[name]["vision"], SHAPES[name]["text"], seed=SEED)
    blip.resize(model, (image_size, image_size))
    graphs = blip.graphs(model, blip.known_best(model))
    for graph, calls in _calls().items():
        say(f"walking {graph} of {name}")
        made, roles = graphs[graph].model, dict(graphs[graph].roles)
        inputs, outputs = builder.signature(made)
        signature = Signature(inputs=inputs, outputs=outputs, roles=roles)
        low = convert(made, "bf16")  # of fp16, whose bytes are as many, weights would be read
        grown = _grown(made, signature, calls) if checked else {}
        for index, sizes in enumerate(calls):
            for precision, one in (("fp32", made), ("fp16, bf16", low)):
                row = {"what": "graph", "graph": graph, "sizes": sizes, "precision": precision}
                row |= graph_memory(one, signature, sizes)._asdict()
                if precision == "fp32":  # ONNX Runtime has no other
                    row |= {name: every[index] for name, every in grown.items()}
                yield row
    vision: Any = model.config.vision_config
    for batch in BATCHES:
        arrays = batch_memory(blip.preprocess(model), vision.hidden_size, batch, _LONGEST)
        yield {"what": "batch", "batch": batch, "bytes": arrays}


def _grown(made: ir.Model, signature: Signature, calls: list[Profile]) -> dict[str, list[int]]:
    """What ONNX Runtime takes for each call: freeing tensors that are dead, and reusing them."""
    with tempfile.TemporaryDirectory() as folder:
        path, _ = builder.save(made, Path(folder) / "graph.onnx")
        return {
            name: resident_growth(path, signature, calls, reuse=reuse)
            for name, reuse in (("onnxruntime", False), ("onnxruntime_reusing", True))
        }


def _calls() -> dict[str, list[Profile]]:
    """The sizes in which each graph is called.

    Of the matching branch: the captions of a batch, as long as they come, and those by which the
    classes of one image are scored.
    """
    scoring = {"batch": MAX_CAPTIONS, "images": 1, "tokens": _SHORTEST}
    captions = [
        {"batch": batch, "images": batch, "tokens": tokens}
        for batch in BATCHES
        for tokens in CAPTION_LENGTHS
    ]
    return {"vision": [{"batch": one} for one in BATCHES], "salience": [*captions, scoring]}


def _contents() -> dict[str, Image.Image]:
    """An image with few vertices a pixel, and one with the most."""
    sample = resources.files("pnp_ovss.engine") / "data" / "samples" / "beach.jpg"
    with Image.open(str(sample)) as image:
        photograph = image.convert("RGB")
    shape = (photograph.height, photograph.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return {"a photograph": photograph, "noise": Image.fromarray(noise)}


def batch_memory(preprocess: Preprocess, width: int, batch: int, tokens: int) -> int:
    """Count the most bytes of a batch's arrays during its passes, those of the graphs apart.

    Images as they come, normalized and with patches left out; image embeddings of the first pass,
    of the last and of this one; salience of both, and their sum.

    Args:
        preprocess: of the model.
        width: of image embeddings.
        batch: images, with a caption each.
        tokens: of a caption.
    """
    pixels, patches = 3 * prod(preprocess.sides), preprocess.patches
    values = 2 * pixels + 3 * (1 + patches) * width + 3 * tokens * patches
    return batch * (pixels + 4 * values)


def table(rows: Rows) -> str:
    """Write the rows as Markdown: models, the check of their graphs, and refinement."""
    about = f"{describe(rows[0]['machine'])}\n\n`{rows[0]['command']}`"
    kinds = (_models, _checks, _refinement)
    return "\n\n".join([about, NOTE, *filter(None, (kind(rows) for kind in kinds))])


def _models(rows: Rows) -> str:
    lines = [
        f"The model, in GiB; captions of {_LONGEST} tokens, and up to {MAX_CAPTIONS} classes scored"
        " at once.\n",
        "| model | pixels | precision | batch | weights | image encoder | matching branch"
        " | arrays of the batch | in all |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    graphs = [row for row in rows if row["what"] == "graph"]
    for precision in dict.fromkeys(row["precision"] for row in graphs):
        for batch in (row for row in rows if row["what"] == "batch"):
            own = [
                row
                for row in graphs
                if row["precision"] == precision
                and all(row[name] == batch[name] for name in ("model", "image_size"))
            ]
            weights = sum({row["graph"]: row["weights"] for row in own}.values())
            activations = [
                max(
                    row["activations"]
                    for row in own
                    if row["graph"] == graph
                    and row["sizes"]["batch"] in (batch["batch"], MAX_CAPTIONS)
                )
                for graph in ("vision", "salience")
            ]
            parts = [weights, *activations, batch["bytes"]]
            cells = " | ".join(f"{part / 2**30:.2f}" for part in [*parts, sum(parts)])
            lines.append(
                f"| {batch['model']} | {batch['image_size']} | {precision} | {batch['batch']}"
                f" | {cells} |"
            )
    return "\n".join(lines)


def _checks(rows: Rows) -> str:
    checked = [row for row in rows if "onnxruntime" in row]
    if not checked:
        return ""
    lines = [
        "The tensors of a graph in fp32, in MiB, and what a run on the CPU added to ONNX Runtime's"
        " process: freeing each when it is dead, and, as is its default, keeping its memory for"
        " others of the same size. ONNX Runtime computes Softmax in place, so it may take less. The"
        " matching branch takes about 130 MiB more whatever the batch; we put that down to weights"
        " that ONNX Runtime transposes in each run, but have not confirmed it.\n",
        "| model | graph | sizes | calculated | freeing | keeping |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in checked:
        sizes = ", ".join(f"{name} {size}" for name, size in row["sizes"].items())
        found = [row["onnxruntime"], row["onnxruntime_reusing"]]
        cells = " | ".join(f"{one / 2**20:.1f} ({one / row['activations']:.2f})" for one in found)
        lines.append(
            f"| {row['model']} | {row['graph']} | {sizes} | {row['activations'] / 2**20:.1f}"
            f" | {cells} |"
        )
    return "\n".join(lines)


def _refinement(rows: Rows) -> str:
    refined = [row for row in rows if row["what"] == "refinement"]
    found = {
        (row["width"] * row["height"], row["labels"], row["content"]): row["bytes"]
        for row in refined
    }
    contents = dict.fromkeys(row["content"] for row in refined)
    lines = [
        "The refinement of one image, dense CRF included, in GiB, and in bytes a pixel; two images"
        " are refined at once. The photograph has as many vertices a pixel at every size as at 0.3"
        " megapixels; noise has the most that there can be.\n",
        "| megapixels | labels | " + " | ".join(contents) + " |",
        "|---:|---:|" + "---:|" * len(contents),
    ]
    for pixels, labels in dict.fromkeys(key[:2] for key in found):
        sizes = [found[pixels, labels, content] for content in contents]
        cells = " | ".join(f"{size / 2**30:.2f} ({size / pixels:.0f})" for size in sizes)
        lines.append(f"| {pixels / 1e6:.1f} | {labels} | {cells} |")
    return "\n".join(lines)
