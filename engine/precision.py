"""Name the precisions of a model's arithmetic."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
PrecisionChoice = Literal["auto"] | Precision | Literal["int8"]
PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "fp32", "fp16", "bf16", "int8")
