"""Training the head on features that stay: to convergence, in seconds, where its loss has one minimum, and in steps
where a sampler's objective trains networks alongside it.

Axis letters: L labeled rows, U unlabeled rows, B batch, C classes, F features, E what is kept of an image.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data import CycleData, DataError, Runtime
from models.inference.streaming import map_rows
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.networks.pretrained import FinetunedClassifier, FrozenClassifier
from models.pixels import normalize
from models.threads import threads_for
from models.training.blending import Blend, blended
from models.training.calibration import Calibration
from models.training.label_doubts import Judged
from models.training.logistic import (
    CrossValidation,
    Scale,
    cross_validated,
    minimum,
    row_losses,
    usual_strength,
)
from models.training.rows import epoch_positions
from models.training.schedule import Recipe

SCALED_BY = 2_000  # rows of the pool at most that say how far a feature spreads
PASSES = 12  # over the labels or, while they are few, over some drawn again, in steps
FEWEST_STEPS = 20  # of a pass
STEP_RATE = 1e-3  # of Adam


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite."""


def train_head(
    net: FrozenClassifier | FinetunedClassifier,
    data: CycleData,
    objective: Objective,
    recipe: Recipe,
    runtime: Runtime,
) -> dict[str, float]:
    """Train the head of `net` in place on what the trunk says of the labeled rows; the trunk stays as it is.

    Under a penalty that cross-validation on the labels of real images chooses. What
    `models.losses.objectives.Objective.on_features` gives is minimized; an objective that has none starts from the
    minimum of the plain loss and is then trained in steps, along with its own networks. Where `recipe.semi_supervised`
    is set, a head that is not trained in steps learns from a part of the pool, too, if that is worth anything
    (`models.training.blending`). It ends by `runtime.deadline`, if there is one. Reports
    runtime.progress("train", passes, all of them).

    Returns the metrics of `models.training.task_network.train_network`, `strength`, the variance of the penalty,
    `spread_share`, what `models.training.blending.Blend` says of it or 0, and those of
    `models.training.calibration.Calibration`, by which `net.temperature` is set.

    Raises models.data.DataError without labeled rows, TrainingDiverged when the loss is not finite.
    """
    if len(data.labeled) == 0:
        raise DataError("there is no labeled row to train on")
    started = time.perf_counter()
    net.to(runtime.device)
    given = _Given.of(net, data, runtime)
    validated = cross_validated(
        given.scale.standardized(given.real), given.answers, given.exclusive, runtime.rng("folds")
    )
    objective.begin(net, data, runtime)
    try:
        reached, iterations, blend = _minimized(net, given, validated, objective, recipe, runtime)
    finally:
        objective.finish()
    if not math.isfinite(reached):
        raise TrainingDiverged("the training loss is not finite: the features or the labels are broken")
    net.eval()
    calibration = _judge(net, validated, blend)
    seconds = time.perf_counter() - started
    runtime.progress("train", PASSES, PASSES)
    labels = len(given.kept)
    return {
        "labels": labels,
        "images": iterations * labels,
        "epochs": iterations,
        "steps": iterations,
        "batch_size": labels,
        "strength": validated.strength,
        "loss": reached,
        "seconds": seconds,
        "images_per_second": iterations * labels / seconds,
        "bounded_by_images": 0.0,
        "bounded_by_seconds": float(_is_over(runtime)),
        "spread_share": 0.0 if blend is None else blend.share,
        **calibration.figures(),
    }


@dataclass(frozen=True)
class _Given:
    """What a head is trained on, on the device.

    kept (L, E): of the labeled images. features (L, F): of those, float32. targets: (L,) classes if `exclusive`, else
    (L, C) choices. real (R, F), answers (R, C): those of real images, and what was said of them. pool (U, F): some
    that have no label. scale: of real and pool.
    """

    kept: Tensor
    features: Tensor
    targets: Tensor
    exclusive: bool
    real: Tensor
    answers: Tensor
    pool: Tensor
    scale: Scale

    @classmethod
    def of(cls, net: FrozenClassifier | FinetunedClassifier, data: CycleData, runtime: Runtime) -> _Given:
        kept = kept_rows(net, data, data.labeled, runtime)
        features = kept[:, : net.feature_channels].float()
        targets = net.task.label_targets(data).to(runtime.device)
        exclusive = not targets.is_floating_point()
        wide = functional.one_hot(targets, net.num_classes).float() if exclusive else targets
        real, pool = _of_real_images(features, data), _some_of_pool(net, data, runtime)
        scale = Scale.of(torch.cat([real, pool]))
        return cls(kept, features, targets, exclusive, real, _of_real_images(wide, data), pool, scale)


def _minimized(
    net: FrozenClassifier | FinetunedClassifier,
    given: _Given,
    validated: CrossValidation,
    objective: Objective,
    recipe: Recipe,
    runtime: Runtime,
) -> tuple[float, int, Blend | None]:
    """Put the head of least loss into `net`. Returns the mean loss there, the iterations, and what it learned from the
    pool."""
    features, targets, scale, strength = given.features, given.targets, given.scale, validated.strength

    def over() -> bool:
        return _is_over(runtime)

    loss_of = objective.on_features(net, features, targets)
    in_steps = loss_of is None
    loss = loss_of or (lambda weight, bias: row_losses(features @ weight.T + bias, targets).sum())
    weight, bias, iterations = minimum(loss, scale, net.num_classes, strength, len(features), over)
    blend = None
    if recipe.semi_supervised and not in_steps and not over():
        generator = runtime.generator("blend", "cpu")
        blend = blended(given.real, given.pool, given.answers, given.exclusive, validated, generator)
    if blend is not None:
        rows = len(features) + len(blend.features)
        of_both = blend.loss(loss, weight, bias)
        usual, head = usual_strength(rows), (weight, bias)
        weight, bias, more = minimum(of_both, scale, net.num_classes, usual, rows, over, head)
        iterations += more
    with torch.no_grad():
        net.head.weight.copy_(weight)
        net.head.bias.copy_(bias)
        reached = float(loss(weight, bias)) / len(features)
    if in_steps:
        with threads_for(recipe.batch_size * given.kept.shape[1] * net.num_classes):
            reached, more = _in_steps(net, given.kept, targets, objective, recipe, runtime, scale, strength)
        iterations += more
    return reached, iterations, blend


def _judge(net: FrozenClassifier | FinetunedClassifier, validated: CrossValidation, blend: Blend | None) -> Calibration:
    """Set, by labels that were left out, the temperature of `net`, and what it is judged by."""
    left_out = validated.left_out if blend is None else blend.left_out
    calibration = Calibration.of(left_out)
    if left_out is not None and validated.places is not None:
        net.judged = Judged.of(left_out, validated.places, calibration)
    net.temperature = calibration.temperature
    return calibration


def _is_over(runtime: Runtime) -> bool:
    return runtime.deadline is not None and runtime.deadline.left() <= 0


def _of_real_images(rows: Tensor, data: CycleData) -> Tensor:
    """Those of `rows` (L, ...) that do not belong to generated images: what a label that is left out is told by, and
    what spreads, is of images that there are."""
    return rows if data.synthetic is None else rows[torch.from_numpy(~data.synthetic).to(rows.device)]


def kept_rows(
    net: FrozenClassifier | FinetunedClassifier, data: CycleData, rows: np.ndarray, runtime: Runtime
) -> Tensor:
    """What is kept of `rows` (N,), in their order: (N, E) float16 on the device. From `runtime.features`, or else from
    the images."""
    source = net.reads(data.pixels, runtime)
    if source is not data.pixels:
        return torch.from_numpy(source[rows]).to(runtime.device)
    net.eval()

    def embed(images: Tensor) -> tuple[Tensor, ...]:
        return (net.embed(normalize(images)),)

    return torch.from_numpy(map_rows(source, rows, runtime, embed, "train")[0]).to(runtime.device)


def _some_of_pool(net: TaskNet, data: CycleData, runtime: Runtime) -> Tensor:
    """Features (N, F) float32 of a random part of the unlabeled rows, where they are kept; none else."""
    source = net.reads(data.pixels, runtime)
    if source is data.pixels or not len(data.unlabeled):
        return torch.empty(0, net.feature_channels, device=runtime.device)
    count = min(SCALED_BY, len(data.unlabeled))
    rows = np.sort(runtime.rng("scale").choice(data.unlabeled, count, replace=False))
    return torch.from_numpy(source[rows][:, : net.feature_channels]).to(runtime.device).float()


def _in_steps(
    net: FrozenClassifier | FinetunedClassifier,
    kept: Tensor,
    targets: Tensor,
    objective: Objective,
    recipe: Recipe,
    runtime: Runtime,
    scale: Scale,
    strength: float,
) -> tuple[float, int]:
    """Adam on batches of what is kept, (L, E), from the head as it is, with the same penalty. Returns the mean loss of
    the last pass and the number of steps."""
    networks = [net.head, *objective.networks]
    parameters = [parameter for one in networks for parameter in one.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=STEP_RATE)
    order = runtime.generator("train order")
    per_pass = max(FEWEST_STEPS, -(-len(kept) // recipe.batch_size))
    penalty = 1.0 / (2 * strength * len(kept))
    steps, total, batches = 0, torch.zeros((), device=kept.device), 1
    for number in range(PASSES):
        for one in (net, *objective.networks):
            one.train()
        progress, rate = number / PASSES, 1.0 if number < 0.75 * PASSES else 0.1
        for group in optimizer.param_groups:
            group["lr"] = STEP_RATE * rate
        total, batches = torch.zeros((), device=kept.device), 0
        while batches < per_pass:
            for positions in epoch_positions(len(kept), recipe.batch_size, order)[: per_pass - batches]:
                loss = objective.loss(net, kept[positions].float(), targets[positions], progress)
                optimizer.zero_grad(set_to_none=True)
                (loss + penalty * (net.head.weight * scale.spread).square().sum()).backward()
                optimizer.step()
                total += loss.detach()
                batches += 1
        steps += batches
        over = _is_over(runtime)
        objective.after_epoch(net, progress, recipe.learning_rate * rate)
        runtime.progress("train", PASSES if over else number + 1, PASSES)
        if over:
            break
    for one in (net, *objective.networks):
        one.eval()
    return float(total) / batches, steps
