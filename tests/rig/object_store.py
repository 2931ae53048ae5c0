"""A server that speaks S3, with what it holds in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import requests

from tests.rig.processes import HOST, Server, answers, free_port

BUCKET = "active-learning"


class ObjectStoreServer(Server):
    """moto's S3."""

    name = "the object store"

    def __init__(self, directory: Path, port: int | None = None) -> None:
        super().__init__(directory, "object-store.log")
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]

    def healthy(self) -> bool:
        return answers(self.url)

    def start(self) -> None:
        super().start()
        requests.put(f"{self.url}/{BUCKET}", timeout=10).raise_for_status()


def settings_for(url: str, folder: str) -> dict[str, str]:
    """The settings of a backend that keeps what it learns in a ``folder`` of the store that is reached at ``url``."""
    return {
        "STORE": f"s3://{BUCKET}/{folder}",
        "AWS_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
