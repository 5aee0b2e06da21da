from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from pnp_ovss.engine import BackendError
from pnp_ovss.engine.device import CPU, address, open_device, usable_devices
from tests.engine.runners import stand_ins

SOON, LATE = 0.2, 10  # seconds


def test_what_is_done_alone_waits_for_work_beside_the_model_and_keeps_it_out() -> None:
    device = stand_ins.device()
    inside, alone, entered, leave, done = (threading.Event() for _ in range(5))

    def refining() -> None:
        with device.side_stream(None):
            inside.set()
            leave.wait(LATE)

    def recording() -> None:
        with device.exclusive():
            alone.set()
            done.wait(LATE)

    def later() -> None:
        with device.side_stream(None):
            entered.set()

    threads = [threading.Thread(target=one) for one in (refining, recording, later)]
    threads[0].start()
    assert inside.wait(LATE)
    threads[1].start()
    assert not alone.wait(SOON)
    leave.set()
    assert alone.wait(LATE)
    threads[2].start()
    assert not entered.wait(SOON)
    done.set()
    assert entered.wait(LATE)
    for thread in threads:
        thread.join()


def test_several_work_beside_the_model_at_once() -> None:
    device = stand_ins.device()
    with device.side_stream(None), device.side_stream(None):
        pass


def test_the_address_of_an_array() -> None:
    array = np.arange(4)
    assert address(array) == array.ctypes.data
    assert address(array[1:]) == array.ctypes.data + array.itemsize


def test_a_gpu_that_cupy_cannot_compile_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NVRTC, which comes apart from CuPy, is missing: nothing runs there."""
    current: list[int] = []

    @contextmanager
    def enter(device: int) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    def module(device: int) -> SimpleNamespace:
        def fail() -> None:
            assert current == [device]
            raise RuntimeError("failed to load libnvrtc.so.13")

        return SimpleNamespace(compile=fail)

    cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 2), Device=enter)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr("pnp_ovss.kernels.cuda.cupy._module", module)
    with pytest.raises(BackendError, match=r"cannot compile .* 'cuda:1': .*libnvrtc") as caught:
        open_device("cuda:1")
    assert "pip install" in caught.value.cure
    current.clear()
    refused: list[BackendError] = []
    assert usable_devices(refused.append) == [CPU]
    assert "cannot compile kernels for 'cuda:0'" in refused[0].cause


@pytest.mark.parametrize(
    ("count", "cure"), [(0, "nvidia-smi must list a GPU"), (2, "name one from cuda:0 to cuda:1")]
)
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, count: int, cure: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", stand_ins.cupy(lambda: count))
    with pytest.raises(BackendError, match=f"no device 'cuda:5'; there are {count}") as caught:
        open_device("cuda:5")
    assert caught.value.cure.startswith(cure)
