"""ASAL: generate the images that the network would be least sure of, and ask for the real ones that are nearest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers.base import NotFitted, Preparation, Scored
from samplers.deferred import models, torch
from samplers.gan_base import MISSING, GanOptions, GanSampler
from samplers.gan_preparation import some_rows
from samplers.options import between, one_of, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.inference.predictions import ForwardPass
    from models.networks.base import TaskNet
    from models.networks.vae import VAE
    from models.training.autoencoder import AutoencoderTraining

NOTHING = 1e-12  # stands for a distance of 0 under the logarithm
FIRST = 30.0  # above every -log(distance): what was matched comes before the rest
MATCHES = 100.0  # the part of the scale that matches have
CODED = "autoencoder"
CODER_WIDTH, CODER_LATENT, CODER_ITERATIONS = 16, 32, 1_000  # of the autoencoder
COMPONENTS, FITTED = 64, 2_000  # of the principal components of pixels: how many, and from how many images


@dataclass(frozen=True)
class AsalOptions(GanOptions):
    """asal_images: G, how many images are generated and matched in a cycle. asal_space: where nearest is nearest."""

    asal_images: int = option(100, "ASAL: how many images are generated and matched in a cycle.", between(1, 10_000))
    asal_space: str = option(
        "backbone",
        "ASAL: where the nearest real image is looked for; backbone: features of the task network, critic: of the GAN, "
        "autoencoder: codes of one that is trained for it, pca: principal components of the pixels.",
        one_of("backbone", "critic", "autoencoder", "pca"),
    )


class AsalSampler(GanSampler[AsalOptions]):
    """Adversarial sampling for active learning (Mayer & Timofte, WACV 2020).

    A GAN is trained on all images, labeled or not, apart from any cycle, and further when the pool has grown. In each
    cycle its latents are moved to where the task network is least sure, and each image made there is matched with the
    nearest real one that is not taken yet: only real images are labeled. Matches come first, the least sure at the
    front, the rest by their distance to the nearest generated image.
    """

    name: ClassVar[str] = "asal"
    summary: ClassVar[str] = "the real images nearest to generated ones that the network is least sure of"
    why: ClassVar[str] = "of the real images it is nearest to a generated one that the network is unsure of"
    source: ClassVar[str] = "Mayer & Timofte 2020"
    diverse: ClassVar[bool] = True
    Options = AsalOptions

    _space: tuple[Tensor, ...] = ()
    """Of "pca": the mean (3 S S,) and the components (3 S S, P)."""
    _wanted: Tensor | None = None
    """(G, F), the generated images in the space."""
    _matches: Tensor | None = None
    """(K,) int64, their rows, the first to be labeled first."""
    _coder: VAE | None = None
    """Of "autoencoder"."""

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        """Of an image that is not matched; or of any, while the GAN is still being trained."""
        if acquisition is None or acquisition >= FIRST - 0.5:
            return super().reason(acquisition)
        return "the network is unsure of it or, once images are generated, of one that it is near to"

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Take over the GAN that was prepared, or train it where that is due; then generate images, and match them:
        phases "gan", "synthesis" and "match". While the GAN is still being trained, nothing is generated."""
        everything = np.concatenate([data.labeled, data.unlabeled])
        metrics = self.ready_gan(net, data.pixels, everything, runtime)
        if not self._waits and self.options.asal_space == CODED:
            self._ready_coder(data.pixels, everything, runtime)
        if self._waits:
            return {MISSING: 1.0}
        if self.options.asal_space == "pca":
            self._space = self._components(data.pixels, everything, runtime)
        copied = models.inference.fused.scoring_copy(net, runtime)
        made = self.synthesize(copied, self.starts(runtime), runtime)
        with torch.inference_mode():
            self._wanted = self._embed(copied, made.images).clone()
        matches = self._matches = self._match(copied, self._wanted, data, runtime)
        return {
            **metrics,
            "uncertainty_before": float(made.before.mean()),
            "uncertainty_after": float(made.after.mean()),
            "matches": float(len(matches)),
        }

    def starts(self, runtime: Runtime) -> Tensor:
        """Latents (R G, Z) to be moved, for R = `synthetic_restarts` and G = `asal_images`, of the cycle's seed."""
        shape = (self.options.asal_images * self.options.synthetic_restarts, self.gan()[0].config.latent)
        noise = runtime.generator("asal latents")
        return torch.randn(shape, generator=noise, device=noise.device)

    def _match(self, net: TaskNet, wanted: Tensor, data: CycleData, runtime: Runtime) -> Tensor:
        """The rows (K,) of the unlabeled images that are nearest to those wanted (G, F), each matched once.

        Of a pool above `models.geometry.matching.LARGEST_EXACT` rows whose features are kept, by an index."""
        if self.options.asal_space == "backbone" and len(data.unlabeled) > models.geometry.matching.LARGEST_EXACT:
            features_of = models.inference.kept_rows.kept_rows(net, data.pixels, runtime)
            if features_of is not None:
                kept = models.geometry.neighbor_index.NeighborIndex.kept
                index = kept(runtime.index, data.unlabeled, features_of, runtime)
                runtime.progress("match", 0, len(wanted))
                found = models.geometry.matching.matches_by_index(index, wanted, data.unlabeled, features_of)[0]
                return found.to(self.device)
        nearest = models.geometry.matching.NearestRows(wanted)
        rows, streaming, done = data.unlabeled, models.inference.streaming, 0
        source = net.reads(data.pixels, runtime) if self.options.asal_space == "backbone" else data.pixels
        parts = streaming.batches_of(rows, runtime, source)
        stream = streaming.stream_batches(source, (rows[part] for part in parts), runtime.device)
        with torch.inference_mode(), closing(stream) as batches:
            for part, read in zip(parts, batches, strict=True):
                numbers = torch.from_numpy(rows[part].astype(np.int64)).to(runtime.device)
                nearest.add(self._embed_real(net, read), numbers)
                done += len(part)
                runtime.progress("match", done, len(rows))
        return nearest.unique()[0]

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Of the j-th of K matches 30 + 100 (K - j) / K, of the others -log of the distance to the nearest generated
        image: (N,). 1 / (1 + exp(a)) = distance / (1 + distance). While the GAN is still being trained, the entropy of
        the predictions: see `samplers.entropy.EntropySampler`.
        """
        if self._waits:
            return self.by_entropy(net, pixels, rows, runtime)
        if self._wanted is None or self._matches is None:
            raise NotFitted("sampler asal: its images were neither generated nor loaded yet")
        wanted, in_pixels = self._wanted.double(), self.options.asal_space != "backbone"

        def distance(forward: ForwardPass) -> Tensor:
            if forward.images is None:
                found = net.task.image_features(forward.features)
            else:
                found = self._project(models.networks.vae.prepare(forward.images, self.side()))
            return torch.cdist(found.double(), wanted).amin(dim=1)

        predictions, away = models.inference.predictions.predict_and_measure_forward(
            net, pixels, rows, runtime, distance, with_images=in_pixels
        )
        acquisition = -np.log(np.maximum(away, NOTHING))
        matches = self._matches.cpu().numpy()
        order = np.argsort(matches)
        place = np.searchsorted(matches, rows, sorter=order).clip(max=max(0, len(matches) - 1))
        if len(matches):
            place = order[place]
            matched = matches[place] == rows
            acquisition[matched] = FIRST + MATCHES * (len(matches) - place[matched]) / len(matches)
        return Scored(acquisition, predictions)

    # --- images in the space ---

    def _embed(self, net: TaskNet, images: Tensor) -> Tensor:
        """Generated images (B, 3, S, S) -> (B, F)."""
        return self.in_backbone(net, images) if self.options.asal_space == "backbone" else self._project(images)

    def _embed_real(self, net: TaskNet, read: Tensor) -> Tensor:
        """Images of the pool (B, H, W, 3) uint8, or what is kept of them, as the network reads it -> (B, F)."""
        if self.options.asal_space == "backbone":
            return net.task.image_features(net.features(models.inference.predictions.inputs_of(read)))
        return self._project(models.networks.vae.prepare(read, self.side()))

    def _project(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] -> (B, F), by the critic, the autoencoder or the principal components."""
        if self.options.asal_space == "critic":
            return self.gan()[1].features(images)
        if self._coder is not None:
            return models.training.autoencoder.codes(self._coder, images)
        mean, components = self._space
        return (images.flatten(1) - mean) @ components

    # --- the autoencoder, where it is the space ---

    @property
    def preparation_key(self) -> str:
        return super().preparation_key + (f"-{CODED}" if self.options.asal_space == CODED else "")

    def prepare(
        self,
        before: Mapping[str, Any],
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        enough: Callable[[], bool],
    ) -> Preparation:
        """The GAN, and after it the autoencoder, if that is the space: phase "autoencoder"."""
        found = super().prepare(before, pixels, rows, runtime, enough)
        if self.options.asal_space != CODED:
            return found
        if found.ready is None:
            kept = {CODED: before[CODED]} if CODED in before else {}
            return replace(found, training=found.training | kept)
        training = self._coder_training(before.get(CODED), runtime)
        training.run(pixels, some_rows(rows, training.taken, runtime), CODER_ITERATIONS, runtime, enough)
        over = training.taken >= CODER_ITERATIONS
        return replace(
            found,
            training=found.training | {CODED: training.state_dict()},
            ready=found.ready | {CODED: _coder_state(training.vae)} if over else None,
            done=training.taken,
            total=CODER_ITERATIONS,
            enough_for=found.enough_for if over else 0,
        )

    def _ready_coder(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> None:
        """Take over the autoencoder that was prepared, or train it where nobody prepares one. Where it is not there
        yet, the cycle waits."""
        if runtime.prepared is None:
            if self._coder is None:
                training = self._coder_training(None, runtime)
                training.run(pixels, rows, min(CODER_ITERATIONS, self._iterations), runtime)
                self._coder = training.vae
        elif CODED in runtime.prepared:
            self._coder = self._coder_of(runtime.prepared[CODED])
        self._waits = self._coder is None

    def _coder_training(self, before: Mapping[str, Any] | None, runtime: Runtime) -> AutoencoderTraining:
        side = models.networks.vae.working_size(self.side())
        config = models.networks.vae.VAEConfig(side, CODER_WIDTH, CODER_LATENT)
        if before is not None and before["config"] == config.to_dict():
            return models.training.autoencoder.AutoencoderTraining.from_state(before, runtime.device)
        vae = models.networks.vae.build_vae(config, runtime.generator("autoencoder weights", "cpu"))
        seed = int(runtime.rng("autoencoder training").integers(2**62))
        return models.training.autoencoder.AutoencoderTraining(vae.to(runtime.device).eval(), seed)

    def _coder_of(self, state: Mapping[str, Any]) -> VAE:
        vae = models.networks.vae.build_vae(models.networks.vae.VAEConfig.from_dict(state["config"]), torch.Generator())
        vae.load_state_dict(state["vae"])
        return vae.to(self.device).eval()

    def _components(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """The mean and the first principal components of some of the images."""
        some = np.sort(runtime.rng("asal components").choice(rows, min(FITTED, len(rows)), replace=False))
        images = torch.from_numpy(pixels[some]).to(runtime.device)
        flat = models.networks.vae.prepare(images, self.side()).flatten(1)
        mean = flat.mean(dim=0)
        _, _, components = torch.linalg.svd(flat - mean, full_matrices=False)
        return mean, components[:COMPONENTS].T.contiguous()

    # --- from cycle to cycle ---

    def state_dict(self) -> dict[str, Any]:
        if self._waits:
            return {"waits": True}
        if self._wanted is None or self._matches is None:
            return {}
        return {
            **self.gan_state(),
            "space": {"name": self.options.asal_space, "tensors": list(self._space)},
            CODED: None if self._coder is None else _coder_state(self._coder),
            "wanted": self._wanted,
            "matches": self._matches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. The GAN is taken over where it is of the kind and size wanted; what was generated,
        where it is in the space wanted."""
        if not self.load_gan(state):
            return
        if state["space"]["name"] == self.options.asal_space:
            self._coder = self._coder_of(state[CODED]) if state.get(CODED) else None
            self._space = tuple(tensor.to(self.device, copy=True) for tensor in state["space"]["tensors"])
            self._wanted = state["wanted"].to(self.device, copy=True)
            self._matches = state["matches"].to(self.device, copy=True)


def _coder_state(vae: VAE) -> dict[str, Any]:
    return {"config": vae.config.to_dict(), "vae": vae.state_dict()}
