"""Metrics of pictures in [-1, 1]: means over the batch, held out, and errors of each, to train on."""

from __future__ import annotations

import torch
from torch import Tensor

from rdeic.errors import TrainingError
from rdeic.evaluation.gradients import gradients as sharpness

MS_SSIM_MIN_SIDE = 160  # pixels; a side must exceed it


def _to_8bit(x: Tensor) -> Tensor:
    return ((x.float() + 1.0) * 127.5).round().clamp(0.0, 255.0)


def mse_each(a: Tensor, b: Tensor) -> Tensor:
    """(B,) mean squared error of pictures or latents, differentiable, in single precision."""
    return (a.float() - b).pow(2).mean(dim=(1, 2, 3))


def gradients(x_hat: Tensor, x: Tensor) -> float:
    """How sharp, of 8-bit pictures (`evaluation/gradients.py`): 1 is best, mean over those that have any structure."""
    pairs = zip(*(_to_8bit(y).byte().permute(0, 2, 3, 1).cpu().numpy() for y in (x_hat, x)), strict=True)
    found = [ratio for restored, original in pairs if (ratio := sharpness(restored, original)) is not None]
    return sum(found) / max(len(found), 1)


def psnr(x_hat: Tensor, x: Tensor) -> float:
    """dB, of 8-bit pictures, per picture and then averaged."""
    error = (_to_8bit(x_hat) - _to_8bit(x)).pow(2).mean(dim=(1, 2, 3)).clamp(min=1e-4)
    return float((10.0 * (255.0**2 / error).log10()).mean())


def ms_ssim(x_hat: Tensor, x: Tensor) -> float:
    """MS-SSIM in RGB of 8-bit pictures; sides must exceed 160 pixels. Raises TrainingError without `train`."""
    return float(ms_ssim_each(_to_8bit(x_hat), _to_8bit(x), 255.0).mean())


def ms_ssim_each(x_hat: Tensor, x: Tensor, data_range: float) -> Tensor:
    """(B,) differentiable MS-SSIM in RGB, in single precision; sides must exceed 160 pixels.

    Raises TrainingError without the `train` extra.
    """
    try:
        from pytorch_msssim import ms_ssim as reference
    except ImportError as error:
        raise TrainingError("MS-SSIM needs pytorch-msssim; pip install 'rdeic[train]'") from error
    # Its variances are differences of nearly equal numbers: in bfloat16 nothing is left of them but rounding errors,
    # which grow with brightness, so that a run darkens its pictures.
    with torch.autocast(x.device.type, enabled=False):
        similarity: Tensor = reference(x_hat.float(), x.float(), data_range=data_range, size_average=False)
    return similarity
