"""The data sets that can be evaluated on, by name; one reader a file."""

from .base import Dataset
from .stickers import sticker_scenes

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        sticker_scenes("stickers"),
        sticker_scenes("context", name="stickers-context"),
    )
}
