from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contenders.engine import EngineSegmenter


class Gpu:
    """A GPU with a stream for the model, and one beside it."""

    index, name = 1, "cuda:1"

    def __init__(self) -> None:
        self.waited: list[Any] = []
        self.stream: Any = SimpleNamespace(
            synchronize=lambda: self.waited.append("the model's stream")
        )
        self.xp = SimpleNamespace(cuda=SimpleNamespace(Device=self._device))

    def _device(self, index: int) -> Any:
        return SimpleNamespace(synchronize=lambda: self.waited.append(index))


@pytest.mark.parametrize(("on_gpu", "wanted"), [(True, [1]), (False, [])])
def test_the_whole_device_is_waited_for(on_gpu: bool, wanted: list[int]) -> None:
    """Refinement and the CRF are queued on another stream than the model."""
    segmenter, gpu = EngineSegmenter.__new__(EngineSegmenter), Gpu()
    if not on_gpu:
        gpu.stream = None
    method: Any = SimpleNamespace(device=gpu)
    segmenter._segmenter = SimpleNamespace(method=method)  # type: ignore[assignment]
    segmenter.synchronize()
    assert gpu.waited == wanted
