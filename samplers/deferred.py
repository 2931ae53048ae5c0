"""`torch` and `models` for sampler files, imported at the first use of a name in them instead of at the start.

The web process lists samplers, their options and the tasks they serve; importing torch would cost it seconds and
hundreds of megabytes. So a sampler file says ``from samplers.deferred import models, torch``, and imports from either
package itself only under ``if TYPE_CHECKING:``. What is written at its top level must use neither, save for the few
constants of ``models`` itself: a class that derives from ``torch.nn.Module`` belongs in models/.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["models", "torch"]


class Deferred:
    """A package by name. An attribute is what the package has under that name, or its submodule of that name."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what inspects an object is not to load a package
            raise AttributeError(name)
        package = import_module(self._package)
        if not hasattr(package, name):
            import_module(f"{self._package}.{name}")
        found = getattr(package, name)
        # Within models/ a package does not import its modules, so its attributes are deferred in turn.
        return Deferred(found.__name__) if hasattr(found, "__path__") else found


if TYPE_CHECKING:
    import torch

    import models.annotators.agreement
    import models.annotators.relabeling
    import models.annotators.votes
    import models.checkpoint
    import models.data
    import models.deadline
    import models.files
    import models.geometry.coverage
    import models.geometry.directions
    import models.geometry.fisher
    import models.geometry.gradients
    import models.geometry.herding
    import models.geometry.k_center
    import models.geometry.k_center_whole
    import models.geometry.manifolds
    import models.geometry.matching
    import models.geometry.neighbor_index
    import models.geometry.picks
    import models.geometry.space
    import models.geometry.typical
    import models.index_masks
    import models.inference.disagreement
    import models.inference.dropout
    import models.inference.epmcm
    import models.inference.executors
    import models.inference.fused
    import models.inference.kept_rows
    import models.inference.per_class
    import models.inference.per_pixel
    import models.inference.predictions
    import models.inference.several_devices
    import models.inference.stage_dropout
    import models.inference.streaming
    import models.inference.synthesis
    import models.intervals
    import models.lending
    import models.losses.agreement_discrepancy
    import models.losses.binary_cross_entropy
    import models.losses.dense
    import models.losses.dropout_cross_entropy
    import models.losses.isda
    import models.losses.loss_prediction
    import models.losses.maximum_mean_discrepancy
    import models.losses.objectives
    import models.losses.pixel_covariance
    import models.losses.pixel_cross_entropy
    import models.losses.pseudo_labels
    import models.networks.backbones
    import models.networks.base
    import models.networks.batch_statistics
    import models.networks.carry_over
    import models.networks.centroid
    import models.networks.classifier
    import models.networks.discriminator
    import models.networks.drn
    import models.networks.folding
    import models.networks.gan
    import models.networks.kept_backbones
    import models.networks.precision
    import models.networks.pretrained
    import models.networks.pretrained_segmenter
    import models.networks.projection
    import models.networks.residual
    import models.networks.segmenter
    import models.networks.torchvision_segmenters
    import models.networks.two_classifiers
    import models.networks.vae
    import models.pixels
    import models.tasks.base
    import models.tasks.classifiers
    import models.threads
    import models.training.adversarial
    import models.training.adversarial_trainers
    import models.training.augmentation
    import models.training.autoencoder
    import models.training.blending
    import models.training.budget
    import models.training.calibration
    import models.training.committee
    import models.training.comparison
    import models.training.examples
    import models.training.gan
    import models.training.gan_health
    import models.training.head
    import models.training.held_back
    import models.training.in_pieces
    import models.training.kept_maps
    import models.training.label_doubts
    import models.training.logistic
    import models.training.rows
    import models.training.schedule
    import models.training.spreading
    import models.training.task_network
    import models.training.working_copy
else:
    models, torch = Deferred("models"), Deferred("torch")
