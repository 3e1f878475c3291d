"""FID and KID on patches of 256x256, as HiFiC measures them (Mentzer et al. 2020, appendix A.7).

A data set of a few hundred large pictures is too small for either, so every picture is cut up by two grids, one from
its corner and one shifted by half a patch both ways; what fills no patch at the right and at the bottom is left out.
Features and formulas are those of torch-fidelity.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdeic.pictures.images import Picture

SIDE = 256  # pixels
FEATURES = 2048
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # patches, or as many as there are
MIN_PATCHES = 2  # for a covariance
_SEED = 0  # of KID's subsets
_BATCH = 16

Features = NDArray[np.float32]  # (patches, features)


class Extractor(Protocol):
    """A network that sees patches."""

    def __call__(self, patches: Tensor, /) -> Tensor:
        """(N, 3, 256, 256) uint8 -> (N, features) float."""
        ...


def cut(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) -> (patches, 256, 256, 3) of both grids; none where a side is below 256."""
    half = SIDE // 2
    both = [*_grid(picture), *_grid(picture[half:, half:])]
    return np.stack(both) if both else np.empty((0, SIDE, SIDE, 3), np.uint8)


def features(extractor: Extractor, picture: Picture) -> Features:
    """(H, W, 3) -> (patches, features)."""
    pixels = torch.from_numpy(cut(picture)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found = [extractor(batch).float().cpu().numpy() for batch in pixels.split(_BATCH) if len(batch)]
    return np.concatenate(found) if found else np.empty((0, FEATURES), np.float32)


def fid(restored: Features, original: Features) -> float:
    """Frechet distance of two Gaussians fitted to the features; at least MIN_PATCHES each."""
    library = importlib.import_module("torch_fidelity.metric_fid")
    fits = [
        library.fid_features_to_statistics(torch.from_numpy(one.astype(np.float64)))
        for one in (restored, original)
    ]
    return float(library.fid_statistics_to_metric(*fits, verbose=False)[library.KEY_METRIC_FID])


def kid(restored: Features, original: Features) -> float:
    """Squared maximum mean discrepancy with a cubic kernel, mean over subsets; at least MIN_PATCHES each."""
    library = importlib.import_module("torch_fidelity.metric_kid")
    pair = [torch.from_numpy(one.astype(np.float64)) for one in (restored, original)]
    found = library.kid_features_to_metric(
        *pair,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SUBSET_SIZE, len(restored), len(original)),
        rng_seed=_SEED,
        verbose=False,
    )
    return float(found[library.KEY_METRIC_KID_MEAN])


def load_extractor(device: str | None) -> Extractor:
    """The Inception network of the original FID. Raises whatever torch-fidelity and its download raise."""
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    library = importlib.import_module("torch_fidelity.utils")
    network = library.create_feature_extractor(
        "inception-v3-compat", [str(FEATURES)], cuda=False, verbose=False
    ).to(name)

    def extract(patches: Tensor) -> Tensor:
        return network(patches.to(name))[0]

    return extract


def stack(paths: Sequence[Path]) -> Features:
    """What was saved picture by picture, of the whole set. Raises OSError, ValueError for a damaged file."""
    return np.concatenate([np.load(path, allow_pickle=False) for path in paths])


def _grid(picture: Picture) -> list[Picture]:
    height, width, _ = picture.shape
    return [
        picture[top : top + SIDE, left : left + SIDE]
        for top in range(0, height - SIDE + 1, SIDE)
        for left in range(0, width - SIDE + 1, SIDE)
    ]
