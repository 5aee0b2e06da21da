"""Composes and writes the fused graph: the whole method as one ONNX graph, for any host.

`compose` copies graphs with value numbering, `passes` and `refinement` append the steps of the
method, `graph` puts the fused graph together, and `write` writes it. None of it needs PyTorch.
"""

from __future__ import annotations

from .graph import Fused, fused_graph
from .write import add_fused, write_fused

__all__ = ["Fused", "add_fused", "fused_graph", "write_fused"]
