"""Which authorities are believed when a server shows its certificate: one setting for the API and for images.

``REQUESTS_CA_BUNDLE`` is read from the environment here, where connections are made, because the libraries that make
them read it from there, too. That the file exists is checked with the other settings.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi

SETTING = "REQUESTS_CA_BUNDLE"
ADVICE = f"set {SETTING} to a file with the certificate of the authority that issued it"


def bundle() -> str:
    """The file, or folder, of the authorities' certificates."""
    return os.environ.get(SETTING, "").strip() or certifi.where()


def context() -> ssl.SSLContext:
    """For connections to Label Studio's API."""
    path = Path(bundle())
    return ssl.create_default_context(cafile=None if path.is_dir() else path, capath=path if path.is_dir() else None)


def is_about_certificate(error: BaseException) -> bool:
    """Whether a connection failed because the server's certificate is not trusted."""
    return "certificate" in str(error).lower()
