"""CUDA kernels on the CPU: compiled by the C++ compiler behind `cuda_on_cpu.hpp`."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')
LIBRARY = "kernels.so"
_LIBC = ctypes.CDLL(None, use_errno=True)


def compiled(source: str, folder: Path) -> Path:
    """Compile the kernels of a source into a library in a folder."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    launchers = "\n".join(f"LAUNCHER({name})" for name in _KERNEL.findall(source))
    file, library = folder / "kernels.cpp", folder / LIBRARY
    file.write_text(f'#include "cuda_on_cpu.hpp"\n{source}\n{launchers}\n')
    flags = [
        "-std=c++17",
        "-O1",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        f"-I{Path(__file__).parent}",
    ]
    subprocess.run([compiler, *flags, "-o", library, file], check=True)
    return library


class Kernels:
    """The kernels of a library; arrays are NumPy's, each with a page behind it that traps."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._turn = threading.Lock()  # of its state, which is one for all threads

    def launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        """Run a kernel on few blocks; what it writes is copied back to the arrays."""
        guarded = [(a, _guarded(a)) for a in arguments if isinstance(a, np.ndarray)]
        copies = iter(copy for _, copy in guarded)
        held = [
            ctypes.c_void_p(next(copies).ctypes.data) if isinstance(a, np.ndarray) else a
            for a in arguments
        ]
        cells = [a if isinstance(a, ctypes.c_void_p) else np.array(a) for a in held]
        pointers = (ctypes.c_void_p * len(cells))(*map(_address, cells))
        blocks = min(3, -(-threads // 64))
        with self._turn:
            getattr(self._library, f"launch_{kernel}")(blocks, 64, pointers)
        for array, copy in guarded:
            if array.flags.writeable:
                array[...] = copy
            else:
                np.testing.assert_array_equal(array, copy)


def _address(cell: Any) -> int:
    return cell.ctypes.data if isinstance(cell, np.ndarray) else ctypes.addressof(cell)


def _guarded(array: np.ndarray) -> np.ndarray:
    """A copy that ends where memory ends."""
    assert array.flags.c_contiguous
    page = mmap.PAGESIZE
    whole = -(-max(array.nbytes, 1) // page) * page
    memory = mmap.mmap(-1, whole + page)
    last = ctypes.addressof(ctypes.c_char.from_buffer(memory, whole))
    if _LIBC.mprotect(ctypes.c_void_p(last), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    offset = whole - array.nbytes
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def crashes(action: Callable[[], None]) -> int:
    """The signal that ends a process which does this, 0 if none."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        action()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])
