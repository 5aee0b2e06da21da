"""Calls libpnp_ovss through ctypes, on the arrays and settings of the Python engine.

Structs have the fields of `pnp_ovss.h`, in its order.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import AbstractContextManager
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char,
    c_char_p,
    c_double,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pnp_ovss.engine import Settings

DROP_MODES = ("pixels", "tokens", "attention")
BACKGROUNDS = ("auto", "always", "never")
ZERO, HALVING, YES, NO = -1, -2, 1, -1


class Sized(Structure):
    """A struct that begins with its size."""

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(ctypes.sizeof(self), *values, **fields)


class Error(Sized):
    """Lay out `pnp_ovss_error`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("code", c_int32),
        ("cause", c_char * 512),
        ("cure", c_char * 256),
    )


class RuntimeOptions(Sized):
    """Lay out `pnp_ovss_runtime_options`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("log_severity", c_int32),
        ("path", c_char_p),
        ("log", c_void_p),
        ("user", c_void_p),
    )


class ModelOptions(Sized):
    """Lay out `pnp_ovss_model_options`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("threads", c_int32),
        ("device", c_char_p),
        ("verify", c_int32),
        ("prepack", c_int32),
    )


class ModelInfo(Sized):
    """Lay out `pnp_ovss_model_info`."""

    _fields_ = (
        ("struct_size", c_uint32),
        *((name, c_uint32) for name in ("input_height", "input_width", "grid_height")),
        *((name, c_uint32) for name in ("grid_width", "max_tokens")),
        ("family", c_char * 32),
        ("device", c_char * 32),
    )


class CSettings(Sized):
    """Lay out `pnp_ovss_settings`."""

    _fields_ = (
        ("struct_size", c_uint32),
        *((name, c_int32) for name in ("passes", "drop_count", "drop_mode")),
        *((name, c_double) for name in ("threshold", "blur")),
        *((name, c_int32) for name in ("background", "crf", "refine_side", "first_pass_weight")),
        *((name, c_int32) for name in ("join_words", "sum_last_class")),
        ("match_threshold", c_double),
        ("present", c_int32),
        ("reserved", c_int32),
        ("crf_memory", c_uint64),
    )

    @classmethod
    def of(cls, settings: Settings, present: str = "given") -> CSettings:
        """Write settings of the Python engine, every field in full."""
        schedule = settings.drop_schedule
        return cls(
            passes=settings.passes,
            drop_count=HALVING if schedule == "halving" else schedule or ZERO,
            drop_mode=1 + DROP_MODES.index(settings.drop_mode),
            threshold=settings.threshold or ZERO,
            blur=settings.blur or ZERO,
            background=1 + BACKGROUNDS.index(settings.background),
            crf=1 if settings.crf is None else 2,
            refine_side=settings.refine_side or ZERO,
            first_pass_weight=settings.first_pass_weight,
            join_words=YES if settings.join_words else NO,
            sum_last_class=YES if settings.sum_last_class else NO,
            match_threshold=settings.match_threshold or ZERO,
            present=2 if present == "match" else 1,
        )


class CImage(Sized):
    """Lay out `pnp_ovss_image`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("stride", c_size_t),
        ("rgb", c_void_p),
    )


class Timings(Sized):
    """Lay out `pnp_ovss_timings`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        *((name, c_double) for name in ("preprocess", "graphs", "passes", "refine", "crf")),
    )


class Output(Sized):
    """Lay out `pnp_ovss_output`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("labels", c_void_p),
        ("labels_stride", c_size_t),
        ("class_maps", c_void_p),
        ("class_maps_count", c_size_t),
        ("scores", c_void_p),
        ("scores_count", c_size_t),
        ("match", c_void_p),
        ("match_count", c_size_t),
        ("present", c_void_p),
        ("present_count", c_size_t),
        ("timings", POINTER(Timings)),
    )


class Item(Sized):
    """Lay out `pnp_ovss_item`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("code", c_int32),
        ("names", c_void_p),
        ("image", POINTER(CImage)),
        ("output", POINTER(Output)),
        ("error", POINTER(Error)),
    )


class Tokens(Sized):
    """Lay out `pnp_ovss_tokens`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("length", c_uint32),
        ("names", c_uint32),
        ("reserved", c_uint32),
        ("input_ids", c_void_p),
        ("attention_mask", c_void_p),
        ("class_tokens", c_void_p),
    )


class CError(Exception):
    """What a call told of its failure."""

    def __init__(self, error: Error) -> None:
        self.code: int = error.code
        self.cause: str = error.cause.decode()
        self.cure: str = error.cure.decode()
        super().__init__(f"{self.code}: {self.cause} ({self.cure})")


@dataclass
class Result:
    """What a segmentation gave, as `engine.Segmentation` has it."""

    labels: npt.NDArray[np.uint16]
    class_maps: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    match: npt.NDArray[np.float32]
    present: npt.NDArray[np.uint8]
    timings: Timings


def runtime_of_python() -> Path:
    """Find the library of the ONNX Runtime that Python runs."""
    import onnxruntime

    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))


class Library:
    """The shared library, and the runtime that was opened in it.

    Args:
        path: path of the library.
        runtime: path of ONNX Runtime.
    """

    def __init__(self, path: Path, runtime: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.pnp_ovss_names_classes.restype = c_size_t
        self.c.pnp_ovss_runtime_version.restype = c_char_p
        self.runtime = c_void_p()
        options = RuntimeOptions(path=str(runtime).encode())
        self.call("runtime_open", byref(options), byref(self.runtime))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function, which takes an error last.

        Raises:
            CError: it failed.
        """
        error = Error()
        if getattr(self.c, f"pnp_ovss_{name}")(*arguments, byref(error)):
            raise CError(error)


class Model(AbstractContextManager["Model"]):
    """A model folder, opened by the library."""

    def __init__(
        self, library: Library, folder: Path, *, graphs: bool = True, **options: Any
    ) -> None:
        self.library = library
        self.handle = c_void_p()
        runtime = library.runtime if graphs else None
        given = ModelOptions(**options)
        folder_name = str(folder).encode()
        library.call("model_open", runtime, folder_name, byref(given), byref(self.handle))
        self.info = ModelInfo()
        library.call("model_describe", self.handle, byref(self.info))

    def __exit__(self, *_: object) -> None:
        self.library.c.pnp_ovss_model_close(self.handle)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.info.grid_height, self.info.grid_width

    def names(self, classes: Sequence[Any], settings: CSettings | None = None) -> Names:
        """Make names of classes."""
        return Names(self, classes, settings)

    def segment(
        self, image: npt.NDArray[np.uint8], classes: Sequence[Any], settings: CSettings
    ) -> Result:
        """Segment an image, uint8 [H, W, 3]."""
        with self.names(classes, settings) as names:
            buffers = Buffers(self, image, len(classes), settings)
            arguments = byref(buffers.image), byref(settings), None, byref(buffers.output)
            self.library.call("segment", self.handle, names.handle, *arguments)
            return buffers.result

    def segment_batch(
        self,
        pairs: Sequence[tuple[npt.NDArray[np.uint8], Sequence[Any]]],
        settings: CSettings,
    ) -> list[Result]:
        """Segment images, each with its classes."""
        names = [self.names(classes, settings) for _, classes in pairs]
        buffers = [Buffers(self, image, len(classes), settings) for image, classes in pairs]
        items = (Item * len(pairs))()
        for item, of_item, buffer in zip(items, names, buffers, strict=True):
            item.struct_size = ctypes.sizeof(Item)
            item.names = of_item.handle
            item.image, item.output = ctypes.pointer(buffer.image), ctypes.pointer(buffer.output)
        try:
            arguments = items, c_size_t(len(items)), byref(settings), None
            self.library.call("segment_batch", self.handle, *arguments)
        finally:
            for one in names:
                one.close()
        return [buffer.result for buffer in buffers]


class Names(AbstractContextManager["Names"]):
    """Names that were made with a model; a class is a name or a list of synonyms."""

    def __init__(self, model: Model, classes: Sequence[Any], settings: CSettings | None) -> None:
        self._library = model.library
        self.handle = c_void_p()
        pairs = [
            (name.encode(), index)
            for index, one in enumerate(classes)
            for name in ([one] if isinstance(one, str) else one)
        ]
        names = (c_char_p * len(pairs))(*(name for name, _ in pairs))
        class_of = (c_uint32 * len(pairs))(*(index for _, index in pairs))
        chosen = None if settings is None else byref(settings)
        arguments = names, class_of, c_size_t(len(pairs)), chosen, byref(self.handle)
        self._library.call("names_create", model.handle, *arguments)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the names."""
        self._library.c.pnp_ovss_names_free(self.handle)


class Buffers:
    """An image, and arrays that a segmentation is written into."""

    def __init__(
        self, model: Model, image: npt.NDArray[np.uint8], classes: int, settings: CSettings
    ) -> None:
        height, width, _ = image.shape
        assert image.strides[1:] == (3, 1)
        self._pixels = image
        self.image = CImage(width, height, image.strides[0], image.ctypes.data)
        self.result = Result(
            np.full((height, width), 7777, np.uint16),
            np.full((classes, *model.grid), np.nan, np.float32),
            np.full(classes, np.nan, np.float32),
            np.full(settings.passes, np.nan, np.float32),
            np.full(classes, 77, np.uint8),
            Timings(),
        )
        self.output = Output(labels=self.result.labels.ctypes.data, labels_stride=width * 2)
        for name in ("class_maps", "scores", "match", "present"):
            array = getattr(self.result, name)
            setattr(self.output, name, array.ctypes.data)
            setattr(self.output, f"{name}_count", array.size)
        self.output.timings = ctypes.pointer(self.result.timings)
