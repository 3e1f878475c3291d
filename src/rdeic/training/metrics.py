"""Held-out metrics of pictures in [-1, 1], means over the batch."""

from __future__ import annotations

from torch import Tensor

from rdeic.errors import TrainingError


def _to_8bit(x: Tensor) -> Tensor:
    return ((x.float() + 1.0) * 127.5).round().clamp(0.0, 255.0)


def psnr(x_hat: Tensor, x: Tensor) -> float:
    """dB, of 8-bit pictures, per picture and then averaged."""
    error = (_to_8bit(x_hat) - _to_8bit(x)).pow(2).mean(dim=(1, 2, 3)).clamp(min=1e-4)
    return float((10.0 * (255.0**2 / error).log10()).mean())


def ms_ssim(x_hat: Tensor, x: Tensor) -> float:
    """MS-SSIM in RGB; sides must exceed 160 pixels. Raises TrainingError without the `train` extra."""
    try:
        from pytorch_msssim import ms_ssim as reference
    except ImportError as error:
        raise TrainingError("validation needs pytorch-msssim; pip install 'rdeic[train]'") from error
    return float(reference(_to_8bit(x_hat), _to_8bit(x), data_range=255.0, size_average=True))
