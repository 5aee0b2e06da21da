from __future__ import annotations

import threading

import numpy as np
import pytest
from pnp_ovss.engine import BackendError
from pnp_ovss.engine.device import CPU, address, require_gpu

from tests.engine.runners import stand_ins

SOON, LATE = 0.2, 10  # seconds


def test_what_is_done_alone_waits_for_work_beside_the_model_and_keeps_it_out() -> None:
    device = stand_ins.device()
    inside, alone, entered, leave, done = (threading.Event() for _ in range(5))

    def beside() -> None:
        with device.beside(None):
            inside.set()
            leave.wait(LATE)

    def record() -> None:
        with device.alone():
            alone.set()
            done.wait(LATE)

    def later() -> None:
        with device.beside(None):
            entered.set()

    threads = [threading.Thread(target=one) for one in (beside, record, later)]
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
    with device.beside(None), device.beside(None):
        pass


def test_the_address_of_an_array() -> None:
    array = np.arange(4)
    assert address(array) == array.ctypes.data
    assert address(array[1:]) == array.ctypes.data + array.itemsize


def test_the_cpu_is_no_gpu() -> None:
    require_gpu(stand_ins.device(), "tensorrt")
    with pytest.raises(BackendError, match="'tensorrt' runs on NVIDIA GPUs") as caught:
        require_gpu(CPU, "tensorrt")
    assert "--device cuda" in caught.value.cure
