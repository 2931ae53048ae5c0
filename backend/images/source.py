"""Where the bytes of an image come from: a table of sources, of which the first that serves an address fetches it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from backend.errors import ImageError
from backend.labelstudio.client import LabelStudio


class ImageSource(Protocol):
    """Fetches images from one kind of place. Called from several threads at once."""

    def serves(self, address: str) -> bool:
        """Whether an address, as it stands in a task's data, is of this place."""

    def fetch(self, address: str, task_id: int) -> bytes:
        """The image as it is stored, encoded.

        Raises:
            ImageError: this image cannot be had; the reason is one that an owner can act on.
            BackendError: none can be had at the moment.
        """


class DataUriSource:
    """Images inside the task's data: ``data:image/png;base64,…``."""

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
    """All that Label Studio can resolve: uploads, local files, its cloud storages, and addresses of the web."""

    gateway: LabelStudio

    def serves(self, address: str) -> bool:
        return True

    def fetch(self, address: str, task_id: int) -> bytes:
        return self.gateway.fetch_image(address, task_id)


def sources(gateway: LabelStudio) -> tuple[ImageSource, ...]:
    """The table, in the order in which sources are asked whether they serve an address."""
    return (DataUriSource(), LabelStudioSource(gateway))


def fetch_image(address: str, task_id: int, served_by: Sequence[ImageSource]) -> bytes:
    """The image at ``address``, from the first source that serves it. Raises what :meth:`ImageSource.fetch` does."""
    address = address.strip()
    return next(source for source in served_by if source.serves(address)).fetch(address, task_id)
