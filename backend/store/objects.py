"""The object store that the setting ``store`` names: S3, Google Cloud Storage, Azure, or a folder.

Credentials are read from the variables that each of these services documents for all its programs, such as
``AWS_ACCESS_KEY_ID``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from backend.errors import StoreUnavailable
from models.files import whole_file

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRY_SECONDS = 20.0
"""How long a call is repeated before the store counts as unavailable: meanwhile a lane waits, or a request."""

IN_FLIGHT = 4
"""Objects on their way at a time, each of up to some megabytes."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PART_BYTES = 4 << 20
_AT_A_TIME = 1000


class NoObject(StoreUnavailable):
    """The store has no object of that name."""


class Objects:
    """Named objects, each of which appears completely or not at all. Safe to share between threads."""

    def __init__(self, address: str) -> None:
        """Raises StoreUnavailable if ``address`` names no store that can be used."""
        self.address = address
        with _in_words(address):
            self._store = _opened(address)

    def put(self, name: str, content: bytes | Path) -> None:
        """Store an object. It replaces one of the same name."""
        import obstore

        with _in_words(self.address):
            obstore.put(self._store, name, content)

    def get(self, name: str) -> bytes:
        """The content of an object. Raises NoObject."""
        import obstore

        with _in_words(self.address):
            return bytes(obstore.get(self._store, name).bytes())

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to a file, which appears completely or not at all. Raises NoObject."""
        import obstore

        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file, _in_words(self.address):
            for part in obstore.get(self._store, name).stream(min_chunk_size=_PART_BYTES):
                file.write(part)

    def names(self, prefix: str) -> list[str]:
        """The names of all objects in a folder, by name."""
        import obstore

        with _in_words(self.address):
            return sorted(str(found["path"]) for part in obstore.list(self._store, prefix) for found in part)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects. It does not matter if some do not exist."""
        import obstore

        for start in range(0, len(names), _AT_A_TIME):
            with _in_words(self.address):
                _delete(obstore, self._store, list(names[start : start + _AT_A_TIME]))


@lru_cache(maxsize=8)
def open_objects(address: str) -> Objects:
    """The store at an address, opened once in a process. Raises StoreUnavailable."""
    return Objects(address)


def in_threads(items: Sequence[_Item], do: Callable[[_Item], _Result]) -> Iterator[_Result]:
    """What ``do`` makes of each of ``items``, in their order, a few ahead. What it raises ends it."""
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="store") as executor:
        for start in range(0, len(items), IN_FLIGHT):
            yield from executor.map(do, items[start : start + IN_FLIGHT])


def _opened(address: str) -> ObjectStore:
    from obstore.store import LocalStore, from_url

    if "://" not in address:
        return LocalStore(Path(address).expanduser(), mkdir=True)
    if address.startswith("file://"):
        return LocalStore(address.removeprefix("file://"), mkdir=True)
    retries: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    # whether it is encrypted, the address says that the owner gave (AWS_ENDPOINT)
    options: Any = {"connect_timeout": "5s", "timeout": "120s", "allow_http": True}
    return from_url(address, retry_config=retries, client_options=options)


def _delete(obstore: Any, store: ObjectStore, names: list[str]) -> None:
    try:
        obstore.delete(store, names)
    except FileNotFoundError:  # of a folder: one was gone, and the others may still be there
        for name in names:
            try:
                obstore.delete(store, name)
            except FileNotFoundError:
                continue


@contextmanager
def _in_words(address: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise NoObject(f"The store {address} (STORE) has no such object: {_first_line(error)}") from error
    except (OSError, BaseError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # of a disk: see backend.errors.understood
        words = f"The store {address} (STORE) cannot be used: {_first_line(error)}"
        raise StoreUnavailable(words) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
