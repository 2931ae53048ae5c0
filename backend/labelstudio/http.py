"""Calls to Label Studio through its SDK's client: one way to authenticate, to wait, to try again and to fail.

The SDK's typed methods are passed by on purpose. They try a write again after a dropped connection, which would write
predictions twice; they build a model for every row (30,000 predictions: 5.2 s against 3.1 s); and some routes that are
needed have none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from backend.errors import BackendError, LabelStudioRefused, LabelStudioUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_AFTER = (0.3, 1.0)
"""Seconds before a call that may be repeated is made for the second and the third time."""

CONNECT_SECONDS = 5.0
_EXCHANGE = "api/token/refresh/"
_SET_KEY = "set LABEL_STUDIO_API_KEY to a personal access token (Label Studio: Account & Settings)"


class NotFound(LabelStudioRefused):
    """404: what was asked for is not there (any more), or is not this user's."""


class Connection:
    """One Label Studio and one key. Safe to share between threads; connects at the first call, not before."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self.url, self.timeout = url.strip().rstrip("/"), timeout
        self._token = token.strip()
        self._client: Any = None
        self._guard = threading.Lock()

    @property
    def shown_url(self) -> str:
        """The address without a password that may be in it."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def get(self, path: str, *, patient: bool = True, timeout: float | None = None, **params: Any) -> Any:
        """The JSON answer of a GET, tried up to three times when Label Studio cannot be reached."""

        def once() -> Any:
            return self._send("GET", path, params=params, timeout=timeout)

        return self.patiently(once) if patient else once()

    def post(self, path: str, body: Any, *, timeout: float | None = None) -> Any:
        """The JSON answer of a POST. Sent exactly once: see ``LabelStudioUnavailable.maybe_written``."""
        return self._send("POST", path, body=body, timeout=timeout)

    def patch(self, path: str, body: Any) -> Any:
        """The JSON answer of a PATCH, which may be repeated: it sets what it sets."""
        return self.patiently(lambda: self._send("PATCH", path, body=body))

    def delete(self, path: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """The JSON answer of a DELETE, which may be repeated."""
        return self.patiently(lambda: self._send("DELETE", path, body=body, timeout=timeout))

    def stream(self, path: str, *, timeout: float | None = None, **params: Any) -> Iterator[dict[str, Any]]:
        """The objects of a JSON array, one by one as they arrive: memory stays flat whatever the length."""
        self.access_token()
        options = self._options(timeout)
        with (
            self._mapping_errors("GET", path),
            self._client._client_wrapper.httpx_client.stream(
                path, method="GET", params=params, request_options=options
            ) as response,
        ):
            if response.status_code != 200:
                response.read()
                self._check(response, path)
            yield from _objects(response.iter_text(), self.shown_url)

    def patiently(self, call: Callable[[], T]) -> T:
        """``call()``, again after a short while when Label Studio cannot be reached. For what may be repeated only."""
        for seconds in RETRY_AFTER:
            try:
                return call()
            except LabelStudioUnavailable as error:
                log.debug("Trying again in %s s: %s", seconds, error)
                time.sleep(seconds)
        return call()

    def access_token(self) -> str:
        """The token that calls carry: a short-lived one, got for the personal access token, or the legacy one."""
        with self._mapping_errors("POST", _EXCHANGE, writes=False):
            return str(self._sdk()._client_wrapper._tokens_client.api_key)

    def renew_access_token(self) -> bool:
        """Forget a short-lived token that was refused before its time (our clock is late); False for a legacy token."""
        tokens = self._client._client_wrapper._tokens_client
        if tokens._use_legacy_token:
            return False
        tokens._access_token = None
        return True

    # -- inside ------------------------------------------------------------------------------------------------------

    def _sdk(self) -> Any:
        """The SDK's client. Raises LabelStudioRefused when address or key cannot be right."""
        with self._guard:
            if self._client is None:
                address = urlsplit(self.url)
                if address.scheme not in ("http", "https") or not address.hostname:
                    where = f'"{self.shown_url}" is no web address' if self.url else "no address is set"
                    raise LabelStudioRefused(
                        f"Label Studio cannot be called, {where}: set LABEL_STUDIO_URL, such as http://localhost:8080"
                    )
                if not self._token:
                    raise LabelStudioRefused(f"There is no API key for Label Studio at {self.shown_url}: {_SET_KEY}")
                if not self._token.isascii() or not self._token.isprintable() or " " in self._token:
                    raise LabelStudioRefused(f"The API key has characters that no key has: {_SET_KEY}")
                self._client = self._new_client()
        return self._client

    def _new_client(self) -> Any:
        from label_studio_sdk.client import LabelStudio  # here: the SDK takes seconds to import

        def judge_exchange(response: httpx.Response) -> None:
            # The SDK reads JSON from whatever answers the token exchange: a proxy's "502" would come out as nonsense.
            if response.url.path.endswith(_EXCHANGE) and response.status_code != 200:
                response.read()
                self._check(response, _EXCHANGE)

        # Label Studio's own server sends an answer in pieces; on a connection that is used again the second one waits
        # 40 ms for the delayed acknowledgement of the first. A new one costs next to nothing, unless it is encrypted.
        kept = 0 if urlsplit(self.url).scheme == "http" else 20
        http = httpx.Client(
            timeout=httpx.Timeout(self.timeout, connect=min(CONNECT_SECONDS, self.timeout)),
            limits=httpx.Limits(max_keepalive_connections=kept, max_connections=100),
            follow_redirects=False,  # followed, a POST would turn into a GET
            event_hooks={"response": [judge_exchange]},
        )
        # the slash at the end keeps a path in the address when the token is exchanged
        return LabelStudio(base_url=self.url + "/", api_key=self._token, max_retries=0, httpx_client=http)

    def _options(self, timeout: float | None) -> dict[str, Any]:
        seconds = timeout or self.timeout
        return {"timeout": httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)), "max_retries": 0}

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
        fresh: bool = False,
    ) -> Any:
        self.access_token()
        content = (
            {}
            if body is None
            else {"content": json.dumps(body, allow_nan=False), "headers": {"content-type": "application/json"}}
        )
        with self._mapping_errors(method, path):
            response = self._client._client_wrapper.httpx_client.request(
                path, method=method, params=params, request_options=self._options(timeout), **content
            )
        if response.status_code == 401 and not fresh and self.renew_access_token():
            return self._send(method, path, params=params, body=body, timeout=timeout, fresh=True)
        self._check(response, path)
        if response.status_code == 204 or not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise self._not_label_studio() from None

    @contextlib.contextmanager
    def _mapping_errors(self, method: str, path: str, *, writes: bool | None = None) -> Iterator[None]:
        """Everything that the SDK and its transport raise becomes one of ours, without a token in its words."""
        from label_studio_sdk.core.api_error import ApiError

        writes = method != "GET" if writes is None else writes
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise LabelStudioUnavailable(f"Label Studio at {self.shown_url} cannot be reached ({error})") from error
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as error:
            what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "broke off"
            words = f"Label Studio at {self.shown_url} {what} ({method} {path})"
            raise LabelStudioUnavailable(words, maybe_written=writes) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # not its words: they may quote a header
            words = f"Label Studio at {self.shown_url} cannot be called ({type(error).__name__})"
            raise LabelStudioRefused(f"{words}: is LABEL_STUDIO_URL right?") from error
        except ApiError as error:  # the SDK refuses an expired key before it calls anything
            raise LabelStudioRefused(f"The API key is not valid or has expired: {_SET_KEY}") from error
        except ValueError as error:  # no JSON where JSON must be
            raise self._not_label_studio() from error

    def _check(self, response: httpx.Response, path: str) -> None:
        """Raise what a status other than 2xx means."""
        status = response.status_code
        if 200 <= status < 300:
            return
        what = f"{response.request.method} {path}: {status}"
        words = _words(response)
        if status in (408, 429) or status >= 500:
            writes = response.request.method != "GET" and status != 429 and path != _EXCHANGE
            raise LabelStudioUnavailable(
                f"Label Studio at {self.shown_url} failed ({what}{words})", maybe_written=writes
            )
        if 300 <= status < 400:
            raise LabelStudioRefused(
                f"Label Studio at {self.shown_url} has moved to {response.headers.get('location', 'elsewhere')}: "
                "set LABEL_STUDIO_URL to the address that answers"
            )
        if status == 401 or (path == _EXCHANGE and status in (400, 403)):
            raise LabelStudioRefused(f"Label Studio at {self.shown_url} refuses the API key: {_SET_KEY}")
        if status == 403:
            raise LabelStudioRefused(f"The API key's user may not do this in Label Studio ({what}{words})")
        if status == 404 and "json" not in response.headers.get("content-type", ""):
            raise self._not_label_studio()
        if status == 404:
            raise NotFound(f"Label Studio does not have it ({what}{words})")
        raise BackendError(f"Label Studio refused the request ({what}{words})")

    def _not_label_studio(self) -> LabelStudioRefused:
        return LabelStudioRefused(
            f"What answers at {self.shown_url} is not Label Studio: set LABEL_STUDIO_URL to Label Studio's address"
        )


def _words(response: httpx.Response) -> str:
    """What Label Studio says about a failure, after a comma; nothing when it sent a page."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return f", {text[:500]}"


def _objects(chunks: Iterable[str], where: str) -> Iterator[dict[str, Any]]:
    """The objects of one JSON array that arrives in pieces. Raises LabelStudioUnavailable when it breaks off."""
    decoder = json.JSONDecoder()
    rest = ""
    for chunk in chunks:
        rest += chunk
        at = 0
        while True:
            while at < len(rest) and rest[at] in "[, \r\n\t":
                at += 1
            if rest.startswith("]", at):
                return
            try:
                item, at = decoder.raw_decode(rest, at)
            except ValueError:  # an object that is not all here yet
                break
            yield item
        rest = rest[at:]
    raise LabelStudioUnavailable(f"The answer of Label Studio at {where} broke off")
