"""Fixed shapes: a batch of any size runs in buckets, as engines and CUDA graphs want it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..device import Array, Device
from ..errors import BackendError, ExecutionError

Profile = Mapping[str, int]
"""Sizes of dynamic dimensions: "batch", "tokens", and "images", which is the batch or 1."""

_AXES = {  # the dynamic dimensions of inputs and outputs, which come first
    "pixel_values": ("batch",),
    "patch_keep": ("images",),
    "input_ids": ("batch", "tokens"),
    "attention_mask": ("batch", "tokens"),
    "itm_logits": ("batch",),
    "salience": ("batch", "tokens"),
}
_EMBEDS = "image_embeds"  # "images" of the matching branch, which it goes into; else "batch"


@dataclass(eq=False)
class Bucket:
    """A graph at fixed shapes, between arrays that stay where they are.

    Attributes:
        inputs: by name.
        outputs: by name.
        step: queues the graph, from inputs to outputs.
        held: what must live as long.
        graph: the step as a CUDA graph, once it was captured.
        runs: so far.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    step: Callable[[], None]
    held: Any = None
    graph: Any = None
    runs: int = 0


class BucketRunner(ABC):
    """A `Runner` that pads what it is fed to the next of its shapes, or splits it up.

    On a GPU the second run of each bucket is captured as a CUDA graph, which later runs replay.

    Args:
        device: where it runs.
        profiles: the shapes that there are, one a bucket.
        capture: whether CUDA graphs are captured here.
        cure: what a user does who needs longer captions than there are buckets for.
    """

    def __init__(
        self, device: Device, profiles: Sequence[Profile], *, capture: bool = True, cure: str
    ) -> None:
        self.device = device
        self._profiles = profiles
        self._buckets: dict[int, Bucket] = {}
        self._capture = capture and device.stream is not None
        self._cure = cure
        self._closed = False

    @abstractmethod
    def _make(self, profile: int) -> Bucket:
        """The bucket of a profile, by its place in `profiles`, when it is first needed."""

    @property
    def graphs(self) -> int:
        """How many CUDA graphs have been captured."""
        return sum(bucket.graph is not None for bucket in self._buckets.values())

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`."""
        sizes = {
            axis: feed.shape[place]
            for name, feed in feeds.items()
            for place, axis in enumerate(_axes(name, into=True))
        }
        parts = list(plan(sizes, self._profiles, self._cure))
        if len(parts) == 1:
            return self._run(parts[0], feeds, sizes, outputs)
        whole: dict[str, Array] = {}
        for part in parts:
            for name, value in self._run(part, feeds, sizes, outputs).items():
                if name not in whole:
                    shape = (sizes["batch"], *value.shape[1:])
                    whole[name] = self.device.xp.empty(shape, value.dtype)
                whole[name][part.rows] = value
        return whole

    def close(self) -> None:
        """See `Runner.close`."""
        self._buckets.clear()
        self._closed = True

    def _run(
        self,
        part: Part,
        feeds: Mapping[str, Array],
        sizes: Profile,
        outputs: Sequence[str] | None,
    ) -> dict[str, Array]:
        if self._closed:
            raise ExecutionError("the model was closed", "load it again")
        if part.profile not in self._buckets:
            self._buckets[part.profile] = self._make(part.profile)
        bucket = self._buckets[part.profile]
        for name, feed in feeds.items():
            shared = len(feed) < sizes["batch"]  # one picture of many captions
            own = feed if shared else feed[part.rows]
            fixed = bucket.inputs[name]
            if own.shape != fixed.shape:
                fixed.fill(0)
            fixed[tuple(map(slice, own.shape))] = own
        self._launch(bucket)
        rows = part.rows.stop - part.rows.start
        found: dict[str, Array] = {}
        for name in outputs or bucket.outputs:
            value = bucket.outputs[name][:rows]
            if "tokens" in _axes(name):
                value = self.device.xp.ascontiguousarray(value[:, : sizes["tokens"]])
            found[name] = value
        return found

    def _launch(self, bucket: Bucket) -> None:
        bucket.runs += 1
        if self._capture and bucket.runs == 2:  # the first run has made all that is made once
            bucket.graph = self._captured(bucket.step)
        if bucket.graph is None:
            bucket.step()
        else:
            bucket.graph.launch(self.device.stream)

    def _captured(self, step: Callable[[], None]) -> Any:
        """The step as a CUDA graph, which has not run yet; None where it cannot be captured."""
        runtime, stream = self.device.xp.cuda.runtime, self.device.stream
        stream.begin_capture(runtime.streamCaptureModeThreadLocal)
        try:
            step()
        except ExecutionError:
            self._capture = False
        try:
            graph = stream.end_capture()
        except runtime.CUDARuntimeError:  # what was queued cannot be captured
            self._capture = False
        return graph if self._capture else None


class Part(NamedTuple):
    """Rows of a batch, and the place of the profile that they run in."""

    profile: int
    rows: slice


def plan(sizes: Profile, profiles: Sequence[Profile], cure: str) -> Iterator[Part]:
    """What runs where: every row once.

    Captions are padded to the shortest tokens that hold them. Rows go into the smallest bucket
    that holds them, if they fill more than half of it, or if there is no smaller one; else as many
    as fit into the largest that they fill, and the rest likewise.

    Args:
        sizes: of the whole batch.
        profiles: the shapes that there are.
        cure: for who has captions that are too long.

    Raises:
        BackendError: there is no profile for captions of this length.
    """
    shared = sizes.get("images", sizes["batch"]) < sizes["batch"]
    lengths = {profile.get("tokens", 0) for profile in profiles}
    tokens = min((n for n in lengths if n >= sizes.get("tokens", 0)), default=None)
    if tokens is None:
        raise BackendError(
            f"a caption has {sizes['tokens']} tokens, and this engine takes {max(lengths)} at most",
            cure,
        )
    places = {
        profile["batch"]: place
        for place, profile in enumerate(profiles)
        if profile.get("tokens", 0) == tokens
        and profile.get("images", profile["batch"]) == (1 if shared else profile["batch"])
    }
    start = 0
    while start < sizes["batch"]:
        left = sizes["batch"] - start
        above = min((size for size in places if size >= left), default=None)
        below = max((size for size in places if size < left), default=None)
        size = below if above is None or (below and 2 * left <= above) else above
        assert size is not None  # there is a profile of some batch
        stop = min(start + size, sizes["batch"])
        yield Part(places[size], slice(start, stop))
        start = stop


def _axes(name: str, *, into: bool = False) -> tuple[str, ...]:
    if name == _EMBEDS:
        return ("images",) if into else ("batch",)
    return _AXES[name]
