"""What an image's address in a task's data means: as it does to the browser that shows the task.

Label Studio's pages have a public address, which ``/setup`` brings, and the backend may reach the same Label Studio
under another, ``LABEL_STUDIO_URL``. Either may have a path. An address that leads to Label Studio under its public
address is asked for under ours.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from backend.errors import ImageError
from backend.labelstudio.outbound import origin

CLOUD = ("s3", "gs", "azure-blob")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_UPLOAD = re.compile(r"/?(?:data/)?(upload/.+)")
_WEB = {"http", "https"}


@dataclass(frozen=True)
class Addresses:
    """``own``: where the backend reaches Label Studio. ``public``: where its users do; the same if unknown."""

    own: str
    public: str = ""

    def candidates(self, source: str, task_id: int | None, *, by_proxy: bool = False) -> list[str]:
        """The addresses to try for ``source``, one after the other, until one has it.

        Uploads on Label Studio's own disk have an address; those in a bucket need its proxy. ``by_proxy``: try that
        first.

        Raises:
            ImageError: the source is not an address that can be fetched.
        """
        text = re.sub(r"[\t\r\n]", "", source.strip())
        scheme = found[1].lower() if (found := _SCHEME.match(text)) else ""
        if scheme in CLOUD:
            if task_id is None:
                raise ImageError(f"{short(source)} is in a cloud storage, which requires its task's id")
            encoded = base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()
            return [f"{self.own}/tasks/{task_id}/presign/?fileuri={encoded}"]
        if scheme in _WEB:
            address = re.sub(r"^\w+:[/\\]*", f"{scheme}://", text)
        elif text.startswith(("//", "\\\\", "/\\", "\\/")):
            address = f"{urlsplit(self.public or self.own).scheme.lower()}://" + text[2:]
        elif text.startswith(("/", "upload/", "\\")):
            return self._of_label_studio("/" + text.lstrip("/\\"), by_proxy)
        elif "://" in text:
            raise ImageError(
                f"{short(source)} is in a storage that is not supported: use uploads, S3, GCS, Azure or http"
            )
        else:
            raise ImageError(f'"{short(source)}" is a relative path: use a web address, an upload or a storage')
        return self._of_web(source, address, by_proxy)

    def _of_web(self, source: str, address: str, by_proxy: bool) -> list[str]:
        try:
            place, public = origin(address), origin(self.public) if self.public else None
        except ValueError as error:
            raise ImageError(f"{short(source)} is not a web address") from error
        if not place[1]:
            raise ImageError(f"{short(source)} is not a web address")
        if public is not None and _upgraded(place, public) == public:
            path = "/" + address.split("://", 1)[1].partition("/")[2]
            if _below(path, _path(self.public)):
                return self._of_label_studio(path, by_proxy)
        return [address]

    def _of_label_studio(self, path: str, by_proxy: bool) -> list[str]:
        """The addresses of a path on Label Studio's pages, which begins with its public path or leaves it away."""
        prefixes = {_path(self.public), _path(self.own)} - {""}
        inner = next((path[len(prefix) :] for prefix in prefixes if _below(path, prefix)), path)
        found = [self.own + inner]
        if (upload := _UPLOAD.fullmatch(inner.partition("?")[0])) is not None:
            name = quote(unquote(upload[1], errors="surrogateescape"), safe="/", errors="surrogateescape")
            found = [f"{self.own}/data/{upload[1]}", f"{self.own}/storage-data/uploaded/?filepath={name}"]
            if by_proxy:
                found.reverse()
        if inner != path and not _path(self.own):  # a server that is asked directly, and wants the whole path
            found.append(self.own + path)
        return found


def is_upload(address: str) -> bool:
    """Whether an address of :meth:`Addresses.candidates` leads to an upload by the proxy."""
    parts = urlsplit(address)
    return parts.path.endswith("/storage-data/uploaded/") and "filepath" in parse_qs(parts.query)


def _upgraded(place: tuple[str, str, int], public: tuple[str, str, int]) -> tuple[str, str, int]:
    """Browsers ask for images by https on a page that came by https."""
    return ("https", place[1], 443) if public[0] == "https" and place[::2] == ("http", 80) else place


def _path(url: str) -> str:
    return urlsplit(url).path.rstrip("/")


def _below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(prefix + "/")


def short(text: str) -> str:
    """``text`` for a message: one line of limited length, without passwords, and without queries, which may contain a
    signature."""
    text = re.sub(r"(?<=://)[^/@\s]*@", "", " ".join(text.split()))
    text = re.sub(r"(://[^?\s]*)\?\S*", r"\1", text)
    return text if len(text) <= 160 else text[:157] + "..."
