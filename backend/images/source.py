"""Image sources: where the bytes of an image come from. The first source that serves an address fetches it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from backend.errors import ImageError
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings


class ImageSource(Protocol):
    """Fetches images from one kind of place. Must be thread-safe."""

    def serves(self, address: str) -> bool:
        """Whether this source can fetch ``address``, which is as it stands in a task's data."""

    def fetch(self, address: str, task_id: int) -> bytes:
        """The encoded image, as it is stored.

        Raises:
            ImageError: this image is not available; the reason is one that an owner can act on.
            BackendError: no image is available at the moment.
        """


class DataUriSource:
    """Images that are part of the task's data: ``data:image/png;base64,…``."""

    def serves(self, address: str) -> bool:
        return address.startswith("data:")

    def fetch(self, address: str, task_id: int) -> bytes:
        head, comma, body = address.partition(",")
        try:
            if not comma:
                raise ValueError("no comma")
            return base64.b64decode(body, validate=False) if head.endswith(";base64") else unquote_to_bytes(body)
        except (binascii.Error, ValueError) as error:
            raise ImageError("the image inside the task's data is damaged") from error


@dataclass(frozen=True)
class LabelStudioSource:
    """Everything that Label Studio can resolve: uploads, local files, its cloud storages, and web addresses."""

    gateway: LabelStudio

    def serves(self, address: str) -> bool:
        return True

    def fetch(self, address: str, task_id: int) -> bytes:
        return self.gateway.fetch_image(address, task_id)


def sources(gateway: LabelStudio, settings: Settings) -> tuple[ImageSource, ...]:
    """The table of sources, in the order in which they are asked whether they serve an address. ``settings`` are the
    project's."""
    return (DataUriSource(), LabelStudioSource(gateway))


def fetch_image(address: str, task_id: int, available: Sequence[ImageSource]) -> bytes:
    """The encoded image at ``address``, from the first source that serves it.

    Raises:
        ImageError, BackendError: as :meth:`ImageSource.fetch`.
    """
    address = address.strip()
    return next(source for source in available if source.serves(address)).fetch(address, task_id)
