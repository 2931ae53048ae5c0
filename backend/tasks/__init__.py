"""The kinds of task, with everything that differs between them, from the label config to the pre-annotation.

:data:`KINDS` is the table of all kinds. :func:`kind_of` determines a project's kind from its label config and settings.
"""

from __future__ import annotations

from backend.errors import LabelConfigError, SettingsError
from backend.settings.core import Settings
from backend.tasks.base import AnyTaskKind, NotAsked
from backend.tasks.classification import Classification
from backend.tasks.multilabel import Multilabel
from backend.tasks.segmentation.kind import Segmentation

KINDS: dict[str, type[AnyTaskKind]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "multilabel": Multilabel,
}
"""By name, in the order in which ``task`` "auto" tries them: the first that the label config asks for is used."""


def kind_of(label_config: str, settings: Settings) -> AnyTaskKind:
    """The kind of task of a project with this label config and these settings.

    Both errors tell the owner what to change.

    Raises:
        LabelConfigError: the label config asks for no kind of task, or not in a way that can be served.
        SettingsError: a setting does not fit the kind of task.
    """
    if settings.task != "auto":
        return KINDS[settings.task].read(label_config, settings)
    refused: list[NotAsked] = []
    for place, kind in enumerate(KINDS.values()):
        try:
            return kind.read(label_config, settings)
        except NotAsked as error:
            refused.append(error)
        except LabelConfigError as error:  # it asks for this kind, but not in a way that can be served
            for other in list(KINDS.values())[place + 1 :]:
                if _asks(other, label_config, settings):
                    message = f'{error} To learn its {other.learns} instead, set "task" to "{other.name}".'
                    raise LabelConfigError(message) from error
            raise
    raise LabelConfigError(_nothing_asked(refused))


def _asks(kind: type[AnyTaskKind], label_config: str, settings: Settings) -> bool:
    try:
        kind.read(label_config, settings)
    except LabelConfigError:
        return False
    except SettingsError:  # it does ask; the owner learns what to set when this kind is chosen
        return True
    return True


def _nothing_asked(refused: list[NotAsked]) -> str:
    for error in refused:
        if error.instead:
            return f"{str(error).rstrip('.')}, or add a single-choice <Choices> for one class an image."
    return (
        "The label config has no <Choices> on its <Image> (for one class an image) and no <BrushLabels> or "
        "<PolygonLabels> (for masks): add one of them, with toName set to the image's name."
    )
