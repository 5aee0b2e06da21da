from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pnp_ovss.engine import InputError, limits, memory
from pnp_ovss.engine.processors import processors, thread_count

GIB = 2**30


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Control groups in place of the system's; this process is in none yet."""
    monkeypatch.setattr(limits, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "_MEMBERSHIP", tmp_path / "membership")
    (tmp_path / "membership").write_text("")
    return tmp_path


def join(groups: Path, line: str, folder: str, **files: str) -> None:
    """Put this process into a group."""
    with (groups / "membership").open("a") as file:
        file.write(f"{line}\n")
    place = groups / "cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text)


@pytest.fixture
def eight_gib(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 GiB."""
    values = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}
    monkeypatch.setattr(limits.os, "sysconf", values.__getitem__)


@pytest.mark.usefixtures("eight_gib")
def test_work_that_the_machine_cannot_hold_is_refused():
    memory.require_memory(8 * GIB, "this", "do less")
    with pytest.raises(InputError, match=r"this needs about 9.0 GiB .* there are 8.0") as caught:
        memory.require_memory(9 * GIB, "this", "do less")
    assert caught.value.cure == "do less"


@pytest.mark.usefixtures("eight_gib")
def test_the_error_never_says_that_as_much_is_needed_as_there_is():
    with pytest.raises(InputError, match=r"about 8.1 GiB .* there are 8.0 GiB"):
        memory.require_memory(8 * GIB + 1, "this", "do less")


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_nothing_is_refused_where_the_system_does_not_tell(monkeypatch, error):
    def unknown(_name: str) -> int:
        raise error

    monkeypatch.setattr(limits.os, "sysconf", unknown)
    memory.require_memory(2**80, "this", "do less")


@pytest.mark.usefixtures("eight_gib")
def test_a_group_s_limit_counts_less_what_is_in_use_there(groups: Path):
    stat = f"anon {GIB}\nfile {7 * GIB}\nshmem 0\n"
    files = {"memory__max": str(4 * GIB), "memory__stat": stat}
    join(groups, "0::/pod/container", "pod/container", **files)
    assert limits.memory_left() == 3 * GIB


@pytest.mark.usefixtures("eight_gib")
def test_the_limit_of_an_outer_group_counts(groups: Path):
    join(groups, "0::/pod/container", "pod/container", memory__max="max\n")
    join(groups, "", "pod", memory__max=str(2 * GIB))
    (groups / "membership").write_text("0::/pod/container\n")
    assert limits.memory_left() == 2 * GIB


@pytest.mark.usefixtures("eight_gib")
def test_a_group_of_version_1(groups: Path):
    stat = f"total_rss {GIB}\ntotal_cache {9 * GIB}\n"
    files = {"memory__limit_in_bytes": str(3 * GIB), "memory__stat": stat}
    join(groups, "4:memory:/docker/abc", "memory/docker/abc", **files)
    assert limits.memory_left() == 2 * GIB


@pytest.mark.usefixtures("eight_gib")
def test_a_group_that_is_seen_from_within(groups: Path):
    """In a container the root of the groups is the container's own."""
    join(groups, "0::/../../pod", ".", memory__max=str(GIB))
    assert limits.memory_left() == GIB


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_process_s_own_limit_counts(kind: str):
    code = f"""
import resource
from pnp_ovss.engine import limits
resource.setrlimit(resource.{kind}, (3 * 2**30, 3 * 2**30))
print(limits.memory_left())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2 * GIB < int(done.stdout) < 3 * GIB


def test_processors_are_no_more_than_the_quota(groups: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    assert processors() == 64
    join(groups, "0::/pod", "pod", cpu__max="400000 100000\n")
    assert processors() == 4
    (groups / "cgroup/pod/cpu.max").write_text("50000 100000\n")
    assert processors() == 1
    (groups / "cgroup/pod/cpu.max").write_text("max 100000\n")
    assert processors() == 64


def test_the_quota_of_version_1(groups: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    files = {"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}
    join(groups, "2:cpu,cpuacct:/a", "cpu,cpuacct/a", **files)
    assert processors() == 64
    (groups / "cgroup/cpu,cpuacct/a/cpu.cfs_quota_us").write_text("300000\n")
    assert processors() == 3


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_that_are_no_number_of_threads(threads):
    with pytest.raises(InputError, match="threads is"):
        thread_count(threads)


def test_threads_are_what_was_asked_for():
    assert thread_count(3) == 3
    assert thread_count(None) == processors()
