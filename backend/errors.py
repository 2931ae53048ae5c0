"""The error tree of the backend.

BackendError                  everything this package raises on purpose
├── OwnerError                the project's owner can put it right; str(e) is one plain sentence
│   ├── SettingsError         a setting has an unknown name or a value outside what is allowed
│   ├── LabelConfigError      the label config is not one single-choice Choices on one Image
│   ├── LabelStudioRefused    Label Studio answered 401, 403 or 404
│   └── NoLabels              training was asked for before anything was labeled
├── LabelStudioUnavailable    no connection, a time-out, a 5xx: the same call may work later
├── ImageError                one image cannot be used; it is set aside
├── LeaseLost                 another worker owns the project now; stop without writing
└── Stopped                   this process was asked to end; what was begun is due again
"""

from __future__ import annotations


class BackendError(Exception):
    """Root of everything this package raises on purpose."""


class OwnerError(BackendError):
    """The project's owner can put it right. ``str(e)`` is one plain sentence without secrets; HTTP 400."""


class SettingsError(OwnerError):
    """A setting has an unknown name, or a value that is not allowed."""


class LabelConfigError(OwnerError):
    """The label config asks no question that this backend can serve; says what to change."""


class LabelStudioRefused(OwnerError):
    """Label Studio refused a call (401, 403 or 404): the key or the address needs the owner's hand."""


class NoLabels(OwnerError):
    """Training was asked for before anything was labeled."""


class LabelStudioUnavailable(BackendError):
    """Label Studio did not answer, or failed on its side. Trying again later may work.

    ``maybe_written``: the call was a write that may have been carried out all the same (a time-out, a dropped
    connection, a 5xx after the request was sent). Every other failure of a write means nothing was written.
    """

    def __init__(self, message: str = "", *, maybe_written: bool = False) -> None:
        super().__init__(message)
        self.maybe_written = maybe_written


class ImageError(BackendError):
    """One image cannot be fetched or decoded. It is set aside and listed; it never stops a cycle."""


class LeaseLost(BackendError):
    """The lease on a project ended or went to another worker: stop and write nothing more."""


class Stopped(BackendError):
    """This process was asked to end. Nothing is lost: what was begun is due again."""
