"""A checkpoint of every sampler of the checkout in the current directory, and what each says of one image.

``python old_checkpoints.py FOLDER`` writes ``<sampler>.pt`` and ``answers.json``: the image as an address, and by
sampler class, confidence, and published score. Nothing is trained beyond what makes a sampler build its networks, and
weights are thinned out as :mod:`tests.upgrade.old_backend` says. Run by :mod:`tests.upgrade.make_model_dir`, with the
checkout's own Python; it is no part of the tests.
"""

from __future__ import annotations

import io
import json
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
import old_backend  # puts the checkout first
import torch
from PIL import Image

from backend import learner
from backend.learner import Learner
from backend.settings import Settings
from models import checkpoint
from models.data import CycleData, Runtime
from samplers import SAMPLERS

CLASSES = ("stripes", "checks", "plain")
LABELED, POOL, SIDE = 12, 12, 32
SMALL = {
    "task_width": 4,
    "epochs": 1,
    "vaal_width": 4,
    "vaal_latent": 4,
    "vaal_iterations": 1,
    "vaal_batch_size": 4,
    "ta_vaal_latent": 4,
    "sraal_latent": 4,
    "learning_loss_width": 8,
    "ensemble_size": 2,
    "dropout_draws": 20,
}


def main(folder: Path) -> None:
    rng = np.random.default_rng(5)
    images = (16 * rng.integers(0, 16, (LABELED + POOL, SIDE // 4, SIDE // 4, 3))).astype(np.uint8)
    images = images.repeat(4, axis=1).repeat(4, axis=2)
    targets = np.arange(LABELED) % len(CLASSES)
    rows = np.arange(len(images))
    data = CycleData(images, rows[:LABELED], targets, rows[LABELED:], len(CLASSES))
    device = torch.device("cpu")
    answers = {}
    for name in SAMPLERS:
        settings = Settings().for_project({**SMALL, "sampler": name})
        made = Learner.fresh(settings, CLASSES, SIDE, device, 0)
        made.learn(data, settings, Runtime(device=device, seed=0))
        made.save(folder / f"{name}.pt")
        (label,), confidence, score = Learner.load(folder / f"{name}.pt", device).answer(images[:1])
        answers[name] = {"label": label, "confidence": float(confidence[0]), "score": float(score[0])}
    buffer = io.BytesIO()
    Image.fromarray(images[0]).save(buffer, "PNG")
    address = "data:image/png;base64," + b64encode(buffer.getvalue()).decode()
    (folder / "answers.json").write_text(json.dumps({"image": address, "answers": answers}, indent=1))


if __name__ == "__main__":
    learner.train_network = lambda *how: {}  # the same network in all of them, but for the samplers' own
    old_backend.KEPT = 0.005
    checkpoint.save = lambda path, payload: old_backend.write(path, old_backend.sparse(payload))
    main(Path(sys.argv[1]))
