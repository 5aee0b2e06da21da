"""Keep a loaded model, and load it again where a process cannot have what another has loaded."""

from __future__ import annotations

from typing import Any

from ..errors import model_closed
from ..fork import Lock, never_free, tell_after_fork
from ..model.folder import ModelFolder
from ..precision import PrecisionChoice
from . import open_method
from .base import Method


class LoadedModel:
    """A method with its model, which every process loads by itself, on first use.

    A forked child loads the same files again, on the same backend and device, and so does who
    unpickles it. What a child inherited is neither used nor freed.

    Args:
        folder: model folder.
        method: method that has the model loaded.
        precision: precision that was asked for; see `open_method`.
        threads: number of threads that was asked for.
    """

    def __init__(
        self,
        folder: ModelFolder,
        method: Method,
        *,
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
    ) -> None:
        self.folder = folder
        self._how: dict[str, Any] = {"precision": precision, "threads": threads}
        self._closed = False
        self._lock = Lock()
        self._method: Method | None = method
        tell_after_fork(self)

    @property
    def method(self) -> Method:
        """The method; in a forked child it is loaded on first use.

        Raises:
            ExecutionError: the model was closed.
            ModelError: its files were changed, and it has to be loaded again.
        """
        method = self._method
        if method is not None:
            return method
        with self._lock:
            if self._closed:
                raise model_closed()
            if self._method is None:
                self._method = open_method(self.folder, **self._how)
            return self._method

    def close(self) -> None:
        """Free the model."""
        with self._lock:
            self._closed = True
            if self._method is not None:
                self._method.close()
        self.folder.files.close()

    def after_fork(self) -> None:
        """Give up what the parent has loaded; see `fork`."""
        self._keep_place()
        if self._method is not None:
            never_free(self._method)
        self._method = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed:
            raise model_closed()
        self._keep_place()
        return _load_again, (self.folder, self._how)

    def _keep_place(self) -> None:
        """Remember what "auto" took, for whoever loads the model again."""
        if self._method is not None:
            self._how["backend"] = self._method.placement.backend or "auto"
            self._how["device"] = self._method.device.name


def _load_again(folder: ModelFolder, how: dict[str, Any]) -> LoadedModel:
    method = open_method(folder, **how)
    return LoadedModel(folder, method, precision=how["precision"], threads=how["threads"])
