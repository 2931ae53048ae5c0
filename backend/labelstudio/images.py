"""Downloads of task images, through the SDK's resolver. Label Studio's own files are requested with its API key."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from backend.errors import ImageError
from backend.labelstudio.http import Connection

CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 30.0, 300.0
MAX_BYTES = 256 * 2**20
_CHUNK = 2**18

_GIVE_UP_AFTER, _GIVE_UP_SECONDS = 3, 60.0
"""A host that cannot be reached this often in a row is not tried again for a minute."""

_CONNECTION_ERRORS = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
_OF_THIS_IMAGE = (None, errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
"""OS errors that concern a single file; any other, such as a full disk, concerns all images."""

_CLOUD = ("s3:", "gs:", "azure-blob:")


class _TooLarge(Exception):
    """The file is larger than ``MAX_BYTES``."""


class _Session(requests.Session):
    """The session that the SDK's resolver downloads with: it adds timeouts, a size limit and retries.

    The resolver itself waits forever, and reads whatever arrives into memory.
    """

    def __init__(self) -> None:
        super().__init__()
        retries = Retry(
            total=2,
            connect=1,
            read=1,
            backoff_factor=0.2,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=("GET",),
            raise_on_status=False,
            respect_retry_after_header=False,
            redirect=None,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=4, max_retries=retries))

    def get(self, url: str | bytes, **options: Any) -> requests.Response:
        options |= {"timeout": (CONNECT_SECONDS, READ_SECONDS), "stream": True}
        response = super().get(url, **options)
        deadline = time.monotonic() + TOTAL_SECONDS
        parts, size = [], 0
        with response:
            for part in response.iter_content(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > MAX_BYTES:
                    raise _TooLarge
                if time.monotonic() > deadline:
                    raise requests.exceptions.ReadTimeout(f"more than {TOTAL_SECONDS:.0f} s", request=response.request)
        response._content = b"".join(parts)  # what ``response.content`` returns, as if it had read the body itself
        return response


@functools.cache
def _resolver() -> Any:
    from label_studio_sdk._extensions.label_studio_tools.core.utils import io  # here: the SDK takes seconds to import

    logging.getLogger(io.__name__).setLevel(logging.ERROR)  # it logs a line or a warning for each image
    return io


class ImageFetcher:
    """Fetches images. Thread-safe; each thread has its own connections."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._host = urlsplit(connection.url).netloc
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}
        self._uploads_by_proxy = False

    def fetch(self, source: str, task_id: int | None = None, scratch: Path | None = None) -> bytes:
        """See :meth:`backend.labelstudio.client.LabelStudio.fetch_image`."""
        source = source.strip()
        if source.startswith(_CLOUD) and task_id is None:
            raise ImageError(f"{_short(source)} is in a cloud storage, which requires its task's id")
        address = self._address(source)
        try:
            host = urlsplit(address).netloc if address.startswith("http") else self._host
        except ValueError as error:
            raise ImageError(f"{_short(source)} is not a web address") from error
        self._skip_unreachable(host)
        with self._mapping_errors(source, host):
            try:
                return self._resolve(source, address, task_id, scratch)
            except requests.exceptions.HTTPError as error:
                expired = error.response.status_code == 401 and urlsplit(error.response.url).netloc == self._host
                if not expired or not self._connection.renew_access_token():
                    raise
            return self._resolve(source, address, task_id, scratch)

    def _address(self, source: str) -> str:
        """The address for the resolver. A source that starts with "/" is Label Studio's, as on its own pages."""
        if source.startswith(("http://", "https://", *_CLOUD)):
            return source
        if source.startswith(("upload/", "/upload/")):
            return f"{self._connection.url}/data/{source.lstrip('/')}"
        if source.startswith("/data/") and "?d=" in source:
            return source  # local storage: read from disk if LOCAL_FILES_DOCUMENT_ROOT is set
        if source.startswith("/"):
            return self._connection.url + source
        if "://" in source:
            raise ImageError(
                f"{_short(source)} is in a storage that is not supported: use uploads, S3, GCS, Azure or http"
            )
        raise ImageError(f'"{_short(source)}" is a relative path: use a web address, an upload or a storage')

    def _resolve(self, source: str, address: str, task_id: int | None, scratch: Path | None) -> bytes:
        """Download an image. Uploads on Label Studio's own disk have an address; those in a bucket need its proxy.

        Given an upload, the resolver tries the proxy first, which fails in most installations: 88 ms instead of 24. So
        it is given the address instead, until the proxy turns out to be what works.
        """
        upload = source.startswith(("/data/upload/", "/upload/", "upload/"))
        if upload and self._uploads_by_proxy:
            return self._download(source, None, scratch)
        try:
            return self._download(address, task_id, scratch)
        except requests.exceptions.HTTPError as error:
            if not upload:
                raise
            try:
                data = self._download(source, None, scratch)
            except requests.exceptions.HTTPError:
                raise error from None
        self._uploads_by_proxy = True
        return data

    def _download(self, address: str, task_id: int | None, scratch: Path | None) -> bytes:
        io = _resolver()
        # A directory for each download: the resolver keeps files, and two threads may fetch the same one.
        with tempfile.TemporaryDirectory(prefix="image-", dir=scratch) as directory, io.http_session(self._session()):
            path = io.get_local_path(
                address,
                cache_dir=directory,
                image_dir=str(Path(directory) / "none"),  # otherwise it looks for uploads in the home directory
                hostname=self._connection.url,
                access_token=self._connection.access_token(),
                task_id=task_id,
            )
            return Path(path).read_bytes()

    def _session(self) -> _Session:
        if not hasattr(self._threads, "session"):
            self._threads.session = _Session()
        session: _Session = self._threads.session
        return session

    # -- failures ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _mapping_errors(self, source: str, host: str) -> Iterator[None]:
        """Turn what a download raises into an ImageError, unless the failure concerns all images."""
        where = f"{_short(source)}:"
        try:
            yield
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code
            final_host = urlsplit(error.response.url).netloc  # after redirects, for example to a cloud bucket
            if final_host == self._host and (status in (401, 403) or status >= 500):
                self._check_label_studio()
            raise ImageError(f"{where} {final_host} answered {status}{_HINTS.get(status, '')}") from error
        except _CONNECTION_ERRORS as error:
            request = error.request
            final_host = urlsplit(request.url).netloc if request is not None and request.url else host
            self._count_failure(final_host)
            if final_host == self._host:
                self._check_label_studio()
            late = isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error).lower()
            what = "did not respond in time" if late else "cannot be reached"
            raise ImageError(f"{where} {final_host} {what}") from error
        except _TooLarge as error:
            raise ImageError(f"{where} more than {MAX_BYTES // 2**20} MiB") from error
        except OSError as error:  # includes errors of requests
            if not isinstance(error, requests.exceptions.RequestException) and error.errno not in _OF_THIS_IMAGE:
                raise
            raise ImageError(f"{where} {type(error).__name__}: {_short(str(error))}") from error
        except ValueError as error:
            raise ImageError(f"{where} {_short(str(error))}") from error
        else:
            if self._failures:
                with self._lock:
                    self._failures.pop(host, None)

    def _check_label_studio(self) -> None:
        """Raise if Label Studio does not respond or refuses the key, which concerns more than one image."""
        self._connection.get("api/current-user/whoami", timeout=10.0)

    def _skip_unreachable(self, host: str) -> None:
        """Raise ImageError if the host could not be reached several times in a row."""
        count, until = self._failures.get(host, (0, 0.0))
        if host != self._host and count >= _GIVE_UP_AFTER and time.monotonic() < until:
            raise ImageError(f"{host} could not be reached a moment ago")

    def _count_failure(self, host: str) -> None:
        with self._lock:
            count = self._failures.get(host, (0, 0.0))[0] + 1
            self._failures[host] = (count, time.monotonic() + _GIVE_UP_SECONDS)


_HINTS = {
    400: " (bad request)",
    401: " (it requires a login)",
    403: " (no access: is the storage still connected to the project?)",
    404: " (not found: was the file or its storage removed?)",
    410: " (removed)",
    500: " (a server error: was the file removed?)",
}


def _short(text: str) -> str:
    """``text`` for a message: one line of limited length, without passwords, and without queries, which may contain a
    signature."""
    text = re.sub(r"(?<=://)[^/@\s]*@", "", " ".join(text.split()))
    text = re.sub(r"(://[^?\s]*)\?\S*", r"\1", text)
    return text if len(text) <= 160 else text[:157] + "..."
