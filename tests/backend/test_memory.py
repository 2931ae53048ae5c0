"""Images share one budget of memory: whoever needs much waits, nobody waits forever, and no image takes all of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend.errors import ImageError
from backend.memory import LEAST, MIB, MemoryBudget, default_size, free_memory


def test_decoding_waits_until_the_memory_is_free() -> None:
    budget = MemoryBudget(40 * MIB)  # 20 of it for decoding
    most = taken = 0
    guard = threading.Lock()

    def one(size: int) -> None:
        nonlocal most, taken
        for _ in range(20):
            with budget.decoding(size):
                with guard:
                    taken += size
                    most = max(most, taken)
                with guard:
                    taken -= size

    threads = [threading.Thread(target=one, args=(size * MIB,)) for size in (3, 5, 8, 13, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert 0 < most <= 20 * MIB


def test_one_image_takes_its_share_at_most() -> None:
    budget = MemoryBudget(64 * MIB, threads=4)
    with pytest.raises(ImageError, match=r"takes 33 MiB of memory, and one image may take 32 MiB \(MEMORY_MB\)"):
        budget.decoding(32 * MIB + 1).__enter__()
    with pytest.raises(ImageError, match=r"the file has more than 16 MiB \(MEMORY_MB\)"):
        budget.file(16 * MIB + 1)


def test_one_large_file_at_a_time_is_on_its_way() -> None:
    budget = MemoryBudget(64 * MIB, threads=4)
    assert budget.each == 4 * MIB
    begun, second = threading.Event(), threading.Event()

    def another() -> None:
        with budget.image():
            budget.file(4 * MIB)  # small ones never wait
            begun.set()
            budget.file(5 * MIB)
            second.set()

    thread = threading.Thread(target=another)
    with budget.image():
        budget.file(10 * MIB)
        thread.start()
        assert begun.wait(30)
        assert not second.wait(0.1)
        with budget.decoding(32 * MIB):  # and whoever has its file can decode it
            pass
    assert second.wait(30)
    thread.join(30)
    with budget.image():
        budget.file(10 * MIB)  # given back


def test_the_default_is_a_quarter_of_what_is_free_for_the_container(tmp_path: Path) -> None:
    for folder in ("proc/self", "sys/fs/cgroup/outer/inner"):
        (tmp_path / folder).mkdir(parents=True)
    assert free_memory(tmp_path) >= LEAST  # a system that says nothing
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   8388608 kB\n")
    assert free_memory(tmp_path) == 8192 * MIB
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    groups = tmp_path / "sys/fs/cgroup"
    (groups / "outer/inner/memory.max").write_text("max\n")
    (groups / "outer/memory.max").write_text(f"{3000 * MIB}\n")
    (groups / "outer/memory.current").write_text(f"{1000 * MIB}\n")
    assert free_memory(tmp_path) == 2000 * MIB
    (tmp_path / "proc/self/cgroup").write_text("5:cpu,memory:/docker\n")
    (groups / "memory/docker").mkdir(parents=True)
    (groups / "memory/docker/memory.limit_in_bytes").write_text(f"{600 * MIB}")
    (groups / "memory/docker/memory.usage_in_bytes").write_text(f"{100 * MIB}")
    assert free_memory(tmp_path) == 500 * MIB
    assert default_size() >= LEAST


PEAK = """
import io, resource, sys
import numpy as np
from PIL import Image
from backend import memory
from backend.images.decoding import decode, decode_whole
memory.configure(3000, 8)
side, mode, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
file = io.BytesIO()
image = Image.new(mode, (side, side))
image.save(file, kind, **({"progressive": True} if kind == "JPEG" else {}))
del image
data = file.getvalue()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(data), before // 1024, flush=True)
open("/proc/self/clear_refs", "w").write("5")
decode(data, 224), decode_whole(data, (512, 512))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGBA", "PNG"),
        pytest.param("P", "PNG", marks=pytest.mark.long),
        pytest.param("RGB", "WEBP", marks=pytest.mark.long),
        ("RGB", "JPEG"),
    ],
)
def test_a_large_picture_takes_one_copy_of_its_pixels(mode: str, kind: str) -> None:
    """A PNG of 6,000×6,000 transparent pixels used to take five: RGBA, a white layer, both combined, and RGB."""
    side = 6000
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(side), mode, kind], capture_output=True, text=True, check=True
    )
    peak = int(run.stdout.split()[-1])
    copies = {"WEBP": 4, "JPEG": 2}.get(kind, 1)
    assert peak < 220 + copies * side * side * 4 // 2**20
