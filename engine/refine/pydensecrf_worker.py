"""Run the pydensecrf package in other processes, as it holds the GIL during an inference."""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..fork import LIBRARIES, Lock, never_free, tell_after_fork

Kernels = Mapping[str, Mapping[str, float]]

CURE = (
    "pip install 'pnp-ovss[crf]' (needs a C++ compiler), or use the CRF that needs nothing:"
    " --crf densecrf"
    if sys.version_info < (3, 13)
    else "it does not support this Python: use 3.12, or the CRF that needs nothing: --crf densecrf"
)


def require() -> Any:
    """Import the module `pydensecrf.densecrf`.

    Raises:
        BackendError: pydensecrf2 is not installed.
    """
    try:
        return importlib.import_module("pydensecrf.densecrf")
    except ImportError as error:
        raise BackendError(f"--crf pydensecrf needs pydensecrf2: {error}", CURE) from error


def infer(
    image: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
    iterations: int,
    kernels: Kernels,
) -> npt.NDArray[np.float32]:
    """Compute mean-field marginals by pydensecrf on this thread, float32 [C, H, W].

    Args:
        image: pixels in RGB, uint8 [H, W, 3].
        probabilities: unary probabilities above 0, float32 [C, H, W].
        iterations: number of mean-field iterations.
        kernels: arguments of pydensecrf for the kernels "gaussian" and "bilateral".
    """
    labels, height, width = probabilities.shape
    crf = require().DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities).reshape(labels, -1), np.float32))
    crf.addPairwiseGaussian(**kernels["gaussian"])
    crf.addPairwiseBilateral(**kernels["bilateral"], rgbim=np.ascontiguousarray(image))
    return np.array(crf.inference(iterations), np.float32).reshape(labels, height, width)


class Processes:
    """Worker processes, one for each caller at a time; idle ones wait for the next caller.

    A forked child starts its own: two that write into one pipe would get each other's results.
    """

    def __init__(self) -> None:
        self._all: set[subprocess.Popen[bytes]] = set()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = Lock()
        tell_after_fork(self)

    def infer(self, *job: Any) -> npt.NDArray[np.float32]:
        """Call `infer` in a worker process.

        Raises:
            BackendError: the process failed, or could not be started.
        """
        process = self._take()
        try:
            _send(process.stdin, job)
            result = _receive(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise BackendError(
                f"the process that runs pydensecrf ended (exit status {self._end(process)})",
                "it may have run out of memory: scale the image down, or use --crf densecrf",
            ) from error
        except BaseException:
            self._end(process)
            raise
        with self._lock:
            self._idle.append(process)
        if isinstance(result, Exception):
            raise BackendError(f"pydensecrf failed: {result}", "use --crf densecrf") from result
        return result

    def close(self) -> None:
        """End the idle processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            self._end(process)

    def after_fork(self) -> None:
        """Forget the parent's processes: close the child's ends of their pipes, and no more."""
        for process in self._all:
            never_free(process)  # which would write what the parent has in hand
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    os.close(pipe.fileno())
        self._all, self._idle = set(), []

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            with LIBRARIES:  # no fork comes before the process is known
                process = subprocess.Popen(
                    [sys.executable, "-c", f"from {__name__} import serve; serve()"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the caller, who ends this process
                )
                self._all.add(process)
        except OSError as error:
            raise BackendError(
                f"no process could be started for pydensecrf: {error}", "use --crf densecrf"
            ) from error
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        with self._lock:
            self._all.discard(process)
        process.kill()
        with process:
            return process.wait()


def _send(stream: IO[bytes] | None, what: Any) -> None:
    assert stream is not None
    pickle.dump(what, stream, protocol=pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> Any:
    assert stream is not None
    return pickle.load(stream)


def serve() -> None:
    """Take jobs on standard input and give results on standard output, until the input ends."""
    jobs, results = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not be taken for a result
    while True:
        try:
            job = _receive(jobs)
        except EOFError:
            return
        try:
            result: Any = infer(*job)
        except Exception as error:
            result = RuntimeError(f"{type(error).__name__}: {error}")
        _send(results, result)


PROCESSES = Processes()
atexit.register(PROCESSES.close)
