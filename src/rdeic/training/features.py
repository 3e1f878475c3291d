"""Features of the frozen E, computed once: stages that never see a pixel then skip what costs most of their time.

FOLDER/features.bin    bfloat16, one entry after the other, each (h, w, C + 2 L): feature, posterior mean, log variance
FOLDER/features.json   of which E and which pictures they are, and where each entry lies

Every picture is there twice, as it is and mirrored: a mirrored feature is not the feature of the mirrored picture. The
file is mapped into memory, not read; crops are a pure function of (seed, step), as those of pictures are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdeic.errors import TrainingError
from rdeic.nn.autoencoder import Autoencoder
from rdeic.system.files import atomic_write
from rdeic.training import checkpoint
from rdeic.training.crops import Pixels
from rdeic.training.data import Sampling, decode
from rdeic.training.sources import Source
from rdeic.types import Encoded

BINARY, INDEX = "features.bin", "features.json"
MULTIPLE = 16  # pixels: the sides of a picture are cut to whole positions of y
AHEAD = 8  # pictures decoded while E works


class Entry(NamedTuple):
    """Where one picture's features lie."""

    offset: int  # values from the start of the file
    height: int  # positions
    width: int


def pack(encoded: Encoded) -> Tensor:
    """(B, C + 2 L, h, w): what `unpack` takes apart."""
    return torch.cat([encoded.feature, encoded.mean, encoded.logvar], dim=1)


def unpack(packed: Tensor, latent_channels: int) -> Encoded:
    """Inverse of `pack`."""
    sizes = [packed.shape[1] - 2 * latent_channels, latent_channels, latent_channels]
    return Encoded(*packed.split(sizes, dim=1))


def prepare(folder: Path, sources: Sequence[Source], autoencoder: Autoencoder, size: int) -> None:
    """Fills `folder` with the features of all pictures that are readable and give crops of `size` pixels.

    Does nothing if it holds those of the same E, pictures and size already. Raises TrainingError if it cannot be
    written, or if no picture will do.
    """
    wanted = _identity(sources, autoencoder, size)
    if _index(folder).get("identity") == wanted:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)  # what is written now fits no index
        with (folder / BINARY).open("wb") as file:
            entries, channels, offset = list[Entry](), 0, 0
            for packed in _encoded(sources, autoencoder, size):
                height, width, channels = packed.shape
                file.write(packed.contiguous().view(torch.int16).cpu().numpy().tobytes())
                entries.append(Entry(offset, height, width))
                offset += packed.numel()
        if not entries:
            raise TrainingError(f"no usable picture; features need pictures of at least {size} pixels a side")
        index = {"identity": wanted, "channels": channels, "entries": entries}
        atomic_write(folder / INDEX, json.dumps(index).encode())
    except OSError as error:
        raise TrainingError(f"cannot write features to {folder}: {error.strerror or error}") from error


@torch.no_grad()
def _encoded(sources: Sequence[Source], autoencoder: Autoencoder, size: int) -> Iterator[Tensor]:
    """(h, w, C + 2 L) bfloat16 of every usable picture, then of its mirror image."""
    device = next(autoencoder.parameters()).device
    for pixels in _decoded(sources):
        if pixels is None or min(pixels.shape[:2]) < size:
            continue
        for view in (pixels, pixels[:, ::-1]):
            x = torch.from_numpy(view.copy()).permute(2, 0, 1)[None].to(device)  # channels last
            with torch.autocast(device.type, torch.bfloat16):
                packed = pack(autoencoder.encode(x.float().div_(127.5).sub_(1)))
            yield packed[0].to(torch.bfloat16).permute(1, 2, 0)


def _decoded(sources: Sequence[Source]) -> Iterator[Pixels | None]:
    """The pictures in order, None where one is unreadable."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(sources), AHEAD):
            for pixels in pool.map(decode, sources[first : first + AHEAD]):
                yield None if pixels is None else _cut(pixels)


def _cut(pixels: Pixels) -> Pixels:
    height, width = (side // MULTIPLE * MULTIPLE for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _identity(sources: Sequence[Source], autoencoder: Autoencoder, size: int) -> str:
    encoder = [*autoencoder.encoder.parameters(), *autoencoder.quant_conv.parameters()]
    digest = hashlib.sha256(f"{checkpoint.fingerprint(encoder)} {size}".encode())
    for source in sources:
        digest.update(f"\n{source.name} {source.size}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _index(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class FeatureSet:
    """Crops of the features in a folder that `prepare` has filled; used as an `ImageSet` is."""

    unreadable: frozenset[int] = frozenset()  # those were left out when the file was made

    def __init__(self, folder: Path, sampling: Sampling, share: range, stride: int) -> None:
        """`share` are the positions of this process, `stride` the pixels to a position of the latent."""
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self._entries = [Entry(*entry) for entry in index["entries"]]
        self._channels = int(index["channels"])
        self._values: NDArray[np.int16] = np.memmap(folder / BINARY, np.int16, "r")
        self._sampling, self._share, self._side = sampling, share, sampling.crop // stride

    def __len__(self) -> int:
        """Pictures, each of them once as it is and once mirrored."""
        return len(self._entries) // 2

    def batch(self, step: int) -> Tensor:
        """The crops of this process at `step`, bfloat16 (n, C + 2 L, s, s) in channels-last layout."""
        return self._stack(step, self._share)

    def whole_batch(self, step: int) -> Tensor:
        """The crops of all processes at `step`."""
        return self._stack(step, range(self._sampling.batch))

    def batches(self, first: int, last: int) -> Generator[Tensor]:
        """`batch` of the steps first .. last - 1, one prepared ahead."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            following = pool.submit(self.batch, first)
            for step in range(first, last):
                batch = following.result()
                if step + 1 < last:
                    following = pool.submit(self.batch, step + 1)
                yield batch

    def _stack(self, step: int, positions: range) -> Tensor:
        crops = [torch.from_numpy(self._crop(step, position)) for position in positions]
        return torch.stack(crops).view(torch.bfloat16).permute(0, 3, 1, 2)

    def _crop(self, step: int, position: int) -> NDArray[np.int16]:
        rng = np.random.default_rng((self._sampling.seed, step, position))
        offset, height, width = self._entries[int(rng.integers(len(self._entries)))]
        top, left = rng.integers(height - self._side + 1), rng.integers(width - self._side + 1)
        whole = self._values[offset : offset + height * width * self._channels]
        square = whole.reshape(height, width, -1)[top : top + self._side, left : left + self._side]
        return np.array(square)
