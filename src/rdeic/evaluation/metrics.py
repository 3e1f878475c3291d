"""Metrics of one restored picture against its original, from the libraries that keep them.

A metric whose library or weights cannot be had is reported with the remedy, never dropped.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation import independent, patches
from rdeic.evaluation.gradients import gradients
from rdeic.evaluation.independent import PictureJudge
from rdeic.evaluation.patches import Extractor
from rdeic.evaluation.types import METRICS, Score, Unavailable
from rdeic.pictures.images import Picture
from rdeic.training import metrics, perceptual

NAMES = tuple(metric.name for metric in METRICS)
OF_SET = tuple(metric.name for metric in METRICS if metric.of_set)
SSIM_MIN_SIDE = 11  # pixels, the window
PERCEPTUAL_MIN_SIDE = 32  # pixels
# Smallest sides, in pixels: the networks' strides, and two of NIQE's blocks for a covariance. LPIPS is with AlexNet.
_PYIQA = {"lpips": 64, "dists": 64, "niqe": 192}

# Two (1, 3, H, W) in [-1, 1], restored and original -> the value; None: not defined for so small a picture.
Judge: TypeAlias = Callable[[Tensor, Tensor], "float | None"]


class Judges(NamedTuple):
    """The loaded metrics, and those that cannot be loaded here."""

    of_pictures: dict[str, Judge]  # by name
    extractor: Extractor | None  # where FID or KID were asked for
    labels: tuple[str, ...]  # what was measured, exactly: names, with the hash of weights given as a file
    versions: tuple[str, ...]  # of the libraries
    unavailable: tuple[Unavailable, ...]


def load(names: Iterable[str], weights: str | None, device: str | None) -> Judges:
    """The metrics of `names`. `weights`: file of the SqueezeNet of "perceptual". Raises ConfigError for a name."""
    names = tuple(names)
    if unknown := set(names) - set(NAMES):
        raise ConfigError(f"no metric {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    found: dict[str, _Loaded] = {}
    missing: list[Unavailable] = []
    extractor: Extractor | None = None
    for name in (name for name in NAMES if name in names and name not in OF_SET):
        try:
            found[name] = _load(name, weights, device)
        except (
            Exception
        ) as error:  # libraries, their own dependencies, and downloads: anything may go wrong here
            missing.append(Unavailable(name, f"{_line(error)}; {_remedy(name)}"))
    if wanted := [name for name in names if name in OF_SET]:
        try:
            extractor = patches.load_extractor(device)
        except Exception as error:  # as above
            missing += [Unavailable(name, f"{_line(error)}; {_remedy(name)}") for name in wanted]
    of_sets = [name for name in wanted if extractor is not None]
    labels = (*(one.label for one in found.values()), *of_sets)
    versions = [one.version for one in found.values()]
    versions += [_version("torch-fidelity")] if of_sets else []
    judges = {name: one.judge for name, one in found.items()}
    return Judges(judges, extractor, labels, tuple(dict.fromkeys(filter(None, versions))), tuple(missing))


def scores(judges: Judges, restored: Picture, original: Picture) -> tuple[Score, ...]:
    """Both (H, W, 3) uint8. Metrics that are not defined for so small a picture are left out.

    Raises ImageError, naming the metric, if a library fails.
    """
    x_hat, x = _signed(restored), _signed(original)
    found: list[Score] = []
    for name, judge in judges.of_pictures.items():
        try:
            with torch.inference_mode():
                value = judge(x_hat, x)
        except Exception as error:  # of other people's code
            raise ImageError(f"metric {name} failed: {_line(error)}") from error
        if value is not None:
            found.append(Score(name, value))
    return tuple(found)


class _Loaded(NamedTuple):
    judge: Judge
    label: str
    version: str  # of the library; "" for this package


def _load(name: str, weights: str | None, device: str | None) -> _Loaded:
    if name == "psnr":
        return _Loaded(metrics.psnr, name, "")
    if name == "gradients":
        return _Loaded(_of_pictures(gradients), name, "")
    if name in ("ms_ssim", "ssim"):
        importlib.import_module("pytorch_msssim")
        return _Loaded(_ms_ssim if name == "ms_ssim" else _ssim, name, _version("pytorch-msssim"))
    if name == "perceptual":
        if weights is None:
            raise ConfigError("no weights given")
        return _Loaded(_perceptual(perceptual.load(weights)), _weights_label(name, weights), "")
    if name in independent.REMEDIES:
        one = independent.load(name, device)
        return _Loaded(_of_pictures(one.judge), one.label, one.version)
    return _Loaded(_pyiqa(name, device), name, _version("pyiqa"))


def _ms_ssim(x_hat: Tensor, x: Tensor) -> float | None:
    return metrics.ms_ssim(x_hat, x) if min(x.shape[2:]) > metrics.MS_SSIM_MIN_SIDE else None


def _ssim(x_hat: Tensor, x: Tensor) -> float | None:
    from pytorch_msssim import ssim

    if min(x.shape[2:]) < SSIM_MIN_SIDE:
        return None
    return float(ssim((x_hat + 1) * 127.5, (x + 1) * 127.5, data_range=255.0))


def _perceptual(network: nn.Module) -> Judge:
    def judge(x_hat: Tensor, x: Tensor) -> float | None:
        return float(network(x_hat, x)) if min(x.shape[2:]) >= PERCEPTUAL_MIN_SIDE else None

    return judge


def _pyiqa(name: str, device: str | None) -> Judge:
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    metric = importlib.import_module("pyiqa").create_metric(name, device=where)

    def judge(x_hat: Tensor, x: Tensor) -> float | None:
        if min(x.shape[2:]) < _PYIQA[name]:
            return None
        seen = (x_hat,) if name == "niqe" else (x_hat, x)
        return float(metric(*(((one + 1) / 2).clamp(0, 1).to(where) for one in seen)))

    return judge


def _of_pictures(judge: PictureJudge) -> Judge:
    return lambda x_hat, x: judge(_eight_bit(x_hat), _eight_bit(x))


def _eight_bit(x: Tensor) -> Picture:
    """The inverse of `_signed`."""
    pixels: Picture = ((x[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return pixels


def _signed(picture: Picture) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _remedy(name: str) -> str:
    if name == "perceptual":
        return "give the SqueezeNet 1.0 safetensors file with --perceptual"
    if name in _PYIQA:
        return "pip install pyiqa, with a torchvision that fits torch, and connect once for its weights"
    if name in independent.REMEDIES:
        return independent.REMEDIES[name]
    if name in OF_SET:
        return (
            "pip install torch-fidelity, with a torchvision that fits torch, and connect once for its weights"
        )
    return "pip install pytorch-msssim"


def _weights_label(name: str, weights: str) -> str:
    if not Path(weights).is_file():  # the name of a package
        return name
    return f"{name} {hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:8]}"


def _version(package: str) -> str:
    return f"{package} {metadata.version(package)}"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ImportError | ConfigError) else f"{type(error).__name__}: {text}"
