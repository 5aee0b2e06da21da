"""Name the precisions of a model's arithmetic."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
Arithmetic = Precision | Literal["int8"]
PrecisionChoice = Literal["auto"] | Arithmetic
PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "fp32", "fp16", "bf16", "int8")
"""From the most exact to the least."""

NO_TF32 = "NVIDIA_TF32_OVERRIDE"
"""Variable of the environment that, set to 0, keeps NVIDIA's libraries from computing in TF32."""
