"""What a host does that has a runtime and not this package: it loads a file and runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]


def by_onnxruntime(path: Path, feeds: Mapping[str, Any]) -> Values:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    found: Any = session.run(names, dict(feeds))
    return dict(zip(names, found, strict=True))


def by_openvino(path: Path, feeds: Mapping[str, Any]) -> Values:
    """As it comes: with what it takes for the precision of this CPU, which is asked to be fp32."""
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", hint)
    found = compiled(dict(feeds))
    return {one.any_name: np.array(found[one]) for one in compiled.outputs}


HOSTS = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
