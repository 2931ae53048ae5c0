"""Image sources: where the bytes of an image come from. The first source that serves an address fetches it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from backend.errors import ImageError
from backend.labelstudio.client import LabelStudio
from backend.memory import budget
from backend.settings.core import Settings

_BASE64 = re.compile(r"; *base64 *$", re.IGNORECASE)


class ImageSource(Protocol):
    """Fetches images from one kind of place. Must be thread-safe."""

    def serves(self, address: str) -> bool:
        """Whether this source can fetch ``address``, which is as it stands in a task's data."""

    def fetch(self, address: str, task_id: int) -> bytes:
        """The encoded image, as it is stored.

        Raises:
            ImageError: this image is not available; the reason is one that an owner can act on.
            ImageLater: it may be, later.
            BackendError: no image is available at the moment.
        """


class DataUriSource:
    """Images that are part of the task's data: ``data:image/png;base64,…``, read as browsers read it: percent-encoded
    or not, with or without the padding of base64."""

    def serves(self, address: str) -> bool:
        return address[:5].lower() == "data:"

    def fetch(self, address: str, task_id: int) -> bytes:
        head, comma, body = address.partition("#")[0].partition(",")
        budget().file(len(body))
        try:
            if not comma:
                raise ValueError("no comma")
            data = unquote_to_bytes(body)
            if not _BASE64.search(head):
                return data
            data = b"".join(data.split())
            if len(data) % 4 == 0:
                data = data.removesuffix(b"=").removesuffix(b"=")
            return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
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
