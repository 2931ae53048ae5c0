"""The task network's recipe, for samplers that train by it as well."""

from __future__ import annotations

from dataclasses import dataclass

from models.training.schedule import Recipe


@dataclass(frozen=True)
class RecipeOptions:
    """The settings of the task network's training, under their own names."""

    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def recipe(self) -> Recipe:
        return Recipe(self.epochs, self.batch_size, self.learning_rate, self.momentum, self.weight_decay)
