"""What the samplers with a committee share: its members, their training and their place in a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers.base import NotFitted, Sampler
from samplers.deferred import models, torch
from samplers.options import TrainingOptions, option, zero_or

if TYPE_CHECKING:
    from torch import nn

    from models.data import CycleData, Runtime
    from models.inference.disagreement import StreamingFigure
    from models.inference.predictions import Predictions
    from models.networks.base import TaskNet

log = logging.getLogger(__name__)

CUDA_SIZE, CPU_SIZE = 5, 3  # networks, the task network among them


@dataclass(frozen=True)
class CommitteeOptions(TrainingOptions):
    """ensemble_size: M, the task network among them; 5 as Beluch et al. (2018).

    The others are the task network's: the members train under the same recipe, with plain cross entropy.
    """

    ensemble_size: int = option(
        0, "Ensemble, QBC: networks in the committee; 0: 5 on CUDA, 3 on a CPU.", zero_or(2, 100)
    )


CommitteeT = TypeVar("CommitteeT", bound=CommitteeOptions)


class CommitteeSampler(Sampler[CommitteeT]):
    """A committee of M networks. The first is the task network itself; the M - 1 others are kept here.

    They start from weights of their own and train in `fit`; in a later cycle each goes on from where it was, or afresh
    where the task network's architecture has changed. A state holds M - 1 whole networks, so a checkpoint is M times as
    large as with other samplers.

    members (M - 1 networks), None until trained or loaded; seeds: what each was last trained with.
    """

    trains: ClassVar[str] = "`ensemble_size` task networks in all"
    knows_classes: ClassVar[bool] = True

    @classmethod
    def has_objective(cls) -> bool:
        return True  # cross entropy, for all of them: a committee whose first network learns otherwise is none

    members: nn.ModuleList | None = None
    seeds: Sequence[int] = ()

    @property
    def trainings(self) -> int:
        """M, as large as the options want the committee."""
        return self.options.ensemble_size or (CUDA_SIZE if self.device.type == "cuda" else CPU_SIZE)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train the members on the labeled rows. Raises models.data.DataError without any."""
        if len(data.labeled) == 0:
            raise models.data.DataError(f"sampler {self.name}: there is no labeled row to train its committee on")
        committee = models.training.committee
        size = self.trainings
        seeds = committee.member_seeds(size - 1, runtime)
        kept = [member for member in self._networks() if member.config.bare() == net.config.bare()][: size - 1]
        fresh = [committee.place_member(net.task, net.config, seed, self.device) for seed in seeds[len(kept) :]]
        log.info(
            "Committee: %d networks alongside the task network, %d of them new (ensemble_size)", size - 1, len(fresh)
        )
        members = kept + fresh
        metrics = committee.train_members(members, seeds, data, self.options.recipe(), runtime)
        self.members, self.seeds = torch.nn.ModuleList(members), seeds
        return metrics

    def committee(self) -> list[TaskNet]:
        """The M - 1 members alongside the task network. Raises NotFitted where there are none yet."""
        if self.members is None:
            raise NotFitted(f"sampler {self.name}: its committee was neither trained nor loaded yet")
        return self._networks()

    @property
    def size(self) -> int:
        """M, the task network counted."""
        return 1 + len(self.committee())

    def disagreement(
        self,
        net: TaskNet,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        figure: Callable[[], StreamingFigure],
    ) -> tuple[Predictions, np.ndarray]:
        """The task network's predictions, and a figure of all M networks' opinions, (N,)."""
        return models.training.committee.predict_and_disagree(net, self.committee(), pixels, rows, runtime, figure)

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
        task = models.tasks.task_named(self.task)
        try:
            config = task.config_from_dict(state["config"])
        except TypeError:
            log.info("Committee: the earlier networks are for another kind of task, they are not used")
            return
        if not config.serves(self.num_classes, self.image_size):
            log.info("Committee: the earlier networks have other classes or images, they are not used")
            return
        members = torch.nn.ModuleList()
        for saved in state["members"]:
            member = models.training.committee.place_member(task, config.bare(), 0, self.device)
            member.load_state_dict(saved)
            members.append(member)
        self.members, self.seeds = members, list(state["seeds"])

    def _networks(self) -> list[TaskNet]:
        kind = models.networks.base.TaskNet
        return [member for member in self.members or () if isinstance(member, kind)]
