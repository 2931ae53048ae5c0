"""Studies of the same runs as curves, that ask for something else: what a cycle costs, and what was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.curves.display import Display
from benchmarks.curves.store import Line
from benchmarks.curves.tasks import TASKS
from benchmarks.curves.tasks.base import KeptSet
from benchmarks.data.kept_images import ImageSet
from benchmarks.papers.curves import Curves, Played
from benchmarks.papers.pictures import strips
from benchmarks.papers.study import Outcome, Places
from models.files import replace_file

SHOWN, COLUMNS = 50, 25  # of the first purchase, in the picture


@dataclass(frozen=True)
class Costs(Curves):
    """What a cycle costs in place of what it is worth: parameters beside the task network, and seconds. Its runs are
    its own: those of other studies were played beside other work."""

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        played = self.play(scale, replace(places, work=places.work / "papers" / self.name), display)
        headings = ["", "beside the task network, MiB", "training, s", "sampler's own, s", "scoring, s", "all, s"]
        rows = []
        for label, (sampler, results) in played.results.items():
            seconds = [results.mean_seconds(sampler, phase) for phase in ("train", "fit", "score")]
            own = [line["extra_mib"] for line in results.lines if line["sampler"] == sampler and "extra_mib" in line]
            cells = [f"{np.mean(own):.2f}" if own else "?", *(f"{value:.2f}" for value in seconds)]
            rows.append([label, *cells, f"{sum(seconds):.2f}"])
        notes = ["Means over the cycles of all trials, of runs side by side on one machine: compare within the table."]
        return Outcome(headings, rows, notes, played.facts)


@dataclass(frozen=True)
class Chosen(Curves):
    """What was chosen in the purchases: how many images of each class, and the first of them as a picture."""

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        played = self.play(scale, places, display)
        images = self._images(played, places, display)
        rows, shown = [], {}
        for label, (sampler, results) in played.results.items():
            trials = {line["trial"] for line in results.lines if line["sampler"] == sampler}
            bought = [line for line in results.lines if _buys(line, sampler)]
            counts = np.sum([line["picked_counts"] for line in bought], axis=0)
            rows.append([label, *(f"{count / len(trials):.1f}" for count in counts)])
            if isinstance(images, ImageSet) and "picked" in bought[0]:
                shown[label.strip("`")] = images.train_pixels[bought[0]["picked"][:SHOWN]]
        notes = ["Images of each class that the purchases brought, without the first labels: means over the trials."]
        picture = ""
        if shown:
            picture = f"{self.name}-{scale}.png"
            places.pictures.mkdir(parents=True, exist_ok=True)
            replace_file(places.pictures / picture, strips(shown, COLUMNS))
            notes.append(f"The picture: the first {SHOWN} images of the first purchase, trial 1.")
        return Outcome(["", *images.classes], rows, notes, played.facts, picture)

    def _images(self, played: Played, places: Places, display: Display) -> KeptSet:
        plan = next(iter(played.results.values()))[1].plan
        task = TASKS[plan.task]
        with display.preparing() as report:
            folder = task.prepare(plan.dataset, plan.image_size, places.data, places.work / "images", report)
        opened: KeptSet = task.open(folder)
        return opened


def _buys(line: Line, sampler: str) -> bool:
    return line["sampler"] == sampler and "picked_counts" in line
