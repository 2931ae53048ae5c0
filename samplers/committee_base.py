"""What the samplers with a committee share: its members, their training and their place in a checkpoint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from models.data import CycleData, DataError, Runtime
from models.networks.base import TaskNet
from models.tasks import task_name_of, task_named
from models.training.committee import member_seeds, place_member, train_members
from samplers.base import NotFitted, Sampler
from samplers.recipe import RecipeOptions

log = logging.getLogger(__name__)

CUDA_SIZE, CPU_SIZE = 5, 3  # networks, the task network among them


@dataclass(frozen=True)
class CommitteeOptions(RecipeOptions):
    """ensemble_size: M, the task network among them; 0: 5 (as Beluch et al. 2018) on CUDA, 3 on a CPU.

    The others are the task network's: the members train under the same recipe, with plain cross entropy.
    """

    ensemble_size: int = 0


class CommitteeSampler(Sampler):
    """A committee of M networks. The first is the task network itself; the M - 1 others are kept here.

    They start from weights of their own and train in `fit`; in a later cycle each goes on from where it was, or afresh
    where the task network's architecture has changed. A state holds M - 1 whole networks, so a checkpoint is M times as
    large as with other samplers.

    members (M - 1 networks), None until trained or loaded; seeds: what each was last trained with.
    """

    Options: ClassVar[type[Any]] = CommitteeOptions
    knows_classes: ClassVar[bool] = True

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        self.members: nn.ModuleList | None = None
        self.seeds: list[int] = []

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train the members on the labelled rows. Raises DataError without any."""
        if len(data.labeled) == 0:
            raise DataError(f"sampler {self.name}: there is no labelled row to train its committee on")
        size = self.options.ensemble_size or (CUDA_SIZE if self.device.type == "cuda" else CPU_SIZE)
        seeds = member_seeds(size - 1, runtime)
        kept = [member for member in self._networks() if member.config.bare() == net.config.bare()][: size - 1]
        fresh = [place_member(net.task, net.config, seed, self.device) for seed in seeds[len(kept) :]]
        log.info("Committee: %d networks beside the task network, %d of them new (ensemble_size)", size - 1, len(fresh))
        members = kept + fresh
        figures = train_members(members, seeds, data, self.options.recipe(), runtime)
        self.members, self.seeds = nn.ModuleList(members), seeds
        return figures

    def committee(self) -> list[TaskNet]:
        """The M - 1 members beside the task network. Raises NotFitted where there are none yet."""
        if self.members is None:
            raise NotFitted(f"sampler {self.name}: its committee was neither trained nor loaded yet")
        return self._networks()

    @property
    def size(self) -> int:
        """M, the task network counted."""
        return 1 + len(self.committee())

    def state_dict(self) -> dict[str, Any]:
        members = self._networks()
        if not members:
            return {}
        return {
            "config": members[0].config.to_dict(),
            "members": [member.state_dict() for member in members],
            "seeds": list(self.seeds),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. A committee of another size is taken over as it is, so that a CPU can score with what
        a GPU trained; a `fit` drops the last members or adds new ones.
        """
        if not state:
            return
        task = task_named(task_name_of(state["config"]))
        config = task.config_from_dict(state["config"])
        if not config.serves(self.num_classes, self.image_size):
            log.info("Committee: the earlier networks have other classes or images, they are not used")
            return
        members = nn.ModuleList()
        for saved in state["members"]:
            member = place_member(task, config.bare(), 0, self.device)
            member.load_state_dict(saved)
            members.append(member)
        self.members, self.seeds = members, list(state["seeds"])

    def _networks(self) -> list[TaskNet]:
        return [member for member in self.members or () if isinstance(member, TaskNet)]
