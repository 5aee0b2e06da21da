"""NVRTC, which compiles CUDA C without a GPU, through its C interface."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import pytest

_found = importlib.util.find_spec("nvidia")
_folders = [Path(folder) for folder in (_found.submodule_search_locations or [])] if _found else []
_libraries = sorted(
    (path for folder in _folders for path in folder.glob("**/libnvrtc.so*")),
    key=lambda path: path.name,
)
if not _libraries:
    pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc", allow_module_level=True)
_NVRTC = ctypes.CDLL(str(_libraries[-1]))


def compile(source: str, architecture: str) -> bytes:
    """Machine code, or the compiler's complaint as an error; with CuPy's options.

    Args:
        source: CUDA C.
        architecture: "sm_80" and the like.
    """
    program = ctypes.c_void_p()
    _check(_NVRTC.nvrtcCreateProgram(ctypes.byref(program), source.encode(), None, 0, None, None))
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "-ftz=true"]
    listed = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    code = _NVRTC.nvrtcCompileProgram(program, len(options), listed)
    if code:
        raise AssertionError(_text(program, "ProgramLog").decode())
    return _text(program, "CUBIN")


def _text(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(_NVRTC, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(getattr(_NVRTC, f"nvrtcGet{what}")(program, text))
    return text.raw


def _check(code: int) -> None:
    assert code == 0, f"NVRTC returned {code}"
