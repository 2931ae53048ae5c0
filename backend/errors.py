"""The error tree of the backend.

BackendError                  everything this package raises on purpose
├── OwnerError                the project's owner can fix it; str(e) is one plain sentence
│   ├── SettingsError         a setting is unknown or has a value that is not allowed
│   ├── LabelConfigError      the label config does not ask for a task that can be served
│   ├── LabelStudioRefused    Label Studio responded with 401, 403 or 404
│   ├── NoLabels              training was requested before anything was labeled
│   └── HandsOff              the project is not ours to work on: write nothing
├── LabelStudioUnavailable    no connection, a timeout or a 5xx: the same call may work later
├── StoreUnavailable          the object store does not respond, or refuses: the same call may work later
├── DatabaseUnavailable       the state's database cannot be reached: the same query may work later
├── NoSpace                   a disk is full
├── ImageError                one image cannot be used; it is set aside
│   └── ImageLater            nothing is known to be wrong with it: it has to be asked for again later
├── LeaseLost                 another worker owns the project now; stop without writing
└── Stopped                   this process was asked to stop; unfinished work is due again
"""

from __future__ import annotations

import errno


class BackendError(Exception):
    """Base class of everything this package raises on purpose."""


class OwnerError(BackendError):
    """The project's owner can fix it. ``str(e)`` is one plain sentence without secrets. Becomes an HTTP 400."""


class SettingsError(OwnerError):
    """A setting is unknown, or its value is not allowed."""


class LabelConfigError(OwnerError):
    """The label config does not ask for a task that this backend can serve; the message says what to change."""


class LabelStudioRefused(OwnerError):
    """Label Studio refused a call (401, 403 or 404): the owner has to correct the API key or the address."""


class NoLabels(OwnerError):
    """Training was requested before anything was labeled."""


class HandsOff(OwnerError):
    """The project is not ours to work on: Label Studio lists no connection to this backend, or another backend has the
    queue. Write nothing; look again later."""


class LabelStudioUnavailable(BackendError):
    """Label Studio did not respond, or failed. Trying again later may work.

    ``maybe_written``: the call was a write that may nevertheless have been carried out (a timeout, a dropped
    connection, a 5xx after the request was sent). After any other failure of a write, nothing was written.
    """

    def __init__(self, message: str = "", *, maybe_written: bool = False) -> None:
        super().__init__(message)
        self.maybe_written = maybe_written


class StoreUnavailable(BackendError):
    """The object store of the setting ``store`` did not respond, or refused. Trying again later may work."""


class DatabaseUnavailable(BackendError):
    """The server of the state's database cannot be connected to. Trying again later may work."""


class NoSpace(BackendError):
    """A disk is full, or a quota is used up. The same work can be done once there is space."""


class ImageError(BackendError):
    """One image cannot be fetched or decoded. It is set aside and listed; it never stops a cycle."""


class ImageLater(ImageError):
    """The image's host asks to be asked later, or does not respond in time. That is no damage: the image waits
    ``seconds``, and is not counted as one that cannot be used."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class LeaseLost(BackendError):
    """The lease on a project expired or went to another worker: stop, and write nothing more."""


class Stopped(BackendError):
    """This process was asked to stop. Nothing is lost: unfinished work is due again."""


def understood(error: BaseException) -> BaseException:
    """``error``, or one of this package's own in its place, if its cause lies outside and is one that a person can
    remove: then its message says so, and nobody needs a traceback."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, MemoryError):
        return BackendError("There is not enough memory: close other programs, or lower batch_size or image_size.")
    if not isinstance(error, OSError):
        return error
    where = f" ({error.filename})" if isinstance(error.filename, str) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"The disk is full{where}: make room in MODEL_DIR or on its disk.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and where:
        return BackendError(f"A file cannot be written or read{where}: this user needs access to all of MODEL_DIR.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return BackendError("Too many files are open: allow this user more of them (ulimit -n).")
    if error.errno == errno.EIO:
        return BackendError(f"A disk fails to read or write{where}: look at the system's log.")
    return error


def message_of(error: BaseException) -> str:
    """``error`` in words. The messages of this package's own errors are complete; others need their type."""
    error = understood(error)
    return str(error) if isinstance(error, BackendError) else f"{type(error).__name__}: {error}"
