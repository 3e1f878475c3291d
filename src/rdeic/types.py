"""What the stages hand to each other: NamedTuples of tensors and arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Encoded(NamedTuple):
    """The autoencoder's view of a picture; all at 1/s of its resolution."""

    feature: Tensor  # (B, C, h, w), already times the latent scale
    mean: Tensor  # (B, latent_channels, h, w), unscaled posterior mean
    logvar: Tensor  # (B, latent_channels, h, w), in [-30, 20]


class EntropyParams(NamedTuple):
    """Gaussian parameters of y, one pair per element."""

    mu: Tensor
    sigma: Tensor  # raw: whoever uses it clamps at the smallest table scale


class CodebookMatch(NamedTuple):
    """Hyper-latent after vector quantisation: nearest codebook entries and their indices."""

    z_q: Tensor  # (B, N, h, w); gradients pass straight through to the input
    indices: Tensor  # (B, h, w) int64
    loss: Tensor  # scalar L_cb


class CompressedFeatures(NamedTuple):
    """What the decoder knows of the picture."""

    z_c: Tensor  # (B, latent_channels, h, w), compressed latent features
    guide: Tensor  # (B, N, h, w), the control network's hint


class Compressed(NamedTuple):
    """Result of the compression module in training."""

    features: CompressedFeatures
    bits: Tensor  # (B,) estimated rate of y
    codebook_loss: Tensor  # scalar
    hyper: Tensor  # (B, N, h, w), the codebook's input


class ControlResiduals(NamedTuple):
    """What the control network adds to the noise estimator's features."""

    encoder: tuple[Tensor, ...]
    middle: Tensor
    decoder: tuple[Tensor, ...]


class CodedLatent(NamedTuple):
    """A picture as bits: what an .rdeic file carries besides its header."""

    hyper_indices: NDArray[np.int64]  # (h, w), h = padded height / hyper stride
    y_stream: bytes


class Encoding(NamedTuple):
    """A picture as bits, and what its decoder must find."""

    coded: CodedLatent
    y_hat: Tensor  # (1, M, h, w) float64
