"""Read what the system allows this process: its control groups and its own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_STATUS = Path("/proc/self/status")


def memory_left() -> int | None:
    """Return the bytes of memory that this process may still take, by the nearest limit.

    Limits are the machine's memory, and that of each control group which the process is in, of
    version 1 or 2. The process may have limits of its own, of address space and data (`ulimit -v`,
    `ulimit -d`). What of a limit is in use is not left; files that the system keeps in memory are.

    Returns:
        None where the system tells nothing.
    """
    left: list[int] = []
    with suppress(AttributeError, ValueError, OSError):  # not a POSIX system
        left.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    left += [limit - used for limit, used in (*_of_groups(), *_of_process())]
    return max(0, min(left)) if left else None


def processor_quota() -> float | None:
    """Return the processors' time a second that control groups allow; None where they do not."""
    quotas: list[float] = []
    for folder in _folders("cpu"):
        with suppress(OSError, ValueError, IndexError, ZeroDivisionError):
            if (folder / "cpu.max").exists():  # version 2: "200000 100000", or "max 100000"
                quota, period = (folder / "cpu.max").read_text().split()[:2]
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota != "max" and int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _of_groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use of each control group, in bytes."""
    for folder in _folders("memory"):
        for limit, used in (
            ("memory.max", ("anon", "shmem")),  # version 2
            ("memory.limit_in_bytes", ("total_rss", "total_shmem")),
        ):
            with suppress(OSError, ValueError):
                most = int((folder / limit).read_text())  # "max" is no number
                yield most, _in_use(folder, used)


def _in_use(folder: Path, names: tuple[str, ...]) -> int:
    """Sum up entries of a group's `memory.stat`; 0 where it cannot be read."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    entries = dict(line.split(maxsplit=1) for line in lines)
    return sum(int(entries.get(name, 0)) for name in names)


def _of_process() -> Iterator[tuple[int, int]]:
    """Yield limit and use of the process's address space and data, in bytes."""
    if resource is None:
        return
    for kind, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield limit, _status(field)


def _status(field: str) -> int:
    """Read a size off `/proc/self/status`, in bytes; 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def _folders(controller: str) -> Iterator[Path]:
    """List the folders of the process's groups with a controller, from the innermost outwards."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controllers if controllers else _GROUPS
        group = Path(path.lstrip("/"))
        yield from (root / one for one in (group, *group.parents))
