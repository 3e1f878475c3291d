"""Metrics of pictures in [-1, 1]: means over the batch, held out, and errors of each, to train on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rdeic.evaluation.gradients import gradients as sharpness

MS_SSIM_MIN_SIDE = 160  # pixels; a side must exceed it
LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest first
WINDOW, WINDOW_SIGMA = 11, 1.5  # pixels
K1, K2 = 0.01, 0.03


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
    """MS-SSIM in RGB of 8-bit pictures; sides must exceed 160 pixels."""
    return float(ms_ssim_each(_to_8bit(x_hat), _to_8bit(x), 255.0).mean())


def ms_ssim_each(x_hat: Tensor, x: Tensor, data_range: float) -> Tensor:
    """(B,) differentiable MS-SSIM in RGB of pictures on 0..data_range, in single precision; sides above 160 pixels.

    The values of the package pytorch-msssim, for two thirds of its time: four maps are blurred instead of five, those
    that need a gradient together, and nothing is copied from the host, which would wait for a GPU.
    """
    # Variances are differences of nearly equal numbers: in bfloat16 nothing is left of them but rounding errors, which
    # grow with brightness, so that a run darkens its pictures. Around the middle of the range they are smallest.
    middle = data_range / 2.0
    with torch.autocast(x.device.type, enabled=False):
        a, b = x_hat.float() - middle, x.float() - middle
        similarity, window = a.new_ones(()), _window(x.device)
        for level, weight in enumerate(LEVEL_WEIGHTS):
            if level:
                a, b = _halved(a, middle), _halved(b, middle)
            ssim = _similarity(a, b, window, data_range, luminance=level == len(LEVEL_WEIGHTS) - 1)
            similarity = similarity * ssim.mean((2, 3)).relu() ** weight  # (B, 3)
        return similarity.mean(1)


def _similarity(a: Tensor, b: Tensor, window: Tensor, data_range: float, luminance: bool) -> Tensor:
    """The map of contrast and structure, and of luminance if asked for; 0 is the middle of the range."""
    c1, c2, middle = (K1 * data_range) ** 2, (K2 * data_range) ** 2, data_range / 2.0
    mean_a, power, product = _blurred(torch.cat([a, a * a + b * b, a * b], dim=1), window).chunk(3, dim=1)
    mean_b = _blurred(b, window)
    variances = power - (mean_a * mean_a + mean_b * mean_b)
    found = (2.0 * (product - mean_a * mean_b) + c2) / (variances + c2)
    if luminance:
        mean_a, mean_b = mean_a + middle, mean_b + middle
        found = found * (2.0 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    return found


def _blurred(x: Tensor, window: Tensor) -> Tensor:
    """By the window, where it lies inside: (B, C, H, W) -> (B, C, H - 10, W - 10)."""
    window = window.expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, window.mT, groups=x.shape[1]), window, groups=x.shape[1])


def _window(device: torch.device) -> Tensor:
    """A Gaussian (11,), of sum 1; made where it is needed."""
    places = torch.arange(WINDOW, device=device) - float(WINDOW // 2)
    window = torch.exp(-places.square() / (2.0 * WINDOW_SIGMA**2))
    return window / window.sum()


def _halved(x: Tensor, middle: float) -> Tensor:
    """Means of 2x2 pixels; an odd side is framed in black first, as the reference does."""
    odd_rows, odd_columns = x.shape[2] % 2, x.shape[3] % 2
    if odd_rows or odd_columns:
        x = F.pad(x, (odd_columns, odd_columns, odd_rows, odd_rows), value=-middle)
    return F.avg_pool2d(x, 2)
