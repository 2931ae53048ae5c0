"""HTTP calls to Label Studio: authentication, timeouts, retries and errors in one place.

Label Studio's SDK is avoided here on purpose. It repeats a write after a dropped connection, which would write
predictions twice; it builds an object for every row (30,000 predictions take 5.2 s instead of 3.1 s); it does not cover
all the routes that we need; and importing its client takes each process almost a second.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from backend.errors import BackendError, LabelStudioRefused, LabelStudioUnavailable
from backend.labelstudio import tls
from backend.labelstudio.tokens import SET_KEY, Tokens

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_AFTER = (0.3, 1.0)
"""Seconds to wait before the second and the third attempt of a call that may be repeated."""

CONNECT_SECONDS = 5.0
_EXCHANGE = "api/token/refresh/"
_USER_AGENT = "label-studio-active-learning"


class NotFound(LabelStudioRefused):
    """404: what was requested does not exist (any more), or is not visible to this user."""


class Connection:
    """A connection to one Label Studio with one key. Thread-safe. Connects only at the first call."""

    def __init__(self, url: str, token: str, timeout: float, *, shares_token: bool = False) -> None:
        """``shares_token``: with the other connections of this process that do, use a short-lived token as long as it
        is valid. A connection that does not share one learns at its first call whether the key is still accepted."""
        self.url, self.timeout = url.strip().rstrip("/"), timeout
        self._tokens = Tokens(self.url, token.strip(), shared=shares_token)
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        self._clock: float | None = None

    @property
    def clock(self) -> float | None:
        """The time at Label Studio in seconds since the epoch, as its last response said; None if it did not."""
        return self._clock

    @property
    def display_url(self) -> str:
        """The address for messages: without a user name and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def get(self, path: str, *, retry: bool = True, timeout: float | None = None, **params: Any) -> Any:
        """The JSON response to a GET. ``retry``: try up to three times if Label Studio is unavailable."""

        def once() -> Any:
            return self._send("GET", path, params=params, timeout=timeout)

        return self.with_retries(once) if retry else once()

    def post(self, path: str, body: Any, *, timeout: float | None = None) -> Any:
        """The JSON response to a POST. Sent exactly once: see ``LabelStudioUnavailable.maybe_written``."""
        return self._send("POST", path, body=body, timeout=timeout)

    def patch(self, path: str, body: Any, **params: Any) -> Any:
        """The JSON response to a PATCH. Retried, because setting the same values twice is harmless."""
        return self.with_retries(lambda: self._send("PATCH", path, body=body, params=params))

    def delete(self, path: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """The JSON response to a DELETE. Retried."""
        return self.with_retries(lambda: self._send("DELETE", path, body=body, timeout=timeout))

    def stream(self, path: str, *, timeout: float | None = None, **params: Any) -> Iterator[dict[str, Any]]:
        """The objects of a JSON array, one by one as they arrive, so that memory use does not grow with its length."""
        with (
            self._mapping_errors("GET", path),
            self._http().stream(
                "GET", self._at(path), params=params or None, headers=self._headers(), timeout=self._timeout(timeout)
            ) as response,
        ):
            if response.status_code != 200:
                response.read()
                self._check(response, path)
            yield from _objects(response.iter_text(), self.display_url)

    def with_retries(self, call: Callable[[], T]) -> T:
        """The result of ``call()``, tried up to three times if Label Studio is unavailable. Only for calls that may be
        repeated."""
        for seconds in RETRY_AFTER:
            try:
                return call()
            except LabelStudioUnavailable as error:
                log.debug("Retrying in %s s: %s", seconds, error)
                time.sleep(seconds)
        return call()

    def authorization(self) -> str:
        """The header ``Authorization`` of a call: with a short-lived token, or with the legacy token."""
        with self._mapping_errors("POST", _EXCHANGE, writes=False):
            self._http()  # raises what is wrong with the address or the key
            return self._tokens.authorization(self._exchange)

    def renew_token(self) -> bool:
        """Forget a short-lived token that was refused. Returns False for a legacy token: there is no other."""
        return self._tokens.forget()

    # -- implementation ----------------------------------------------------------------------------------------------

    def _http(self) -> httpx.Client:
        """Raises LabelStudioRefused if the address or the key cannot be valid."""
        with self._lock:
            if self._client is None:
                address = urlsplit(self.url)
                if address.scheme not in ("http", "https") or not address.hostname:
                    where = f'"{self.display_url}" is not a web address' if self.url else "no address is set"
                    raise LabelStudioRefused(
                        f"Label Studio cannot be called, {where}: set LABEL_STUDIO_URL, such as http://localhost:8080"
                    )
                key = self._tokens.key
                if not key:
                    raise LabelStudioRefused(f"There is no API key for Label Studio at {self.display_url}: {SET_KEY}")
                if not key.isascii() or not key.isprintable() or " " in key:
                    raise LabelStudioRefused(f"The API key has characters that are not allowed in a key: {SET_KEY}")
                self._client = self._new_client()
        return self._client

    def _new_client(self) -> httpx.Client:
        # Label Studio's own server sends each response in two pieces. On a connection that is reused, the second piece
        # waits 40 ms for the delayed acknowledgement of the first. A new connection costs next to nothing, unless it is
        # encrypted.
        encrypted = urlsplit(self.url).scheme != "http"
        return httpx.Client(
            timeout=self._timeout(None),
            limits=httpx.Limits(max_keepalive_connections=20 if encrypted else 0, max_connections=100),
            follow_redirects=False,  # a redirected POST would become a GET
            verify=tls.context() if encrypted else False,  # to read who is trusted takes 50 ms
            headers={"User-Agent": _USER_AGENT},
        )

    def _exchange(self) -> str:
        """A short-lived token, obtained with the personal access token."""
        response = self._http().post(self._at(_EXCHANGE), json={"refresh": self._tokens.key})
        self._check(response, _EXCHANGE)
        try:
            return str(response.json()["access"])
        except (ValueError, KeyError, TypeError):
            raise self._not_label_studio() from None

    def _at(self, path: str) -> str:
        return f"{self.url}/{path}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self.authorization()}

    def _timeout(self, seconds: float | None) -> httpx.Timeout:
        seconds = seconds or self.timeout
        return httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
        renewed: bool = False,
    ) -> Any:
        headers, content = self._headers(), None
        if body is not None:
            headers["Content-Type"], content = "application/json", json.dumps(body, allow_nan=False)
        with self._mapping_errors(method, path):
            response = self._http().request(
                method,
                self._at(path),
                params=params or None,
                headers=headers,
                content=content,
                timeout=self._timeout(timeout),
            )
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self._clock = parsedate_to_datetime(response.headers["date"]).timestamp()
        if response.status_code == 401 and not renewed and self.renew_token():
            return self._send(method, path, params=params, body=body, timeout=timeout, renewed=True)
        self._check(response, path)
        if response.status_code == 204 or not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise self._not_label_studio() from None

    @contextlib.contextmanager
    def _mapping_errors(self, method: str, path: str, *, writes: bool | None = None) -> Iterator[None]:
        """Turn everything that httpx raises into one of our errors, without a token in its message."""
        writes = method != "GET" if writes is None else writes
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            if tls.is_about_certificate(error):
                message = f"The certificate of Label Studio at {self.display_url} is not trusted ({error})"
                raise LabelStudioRefused(f"{message}: {tls.ADVICE}") from error
            raise LabelStudioUnavailable(f"Label Studio at {self.display_url} cannot be reached ({error})") from error
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as error:
            timed_out = isinstance(error, httpx.TimeoutException)
            what = "did not respond in time" if timed_out else "closed the connection"
            message = f"Label Studio at {self.display_url} {what} ({method} {path})"
            raise LabelStudioUnavailable(message, maybe_written=writes) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # without its message, which may quote a header
            message = f"Label Studio at {self.display_url} cannot be called ({type(error).__name__})"
            raise LabelStudioRefused(f"{message}: is LABEL_STUDIO_URL right?") from error
        except ValueError as error:  # the response is not JSON
            raise self._not_label_studio() from error

    def _check(self, response: httpx.Response, path: str) -> None:
        """Raise the error for a status other than 2xx."""
        status = response.status_code
        if 200 <= status < 300:
            return
        what = f"{response.request.method} {path}: {status}"
        detail = _detail(response)
        if status in (408, 429) or status >= 500:
            writes = response.request.method != "GET" and status != 429 and path != _EXCHANGE
            raise LabelStudioUnavailable(
                f"Label Studio at {self.display_url} failed ({what}{detail})", maybe_written=writes
            )
        if 300 <= status < 400:
            raise LabelStudioRefused(
                f"Label Studio at {self.display_url} has moved to {response.headers.get('location', 'elsewhere')}: "
                "set LABEL_STUDIO_URL to the new address"
            )
        if status == 401 or (path == _EXCHANGE and status in (400, 403)):
            raise LabelStudioRefused(f"Label Studio at {self.display_url} refuses the API key: {SET_KEY}")
        if status == 403:
            raise LabelStudioRefused(f"The API key's user may not do this in Label Studio ({what}{detail})")
        if status == 404 and "json" not in response.headers.get("content-type", ""):
            raise self._not_label_studio()
        if status == 404:
            raise NotFound(f"Label Studio did not find it ({what}{detail})")
        raise BackendError(f"Label Studio refused the request ({what}{detail})")

    def _not_label_studio(self) -> LabelStudioRefused:
        return LabelStudioRefused(
            f"The server at {self.display_url} is not Label Studio: set LABEL_STUDIO_URL to Label Studio's address"
        )


def _detail(response: httpx.Response) -> str:
    """Label Studio's message about a failure, after a comma; empty if the response is not JSON."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return f", {text[:500]}"


def _objects(chunks: Iterable[str], where: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON array that arrives in pieces. Raises LabelStudioUnavailable if it ends too early."""
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
            except ValueError:  # the object has not arrived completely
                break
            yield item
        rest = rest[at:]
    raise LabelStudioUnavailable(f"The response of Label Studio at {where} was cut off")
