"""Settings: what is accepted, what is refused in which words, and that every one is documented."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import SettingsError
from backend.settings.core import Settings, all_settings, project_keys
from backend.settings.samplers import PRESETS
from backend.settings.spec import spec_of
from backend.settings.table import settings_table
from samplers import SAMPLER_NAMES, all_options
from samplers.options import one_of


def test_every_setting_is_in_the_table_and_says_what_it_is_for() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(fields(Settings)) - 1  # less "given", which is none
    for item, row in zip(all_settings(), rows, strict=True):
        assert row.startswith(f"| `{item.name.upper()}` |")
        assert len(spec_of(item).help) > 10
        assert (f"`{item.name}`" in row.split("|")[2]) == spec_of(item).per_project


def test_settings_remember_which_of_them_were_given() -> None:
    """A kind of task has a sampler of its own where the owner names none."""
    assert Settings.from_env({}).given == frozenset()
    given = Settings.from_env({"BUDGET": "7"}).for_project({"sampler": "dast-al"}).given
    assert given == {"budget", "sampler"}
    assert "learning_rate" in Settings.from_env({}).for_project({"preset": "ta-vaal-cifar10"}).given


def test_the_samplers_and_their_options_are_those_of_the_table_of_samplers() -> None:
    known = {item.name: item for item in all_settings()}
    assert spec_of(known["sampler"]).check.allowed == one_of(*SAMPLER_NAMES).allowed
    for name, about in all_options().items():
        spec = spec_of(known[name])
        assert (known[name].default, spec.help, spec.check) == (about.default, about.help, about.check)
        assert spec.per_project and not spec.secret
    assert list(known)[-len(all_options()) :] == list(all_options()), "samplers' options come last, in their order"


def test_the_names_of_the_networks_are_those_that_can_be_built() -> None:
    from backend.tasks.backbones import SEGMENTERS
    from models.networks.segmenter import NAMES

    assert SEGMENTERS == NAMES
    (allowed,) = (spec_of(item).check.allowed for item in all_settings() if item.name == "segmentation_net")
    assert all(f"{name}," in allowed or f"{name} or" in allowed for name in ("auto", *NAMES))


@pytest.mark.parametrize(("labels", "due"), [(0, 50), (499, 50), (500, 50), (510, 51), (2_000, 200)])
def test_the_budget_grows_once_its_share_of_the_labels_is_more(labels: int, due: int) -> None:
    assert Settings(budget=50, budget_growth=0.1).budget_after(labels) == due
    assert Settings(budget=50).budget_after(labels) == 50


@pytest.mark.parametrize("growth", [0.02, 0.05, 0.1, 1.0])
@pytest.mark.parametrize("goal", [2_000, 20_000, 200_000])
def test_with_growth_a_whole_project_costs_a_constant_for_each_label(growth: float, goal: int) -> None:
    """Cycle k + 1 has (1 + g) times the labels of cycle k, so that the sum is geometric: at most (1 + g) / g times the
    last one, even where each looks at every label 6 times; and there are log(goal) / log(1 + g) of them, after those of
    the constant budget, each of at most about 9,000 images."""
    import torch

    from models.training.schedule import Recipe, length_for

    settings, labels, cycles, images = Settings(budget=50, budget_growth=growth), 50, 0, 0
    while labels <= goal:
        images += length_for(Recipe(), labels, torch.device("cpu")).images
        labels += settings.budget_after(labels)
        cycles += 1
    assert cycles <= 1 / growth + math.log(max(1.0, goal * growth / 50)) / math.log(1 + growth) + 2
    constant = 10_000 * (1 / growth + math.log(1_500 * growth / 50 + 1) / math.log(1 + growth) + 2)
    assert images <= constant + 6 * goal * (1 + growth) / growth


def test_defaults_pass_their_own_checks() -> None:
    for item in all_settings():
        assert spec_of(item).check.holds(item.default), item.name


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({"BUDGET": "", "SAMPLER": "  ", "PATH": "/bin"}) == Settings()


def test_the_environment_is_read_by_upper_case_names_and_types() -> None:
    settings = Settings.from_env(
        {"BUDGET": "7", "PRETRAINED": "Yes", "MANAGE_QUEUE": "0", "LEARNING_RATE": "0.01", "LOG_LEVEL": "debug"}
    )
    assert (settings.budget, settings.pretrained, settings.manage_queue) == (7, True, False)
    assert (settings.learning_rate, settings.log_level) == (0.01, "DEBUG")


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("BUDGET", "0", "1 to 1000000"),
        ("BUDGET", "many", "whole number"),
        ("BUDGET", "1.5", "whole number"),
        ("PRETRAINED", "maybe", "true or false"),
        ("LEARNING_RATE", "nan", "a number"),
        ("LEARNING_RATE", "inf", "a number"),
        ("MOMENTUM", "1", "0 to 0.999"),
        ("SAMPLER", "vaall", "random, least-confidence, margin"),
        ("DEVICE", "gpu", "cuda:N"),
        ("DATABASE_URL", "mysql://x", "postgresql"),
        ("LABEL_STUDIO_URL", "label-studio:8080", "http(s)://"),
        ("LOG_LEVEL", "loud", "DEBUG"),
        ("IMAGE_SIZE", "8", "0, or 16 to 1024"),
        ("TASK", "detection", "one of auto, classification, multilabel, segmentation"),
        ("MULTILABEL_THRESHOLD", "1", "0.01 to 0.99"),
        ("PREANNOTATE_ABOVE", "nan", "auto, or 0 to 1"),
        ("UNLABELLED", "void", "one of background, ignore"),
        ("RECTANGLES", "some", "true or false"),
        ("CROP_SIZE", "8", "0, or 32 to 1024"),
        ("PREANNOTATE", "-1", "0 to 1000000"),
        ("TRAIN_IMAGES", "99", "0, or 100 to 1000000000"),
        ("FIT_SECONDS", "0.5", "0, or 1 to 604800"),
        ("BUDGET_GROWTH", "1.5", "0 to 1"),
    ],
)
def test_a_bad_environment_is_refused_by_name_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env({name: text})
    words = str(refusal.value)
    assert words.startswith(f"{name} must be") and allowed in words
    assert text.lower() in words.lower() or spec_of({f.name: f for f in all_settings()}[name.lower()]).secret


def test_user_and_password_come_together() -> None:
    with pytest.raises(SettingsError, match="together"):
        Settings.from_env({"BASIC_AUTH_USER": "someone"})


def test_a_key_of_ours_needs_an_address_of_ours() -> None:
    """Whoever reaches /setup could name any address; our key must not go there."""
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL"):
        Settings.from_env({"LABEL_STUDIO_API_KEY": "0123456789"})


@pytest.mark.parametrize("nothing", [None, "", {}, "{}", "null"])
def test_no_extra_params_change_nothing(nothing: Any) -> None:
    settings = Settings(budget=9)
    assert settings.for_project(nothing) == settings


def test_extra_params_override_as_an_object_or_as_its_text() -> None:
    params = {"sampler": "vaal", "budget": 3, "learning_rate": 1, "pretrained": True}
    for given_params in (params, json.dumps(params)):
        settings = Settings(basic_auth_user="kept").for_project(given_params)
        assert (settings.sampler, settings.budget, settings.pretrained) == ("vaal", 3, True)
        assert settings.learning_rate == 1.0 and type(settings.learning_rate) is float
        assert settings.basic_auth_user == "kept"


@pytest.mark.parametrize("spelled", [0.8, "0.8"])
def test_a_number_may_be_given_where_a_text_may_spell_one(spelled: object) -> None:
    assert Settings().for_project({"preannotate_above": spelled}).preannotate_above == "0.8"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"buget": 5}, ['unknown key "buget"', "did you mean budget"]),
        ({"quux": 5}, ['unknown key "quux"', "known are sampler, preset, budget", "docs/settings.md"]),
        ({"preset": "cifar10"}, ["preset must be empty or one of ta-vaal-cifar10", '"cifar10"']),
        ({"BUDGET": 5}, ["unknown key"]),
        ({"budget": "5"}, ["budget must be a whole number", '"5"']),
        ({"budget": True}, ["budget must be a whole number", "true"]),
        ({"budget": 5.0}, ["budget must be a whole number", "5.0"]),
        ({"budget": None}, ["budget must be a whole number", "null"]),
        ({"budget": [5]}, ["budget must be a whole number", "[5]"]),
        ({"pretrained": 1}, ["pretrained must be true or false", "1"]),
        ({"learning_rate": float("nan")}, ["learning_rate must be a number", "NaN"]),
        ({"learning_rate": 10**400}, ["learning_rate must be a number"]),
        ({"preannotate_above": 1.5}, ["preannotate_above must be text (auto, or 0 to 1)", "1.5"]),
        ({"preannotate_above": True}, ["preannotate_above must be text (auto, or 0 to 1)", "true"]),
        ({"sampler": {}}, ["sampler must be text (one of random"]),
        ({"sampler": "x" * 500}, ["sampler must be one of", "xxx..."]),
        ({"model_dir": "/tmp"}, ["model_dir", "set MODEL_DIR in the backend's environment"]),
        ({"label_studio_api_key": "stolen"}, ["LABEL_STUDIO_API_KEY"]),
        ("{", ["not valid JSON"]),
        ("[1]", ["must be a JSON object"]),
        ([1], ["must be a JSON object"]),
        (5, ["must be a JSON object"]),
    ],
)
def test_bad_extra_params_are_refused_in_one_sentence(params: Any, words: list[str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings().for_project(params)
    text = str(refusal.value)
    assert text.startswith("extra_params") and "\n" not in text and "stolen" not in text
    for word in words:
        assert word in text


@given(
    st.dictionaries(
        st.sampled_from(project_keys()), st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    )
)
def test_whatever_the_owner_types_is_taken_or_refused_and_never_breaks(params: dict[str, Any]) -> None:
    try:
        settings = Settings().for_project(params)
    except SettingsError as refusal:
        assert str(refusal)
        return
    for key, value in params.items():
        # also beside a preset; a text may be given as the number that it spells
        assert getattr(settings, key) in (value, str(value))
        assert type(getattr(settings, key)) is type(getattr(Settings(), key))


def test_presets_are_rows_of_table_1() -> None:
    """TA-VAAL's supplement, table 1: latent size, the three learning rates, η, λ, β, batch, epochs, budget, size."""
    table = {
        "ta-vaal-cifar10": (64, 1e-1, 5e-4, 1.0, 1.0, 1.0, 128, 200, 1000, 32),
        "ta-vaal-cifar100": (64, 1e-1, 5e-4, 1.0, 1.0, 1.0, 128, 200, 2000, 32),
        "ta-vaal-caltech101": (128, 1e-2, 1e-4, 0.2, 15.0, 1.0, 16, 200, 500, 224),
        "ta-vaal-caltech256": (128, 5e-4, 5e-4, 0.1, 15.0, 1.0, 64, 100, 1530, 224),
        "ta-vaal-cityscapes": (128, 1e-3, 1e-4, 0.1, 25.0, 1.0, 4, 100, 200, 412),
    }
    assert set(PRESETS) == set(table)
    for name, row in table.items():
        chosen = Settings().for_project({"preset": name})
        task = (chosen.batch_size, chosen.epochs, chosen.budget, chosen.image_size)
        weights = (chosen.learning_loss_weight, chosen.vaal_lambda, chosen.vaal_beta)
        assert (chosen.ta_vaal_latent, chosen.learning_rate, chosen.vaal_learning_rate, *weights, *task) == row
        assert (chosen.sampler, chosen.vaal_batch_size, chosen.warm_start) == ("ta-vaal", row[6], False)


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_is_one_that_could_be_typed(name: str) -> None:
    assert Settings().for_project(PRESETS[name]) == replace(Settings().for_project({"preset": name}), preset="")


def test_what_is_given_beside_a_preset_wins() -> None:
    chosen = Settings(epochs=7).for_project({"preset": "ta-vaal-cifar10", "sampler": "entropy", "budget": 9})
    assert (chosen.sampler, chosen.budget, chosen.epochs) == ("entropy", 9, 200)
    chosen = Settings.from_env({"PRESET": "ta-vaal-cifar10", "EPOCHS": "3"})
    assert (chosen.sampler, chosen.epochs, chosen.budget) == ("ta-vaal", 3, 1000)
    assert chosen.for_project({"budget": 5}).epochs == 3


def test_secrets_are_in_no_repr_and_known_to_the_log() -> None:
    settings = Settings.from_env(
        {
            "LABEL_STUDIO_URL": "http://ls",
            "LABEL_STUDIO_API_KEY": "key-of-mine",
            "BASIC_AUTH_USER": "someone",
            "BASIC_AUTH_PASS": "open-sesame",
            "DATABASE_URL": "postgresql://me:hush@db/x",
        }
    )
    for secret in ("key-of-mine", "open-sesame", "hush"):
        assert secret not in repr(settings)
    assert set(settings.secrets()) == {"key-of-mine", "open-sesame", "postgresql://me:hush@db/x"}
