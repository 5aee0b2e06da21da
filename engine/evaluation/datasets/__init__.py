"""Data sets that can be evaluated on, by name; each reader has a file or folder."""

from .base import Dataset
from .stickers import sticker_scenes

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        sticker_scenes("stickers"),
        sticker_scenes("context", name="stickers-context"),
    )
}
