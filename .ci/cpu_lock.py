"""Makes requirements-cpu.txt: ``python .ci/cpu_lock.py < requirements.txt > requirements-cpu.txt``.

Left out is what only a CUDA build of torch needs. torch and torchvision keep their versions and lose their hashes,
because their builds for the CPU are other files, from PyTorch's own index.
"""

from __future__ import annotations

import re
import sys

CUDA_ONLY = re.compile(r"(nvidia|cuda)-|triton\b")
OTHER_BUILD = re.compile(r"(torch|torchvision)==\S+")
HEADING = """# Made by `make lock` from requirements.txt, for the Docker image without CUDA:
#    python -m uv pip sync --torch-backend cpu requirements-uv.txt requirements-cpu.txt
"""


def cpu_lock(lock: str) -> str:
    """The lock file for the CPU that goes with ``lock``."""
    kept = [HEADING]
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        if CUDA_ONLY.match(block):
            continue
        other_build = OTHER_BUILD.match(block)
        kept.append(f"{other_build[0]}\n" if other_build else re.sub(r"^ +# .*\n?", "", block, flags=re.MULTILINE))
    return "".join(kept)


if __name__ == "__main__":
    sys.stdout.write(cpu_lock(sys.stdin.read()))
