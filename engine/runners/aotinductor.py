"""Packages of AOTInductor: compiled PyTorch, on a CPU or a GPU. This needs PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import engines
from ..artifact import SALIENCE, Artifact
from ..device import Array, Device
from ..errors import BackendError, ExecutionError, reason
from . import PrecisionChoice

TARGET = "aotinductor"
_INSTALL = "pip install 'pnp-ovss[aotinductor]'"
_INPUTS = {
    "vision": ("pixel_values",),
    "salience": ("image_embeds", "input_ids", "attention_mask", "patch_keep"),
}


def open_package(
    model: Artifact, graph: str, device: Device, precision: PrecisionChoice
) -> AotInductorRunner:
    """The package of a model's graph that was built for this device.

    Raises:
        BackendError: PyTorch is not installed, or there is no such package.
    """
    if importlib.util.find_spec("torch") is None:
        raise BackendError(f"{TARGET} needs PyTorch, which is not installed", _INSTALL)
    built = any(one.record.recipe.target == TARGET for one in engines.recorded(model))
    path, _ = engines.find(
        model,
        graph,
        target=TARGET,
        architecture=architecture(device) if built else device.architecture,
        version=lambda: str(_torch().__version__),
        precision=precision,
    )
    return AotInductorRunner(path, "salience" if graph == SALIENCE else "vision", device)


def architecture(device: Device) -> str:
    """What a package is compiled for: of a CPU its vector instructions, "cpu-avx512" and the like.

    Raises:
        BackendError: PyTorch cannot be imported, or cannot use the GPU.
    """
    torch = _torch()
    if device.index is None:
        isa = importlib.import_module("torch._inductor.cpu_vec_isa").pick_vec_isa()
        return "-".join(["cpu", *str(isa or "scalar").split()])
    if not torch.cuda.is_available():
        raise BackendError(
            f"PyTorch {torch.__version__} finds no GPU", "install a build of it with CUDA"
        )
    return device.architecture


class AotInductorRunner:
    """One package. Arrays go in and come out without copies.

    Args:
        path: of the package.
        graph: "vision" or "salience".
        device: that it was built for.

    Raises:
        BackendError: PyTorch refuses the package.
    """

    def __init__(self, path: Path, graph: str, device: Device) -> None:
        self.device = device
        self._graph = graph
        self._torch = _torch()
        load = importlib.import_module("torch._inductor").aoti_load_package
        try:
            index = -1 if device.index is None else device.index
            self._package: Any = load(str(path), device_index=index)
        except Exception as error:  # PyTorch's RuntimeError, or the loader's
            raise BackendError(
                f"PyTorch {self._torch.__version__} cannot load '{path}': {reason(error)}",
                f"pnp-ovss build '{path.parent.parent}' --target {TARGET} --overwrite",
            ) from error

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`; all outputs are computed."""
        if self._package is None:
            raise ExecutionError("the model was closed", "load it again")
        torch, images = self._torch, len(feeds.get("image_embeds", ()))
        inputs = [torch.from_dlpack(feeds[name]) for name in _INPUTS[self._graph]]
        if images:  # captions by picture: one each, or all about one
            inputs[1:3] = [ids.reshape(images, -1, ids.shape[-1]) for ids in inputs[1:3]]
        stream = self.device.stream
        queue = torch.cuda.ExternalStream(stream.ptr) if stream else None
        try:
            with torch.no_grad(), torch.cuda.stream(queue):  # of no stream it does nothing
                found = self._package(*inputs)
        except RuntimeError as error:
            raise ExecutionError(
                f"{TARGET} failed on {self.device.name}: {reason(error)}",
                "if memory ran out, take a smaller --batch-size; else build the package again",
            ) from error
        return {name: self.device.xp.from_dlpack(found[name]) for name in outputs or found}

    def close(self) -> None:
        """See `Runner.close`."""
        self._package = None


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise BackendError(f"PyTorch cannot be imported: {reason(error)}", _INSTALL) from error
