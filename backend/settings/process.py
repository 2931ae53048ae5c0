"""The settings of a process, which only the environment gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backend.settings.spec import ANY_TEXT, matching, setting
from samplers.options import Check, between, one_of, zero_or


@dataclass(frozen=True)
class ProcessSettings:
    """What :class:`backend.settings.core.Settings` has of them."""

    label_studio_url: str = setting(
        "",
        "Where the backend reaches Label Studio; empty: the address that `/setup` brings.",
        matching(r"(https?://[^\s/]+\S*)?", "http(s)://host[:port], or empty"),
    )
    label_studio_api_key: str = setting(
        "",
        "Personal access token or legacy token; empty: the token that `/setup` brings.",
        matching(r"[!-~]*", "a token without spaces"),
        secret=True,
    )
    backend_url: str = setting(
        "",
        "This backend's address as it stands in Label Studio's *Settings → Model*; empty: it is recognized by being "
        "called there. Needed only to find projects again that Label Studio cannot reach this backend for.",
        matching(r"(https?://[^\s/]+\S*)?", "http(s)://host[:port], or empty"),
    )
    model_dir: str = setting("./data", "State, image cache and checkpoints.", matching(r"[^\r\n\0]+", "a directory"))
    store: str = setting(
        "",
        "Where checkpoints, features and caches of images are kept for workers on several machines: a folder that all "
        "of them reach, or an object store, `s3://bucket/folder`, `gs://bucket/folder` or `az://account/container`; "
        "empty: in MODEL_DIR alone.",
        matching(r"((s3|s3a|gs|az|abfs|abfss|file)://\S+|[/~]\S*)?", "a folder, s3://…, gs://…, az://…, or empty"),
    )
    cache_gb: float = setting(
        0.0,
        "With STORE: how much of this machine's disk the caches of images and features may take, in GB; those of the "
        "projects that were not worked on for longest are deleted here, and fetched again when they are needed. 0: no "
        "limit.",
        between(0, 1_000_000),
    )
    basic_auth_user: str = setting(
        "",
        "User name asked for on every endpoint but `/health`; set together with BASIC_AUTH_PASS.",
        matching(r"[^:\r\n]*", "text without a colon"),
    )
    basic_auth_pass: str = setting("", "Password that goes with BASIC_AUTH_USER.", ANY_TEXT, secret=True)
    log_level: str = setting("INFO", "How much is logged.", one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    device: str = setting(
        "auto",
        "Where networks run. cuda: on [all GPUs](machines.md#many-gpus); cuda:1: on that one alone; auto: on all GPUs, "
        "or the CPU where there is none.",
        matching(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"),
    )
    executor: str = setting(
        "local",
        "Who computes large passes over the pool, scoring and embedding: local, the worker itself; ray, a cluster of "
        "[Ray](machines.md#on-ray), which requirements-ray.txt installs.",
        one_of("local", "ray"),
    )
    ray_address: str = setting(
        "",
        "The Ray cluster of EXECUTOR=ray: host:port of its head, or auto, the one that this machine is a node of; "
        "empty: a Ray of this machine that the worker starts.",
        matching(r"(auto|[^\s/]+:\d{1,5})?", "host:port, auto, or empty"),
    )
    worker_niceness: int = setting(
        10,
        "By how much a worker lowers its priority, so that Label Studio and the web process respond while it trains on "
        "the same machine; 0 where it has one of its own.",
        between(0, 19),
    )
    database_url: str = setting(
        "",
        "State database; empty: SQLite in MODEL_DIR.",
        matching(
            r"((sqlite|postgres(ql)?)(\+\w+)?://\S*)?",
            "sqlite:///path or postgresql://user:password@host/name, or empty",
        ),
        secret=True,
    )
    lease_seconds: int = setting(
        60, "A worker that is silent this long loses its project to another worker.", between(2, 3600)
    )
    poll_seconds: float = setting(0.3, "How often the worker looks for due work.", between(0.05, 60))
    reconcile_seconds: float = setting(
        300.0, "How often the worker compares with Label Studio without a hint.", between(1, 86400)
    )
    cleanup_seconds: float = setting(
        120.0,
        "Time without annotations and new orders after which superseded versions are removed from Label Studio.",
        between(0, 86400),
    )
    keep_days: float = setting(
        7.0,
        "Days that state and files of projects which are deleted in Label Studio are kept, and versions there that the "
        "state does not know any more.",
        between(0, 3650),
    )
    projects_at_once: int = setting(
        8,
        "Projects that a worker works on at a time; one of them on each GPU trains, the others read and publish.",
        between(1, 64),
    )
    download_workers: int = setting(8, "Images fetched at a time.", between(1, 64))
    image_hosts: str = setting(
        "",
        "Hosts with private addresses that images may come from, besides Label Studio's own: names, `*.name`, IP "
        "addresses or networks, each with `:port` or without.",
        matching(r"[\w.*:\[\]/, \-]*", "hosts, separated by spaces or commas"),
    )
    memory_mb: int = setting(
        0,
        "Memory for the images that a process fetches and decodes at a time; 0: a quarter of what is free in the "
        "container or on the machine. One image gets half of it at most.",
        zero_or(32, 1_048_576),
    )
    requests_ca_bundle: str = setting(
        "",
        "File with the certificates of the authorities to trust, for Label Studio's API and for images; empty: the "
        "public ones.",
        Check("a file or folder that exists, or empty", lambda value: value == "" or Path(value).exists()),
    )
    retry_broken_seconds: float = setting(600.0, "Wait before a broken image is tried again.", between(1, 604800))
