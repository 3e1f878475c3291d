"""What one fixed-step training step computes and moves, part by part, counted on shapes without computing anything.

    python benchmarks/step_traffic.py [CONFIG] [--crops 64] [--throughput 400] [--bandwidth 3.3]

For each part, forwards and backwards in bfloat16 autocast: operations (a multiplication and an addition are two), bytes
that all launches together read and write, those of products (convolutions and matrices) alone, and launches. What is
not products is what fusing can save. Counted are the operations that PyTorch dispatches, with group norm as on a GPU.
The least times are those of --throughput TFLOP/s and --bandwidth TB/s. "before" is a part as it was: with the library's
group norm under autocast (in float32, and copied to NCHW and back), with copies of features in float32, with the
package's MS-SSIM.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import program
from rdeic.config import PRESETS, ModelConfig
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.nn.norm import GroupNorm
from rdeic.training import config as settings
from rdeic.training import crops, perceptual
from rdeic.training.ema import Ema
from rdeic.training.flat import FlatPictures, OnDevice
from rdeic.training.method import reshaped
from rdeic.training.metrics import ms_ssim_each

CONFIG = Path(__file__).parents[1] / "configs" / "mini-gpu" / "fixed-step.toml"
PRODUCTS = ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm")
NO_WORK = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "prim::device")


class Row(NamedTuple):
    part: str
    operations: float
    bytes: int
    of_products: int
    launches: int


class Tally(TorchDispatchMode):
    """Adds up what is dispatched while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.bytes, self.of_products, self.launches = 0.0, 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        views = any(made.alias_info and not made.alias_info.is_write for made in func._schema.returns)
        if views or name in NO_WORK:
            return result
        moved = sum(
            _bytes(value) for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)
        )
        self.launches += 1
        self.bytes += moved
        self.of_products += moved if name in PRODUCTS else 0
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
        return result


def _bytes(value: Tensor) -> int:
    """What it takes in memory: of an expanded one, what it was expanded from."""
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())


def counted(part: str, work: Callable[[], Tensor | None]) -> Row:
    """Of `work`, and of the gradient of its sum if it gives something."""
    with Tally() as tally, torch.autocast("cpu", torch.bfloat16):
        result = work()
        if result is not None:
            with torch.autocast("cpu", enabled=False):
                result.sum().backward()
    return Row(part, tally.operations, tally.bytes, tally.of_products, tally.launches)


def parts(config: ModelConfig, crops: int, side: int) -> Iterator[Row]:
    model = Rdeic(config).requires_grad_(False).train()
    trained = [model.compression, model.control, model.autoencoder.post_quant_conv, model.autoencoder.decoder]
    for part in trained:
        part.requires_grad_(True)
    small = side // config.autoencoder.stride
    channels, width = config.autoencoder.latent_channels, config.compression.width

    def made(*shape: int) -> Tensor:
        empty = torch.empty(crops, *shape, requires_grad=True)
        return empty.detach().contiguous(memory_format=torch.channels_last).requires_grad_()

    x, x_hat = made(3, side, side).detach(), made(3, side, side)
    z, guide = made(channels, small, small), made(width, small, small)
    f = made(config.autoencoder.feature_channels, small, small).detach()
    t = torch.zeros(crops, dtype=torch.long)

    def encode() -> None:
        with torch.no_grad():
            model.autoencoder.encode(x)

    def compress() -> Tensor:
        found = model.compression(f, torch.zeros(crops), None)
        parts = (found.features.z_c.sum(), found.features.guide.sum(), found.bits.sum(), found.codebook_loss)
        return torch.stack(parts).sum()

    yield counted("E, no gradient", encode)
    yield counted("compression module", compress)
    steps = config.diffusion.default_steps
    for when, precision in (("", torch.bfloat16), (", before", torch.float32)):
        with patch.object(GroupNorm, "_with_gradients", library_norm(precision)):
            step = counted("", lambda: model.predict_noise(z, t, guide))
            yield Row._make([f"{steps} denoising steps{when}", *(steps * value for value in step[1:])])
            yield counted(f"D{when}", lambda: model.autoencoder.decode(z))
    yield from distances(x, x_hat)
    yield optimiser([p for part in trained for p in part.parameters()])


def library_norm(precision: torch.dtype) -> Callable[[GroupNorm, Tensor], Tensor]:
    """As on a GPU: it copies to NCHW, and the convolution after it goes back."""

    def norm(layer: GroupNorm, x: Tensor) -> Tensor:
        copy = x.to(precision).contiguous()
        with torch.autocast("cpu", enabled=False):
            weight, bias = layer.weight.to(precision), layer.bias.to(precision)
            y = F.group_norm(copy, layer.num_groups, weight, bias, layer.eps)
        return y.contiguous(memory_format=torch.channels_last)

    return norm


def distances(x: Tensor, x_hat: Tensor) -> Iterator[Row]:
    network = perceptual.SqueezeNetDistance().requires_grad_(False)

    def features() -> Tensor:
        network.features(x)
        return torch.stack([one.sum(dtype=torch.float32) for one in network.features(x_hat)])

    yield counted("SqueezeNet, both pictures", features)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = network.features(x)
    pairs = [(feature.clone().requires_grad_(), feature) for feature in found]
    kinds = {"": perceptual._HalfUnitDistance, ", before": perceptual._UnitDistance}

    def apart(kind: type[torch.autograd.Function]) -> Tensor:
        return torch.stack([kind.apply(a, b).sum() for a, b in pairs])

    for when, kind in kinds.items():
        yield counted(f"distance of features{when}", functools.partial(apart, kind))
    yield counted("MS-SSIM", lambda: ms_ssim_each(x_hat + 1.0, x + 1.0, 2.0))
    try:
        from pytorch_msssim import ms_ssim
    except ImportError:
        return

    def packaged() -> Tensor:
        with torch.autocast("cpu", enabled=False):
            found: Tensor = ms_ssim(x_hat + 1.0, x + 1.0, data_range=2.0, size_average=False)
        return found

    yield counted("MS-SSIM, before", packaged)


def optimiser(parameters: list[torch.nn.Parameter]) -> Row:
    adam, ema = torch.optim.AdamW(parameters, fused=True), Ema(parameters, 0.9)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        adam.step()
        ema.update(0)

    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    step()  # the first one makes the moments
    return counted("clipping, AdamW, averages", step)


def crops_of_a_batch(count: int, side: int) -> Row:
    """Computed, unlike the rest: the places are numbers."""
    rng = np.random.default_rng(0)
    flat = FlatPictures({0: np.zeros((600, 800, 3), np.uint8)}, torch.device("cpu"))
    planned = [OnDevice(0, crops.random(600, 800, side, rng)) for _ in range(count)]
    with Tally() as tally:
        flat.cut(planned)
    return Row("crops of the batch", tally.operations, tally.bytes, tally.of_products, tally.launches)


def main() -> None:
    options = program.parser(__doc__)
    options.add_argument("config", type=Path, nargs="?", default=CONFIG)
    options.add_argument("--crops", type=int, default=64)
    options.add_argument("--throughput", type=float, default=400.0, metavar="TFLOP/S")
    options.add_argument("--bandwidth", type=float, default=3.3, metavar="TB/S")
    chosen = options.parse_args()
    config = settings.read(chosen.config)
    batch = crops_of_a_batch(chosen.crops, config.crop)
    with FakeTensorMode():
        rows = [batch, *parts(reshaped(PRESETS[config.name], config.method), chosen.crops, config.crop)]
    now = [row for row in rows if not row.part.endswith("before")]
    rows.append(Row("all", *(sum(column) for column in list(zip(*now, strict=True))[1:])))
    header = ("part", "TFLOP", "GB", "of products", "launches", "ms of operations", "ms of bytes")
    lines = [
        (
            row.part,
            f"{row.operations / 1e12:.3f}",
            f"{row.bytes / 1e9:.2f}",
            f"{row.of_products / 1e9:.2f}",
            f"{row.launches:,}",
            f"{row.operations / chosen.throughput / 1e9:.1f}",
            f"{row.bytes / chosen.bandwidth / 1e9:.1f}",
        )
        for row in rows
    ]
    print(f"`{report.command()}`\n\n{report.markdown(header, lines)}")


if __name__ == "__main__":
    program.leave(main)
