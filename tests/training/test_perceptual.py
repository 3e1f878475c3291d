"""The perceptual distance: its definition, its gradient, the weights it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from rdeic.errors import CheckpointError, TrainingError
from rdeic.training import perceptual


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SqueezeNet-shaped random weights in half precision."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file({k: v.half() for k, v in perceptual.SqueezeNetDistance().state_dict().items()}, path)
    return path


def _pair(count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(count, 3, 96, 64, generator=generator) * 2 - 1
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)


def test_distance_is_zero_for_identical_and_symmetric(squeezenet: Path) -> None:
    distance = perceptual.load(str(squeezenet))
    a, b = _pair()
    assert distance(a, a).tolist() == [0.0, 0.0]
    assert torch.equal(distance(a, b), distance(b, a))
    assert (distance(a, b) > 1e-4).all()
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_distance_and_gradient_agree_with_the_definition(squeezenet: Path) -> None:
    distance = perceptual.load(str(squeezenet))
    weights = {name: value.double() for name, value in distance.state_dict().items()}
    a, b = (x.requires_grad_() for x in _pair())
    naive = _naive_distance(weights, a.double(), b.double())
    torch.testing.assert_close(distance(a, b).double(), naive, rtol=1e-4, atol=0)
    slopes = torch.autograd.grad(distance(a, b).sum(), (a, b))
    for slope, expected in zip(slopes, torch.autograd.grad(naive.sum(), (a, b)), strict=True):
        assert (slope - expected).norm() < 1e-3 * expected.norm()


def test_missing_or_foreign_weights_are_refused(squeezenet: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.safetensors"):
        perceptual.load(str(tmp_path / "none.safetensors"))
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(TrainingError, match=r"text\.safetensors"):
        perceptual.load(str(tmp_path / "text.safetensors"))
    save_file({"conv1.weight": torch.zeros(96, 3, 7, 7)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"part\.safetensors.*conv1\.bias"):
        perceptual.load(str(tmp_path / "part.safetensors"))


def _naive_distance(weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    def maps(x: Tensor) -> list[Tensor]:
        x = (x + 1) / 2 * 255
        x = torch.stack([x[:, 2] - 104, x[:, 1] - 117, x[:, 0] - 123], dim=1)
        out = [
            x := functional.relu(
                functional.conv2d(x, weights["conv1.weight"], weights["conv1.bias"], stride=2)
            )
        ]
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        for number in range(2, 10):
            w = {k.removeprefix(f"fire{number}."): v for k, v in weights.items() if f"fire{number}." in k}
            s = functional.relu(functional.conv2d(x, w["squeeze1x1.weight"], w["squeeze1x1.bias"]))
            wide = functional.conv2d(s, w["expand3x3.weight"], w["expand3x3.bias"], padding=1)
            x = functional.relu(
                torch.cat([functional.conv2d(s, w["expand1x1.weight"], w["expand1x1.bias"]), wide], 1)
            )
            out.append(x)
            if number in (4, 8):
                x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        return [out[index] for index in (0, 2, 3, 4, 6, 8)]

    layers = [
        (functional.normalize(u, dim=1) - functional.normalize(v, dim=1)).square().sum(1).mean((1, 2))
        for u, v in zip(maps(a), maps(b), strict=True)
    ]
    return sum(layers, torch.zeros(len(a), dtype=torch.float64)) / len(layers)


@pytest.mark.parametrize(("apart", "error", "cosine"), [(1.0, 1e-4, 0.9999), (0.3, 1e-3, 0.9998)])
def test_the_distance_of_half_precision_is_that_of_single(apart: float, error: float, cosine: float) -> None:
    """As devices take it; the CPU, which it would not help, can run it all the same."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 64, 20, 20, generator=generator).relu()
    b = (a + apart * torch.randn(a.shape, generator=generator)).relu()
    grad = torch.rand(2, 1, 20, 20, generator=generator)
    found = []
    for kind in (perceptual._UnitDistance, perceptual._HalfUnitDistance):
        pair = [x.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_() for x in (a, b)]
        s = kind.apply(*pair)
        found.append((s.detach(), *torch.autograd.grad(s, pair, grad)))
    assert found[1][0].dtype == torch.float32 and found[1][1].dtype == torch.bfloat16
    assert found[1][0].mean().item() == pytest.approx(found[0][0].mean().item(), rel=error)
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        one, other = one.flatten().float(), other.flatten().float()
        assert torch.cosine_similarity(one, other, dim=0).item() > cosine
        assert (other.norm() / one.norm()).item() == pytest.approx(1.0, abs=2e-3)
    same = b.bfloat16()
    assert perceptual._HalfUnitDistance.apply(same, same.clone()).max().item() == 0.0
