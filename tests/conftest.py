from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from tokenizers import Tokenizer
from transformers import BlipForImageTextRetrieval

from benchmarks.harness.random_models import (
    BLIP_TINY,
    random_blip,
    save_checkpoint,
    transformers_tokenizer,
)
from pnp_ovss.engine import Segmenter
from pnp_ovss.export import export
from pnp_ovss.export.models.wordpiece import bert
from pnp_ovss.kernels.cuda.kernels import CudaKernels, source
from tests.kernels.cuda.cuda_on_cpu import Kernels

settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")

if not importlib.util.find_spec("openvino"):  # the tests of GPUs run where it need not be
    collect_ignore = ["engine/runners/test_openvino.py"]

SAMPLES = Path(str(resources.files("pnp_ovss.engine") / "data" / "samples"))

VISION, TEXT = BLIP_TINY["vision"], BLIP_TINY["text"]
IMAGE_SIZE = 96  # not the 64 of the checkpoint: position embeddings are interpolated


@dataclass(frozen=True)
class Exported:
    """A random model, its checkpoint and its export."""

    model: BlipForImageTextRetrieval
    checkpoint: Path
    folder: Path


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """BERT's uncased vocabulary, as BLIP has it, without [DEC] and [ENC]."""
    return bert()


@pytest.fixture(scope="session")
def exported(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One small model, exported at layer 2, head 3 (the default for its size)."""
    root = tmp_path_factory.mktemp("exported")
    model = random_blip(VISION, TEXT)
    save_checkpoint(model, tokenizer, root / "checkpoint")
    export(str(root / "checkpoint"), root / "model", image_size=IMAGE_SIZE)
    return Exported(model, root / "checkpoint", root / "model")


@pytest.fixture(scope="session")
def fast_tokenizer(tokenizer: Tokenizer):
    """The same tokenizer as Transformers wraps it, for the eager baseline."""
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
    return CudaKernels(np, Kernels(source(), tmp_path_factory.mktemp("cuda")).launch)
