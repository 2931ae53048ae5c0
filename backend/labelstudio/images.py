"""Downloads of task images. Label Studio's own files are requested with its API key.

Where images may come from stands in :mod:`backend.labelstudio.outbound`, what their addresses mean in
:mod:`backend.labelstudio.addresses`, and how fast hosts are asked in :mod:`backend.labelstudio.pacing`. Files are kept
in memory, within the budget of the process.
"""

from __future__ import annotations

import contextlib
import http.cookiejar
import threading
import time
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3.exceptions
from requests.auth import AuthBase, HTTPBasicAuth

from backend.errors import ImageError, ImageLater
from backend.labelstudio import tls
from backend.labelstudio.addresses import Addresses, is_upload, short
from backend.labelstudio.http import Connection
from backend.labelstudio.outbound import CheckedAdapter, Policy, place_of
from backend.labelstudio.pacing import HOSTS, PATIENCE_SECONDS, Hosts, retry_after
from backend.memory import budget

CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 30.0, 120.0
MAX_REDIRECTS = 10
LATER_SECONDS = 60.0
"""When an image is asked for again whose host did not respond in time."""

_CHUNK = 2**16
_TRIES = 3
_LATER = (408, 425, 429, 502, 503, 504)
"""Statuses by which a server says that the same request may succeed later."""

_FAILED = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
)


class _Status(Exception):
    """The final response is not an image: its status, and the address that it came from."""

    def __init__(self, status: int, address: str) -> None:
        super().__init__(status)
        self.status, self.address = status, address


class _NoAuth(AuthBase):
    """Keeps requests from taking a password from the user's .netrc, or the key's place."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class ImageFetcher:
    """Fetches images. Thread-safe; each thread has its own connections."""

    def __init__(
        self, connection: Connection, public_url: str = "", image_hosts: Sequence[str] = (), hosts: Hosts = HOSTS
    ) -> None:
        self._connection, self._hosts = connection, hosts
        self._policy = Policy(connection.url, tuple(image_hosts))
        self._addresses = Addresses(connection.url, public_url.strip().rstrip("/"))
        self._threads = threading.local()
        self._uploads_by_proxy = False

    def fetch(self, source: str, task_id: int | None = None) -> bytes:
        """See :meth:`backend.labelstudio.client.LabelStudio.fetch_image`."""
        candidates = self._addresses.candidates(source, task_id, by_proxy=self._uploads_by_proxy)
        failure: _Status | None = None
        for address in candidates:
            try:
                data = self._with_renewed_key(source, address)
            except _Status as error:
                failure = failure or error
                continue
            if failure is not None and is_upload(address):
                self._uploads_by_proxy = True
            return data
        assert failure is not None
        raise self._as_image_error(source, failure) from failure

    def _with_renewed_key(self, source: str, address: str) -> bytes:
        try:
            return self._download(source, address)
        except _Status as error:
            expired = error.status == 401 and self._policy.gets_key(error.address)
            if not expired or not self._connection.renew_token():
                raise
        return self._download(source, address)

    def _download(self, source: str, address: str) -> bytes:
        """The body at ``address``, after redirects. Raises _Status or ImageError."""
        deadline = time.monotonic() + TOTAL_SECONDS
        for tries_left in reversed(range(_TRIES)):
            with self._mapping_errors(source, address) as at:
                try:
                    response = self._response(address, at)
                except requests.exceptions.ConnectionError as error:
                    if tries_left and _broke_off(error):  # a connection that had been kept, for example
                        continue
                    raise
                with response:
                    host = place_of(at[0])
                    if response.status_code in _LATER:
                        self._put_off(response, host, source, at[0], again=tries_left > 0)
                        continue
                    self._hosts.answered(host)
                    if response.status_code != 200:
                        raise _Status(response.status_code, at[0])
                    return _body(response, deadline, source)
        raise AssertionError("the last try returns or raises")

    def _response(self, address: str, at: list[str]) -> requests.Response:
        """The response at the end of all redirects. ``at[0]`` is the address that is being asked."""
        for _ in range(MAX_REDIRECTS + 1):
            at[0] = address
            self._policy.check(address)
            proxy = requests.utils.select_proxy(address, requests.utils.get_environ_proxies(address))
            if proxy:
                self._policy.check_for_proxy(address)
            self._hosts.wait_for_turn(place_of(address))
            response = self._session().get(
                address,
                headers=self._headers(address),
                auth=_credentials(address),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                verify=tls.bundle(),
                stream=True,
                allow_redirects=False,
            )
            target = response.headers.get("location")
            if response.status_code not in (301, 302, 303, 307, 308) or not target:
                return response
            response.close()
            address = urljoin(address, target)
        raise ImageError(f"{short(address)}: more than {MAX_REDIRECTS} redirects")

    def _headers(self, address: str) -> dict[str, str]:
        headers = {"Accept": "image/*,*/*;q=0.8", "Accept-Encoding": "identity"}
        if self._policy.gets_key(address):
            headers["Authorization"] = self._connection.authorization()
        return headers

    def _put_off(self, response: requests.Response, host: str, source: str, address: str, *, again: bool) -> None:
        """Note that the host asks for patience. Returns if the image may be asked for ``again`` soon; else raises."""
        seconds = self._hosts.refused(host, retry_after(response.headers, time.time()))
        if again and seconds <= PATIENCE_SECONDS:
            return
        if self._policy.gets_key(address):
            self._check_label_studio()
        raise ImageLater(f"{short(source)}: {host} answered {response.status_code} (try again later)", seconds)

    def _session(self) -> requests.Session:
        if not hasattr(self._threads, "session"):
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, CheckedAdapter(self._policy, pool_maxsize=4, max_retries=0))
            session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
            self._threads.session = session
        kept: requests.Session = self._threads.session
        return kept

    # -- failures ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _mapping_errors(self, source: str, address: str) -> Iterator[list[str]]:
        """Turn what a download raises into an ImageError, unless the failure concerns all images. Yields a list with
        the address that is being asked, which changes with each redirect."""
        where, at = f"{short(source)}:", [address]
        try:
            yield at
        except _FAILED as error:
            host = place_of(at[0])
            if isinstance(error, requests.exceptions.SSLError) and tls.is_about_certificate(error):
                raise ImageError(f"{where} the certificate of {host} is not trusted: {tls.ADVICE}") from error
            if host == place_of(self._connection.url):
                self._check_label_studio()
            else:
                self._hosts.failed(host)
            timeouts = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
            if isinstance(error, timeouts) or "timed out" in str(error).lower():
                raise ImageLater(f"{where} {host} did not respond in time", LATER_SECONDS) from error
            raise ImageError(f"{where} {host} cannot be reached") from error
        except (requests.exceptions.RequestException, UnicodeError, ValueError) as error:
            raise ImageError(f"{where} {type(error).__name__}: {short(str(error))}") from error

    def _as_image_error(self, source: str, failure: _Status) -> ImageError:
        """Raises if the failure concerns more than this image."""
        status, host = failure.status, place_of(failure.address)
        if self._policy.gets_key(failure.address) and (status in (401, 403) or status >= 500):
            self._check_label_studio()
        return ImageError(f"{short(source)}: {host} answered {status}{_HINTS.get(status, '')}")

    def _check_label_studio(self) -> None:
        """Raise if Label Studio does not respond or refuses the key, which concerns more than one image."""
        self._connection.get("api/current-user/whoami", timeout=10.0)


def _body(response: requests.Response, deadline: float, source: str) -> bytes:
    """The body, part by part as it arrives, so that neither its size nor a slow server is without a limit.

    Raises:
        ImageLater: it broke off. Half a file could be decoded, and would be taken for the whole picture.
    """
    parts, size = [], int(response.headers.get("content-length") or 0)
    budget().file(size)
    received = 0
    try:
        while part := response.raw.read1(_CHUNK, decode_content=True):
            parts.append(part)
            received += len(part)
            budget().file(max(size, received))
            if time.monotonic() > deadline:
                raise requests.exceptions.ReadTimeout(f"more than {TOTAL_SECONDS:.0f} s")
        whole = received >= size or bool(response.headers.get("content-encoding"))
    except urllib3.exceptions.ProtocolError:
        whole = False
    if not whole:
        raise ImageLater(f"{short(source)}: the transfer broke off", LATER_SECONDS)
    return b"".join(parts)


def _broke_off(error: requests.exceptions.ConnectionError) -> bool:
    """Whether a connection was closed in the middle of a request, which may be repeated."""
    return "Connection aborted" in str(error) or "RemoteDisconnected" in str(error)


def _credentials(address: str) -> AuthBase:
    """A user name and password in the address itself."""
    parts = urlsplit(address)
    return HTTPBasicAuth(unquote(parts.username), unquote(parts.password or "")) if parts.username else _NoAuth()


_HINTS = {
    400: " (bad request)",
    401: " (it requires a login)",
    403: " (no access: is the storage still connected to the project?)",
    404: " (not found: was the file or its storage removed?)",
    410: " (removed)",
    500: " (a server error: was the file removed?)",
}
