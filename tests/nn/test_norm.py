"""The fused norm of GPUs, checked without one: its numbers, its kernels, and that nothing leaves channels-last."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.config import MINI, SD21, ModelConfig
from rdeic.model.model import Rdeic
from rdeic.nn.norm import GroupNorm, group_norm_by_torch
from rdeic.nn.shuffle import shuffle_by_views, unshuffle_by_views
from support.norms import EPS, GROUPS, TOLERANCES, case, expected, worst
from support.tiny import TINY


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_fused_norm_is_the_librarys_in_every_precision(dtype: torch.dtype, silu: bool) -> None:
    x, weight, bias = case(dtype)
    found = group_norm_by_torch(x, GROUPS, weight, bias, EPS, silu)
    assert (found.dtype, found.stride()) == (dtype, x.stride())
    assert worst(found, expected(x, weight, bias, silu)) < TOLERANCES[dtype]


def test_a_large_mean_does_not_drown_the_variance() -> None:
    x, weight, bias = case(torch.bfloat16, mean=50.0)
    found = group_norm_by_torch(x, GROUPS, weight, bias, EPS, False)
    assert worst(found, expected(x, weight, bias, False)) < 2 * TOLERANCES[torch.bfloat16]


def test_constant_activations_stay_finite() -> None:
    x = torch.full((1, 8, 4, 4), 1000.0).contiguous(memory_format=torch.channels_last)
    found = group_norm_by_torch(x, GROUPS, torch.ones(8), torch.full((8,), 0.25), EPS, False)
    assert found.isfinite().all()


def test_silu_belongs_to_the_layer_with_gradients_and_without() -> None:
    torch.manual_seed(0)
    layer, plain = GroupNorm(4, 12, silu=True), nn.GroupNorm(4, 12)
    x = torch.randn(2, 12, 5, 5)
    torch.testing.assert_close(layer(x), F.silu(plain(x)))
    with torch.no_grad():
        assert torch.equal(layer(x), F.silu(plain(x)))


# Layout


def as_cudnn_does(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> Tensor:
    """Channels-last weights give channels-last results; the other layout would have to be copied first."""
    (x,) = arguments
    assert x.is_contiguous(memory_format=torch.channels_last), tuple(x.shape)
    return result.contiguous(memory_format=torch.channels_last)


def elsewhere(config: ModelConfig) -> Rdeic:
    """A model on a device where nothing is computed, with layers that look what comes in."""
    with torch.device("meta"):
        model = Rdeic(config).eval().requires_grad_(False).set_precision(torch.bfloat16)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(as_cudnn_does)
    return model


def on_meta(*shape: int) -> Tensor:
    return torch.zeros(shape, device="meta").contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", [SD21, MINI, TINY], ids=lambda config: config.name)
def test_activations_stay_channels_last_from_end_to_end(config: ModelConfig) -> None:
    model, (height, width) = elsewhere(config), (128, 192)
    stride = config.autoencoder.stride
    z = on_meta(1, config.autoencoder.latent_channels, height // stride, width // stride)
    guide = on_meta(1, config.compression.width, height // stride, width // stride)
    with torch.inference_mode():
        results = [
            model.autoencoder.feature(on_meta(1, 3, height, width)),
            model.predict_noise(z, torch.zeros(1, device="meta"), guide),
            model.autoencoder.decode(z),
        ]
    for result in results:
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_the_librarys_norm_would_not() -> None:
    """That is, the test above can fail."""
    model = elsewhere(SD21)
    for module in model.modules():
        if isinstance(module, GroupNorm):
            module.fused = False
    with torch.inference_mode(), pytest.raises(AssertionError):
        model.autoencoder.decode(on_meta(1, 4, 8, 8))


@pytest.mark.parametrize("factor", [2, 4])
def test_pixel_shuffles_of_other_devices_are_the_librarys(factor: int) -> None:
    folded = torch.arange(2 * 48 * 8 * 12).view(2, 48, 8, 12).float()
    whole = F.pixel_shuffle(folded, factor)
    assert torch.equal(shuffle_by_views(folded, factor), whole)
    assert torch.equal(unshuffle_by_views(whole, factor), folded)


# Kernels: not without Triton, which comes with torch for CUDA


INTERPRETED = """
import torch
from rdeic.nn import norm_triton
from support.norms import EPS, GROUPS, TOLERANCES, case, expected, worst
for silu, shape, mean in (
    (True, (2, 24, 17, 9), 0.0), (False, (1, 80, 1, 1), 0.0),
    (True, (1, 136, 20, 37), 50.0), (False, (2, 320, 3, 5), 0.0),
):
    for dtype, tolerance in TOLERANCES.items():
        x, weight, bias = case(dtype, shape, mean)
        found = norm_triton.group_norm(x, GROUPS, weight, bias, EPS, silu)
        assert (found.dtype, found.stride()) == (dtype, x.stride())
        error = worst(found, expected(x, weight, bias, silu))
        assert error < tolerance * (4 if mean else 1), (shape, dtype, error)
"""


@pytest.mark.slow
def test_kernels_compute_the_same_when_interpreted() -> None:
    pytest.importorskip("triton")
    program = (
        f"import os, sys; os.environ['TRITON_INTERPRET'] = '1'; sys.path.insert(0, 'tests')\n{INTERPRETED}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rdeic.nn import norm_triton
TYPES = dict(x="*{0}", y="*{0}", weight="*{0}", bias="*{0}", sums="*fp32", affine="*fp32", eps="fp32")
CONSTANTS = dict(rows=64, columns=64, tall=32, wide=16, silu=True)
for architecture in (80, 90):
    for dtype in ("bf16", "fp16", "fp32"):
        for kernel in (norm_triton._sums, norm_triton._affine, norm_triton._apply):
            names = kernel.arg_names
            constants = {name: CONSTANTS[name] for name in names if name in CONSTANTS}
            signature = {name: TYPES.get(name, "i32").format(dtype) for name in names} | dict.fromkeys(
                constants, "constexpr"
            )
            source = ASTSource(kernel, signature, constexprs=constants)
            binary = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
            assert binary.asm["cubin"]
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus_that_are_not_there() -> None:
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_device_trains_in_the_precision_of_its_activations() -> None:
    """As on a GPU under autocast, which would take the library's norm to float32; here run on the CPU."""
    torch.manual_seed(0)
    layer, exact = GroupNorm(4, 16, eps=EPS), nn.GroupNorm(4, 16, eps=EPS).double()
    for one in (layer, exact):
        one.weight.data = torch.linspace(-1.0, 2.0, 16).to(one.weight)
    x, dy = (torch.randn(2, 16, 12, 12).bfloat16() for _ in range(2))
    given = [x.requires_grad_(), layer.weight, layer.bias]
    with torch.autocast("cpu", torch.bfloat16):
        y = layer._in_precision_of(x)
    found = [y, *torch.autograd.grad(y, given, dy)]
    assert [value.dtype for value in found] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    x_exact = x.detach().double().requires_grad_()
    y = exact(x_exact)
    wanted = [y, *torch.autograd.grad(y, [x_exact, exact.weight, exact.bias], dy.double())]
    for one, other in zip(found, wanted, strict=True):
        assert ((one.detach() - other.detach()).norm() / other.detach().norm()).item() < 0.01
