"""Who hears the messages of ONNX Runtime, and what becomes of the library when it is closed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.engine.capi import built

pytestmark = pytest.mark.slow  # the library is built

PROGRAM = """
import ctypes, sys
sys.path.insert(0, sys.argv[4])
from benchmarks.contenders.c_library import Model, Library, RuntimeOptions, ZERO
path, runtime, folder = sys.argv[1:4]
c = ctypes.CDLL(path)
heard = [0, 0]

@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
def hear(user, severity, message):
    heard[user or 0] += 1

handles = []
for user in (0, 1):
    log = ctypes.cast(hear, ctypes.c_void_p)
    options = RuntimeOptions(path=runtime.encode(), log=log, user=user, log_severity=ZERO)
    handles.append(ctypes.c_void_p())
    assert c.pnp_ovss_runtime_open(ctypes.byref(options), ctypes.byref(handles[-1]), None) == 0
quiet = Library(path, runtime)
Model(quiet, folder).__exit__()
assert min(heard) > 0, heard
c.pnp_ovss_runtime_close(handles[0])
first, heard[1] = heard[0], 0
Model(quiet, folder).__exit__()
assert heard[0] == first and heard[1] > 0, heard
c.pnp_ovss_runtime_close(handles[1])
first, second = heard
Model(quiet, folder).__exit__()
assert heard == [first, second], heard

# Another copy of the library finds what the first one left behind.
quiet.c.pnp_ovss_runtime_close(quiet.runtime)
for one in (c, quiet.c):
    ctypes.CDLL(None).dlclose(ctypes.c_void_p(one._handle))
Model(Library(sys.argv[5], runtime), folder).__exit__()
print("good")
"""


def test_each_open_hears_until_it_is_closed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    library = built.library(tmp_path_factory)
    copy = tmp_path / "copy.so"
    copy.write_bytes(library.read_bytes())
    words = [library, built.ort_library(), built.DEMO, built.ROOT, copy]
    assert built.run(sys.executable, "-c", PROGRAM, *words) == "good\n"
