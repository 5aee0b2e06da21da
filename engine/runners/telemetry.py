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
def without_openvino_telemetry() -> Generator[None, None, None]:
    """Import OpenVINO within the block, and it reports nothing.

    On its import it reports from a process of its own, writes an id into the user's home, and may
    wait for seconds. It does none of this where its reporter cannot be imported, and lacks nothing
    else. Afterwards the reporter can be imported as before. An application that imported OpenVINO
    earlier has chosen for itself.
    """
    with _importing:
        before = {name: sys.modules[name] for name in (_REPORTER,) if name in sys.modules}
        sys.modules[_REPORTER] = None  # type: ignore[assignment] # Python's way to bar an import
        try:
            yield
        finally:
            del sys.modules[_REPORTER]
            sys.modules.update(before)


@contextmanager
def without_onnxruntime_telemetry() -> Generator[None, None, None]:
    """Import ONNX Runtime within the block, and it reports nothing.

    It reports from 1.29 on, unless a variable of the environment says otherwise, which it reads
    once, on its import. The variable is set for that time alone, and only where ONNX Runtime was
    not imported yet: an application that did has chosen for itself.
    """
    with _importing:
        if _SWITCH in os.environ or "onnxruntime" in sys.modules:
            yield
            return
        os.environ[_SWITCH] = "1"
        try:
            yield
        finally:
            del os.environ[_SWITCH]
