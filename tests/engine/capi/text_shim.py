"""The text part of libpnp_ovss, compiled for the tests and called by ctypes."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.once import made_once

CAPI = Path(__file__).parents[3] / "engine" / "capi"
SHIM = Path(__file__).with_name("text_shim.cpp")
SOURCES = ("captions", "failure", "json", "sha256", "unicode", "wordpiece")
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")


def build(target: Path, *flags: str) -> Path:
    """Compile the shim along with the sources that it needs."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    sources = [SHIM, *(CAPI / "src" / f"{name}.cpp" for name in SOURCES)]
    folders = [f"-I{CAPI / name}" for name in ("include", "src")]
    subprocess.run([compiler, *FLAGS, *flags, *folders, "-o", target, *sources], check=True)
    return target


class FailureError(Exception):
    """A Failure of the library: its code, cause and cure."""

    def __init__(self, message: str) -> None:
        code, self.cause, self.cure = message.split("\n")
        self.code = int(code)
        super().__init__(message)


class Shim:
    """The library, and what is made with it."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        for function in ("tokenizer", "captioner", "names"):
            getattr(self.library, f"text_{function}").restype = ctypes.c_void_p
        for function in ("map", "words", "encode", "captions"):
            getattr(self.library, f"text_{function}").restype = ctypes.c_bool
        for function in ("failure", "fingerprint"):
            getattr(self.library, f"text_{function}").restype = ctypes.c_char_p
        self.library.text_answer.restype = ctypes.c_void_p
        self.library.text_token_id.restype = ctypes.c_int64
        self.library.text_names_classes.restype = ctypes.c_size_t

    @classmethod
    def load(cls, factory: pytest.TempPathFactory) -> Shim:
        """Compile the library once, however many processes run the tests."""
        folder = made_once(
            factory,
            "capi-text",
            lambda folder: build(folder / "text.so", "-O2", "-shared", "-fPIC"),
        )
        return cls(folder / "text.so")

    def ask(self, function: str, *words: Any) -> str:
        """Call a function that answers with a text."""
        if not getattr(self.library, f"text_{function}")(*words):
            raise self.failure()
        size = ctypes.c_size_t()
        answer = self.library.text_answer(ctypes.byref(size))
        return ctypes.string_at(answer, size.value).decode("utf-8")

    def make(self, function: str, *words: Any) -> Handle:
        """Call a function that makes an object."""
        pointer = getattr(self.library, f"text_{function}")(*words)
        if not pointer:
            raise self.failure()
        return Handle(self, function, ctypes.c_void_p(pointer))

    def failure(self) -> FailureError:
        return FailureError(self.library.text_failure().decode("utf-8"))

    def map(self, which: str, text: str | bytes) -> str:
        """Return what a function of unicode.hpp makes of a text."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        return self.ask("map", which.encode(), data, ctypes.c_size_t(len(data)))

    def tokenizer(self, contents: str) -> Tokenizer:
        return Tokenizer(self.make("tokenizer", contents.encode("utf-8")))


@dataclass
class Handle:
    """An object of the library, freed with the last reference to it."""

    shim: Shim
    kind: str
    pointer: ctypes.c_void_p

    def __del__(self) -> None:
        getattr(self.shim.library, f"text_{self.kind}_free")(self.pointer)

    def ask(self, function: str, *words: Any) -> str:
        return self.shim.ask(function, self.pointer, *words)


class Tokenizer:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def words(self, text: str) -> list[str]:
        data = text.encode("utf-8")
        return self._handle.ask("words", data, ctypes.c_size_t(len(data))).split("\n")[:-1]

    def encode(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        return json.loads(self._handle.ask("encode", data, ctypes.c_size_t(len(data))))

    def captioner(self, text: dict[str, Any], known: Sequence[str] = ()) -> Captioner:
        """Make a captioner with this tokenizer."""
        words = json.dumps({"text": text, "known": [*known]}).encode("utf-8")
        return Captioner(self._handle.shim.make("captioner", self._handle.pointer, words))

    def token_to_id(self, token: str) -> int | None:
        library = self._handle.shim.library
        found = library.text_token_id(self._handle.pointer, token.encode("utf-8"))
        return None if found < 0 else found


class Captioner:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @property
    def fingerprint(self) -> str:
        return self._handle.shim.library.text_fingerprint(self._handle.pointer).decode()

    def names(
        self,
        names: Sequence[bytes | str | None] | None,
        class_of: Sequence[int] | None = None,
        *,
        join: bool = False,
    ) -> Names:
        given = [name.encode("utf-8") if isinstance(name, str) else name for name in names or ()]
        array = (ctypes.c_char_p * len(given))(*given)
        numbers = None if class_of is None else (ctypes.c_uint32 * len(class_of))(*class_of)
        count = ctypes.c_size_t(1 if names is None else len(given))
        words = (None if names is None else array, numbers, count, ctypes.c_bool(join))
        return Names(self._handle.shim.make("names", self._handle.pointer, *words))


@dataclass(frozen=True)
class Written:
    """Captions as the Python engine has them, and padded."""

    captions: list[tuple[list[int], list[tuple[int, list[int]]]]]
    ids: list[list[int]]
    mask: list[list[int]]


class Names:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @property
    def classes(self) -> int:
        return self._handle.shim.library.text_names_classes(self._handle.pointer)

    def captions(self, present: Sequence[int] | None) -> Written:
        """Write captions of the classes that are present; with None, one of each name."""
        flags = None if present is None else bytes(present)
        captions, count, length, ids, mask = json.loads(self._handle.ask("captions", flags))
        assert len(ids) == len(mask) == count * length
        rows = range(0, count * length, length or 1)
        return Written(
            [
                (ids, [(one, [*range(first, first + many)]) for one, first, many in owners])
                for ids, *owners in captions
            ],
            [ids[row : row + length] for row in rows],
            [mask[row : row + length] for row in rows],
        )
