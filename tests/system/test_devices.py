"""Networks, coding and files on a device that is not the CPU: the same bits, and nothing made in the wrong place."""

from __future__ import annotations

import copy
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rdeic.evaluation.bench.subject import Subject
from rdeic.model.latent_codec import decode_y, encode_y, quantise_all
from rdeic.model.model import Rdeic
from rdeic.nn.context import checkerboard
from rdeic.nn.exact import exact_copy
from rdeic.pictures import images
from support.second_device import CPU, DEVICE, second_device
from support.tiny import TINY, likely_y, lively_entropy_model, save_random_model

# Everything of the paper's system that the tiny model has not: text, attention in E and D, one fixed rate.
PAPER = dataclasses.replace(
    TINY,
    autoencoder=dataclasses.replace(
        TINY.autoencoder, mid_attention=True, subpixel=False, patch=1, latent_scale=0.2
    ),
    compression=dataclasses.replace(TINY.compression, quality_levels=0),
    unet=dataclasses.replace(TINY.unet, context_channels=12, patch=1),
)
SHAPES = {"mini": TINY, "paper": PAPER}


@pytest.fixture
def there() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


# The device


MIXTURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "matmul": torch.matmul,
    "baddbmm": lambda a, b: torch.baddbmm(a[None], b[None], b[None]),
    "index_select": lambda a, b: a.index_select(0, b[0].long()),
    "embedding": lambda a, b: functional.embedding(a.long(), b),
    "conv2d": lambda a, b: functional.conv2d(a[None, None], b[None, None]),
    "cat": lambda a, b: torch.cat([a, b]),
    "stack of scalars": lambda a, b: torch.stack([a.sum(), b.sum()]),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_the_second_device_computes_and_refuses_to_mix(there: torch.device, name: str) -> None:
    a, b = torch.arange(9.0).view(3, 3) % 3, torch.ones(3, 3)
    mix = MIXTURES[name]
    assert torch.equal(mix(a.to(there), b.to(there)).cpu(), mix(a, b))
    for one, other in ((a.to(there), b), (a, b.to(there))):
        with pytest.raises(RuntimeError, match="same device"):
            mix(one, other)
    assert torch.equal((a.to(there) * torch.tensor(2.0)).cpu(), a * 2)


# Coding


assert_close = functools.partial(torch.testing.assert_close, rtol=1e-3, atol=1e-4)


def devices_of(net: nn.Module) -> set[torch.device]:
    return {value.device for value in net.state_dict(keep_vars=True).values()}


def test_exact_networks_give_the_same_bits_there(there: torch.device) -> None:
    entropy = lively_entropy_model(0)
    exact, far = exact_copy(entropy), exact_copy(copy.deepcopy(entropy).to(there))
    assert devices_of(far) == {DEVICE}
    indices = torch.randint(0, 16, (3, 3, 4), generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    hyper = exact.hyper(exact.codebook.lookup(indices), level)
    hyper_there = far.hyper(far.codebook.lookup(indices.to(there)), level.to(there))
    assert torch.equal(hyper_there.cpu(), hyper)
    y = likely_y(entropy, hyper.float(), 0).double()
    expected, found = quantise_all(exact, y, hyper), quantise_all(far, y.to(there), hyper_there)
    assert torch.equal(found.y_hat.cpu(), expected.y_hat)
    assert torch.equal(found.params.sigma.cpu(), expected.params.sigma)
    stream = encode_y(exact, y[:1], hyper[:1])
    assert encode_y(far, y[:1].to(there), hyper_there[:1]) == stream
    assert torch.equal(decode_y(far, stream, hyper_there[:1]).cpu(), expected.y_hat[:1])


@pytest.mark.parametrize("height", range(1, 7))
@pytest.mark.parametrize("width", range(1, 9))
def test_a_checkerboard_is_counted_where_it_is_needed(there: torch.device, height: int, width: int) -> None:
    odd = np.add.outer(np.arange(height), np.arange(width)) % 2 == 1
    for half, mask in zip(checkerboard(height, width, there), (odd, ~odd), strict=True):
        assert half.places.device == DEVICE
        assert half.places.cpu().tolist() == np.flatnonzero(mask).tolist()


def noises(like: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(like.shape, generator=generator).to(like)


@pytest.mark.parametrize("shape", SHAPES)
def test_networks_restore_the_same_picture_there(there: torch.device, shape: str) -> None:
    torch.manual_seed(0)
    here = Rdeic(SHAPES[shape])
    for (
        weight
    ) in here.control.parameters():  # its connections start at zero, and nothing would be behind them
        torch.nn.init.normal_(weight, std=0.05)
    far = copy.deepcopy(here).to(there).prepare()
    here.prepare()
    x = torch.rand(1, 3, 64, 128) * 2 - 1
    with torch.inference_mode():
        y = here.analyse(x)
        assert_close(far.analyse(x.to(there)).cpu(), y)
        coded, coded_there = here.encode(y, 100), far.encode(y.to(there), 100)
        assert coded_there.y_stream == coded.y_stream
        assert np.array_equal(coded_there.hyper_indices, coded.hyper_indices)
        features, features_there = here.decode(coded, 100), far.decode(coded, 100)
        for detail in (0.0, 0.5, 1.0):
            expected = here.restore(features, noises(features.z_c), 2, detail)
            found = far.restore(features_there, noises(features_there.z_c), 2, detail)
            assert_close(found.cpu(), expected)


def check_files(here: Subject, far: Subject, photo: images.Picture) -> None:
    """Both decode what either made, to the same picture up to float rounding."""
    for blob in (here.compress(photo, verify=True), far.compress(photo, verify=True)):
        one, other = (np.array(codec.decompress(blob), int) for codec in (here, far))
        assert np.abs(one - other).max() <= 1  # of 255 levels


@pytest.mark.parametrize(("shape", "float64"), [("mini", True), ("mini", False), ("paper", True)])
def test_files_decode_on_either_device_wherever_they_were_made(
    shape: str, float64: bool, photo: images.Picture, tmp_path: Path
) -> None:
    folder = str(save_random_model(SHAPES[shape], tmp_path / shape, seed=0))
    with second_device(float64) as device:
        here, far = Subject(folder, "cpu", "fp32"), Subject(folder, str(device))
        check_files(here, far, photo)
        blob = here.make(photo, 50)
        for part, expected in zip(far.latent(blob, photo), here.latent(blob, photo), strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-4)
        model = far.model_of(blob)
    assert devices_of(model) == {DEVICE}
    assert devices_of(model.exact) == {DEVICE if float64 else CPU}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", SHAPES)
def test_files_decode_on_a_gpu_and_beside_it(shape: str, photo: images.Picture, tmp_path: Path) -> None:
    folder = str(save_random_model(SHAPES[shape], tmp_path / shape, seed=0))
    check_files(Subject(folder, "cpu"), Subject(folder, "cuda"), photo)


# Several pictures at a time


def test_networks_take_turns_while_bits_are_read_beside_them(
    there: torch.device, tiny_folder: Path, photo: images.Picture
) -> None:
    """While E works for one picture, another's bits are read, but its denoising waits."""
    codec = Subject(str(tiny_folder), str(there))
    blob = codec.make(photo, 50)
    model, wanted = codec.model_of(blob), codec.decompress(blob)
    in_e, bits_read, denoising = threading.Event(), threading.Event(), threading.Event()
    found: list[object] = []
    count = torch.get_num_threads()

    def e_begins(*_: object) -> None:
        in_e.set()
        found.append(bits_read.wait(20))
        found.append(denoising.wait(0.2))

    def restore() -> None:
        torch.set_num_threads(count)  # which sums depend on
        assert in_e.wait(20)
        with second_device():
            found.append(np.array_equal(codec.decompress(blob), wanted))

    hooks = [
        model.autoencoder.encoder.feature_layers()[0].register_forward_pre_hook(e_begins),
        model.compression.g_s.register_forward_pre_hook(lambda *_: bits_read.set()),
        model.control.register_forward_pre_hook(lambda *_: denoising.set()),
    ]
    restoring = threading.Thread(target=restore)
    restoring.start()
    assert codec.make(photo, 50) == blob
    restoring.join(20)
    for hook in hooks:
        hook.remove()
    assert found == [True, False, True]
