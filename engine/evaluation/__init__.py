"""Segmentation quality on data sets with masks: what `pnp-ovss evaluate` runs, as a library.

`evaluate` segments the images of a data set and counts. `ablate` takes the method apart, and
`sweep` scores every layer and head. `report` gives a result for JSON, `table` gives it in lines,
and `write` puts it into a folder with figures.

    >>> from pnp_ovss.engine import Segmenter
    >>> from pnp_ovss.engine.evaluation import DATASETS, evaluate, report, table
    >>> stickers = DATASETS["stickers"]
    >>> with Segmenter.load("demo") as segmenter:
    ...     first = evaluate(segmenter, stickers, images=range(0, 2))
    ...     second = evaluate(segmenter, stickers, images=range(2, 4))
    >>> evaluation = first.merge(second)  # the parts may come from different processes
    >>> evaluation.miou > 0.7
    True
    >>> next(table(report(evaluation)))
    'stickers, 4 images'

A data set of your own is a `Dataset`: its facts, and a function that reads a `Sample`. This one has
masks with 1 for cars, 2 for trees, and 255 for pixels that do not count:

    names = ("car", "tree")

    def read(index: int) -> Sample:
        truth = np.array(Image.open(f"{index}.png"))
        classes = tuple(name for number, name in enumerate(names, 1) if (truth == number).any())
        return Sample(Image.open(f"{index}.jpg").convert("RGB"), truth, classes)

    streets = Dataset("streets", names, "always", images=100, sample=read, ignore=255)

With label maps from elsewhere, `Evaluation(dataset, settings).add(index, truth, labels)` counts
them; `Confusion` and `BoundaryScores` are the metrics by themselves. Figures need Matplotlib and
the ablation onnx, which are imported when they are used.
"""

from .ablation import Ablation, ablate
from .datasets import DATASETS
from .datasets.base import Dataset, Sample
from .evaluate import Evaluation, evaluate
from .metrics import BoundaryScores, Confusion
from .report import report, table, write
from .sweep import Sweep, sweep

__all__ = [
    "DATASETS",
    "Ablation",
    "BoundaryScores",
    "Confusion",
    "Dataset",
    "Evaluation",
    "Sample",
    "Sweep",
    "ablate",
    "evaluate",
    "report",
    "sweep",
    "table",
    "write",
]
