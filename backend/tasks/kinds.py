"""What a project asks for: one class an image, or masks. Which of them is decided here alone, by label config and
settings."""

from __future__ import annotations

from backend.errors import LabelConfigError, SettingsError
from backend.settings.core import Settings
from backend.settings.samplers import CLASSIFICATION_ONLY
from backend.tasks.classification import LabelSpec, NoQuestion, parse_label_config
from backend.tasks.segmentation.config import BACKGROUND, NothingDrawn, SegmentationSpec, segmentation_spec

Spec = LabelSpec | SegmentationSpec

FROM_SCRATCH = ("drn-d-22",)
"""Networks of masks that come in any width and without weights: torchvision has none of them."""


def question_of(label_config: str, settings: Settings) -> Spec:
    """The question of a project, with ``settings`` as of the project.

    With ``task`` "auto" a config that has both a single-choice ``Choices`` and something to draw with is classified.

    Raises:
        LabelConfigError: the config does not ask it, or so that it cannot be served.
        SettingsError: a setting does not go with masks. Both say in words what the owner can do.
    """
    if settings.task == "classification":
        return parse_label_config(label_config)
    spec = _masks(label_config, settings) if settings.task == "segmentation" else _either(label_config, settings)
    if isinstance(spec, SegmentationSpec):
        _check(spec, settings)
    return spec


def _either(label_config: str, settings: Settings) -> Spec:
    try:
        return parse_label_config(label_config)
    except NoQuestion as error:
        no_class = error
    except LabelConfigError as error:  # it asks for a class, but not so that it can be served
        if _draws(label_config, settings):
            raise LabelConfigError(f'{error} To learn its masks instead, set "task" to "segmentation".') from error
        raise
    try:
        return _masks(label_config, settings)
    except NothingDrawn as no_masks:
        if no_class.several:
            raise no_class from None
        if no_masks.unread:
            words = f"{str(no_masks).rstrip('.')}, or add a single-choice <Choices> for one class an image."
        else:
            words = (
                "The label config has no <Choices> on its <Image> (for one class an image) and no <BrushLabels> or "
                "<PolygonLabels> (for masks): add one of them, with toName set to the image's name."
            )
        raise LabelConfigError(words) from None


def _masks(label_config: str, settings: Settings) -> SegmentationSpec:
    return segmentation_spec(label_config, rectangles=settings.rectangles)


def _draws(label_config: str, settings: Settings) -> bool:
    try:
        _masks(label_config, settings)
    except LabelConfigError:
        return False
    return True


def _check(spec: SegmentationSpec, settings: Settings) -> None:
    reason = CLASSIFICATION_ONLY.get(settings.sampler)
    if reason:
        raise SettingsError(
            f'sampler "{settings.sampler}" has no meaning for masks: {reason}. Set "sampler" to another, such as '
            f'"{Settings.sampler}".'
        )
    if settings.pretrained and settings.segmentation_net in FROM_SCRATCH:
        raise SettingsError(
            f'There are no pretrained weights for {settings.segmentation_net}: set "segmentation_net" to another, such '
            'as "deeplabv3-resnet50", or "pretrained" to false.'
        )
    if settings.task_width and settings.segmentation_net not in FROM_SCRATCH:
        raise SettingsError(
            f'{settings.segmentation_net} has one width only: set "task_width" to 0, or "segmentation_net" to '
            f'"{Settings.segmentation_net}".'
        )
    if settings.unlabelled == "ignore" and not spec.has_background_label:
        raise SettingsError(
            f'unlabelled is "ignore", so only a label "{BACKGROUND}" could show what is background: add '
            f'<Label value="{BACKGROUND}"/> to the label config, or set "unlabelled" to "background".'
        )
