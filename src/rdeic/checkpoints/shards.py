"""Weights written as several `.safetensors` files and an index, holding one file's worth of them in memory.

The index is the hub's: `weight_map` says in which file each tensor lies, relative to the index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from rdeic.checkpoints import registry
from rdeic.container.container import FINGERPRINT_BYTES
from rdeic.errors import CheckpointError
from rdeic.system.files import atomic_write

SHARD_BYTES = 200_000_000


class ShardWriter:
    """Collects tensors and writes a file whenever there are enough."""

    def __init__(self, folder: Path, stem: str, dtype: torch.dtype) -> None:
        """Files become `folder/stem-00001.safetensors` and so on; floating-point tensors, `dtype`."""
        self.folder = folder
        self._stem, self._dtype = stem, dtype
        self._pending: dict[str, Tensor] = {}
        self._bytes = 0
        self._shards = 0
        self.files: dict[str, str] = {}  # key => file name

    def add(self, key: str, value: Tensor, dtype: torch.dtype | None = None) -> None:
        """One tensor, or with `dtype` one of another precision. Raises CheckpointError if it is not finite."""
        stored = value.to(dtype or self._dtype).contiguous()
        if not stored.isfinite().all():
            raise CheckpointError(
                f"{key} has values that {stored.dtype} cannot hold: the checkpoint is damaged"
            )
        if self._pending and self._bytes + stored.nbytes > SHARD_BYTES:
            self.flush()
        self._pending[key] = stored
        self._bytes += stored.nbytes

    def flush(self) -> None:
        """Write the tensors that wait for their shard to be full."""
        if not self._pending:
            return
        self._shards += 1
        name = f"{self._stem}-{self._shards:05d}.safetensors"
        atomic_write(self.folder / name, save(self._pending))
        self.files |= dict.fromkeys(self._pending, name)
        self._pending, self._bytes = {}, 0


def write_index(folder: Path, files: Mapping[str, str], origin: str) -> None:
    """The index of a model folder: key => file relative to it, the fingerprint, and where the weights come from."""
    digest = hashlib.sha256()
    for name in sorted(
        set(files.values()), key=lambda name: Path(name).name
    ):  # not by folder, which may differ
        with (folder / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    fingerprint = digest.digest()[:FINGERPRINT_BYTES].hex()
    index = {
        "metadata": {"fingerprint": fingerprint, "origin": origin},
        "weight_map": dict(sorted(files.items())),
    }
    atomic_write(folder / registry.INDEX_FILE, (json.dumps(index, indent=2) + "\n").encode())
