"""What a network's probabilities are worth, by labels that were held back from its training.

Axis letters: L labels held back, C classes, P pixels that are asked, A regions, h w those of a map of logits.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models import IGNORE
from models.data import CycleData, MaskTargets, Runtime, targets_of
from models.inference.predictions import NonFiniteOutputs, measure, most_likely, predict
from models.networks.base import TaskNet
from models.networks.segmenter import enlarge
from models.training.calibration import Calibration, LeftOut, tick_from

ASKED = 256
"""Pixels of an image, drawn by chance: their neighbors are told the same, and an image is to count like another."""
MATCH = 0.5
"""A region is right if the pixels that it shares with its class are more than this part of those in either: the
criterion of PASCAL VOC (Everingham et al., IJCV 2010, section 4.2) and of panoptic quality (Kirillov et al., CVPR
2019), by which no two regions can be right about the same pixels."""

_FARTHEST, _HALVINGS = 3.0, 20  # of the logarithm of a temperature from 0, and of how far it may be off


def of_whole_images(net: TaskNet, held: CycleData, runtime: Runtime) -> dict[str, float]:
    """Set the temperature of `net` by the labels of `held`, which it did not learn from, L > 0. Returns the figures of
    `models.training.calibration.Calibration`. Raises NonFiniteOutputs.
    """
    (said,) = measure(net, held.pixels, held.labeled, runtime, lambda _, logits: (logits,), "calibrate")
    targets = net.task.label_targets(held)
    exclusive = not targets.is_floating_point()  # classes, and not choices
    wide = functional.one_hot(targets, net.num_classes).float() if exclusive else targets
    calibration = Calibration.of(LeftOut(_finite(torch.from_numpy(said)), wide, exclusive))
    net.temperature = calibration.temperature
    return calibration.figures()


def of_masks(net: TaskNet, held: CycleData, runtime: Runtime) -> dict[str, float]:
    """The same of a segmenter, by masks. Returns temperature; ece, that of pixels; preannotate_above: the smallest
    confidence from which on regions are right often enough, or `models.training.calibration.NEVER`; pixel_accuracy and
    mean_iou, of the classes that are in the masks or predicted; cv_labels, L. Without a labeled pixel only that nothing
    is known.

    A region is what is predicted as one class in one image, the background apart; its confidence is the mean over its
    pixels, as it is published. Raises NonFiniteOutputs.
    """
    (said,) = measure(net, held.pixels, held.labeled, runtime, lambda _, logits: (logits,), "calibrate")
    maps, targets = _finite(torch.from_numpy(said)), targets_of(held, MaskTargets)
    asked = _some_pixels(maps, targets, runtime)
    if asked is None:
        return Calibration().figures()
    calibration = Calibration.of(asked)
    net.temperature = calibration.temperature
    confusion, confidence, right = _regions(maps / net.temperature, targets)
    shared, either = confusion.diagonal(), confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    return {
        "temperature": calibration.temperature,
        "ece": calibration.error,
        "preannotate_above": tick_from(confidence, right),
        "pixel_accuracy": float(shared.sum() / confusion.sum()),
        "mean_iou": float((shared[either > 0] / either[either > 0]).mean()),
        "cv_labels": len(held.labeled),
    }


def agreed_temperature(net: TaskNet, other: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> float:
    """The temperature under which `net` is on average as sure of `rows` (N,), N > 0, as `other` is under its own.

    rows: images that neither has learned from. A longer training on more labels tells hardly more of them right, and is
    surer of it, so that the temperature of a shorter one does not fit; how sure it should be on average does. Raises
    NonFiniteOutputs.
    """
    wanted = float(predict(other, pixels, rows, runtime, "calibrate").confidence.mean())
    (said,) = measure(net, pixels, rows, runtime, lambda _, logits: (logits,), "calibrate")
    logits = _finite(torch.from_numpy(said))
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2  # of log T
        sure = float(net.task.predict(logits / math.exp(middle))[1].double().mean())
        low, high = (middle, high) if sure > wanted else (low, middle)
    return math.exp((low + high) / 2)


def _some_pixels(maps: Tensor, targets: MaskTargets, runtime: Runtime) -> LeftOut | None:
    """Up to `ASKED` labeled pixels of each image, (P, C), at the size of the image, from maps of logits (L, C, h, w);
    None if there are none."""
    draw = runtime.rng("held-back pixels")
    said, truth = [], []
    for logits, row in zip(maps.split(1), targets.rows, strict=True):
        classes = torch.from_numpy(targets.masks[row].astype(np.int64)).flatten()
        known = (classes != IGNORE).nonzero().flatten()
        places = known[torch.from_numpy(draw.permutation(len(known))[:ASKED])]
        said.append(enlarge(logits, targets.masks.shape[1:])[0].flatten(1)[:, places].T)
        truth.append(classes[places])
    answers = torch.cat(truth)
    if not len(answers):
        return None
    return LeftOut(torch.cat(said), functional.one_hot(answers, maps.shape[1]).float(), True)


def _regions(maps: Tensor, targets: MaskTargets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From maps of calibrated logits (L, C, h, w): labeled pixels by true and predicted class, (C, C) int64; and of
    each region (A,) how sure it is, and whether it is right."""
    classes = maps.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    confidence, right = [np.empty(0)], [np.empty(0, bool)]
    for logits, row in zip(maps.split(1), targets.rows, strict=True):
        truth = targets.masks[row].astype(np.int64)
        known = truth != IGNORE
        mask, sure = (one[0].numpy()[known] for one in most_likely(enlarge(logits, truth.shape)))
        pixels = np.bincount(classes * truth[known] + mask, minlength=classes**2).reshape(classes, classes)
        confusion += pixels
        drawn, shared = pixels.sum(axis=0), pixels.diagonal()
        either = drawn + pixels.sum(axis=1) - shared
        total = np.bincount(mask, weights=sure, minlength=classes)
        regions = 1 + np.flatnonzero(drawn[1:])
        confidence.append(total[regions] / drawn[regions])
        right.append(shared[regions] > MATCH * either[regions])
    return confusion, np.concatenate(confidence), np.concatenate(right)


def _finite(logits: Tensor) -> Tensor:
    if not bool(torch.isfinite(logits).all()):
        raise NonFiniteOutputs("the task network outputs NaN or infinity: its training diverged")
    return logits
