"""models.inference.predictions: one pass, the right predictions, nothing changed."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from models.data import DataError, Runtime
from models.inference.predictions import NonFiniteOutputs, embed, measure, predict, predict_and_measure, predict_masks
from models.networks.classifier import Classifier, NetConfig
from models.networks.segmenter import Segmenter, SegmenterConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION, SEGMENTATION

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def net() -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", 5, 16, 4), 0)


def plain(net: Classifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of all images in one plain forward pass."""
    was = net.training
    net.eval()
    with torch.no_grad():
        features = net.features(normalize(torch.from_numpy(images)))
        logits = net.head(features)
    net.train(was)
    return features.numpy(), logits.numpy().astype(np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def test_predict_is_argmax_and_softmax(net: Classifier, pixels: np.ndarray) -> None:
    rows = np.random.default_rng(1).permutation(70)[:33]
    predictions = predict(net, pixels, rows, Runtime(CPU, 0))
    probabilities = softmax(plain(net, pixels[rows])[1])
    assert predictions.predicted.dtype == np.int64
    assert predictions.confidence.dtype == np.float64
    assert (predictions.predicted == probabilities.argmax(axis=1)).all()
    np.testing.assert_allclose(predictions.confidence, probabilities.max(axis=1), rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 69, 70, 500])
def test_answers_do_not_depend_on_batch_size_or_order(net: Classifier, pixels: np.ndarray, batch_size: int) -> None:
    rows = np.arange(70)
    shuffled = np.random.default_rng(batch_size).permutation(70)
    expected = predict(net, pixels, rows, Runtime(CPU, 0))
    predictions = predict(net, pixels, shuffled, Runtime(CPU, 0, eval_batch_size=batch_size))
    assert (predictions.predicted == expected.predicted[shuffled]).all()
    np.testing.assert_allclose(predictions.confidence, expected.confidence[shuffled], rtol=1e-5)


def test_repeated_rows_are_answered_each_time(net: Classifier, pixels: np.ndarray) -> None:
    predictions = predict(net, pixels, np.array([4, 9, 4, 4]), Runtime(CPU, 0))
    assert predictions.confidence[0] == predictions.confidence[2] == predictions.confidence[3]


@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes(net: Classifier, pixels: np.ndarray, training: bool) -> None:
    net.train(training)
    net.trunk.bn1.eval()
    modes = [module.training for module in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    predict(net, pixels, np.arange(70), Runtime(CPU, 0, eval_batch_size=16))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_one_pass_gives_answers_and_a_measure(net: Classifier, pixels: np.ndarray) -> None:
    rows, runtime = np.arange(10, 50), Runtime(CPU, 0, eval_batch_size=9)
    passes: list[int] = []
    hook = net.trunk.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    predictions, values = predict_and_measure(
        net, pixels, rows, runtime, lambda features, logits: features.sum(dim=1) - logits[:, 0]
    )
    hook.remove()
    assert sum(passes) == 40
    features, logits = plain(net, pixels[rows])
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, features.sum(axis=1) - logits[:, 0], rtol=1e-4)
    expected = predict(net, pixels, rows, runtime)
    assert (predictions.predicted == expected.predicted).all()
    assert (predictions.confidence == expected.confidence).all()


def test_embed_gives_the_features(net: Classifier, pixels: np.ndarray) -> None:
    rows = np.array([60, 2, 33])
    embedded = embed(net, pixels, rows, Runtime(CPU, 0))
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, plain(net, pixels[rows])[0], rtol=1e-4, atol=1e-6)


def test_no_rows_no_answers(net: Classifier, pixels: np.ndarray) -> None:
    nobody = np.empty(0, dtype=np.int64)
    assert len(predict(net, pixels, nobody, Runtime(CPU, 0)).predicted) == 0
    assert embed(net, pixels, nobody, Runtime(CPU, 0)).shape == (0, 32)


def test_rows_that_do_not_exist_are_refused(net: Classifier, pixels: np.ndarray) -> None:
    for bad in (-1, 70):
        with pytest.raises(DataError, match="rows must lie in"):
            measure(net, pixels, np.array([0, bad]), Runtime(CPU, 0), lambda features, _: (features,))


def test_broken_weights_are_an_error_and_no_answer(net: Classifier, pixels: np.ndarray) -> None:
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    with pytest.raises(NonFiniteOutputs, match="diverged"):
        predict(net, pixels, np.arange(4), Runtime(CPU, 0))


def test_confidence_of_extreme_logits_is_exact(net: Classifier, pixels: np.ndarray) -> None:
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([500.0, 500.0, -500.0, 0.0, 0.0]))  # exp(500) overflows float32
    predictions = predict(net, pixels, np.arange(3), Runtime(CPU, 0))
    assert predictions.confidence == pytest.approx([0.5] * 3, rel=1e-6)


# --- masks ---

FRAME = (24, 40)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    patches = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 3), dtype=np.uint8)
    return patches.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def segmenter(wide: np.ndarray) -> Segmenter:
    """It predicts every class somewhere."""
    net = SEGMENTATION.build(SegmenterConfig("drn-d-22", 3, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(wide)))
        net.head.weight.mul_(8.0)
        net.head.bias.sub_(net.eval()(normalize(torch.from_numpy(wide))).mean(dim=(0, 2, 3)))
    return net


def collected(
    net: Segmenter, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks and confidence in the order of `rows`, and how many batches said something of each of them."""
    shape = (len(rows), *pixels.shape[1:3])
    masks, confidence, times = np.empty(shape, np.uint8), np.empty(shape, np.uint8), np.zeros(len(rows), int)
    for places, mask, sure in predict_masks(net, pixels, rows, runtime):
        assert mask.dtype == sure.dtype == np.uint8
        masks[places], confidence[places] = mask, sure
        times[places] += 1
    return masks, confidence, times


@pytest.mark.parametrize("batch_size", [1, 3, 8, 500])
def test_masks_are_the_largest_logit_in_each_pixel_of_the_image(
    segmenter: Segmenter, wide: np.ndarray, batch_size: int
) -> None:
    rows = np.random.default_rng(batch_size).permutation(20)[:13]
    rows[5] = rows[0]
    masks, confidence, times = collected(segmenter, wide, rows, Runtime(CPU, 0, eval_batch_size=batch_size))
    assert (times == 1).all()
    with torch.no_grad():
        p = segmenter.eval()(normalize(torch.from_numpy(wide[rows]))).double().softmax(dim=1).numpy()
    best = np.sort(p, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-4  # elsewhere rounding decides
    assert p.shape[2:] == FRAME and clear.mean() > 0.99
    assert (masks == p.argmax(axis=1))[clear].all()
    assert set(masks.flatten()) == {0, 1, 2}
    assert np.abs(confidence - 255 * best[:, -1]).max() <= 0.51


def test_a_sure_answer_has_all_of_the_confidence_there_is(segmenter: Segmenter, wide: np.ndarray) -> None:
    with torch.no_grad():
        segmenter.head.weight.zero_()
        segmenter.head.bias.copy_(torch.tensor([-500.0, -500.0, 500.0]))
    masks, confidence, _ = collected(segmenter, wide, np.arange(3), Runtime(CPU, 0))
    assert (masks == 2).all() and (confidence == 255).all()


def test_masks_come_a_batch_at_a_time_when_asked_for(segmenter: Segmenter, wide: np.ndarray) -> None:
    """So a pool's masks are never in memory together, neither the network's maps nor what was given before."""
    sizes: list[int] = []
    hook = segmenter.trunk.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    reports: list[tuple[str, int, int]] = []
    runtime = Runtime(CPU, 0, lambda *parts: reports.append(parts), eval_batch_size=6)
    stream = predict_masks(segmenter, wide, np.arange(20), runtime)
    assert sizes == []
    before: list[weakref.ref[np.ndarray]] = []
    for number, (_, masks, confidence) in enumerate(stream, start=1):
        assert len(sizes) == number
        assert [reference() for reference in before] == [None] * len(before)
        before = [weakref.ref(masks), weakref.ref(confidence)]
        del masks, confidence
    hook.remove()
    assert sizes == [6, 6, 6, 2]
    assert reports == [("predict", done, 20) for done in (6, 12, 18, 20)]


@pytest.mark.parametrize("early", [True, False])
def test_masks_leave_the_network_in_the_mode_it_was_in(segmenter: Segmenter, wide: np.ndarray, early: bool) -> None:
    segmenter.train()
    norm = next(module for module in segmenter.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.eval()
    modes = [module.training for module in segmenter.modules()]
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    stream = predict_masks(segmenter, wide, np.arange(20), Runtime(CPU, 0, eval_batch_size=6))
    _, masks, _ = next(stream)
    assert [module.training for module in segmenter.modules()] == modes
    stream.close() if early else list(stream)  # type: ignore[attr-defined]
    assert [module.training for module in segmenter.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in segmenter.state_dict().items())
    assert not torch.is_inference_mode_enabled()
    _, evaluated, _ = next(predict_masks(segmenter.eval(), wide, np.arange(20), Runtime(CPU, 0, eval_batch_size=6)))
    assert np.array_equal(masks, evaluated)


def test_masks_of_broken_weights_or_of_rows_that_do_not_exist_are_errors(
    segmenter: Segmenter, wide: np.ndarray
) -> None:
    assert list(predict_masks(segmenter, wide, np.empty(0, dtype=np.int64), Runtime(CPU, 0))) == []
    with pytest.raises(DataError, match="rows must lie in"):
        next(predict_masks(segmenter, wide, np.array([0, 20]), Runtime(CPU, 0)))
    with torch.no_grad():
        segmenter.head.bias[1] = torch.nan
    with pytest.raises(NonFiniteOutputs, match="diverged"):
        next(predict_masks(segmenter, wide, np.arange(4), Runtime(CPU, 0)))
    with pytest.raises(NonFiniteOutputs, match="diverged"):
        predict(segmenter, wide, np.arange(4), Runtime(CPU, 0))


def test_features_of_an_image_that_is_segmented_are_the_mean_of_its_map(segmenter: Segmenter, wide: np.ndarray) -> None:
    rows = np.array([7, 2, 13])
    with torch.no_grad():
        expected = segmenter.eval().features(normalize(torch.from_numpy(wide[rows]))).mean(dim=(2, 3))
    np.testing.assert_allclose(embed(segmenter, wide, rows, Runtime(CPU, 0)), expected.numpy(), rtol=1e-4, atol=1e-6)
    assert embed(segmenter, wide, rows[:0], Runtime(CPU, 0)).shape == (0, segmenter.feature_channels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_answers_as_the_cpu_does(net: Classifier, pixels: np.ndarray) -> None:
    expected = predict(net, pixels, np.arange(70), Runtime(CPU, 0))
    cuda = Runtime(torch.device("cuda"), 0, eval_batch_size=16)
    predictions = predict(net.cuda(), pixels, np.arange(70), cuda)
    np.testing.assert_allclose(predictions.confidence, expected.confidence, rtol=2e-2)
