"""The papers' tables: that each can be made, what its columns say, and that what is committed belongs to one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.settings.core import Settings
from benchmarks.__main__ import main
from benchmarks.curves import command
from benchmarks.curves.command import parse
from benchmarks.curves.display import Display
from benchmarks.curves.jobs import Jobs, Watcher
from benchmarks.curves.plan import Plan, Run, overrides_of
from benchmarks.curves.run import play
from benchmarks.curves.tasks import task_of
from benchmarks.data.datasets import NAMED
from benchmarks.data.image_sets import HELD_OUT
from benchmarks.papers.command import RESULTS, STUDIES, saved_outcome
from benchmarks.papers.curves import Arm, Curves
from benchmarks.papers.gap import Gap
from benchmarks.papers.matches import Matches
from benchmarks.papers.neighbors import Neighbors
from benchmarks.papers.pair_losses import PairLosses
from benchmarks.papers.purchases import Chosen, Costs
from benchmarks.papers.scales import SCRATCH
from benchmarks.papers.study import SCALES, Places
from benchmarks.papers.trained import labels_of
from samplers import SAMPLERS
from tests.benchmarks.curves.curves_bench import quiet

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ("task_net=resnet18", "weights=none", "task_width=4", "epochs=1")
ADVERSARY = ("vaal_space=pixels", "vaal_width=4", "vaal_latent=4", "vaal_iterations=2", "vaal_batch_size=8")
ABOUT = {"paper": "a paper", "part": "a part", "claim": "a claim"}
CURVES = [study for study in STUDIES.values() if isinstance(study, Curves)]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own are for what takes minutes; tests of the curves have them."""

    def play_all(plan: Plan, runs: Sequence[Run], jobs: Jobs, _: Watcher) -> dict[Run, str]:
        for run in runs:
            task = task_of(jobs.images, plan, run.trial)
            play(task, plan, run, jobs.runs / run.folder, torch.device("cpu"), quiet)
        return {}

    monkeypatch.setattr(command, "play_all", play_all)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    root = tmp_path_factory.mktemp("papers")
    return Places(root / "data", root / "work", "cpu", 1, 0, root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 images of 16 px, noise around a brightness."""
    root = tmp_path_factory.mktemp("three classes")
    draw = np.random.default_rng(0)
    for number, name in enumerate(("dark", "gray", "light")):
        (root / name).mkdir()
        for image in range(20):
            pixels = draw.integers(60 * number, 60 * number + 100, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{image:02}.png")
    return root


def tiny(folder: Path, trials: int = 2) -> str:
    words = f"--initial 10 --budget 5 --cycles 2 --trials {trials} --image-size 16 --first chance --one-pool"
    return f"--dataset {shlex.quote(str(folder))} {words}"


def cells(row: Sequence[str]) -> list[float]:
    return [float(cell.split(" ")[0].replace("−", "-")) for cell in row[1:] if cell]


def test_arms_may_differ_in_their_settings_and_are_compared_trial_by_trial(folder: Path, places: Places) -> None:
    arms = (Arm("Ran", "random", TINY), Arm("Ran+", "random", (*TINY, "objective=isda")), Arm("Max", "max-prob", TINY))
    study = Curves("name", **ABOUT, arms=arms, small=tiny(folder), reference="Ran")
    outcome = study.make("small", places, Display())
    assert outcome.headings == ["", "10 labels", "15 labels", "over the curve, less Ran"]
    assert [row[0] for row in outcome.rows] == ["Ran", "Ran+", "Max"]
    assert [row[3] == "" for row in outcome.rows] == [True, False, False]
    (first, *_), (_, *_), (third, *_) = (cells(row) for row in outcome.rows)
    assert first == third, "the first labels are the same, and so is what is trained on them"
    assert outcome.facts["seeds"] == "--seed 0, 2 trials"


def test_places_and_rates_of_dropout_are_arms_of_their_own(folder: Path, places: Places) -> None:
    """Some of what is declared, with tiny networks in place of the study's."""
    declared = STUDIES["dropout-places"]
    assert isinstance(declared, Curves)
    assert len({(arm.sampler, arm.settings) for arm in declared.arms}) == 2 + 2 * 2 * 3
    chosen = [arm for arm in declared.arms if arm.sampler == "bald" and "dropout_rate=0.5" in arm.settings]
    arms = tuple(replace(arm, settings=(*arm.settings[: -len(SCRATCH)], *TINY)) for arm in chosen)
    options = f"{tiny(folder, trials=1)} --set dropout_draws=2"
    outcome = replace(declared, arms=arms, small=options).make("small", places, Display())
    assert [row[0] for row in outcome.rows] == ["`bald`, features, 0.5", "`bald`, stages, 0.5"]


def test_what_a_cycle_costs(folder: Path, places: Places) -> None:
    arms = (Arm("random", "random", TINY), Arm("VAAL", "vaal", (*TINY, *ADVERSARY)))
    study = Costs("costs", **ABOUT, arms=arms, small=tiny(folder, trials=1))
    plain, adversarial = (cells(row) for row in study.make("small", places, Display()).rows)
    assert plain[0] == 0 < adversarial[0], "networks beside the task network"
    for row in (plain, adversarial):
        assert row[4] == pytest.approx(sum(row[1:4]), abs=0.03)
    assert any((places.work / "papers" / "costs" / "runs").iterdir()), "its runs are not those of other studies"


def test_what_was_chosen_is_counted_by_class_and_shown(folder: Path, places: Places) -> None:
    study = Chosen("chosen", **ABOUT, arms=(Arm("random", "random", TINY),), small=tiny(folder))
    outcome = study.make("small", places, Display())
    assert outcome.headings == ["", "dark", "gray", "light"]
    assert sum(cells(outcome.rows[0])) == pytest.approx(5, abs=0.2), "one purchase"
    with Image.open(places.pictures / outcome.picture) as picture:
        assert picture.width > 5 * 16, "what was chosen side by side"


def test_the_gap_to_what_the_bound_equals_closes_and_to_what_it_bounds_stays(folder: Path, places: Places) -> None:
    study = Gap("gap", **ABOUT, draws=(50, 20_000), small=(str(folder), 30, 10), settings=TINY)
    bounded, _, share, ranks = (cells(row) for row in study.make("small", places, Display()).rows)
    assert min(bounded) > 0
    assert share[1] < share[0] / 3
    assert ranks[1] > 0.9


def test_an_independent_learner_has_nothing_of_the_samplers(folder: Path, places: Places) -> None:
    """After the first labels, which all arms share, it is the same network whichever sampler there is."""
    arms = tuple(Arm(name, name, TINY) for name in ("random", "learning-loss"))
    options = f"{tiny(folder)} --independent-learner"
    alone = Curves("alone", **ABOUT, arms=arms, small=options, reference="random").make("small", places, Display())
    plain = Curves("plain", **ABOUT, arms=arms[:1], small=tiny(folder), reference="random")
    assert alone.rows[0][1] == alone.rows[1][1] == plain.make("small", places, Display()).rows[0][1]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", CURVES, ids=lambda study: study.name)
def test_every_study_of_curves_is_one_that_can_be_played(study: Curves, scale: str) -> None:
    words = shlex.split(study.small if scale == "small" else study.paper_scale)
    for arm in study.arms:
        options = parse([*words, *(word for setting in arm.settings for word in ("--set", setting))])
        settings = Settings().for_project(overrides_of(options.set))
        assert options.task in SAMPLERS[arm.sampler].tasks
        assert settings.objective == "auto" or not SAMPLERS[arm.sampler].has_objective()
    assert study.reference in [arm.label for arm in study.arms]


@pytest.mark.parametrize(
    "study", [one for one in CURVES if parse(shlex.split(one.small)).dataset in NAMED], ids=lambda study: study.name
)
def test_every_small_study_asks_for_no_more_images_than_there_are(study: Curves, places: Places) -> None:
    options = parse(shlex.split(study.small))
    train, held_out = sizes(options.dataset, places.data)
    assert options.pool <= train and options.test <= held_out
    assert options.initial + options.cycles * options.budget <= (options.pool or train)


@cache
def sizes(dataset: str, downloads: Path) -> tuple[int, int]:
    """Of the pool and of the held-out part, which is drawn from the pool where the data set has none."""
    found = NAMED[dataset](downloads)
    train, held_out = len(found.train_images), len(found.test_images)
    drawn = 0 if held_out else int(HELD_OUT * train)
    return train - drawn, held_out + drawn


def test_every_committed_result_is_of_a_study() -> None:
    there = {path.stem for path in RESULTS.glob("*.json")}
    assert there <= {f"{name}-{scale}" for name in STUDIES for scale in SCALES}
    assert any(saved_outcome(name, "small") for name in STUDIES)


def test_the_command_lists_the_studies_and_refuses_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in STUDIES)
    with pytest.raises(SystemExit) as refused:
        main(["papers", "dast-al-table-9"])
    assert refused.value.code == 2
    assert "dast-al-table-1" in capsys.readouterr().err


def test_a_table_of_settings_is_made_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", "ta-vaal-table-1", "--out", str(tmp_path)]) == 0
    assert "| `ta_vaal_latent` | 64 | 64 | 128 | 128 | 128 |" in capsys.readouterr().out
    assert (tmp_path / "ta-vaal-table-1-small.json").exists()


def test_the_loss_of_the_module_is_told_by_epoch(folder: Path, places: Places) -> None:
    """An untrained margin loss is about 1 and an untrained ranking loss about ln 2."""
    study = PairLosses("losses", **ABOUT, small=(str(folder), 30, 4), trials=2, settings=TINY)
    outcome = study.make("small", places, Display())
    assert outcome.headings == ["", "epoch 1", "epoch 2", "epoch 4"]
    margin, ranks = (cells(row) for row in outcome.rows)
    assert margin[0] == pytest.approx(1, abs=0.5)
    assert ranks[0] == pytest.approx(0.69, abs=0.3)
    assert (places.pictures / outcome.picture).stat().st_size < 300_000


def test_neighbors_of_augmented_features_are_other_images(folder: Path, places: Places) -> None:
    sizes: dict[str, int] = {"picks": 5, "draws": 4, "shown": 2, "trials": 2}
    study = Neighbors("neighbors", **ABOUT, small=(str(folder), 20, 10), settings=TINY, **sizes)
    given = labels_of(study.small, "dast-al", TINY, places, Display())
    for picked, nearest in study._found(given).values():
        assert nearest.shape == (5, 4)
        assert not (nearest == picked[:, None]).any()
        assert np.isin(nearest, given.others).all()
    outcome = study.make("small", places, Display())
    assert [row[0] for row in outcome.rows] == ["DAST-AL", "least confidence", "random"]
    assert all(1 <= row[1] <= row[0] <= 4 for row in map(cells, outcome.rows)), "classes, neighbors, draws"
    assert (places.pictures / outcome.picture).stat().st_size < 300_000


def test_generated_images_are_shown_with_their_matches(folder: Path, places: Places) -> None:
    gan = ("gan=dcgan", "gan_iterations=2", "gan_width=4", "gan_latent=6", "synthetic_steps=2", "asal_images=5")
    study = Matches("matches", **ABOUT, small=(str(folder), 10, 20), settings=(*TINY, *gan), shown=4)
    outcome = study.make("small", places, Display())
    (row,) = outcome.rows
    assert float(row[0]) <= float(row[1]), "the latents were moved to where the network is less sure"
    assert 1 <= int(row[-1].split(" of ")[0]) <= 3
    with Image.open(places.pictures / outcome.picture) as picture:
        assert picture.width > picture.height, "one row of pairs"
