"""Predicted masks lie over the next images of a project whose labels are drawn, at addresses that only a page knows."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from backend.files import predictions_folder, project_folder
from backend.images.encoding import OPACITY, encode_overlay
from backend.state import Version
from backend.tasks.segmentation.predictions import write_masks
from backend.web.pages.overlays import COLORS
from tests.backend.small_label_studio import MASKS_CONFIG
from tests.backend.web.pages.conftest import Site
from tests.backend.web.pages.test_accessible import ENOUGH_FOR_SHAPES, colors, contrast
from tests.backend.web.pages.world import SIDE, add_cycle, cache_images, connect, fill_tasks

OVER = re.compile(r'class="over" src="(1/masks/(\d+)-(\w{32})\.png)"')


def keep_masks(site: Site, version: Version, tasks: list[int]) -> None:
    """Of each a dog, the second class, in the upper half."""
    project = site.state.projects.get(1)
    assert project is not None
    folder = predictions_folder(project_folder(site.settings.model_dir, project.folder_key), version.name)
    masks = np.zeros((len(tasks), SIDE, SIDE), np.uint8)
    masks[:, : SIDE // 2] = 2
    sizes = np.full((len(tasks), 2), SIDE)
    write_masks(folder, version.classes, (SIDE, SIDE), tasks, sizes, [(np.arange(len(tasks)), masks, masks)])


@pytest.fixture
def masked(site: Site) -> Site:
    """Four tasks, of which the first two have a mask."""
    connect(site.state, 1, "Scenes", config=MASKS_CONFIG)
    fill_tasks(site.state, 1, range(1, 5), [])
    cache_images(site.state, site.settings, 1, range(1, 5))
    version = add_cycle(site.state, 1, labels=8, pool=range(1, 5), task="segmentation", sampler="dast-al")
    keep_masks(site, version, [1, 2])
    return site


def test_a_mask_lies_over_each_image_that_has_one_in_the_color_of_its_class(masked: Site) -> None:
    html = masked.text("/projects/1")
    found = OVER.findall(html)
    assert [int(task) for _, task, _ in found] == [1, 2]
    answer = masked.get(f"/projects/{found[0][0]}")
    assert (answer.status_code, answer.content_type) == (200, "image/png")
    assert "private" in answer.headers["Cache-Control"]
    pixels = np.array(Image.open(io.BytesIO(answer.data)).convert("RGBA"))
    assert pixels.shape == (SIDE, SIDE, 4)
    assert (pixels[SIDE // 2 :, :, 3] == 0).all(), "the background is clear"
    red, green, blue = bytes.fromhex(COLORS[1][1:])
    assert (pixels[: SIDE // 2] == [red, green, blue, OPACITY]).all()
    assert html.count(f'fill="{COLORS[1]}"') == 2 and COLORS[0] not in html


def test_the_address_of_a_mask_cannot_be_guessed_and_ends_with_the_order(masked: Site) -> None:
    (first, task, seal), (_, other, _) = OVER.findall(masked.text("/projects/1"))
    picture = re.search(rf"1/images/{task}-(\w+)\.jpg", masked.text("/projects/1"))
    assert picture is not None
    for guess in (f"{task}-{'0' * 32}", f"{other}-{seal}", f"{task}-{picture[1]}", task):
        assert masked.get(f"/projects/1/masks/{guess}.png").status_code == 404, guess
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert masked.get(f"/projects/{first}", environ_overrides=elsewhere).status_code == 403
    add_cycle(masked.state, 1, labels=9, pool=range(1, 5), task="segmentation", sampler="dast-al")
    assert masked.get(f"/projects/{first}").status_code == 404
    assert OVER.findall(masked.text("/projects/1")) == [], "the new order kept none"


def test_of_whole_images_there_is_none(site: Site) -> None:
    connect(site.state, 1, "Pets")
    fill_tasks(site.state, 1, range(1, 5), [])
    cache_images(site.state, site.settings, 1, range(1, 5))
    add_cycle(site.state, 1, labels=8, pool=range(1, 5))
    assert 'class="over"' not in site.text("/projects/1")


def test_more_classes_than_colors_begin_again_with_the_first() -> None:
    mask = np.array([[0, 1, len(COLORS) + 1, 255]], np.uint8)
    pixels = np.array(Image.open(io.BytesIO(encode_overlay(mask, COLORS))).convert("RGBA"))[0]
    assert pixels[0, 3] == 0 and (pixels[1] == pixels[2]).all() and pixels[3, 3] == OPACITY


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_colors_beside_the_classes_contrast_with_the_card(dark: bool) -> None:
    ground = colors(dark)["card"]
    assert {color: contrast(color, ground) for color in COLORS if contrast(color, ground) < ENOUGH_FOR_SHAPES} == {}
