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
        backend: "auto", or a key of `runners.BACKENDS`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: precision of the arithmetic.
        threads: number of threads that a graph may use on the CPU; None leaves it to the backend.
        method: method that has the model loaded; by default it is loaded now.

    Raises:
        ModelError: the folder lacks what the method needs, or its files were changed.
        BackendError: the backend, the device or the precision cannot be had.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        method: Method | None = None,
    ) -> None:
        self.folder = folder
        self._backend, self._device = backend, device
        self._precision: PrecisionChoice = precision
        self._threads = threads
        self._closed = False
        self._lock = Lock()
        self._method: Method | None = method or self._open()
        tell_after_fork(self)

    @property
    def method(self) -> Method:
        """The method; in a forked child it is loaded on first use.

        Raises:
            ExecutionError: the model was closed.
        """
        method = self._method
        if method is not None:
            return method
        with self._lock:
            if self._closed:
                raise model_closed()
            if self._method is None:
                self._method = self._open()
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
        how = (self._backend, self._device, self._precision, self._threads)
        return _load_again, (self.folder, *how)

    def _open(self) -> Method:
        return open_method(
            self.folder,
            backend=self._backend,
            device=self._device,
            precision=self._precision,
            threads=self._threads,
        )

    def _keep_place(self) -> None:
        """Remember what "auto" took, for whoever loads the model again."""
        if self._method is not None:
            self._backend = self._method.placement.backend or self._backend
            self._device = self._method.device.name


def _load_again(
    folder: ModelFolder, backend: str, device: str, precision: PrecisionChoice, threads: int | None
) -> LoadedModel:
    return LoadedModel(folder, backend=backend, device=device, precision=precision, threads=threads)
