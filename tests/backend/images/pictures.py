"""Files of plain images. Programs that tests start and kill import this, and not pytest."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(color: Any, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, color)


def gray(value: int) -> bytes:
    return encoded(plain(value, (32, 32), "L"))


def side_of(task: int) -> tuple[int, int]:
    """(height, width) of a task's image in what follows."""
    return 20 + task % 7, 30 + task % 5


def framed(task: int, source: str) -> bytes:
    high, wide = side_of(task)
    return encoded(plain(int(source), (wide, high), "L"))
