"""Decodes the bits of a file that was just made, and compares with what the encoder put there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rdeic.container import container, payload
from rdeic.errors import FileFormatError, VerifyError

if TYPE_CHECKING:
    from rdeic.model.model import Rdeic


class Trial(NamedTuple):
    """One of the files that a picture could become."""

    blob: bytes
    latent: bytes  # `payload.digest` of what the encoder put into it
    model: Rdeic


def verify(trial: Trial) -> None:
    """Decodes the bits of a file, though not its picture. Raises VerifyError unless every one says what was meant."""
    import torch

    try:
        file = container.unpack(trial.blob, max_pixels=None)
        coded = payload.split(file.header, file.payload, trial.model.config)
        with torch.inference_mode():
            y_hat = trial.model.decode_y_hat(coded, file.header.quality)
        found = payload.digest(coded.hyper_indices, y_hat.cpu().numpy())
    except FileFormatError:
        found = b""
    if found != trial.latent:
        raise VerifyError(
            "verification failed: the bits do not decode to what was encoded, so no file was made; this machine or "
            "device computes unreliably: try --device cpu, and please report it"
        )
