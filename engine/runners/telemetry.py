"""Import libraries that report usage to their makers, so that they report nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from ..fork import Lock

_REPORTER = "openvino_telemetry"
_SWITCH = "ORT_DISABLE_TELEMETRY"

_importing = Lock()


@contextmanager
def without_telemetry() -> Generator[None, None, None]:
    """Import OpenVINO or ONNX Runtime within the block, and they report nothing.

    On its import, OpenVINO reports from a process of its own, writes an id into the user's home,
    and may wait for seconds. It does none of this where its reporter cannot be imported, and lacks
    nothing else. ONNX Runtime reports from 1.29 on, unless a variable of the environment says
    otherwise, which it reads once, on its import.

    Afterwards the process is as it was, its environment above all. An application that imported a
    library earlier has chosen for itself, and nothing changes.
    """
    with _importing:
        modules = {_REPORTER: sys.modules.get(_REPORTER)}
        sys.modules[_REPORTER] = None  # type: ignore[assignment] # Python's way to bar an import
        chosen = _SWITCH in os.environ
        os.environ.setdefault(_SWITCH, "1")
        try:
            yield
        finally:
            if not chosen:
                os.environ.pop(_SWITCH, None)
            del sys.modules[_REPORTER]
            sys.modules.update({name: module for name, module in modules.items() if module})
