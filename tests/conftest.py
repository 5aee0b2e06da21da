from __future__ import annotations

import os

# Before any import that reads it: what the tests compute is small, and every processor runs tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from tokenizers import Tokenizer

from benchmarks.harness.random_models import (
    BLIP_TINY,
    random_blip,
    save_checkpoint,
    transformers_tokenizer,
)
from pnp_ovss.engine import Segmenter
from pnp_ovss.export.models.wordpiece import bert
from pnp_ovss.kernels.cuda.kernels import CudaKernels, source
from tests.kernels.cuda.cuda_on_cpu import LIBRARY, Kernels, compiled
from tests.once import made_once

if TYPE_CHECKING:
    from transformers import BlipForImageTextRetrieval

if find_spec("torch"):
    import torch

    torch.set_num_threads(1)

# A shell that runs the tests in the background has Ctrl-C ignored, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")

NEED = {
    "openvino": ["engine/runners/test_openvino.py"],
    "pydensecrf": ["engine/refine/test_pydensecrf_worker.py"],
    "torch": [
        "benchmarks",
        "export",
        "method",
        "engine/cli/test_evaluate.py",
        "engine/evaluation/test_ablation.py",
        "engine/evaluation/test_evaluate.py",
        "engine/evaluation/test_quality.py",
        "engine/methods/pnp_ovss/test_passes.py",
        "engine/model/test_files.py",
        "engine/refine/test_crf.py",
        "engine/runners/test_openvino.py",
        "engine/runners/test_torch_graphs.py",
        "engine/test_on_a_gpu.py",
        "engine/test_segmenter.py",
        "test_blip_large.py",
        "test_imports.py",
        "test_links.py",
    ],
}
"""What cannot be imported where a package is not installed; `make test-runtime` does without."""

collect_ignore = [
    path for package, paths in NEED.items() if not find_spec(package) for path in paths
]

SAMPLES = Path(str(resources.files("pnp_ovss.engine") / "data" / "samples"))

VISION, TEXT = BLIP_TINY["vision"], BLIP_TINY["text"]
IMAGE_SIZE = 96  # not the 64 of the checkpoint: position embeddings are interpolated


@dataclass(frozen=True)
class Exported:
    """A random model, its checkpoint and its export."""

    model: BlipForImageTextRetrieval
    checkpoint: Path
    folder: Path


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the user has built and exported out of the tests, and theirs out of the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """BERT's uncased vocabulary, as BLIP has it, without [DEC] and [ENC]."""
    return bert()


@pytest.fixture(scope="session")
def exported(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One small model, exported at layer 2, head 3 (the default for its size)."""
    pytest.importorskip("torch")
    from pnp_ovss.export import export

    model = random_blip(VISION, TEXT)

    def make(folder: Path) -> None:
        save_checkpoint(model, tokenizer, folder / "checkpoint")
        export(str(folder / "checkpoint"), folder / "model", image_size=IMAGE_SIZE)

    root = made_once(tmp_path_factory, "exported", make)
    return Exported(model, root / "checkpoint", root / "model")


@pytest.fixture(scope="session")
def exported_in_float16(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of the same model, its weights stored as float16."""

    from pnp_ovss.export import export

    def make(folder: Path) -> None:
        options = {"image_size": IMAGE_SIZE, "weights": "float16"}
        export(str(exported.checkpoint), folder / "model", **options)

    return made_once(tmp_path_factory, "float16", make) / "model"


@pytest.fixture(scope="session")
def fast_tokenizer(tokenizer: Tokenizer):
    """The same tokenizer as Transformers wraps it, for the eager baseline."""
    pytest.importorskip("transformers")
    return transformers_tokenizer(tokenizer)


@pytest.fixture(scope="session")
def segmenter(exported: Exported) -> Segmenter:
    return Segmenter.load(exported.folder, device="cpu")


@pytest.fixture
def model_copy(exported: Exported, tmp_path: Path) -> Path:
    """A model folder that the test may damage."""
    return Path(shutil.copytree(exported.folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """Smooth random pictures: `picture(seed, width, height)`."""

    def make(seed: int = 0, width: int = 80, height: int = 60) -> Image.Image:
        noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture(scope="session")
def cuda_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> CudaKernels:
    """All CUDA kernels, compiled for the CPU, on NumPy's arrays."""
    folder = made_once(tmp_path_factory, "cuda", lambda folder: compiled(source(), folder))
    return CudaKernels(np, Kernels(folder / LIBRARY).launch)
