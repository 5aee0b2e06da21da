from __future__ import annotations

import pytest
from pnp_ovss.kernels.cuda_kernels import source

from tests.kernels.cuda_on_cpu import Kernels


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """All CUDA kernels, compiled for the CPU."""
    return Kernels(source(), tmp_path_factory.mktemp("cuda"))
