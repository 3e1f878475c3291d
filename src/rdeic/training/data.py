"""Pictures for training: found in folders and tar files, decoded once, cropped as a pure function of (seed, step)."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rdeic import images
from rdeic.errors import ImageError, TrainingError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
HELD_OUT_ONE_IN = 64
RESIZE_SHARE = 0.3  # of the crops are taken from a shrunken picture: other scales, and weaker JPEG artefacts
SMALLEST_SCALE = 0.6
PREFETCH = 3  # batches prepared ahead
DECODE_CHUNK = 64  # pictures decoded between two looks at the memory limit

Pixels = NDArray[np.uint8]


class Source(NamedTuple):
    """Where an encoded picture lies: a whole file, or a member of an uncompressed tar file."""

    name: str
    path: Path
    offset: int  # bytes
    size: int  # bytes

    def read(self) -> bytes:
        """The encoded picture. Raises OSError."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find(paths: Iterable[Path]) -> list[Source]:
    """Every jpg, png and webp under `paths` (folders, recursively; pictures; tar files), sorted by place.

    Raises TrainingError for a path that does not exist or cannot be listed.
    """
    sources: list[Source] = []
    for path in paths:
        try:
            sources += _find(path)
        except (OSError, tarfile.TarError) as error:
            raise TrainingError(f"cannot list the pictures in {path}: {error}") from error
    return sources


def split(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """(training, held-out) pictures; about one in 64 is held out, decided by its file name alone.

    A set too small to hold any out that way lends its last by that order; a lone picture serves as both.
    """
    held_out = [source for source in sources if _name_hash(source) % HELD_OUT_ONE_IN == 0]
    if not held_out and sources:
        held_out = [min(sources, key=_name_hash)]
    out = set(held_out)
    return [source for source in sources if source not in out] or list(sources), held_out


class ImageSet:
    """Decoded pictures, as many as fit in `memory_limit` bytes; the rest is decoded again at every use."""

    corrupt: int  # pictures found unreadable so far, and skipped

    def __init__(self, sources: Sequence[Source], memory_limit: int) -> None:
        """Decodes in threads. Raises TrainingError if no picture is readable."""
        self.corrupt = 0
        self._sources: list[Source] = []
        self._held: list[Pixels] = []  # of the first sources
        waiting = deque(sources)
        held_bytes = 0
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            while waiting and held_bytes < memory_limit:
                chunk = [waiting.popleft() for _ in range(min(DECODE_CHUNK, len(waiting)))]
                for source, image in zip(chunk, pool.map(_decode, chunk), strict=True):
                    if image is None:
                        self.corrupt += 1
                    else:
                        held_bytes += image.nbytes
                        self._sources.append(source)
                        self._held.append(image)
        self._sources += waiting
        self._bad: set[int] = set()  # found unreadable after construction
        if not self._sources:
            skipped = f" ({self.corrupt} unreadable)" if self.corrupt else ""
            raise TrainingError(
                f"no usable picture{skipped}; point --data at folders of jpg, png or webp files"
            )

    def __len__(self) -> int:
        return len(self._sources)

    def batch(self, step: int, size: int, crop: int, seed: int) -> Tensor:
        """The random crops of `step`, uint8 (size, 3, crop, crop) in channels-last layout.

        Pictures come without replacement, every one once an epoch. Depends on nothing but the arguments and the
        pictures, so a resumed run sees what an uninterrupted one would.
        """
        rng = np.random.default_rng((seed, step))
        first = step * size
        crops = [_random_crop(self._pixels(self._pick(first + k, seed)), crop, rng) for k in range(size)]
        return _to_tensor(crops)

    def batches(self, first: int, last: int, size: int, crop: int, seed: int) -> Iterator[Tensor]:
        """`batch` of the steps first .. last - 1, prepared ahead by a background thread."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = min(first + PREFETCH, last)
            pending = deque(pool.submit(self.batch, step, size, crop, seed) for step in range(first, ahead))
            for step in range(first, last):
                if step + PREFETCH < last:
                    pending.append(pool.submit(self.batch, step + PREFETCH, size, crop, seed))
                yield pending.popleft().result()

    def centre_crops(self, count: int, crop: int) -> Tensor:
        """Centre crops of the first `count` pictures, uint8 (at most count, 3, crop, crop)."""
        crops = []
        for index in range(min(count, len(self))):
            image = self._pixels(index)
            side = min(crop, *image.shape[:2])
            crops.append(_cut(image, (image.shape[0] - side) // 2, (image.shape[1] - side) // 2, side, crop))
        return _to_tensor(crops)

    def _pick(self, position: int, seed: int) -> int:
        epoch, place = divmod(position, len(self))
        return int(_order(len(self), seed, epoch)[place])

    def _pixels(self, index: int) -> Pixels:
        """Picture `index`, or the next readable one after it."""
        for candidate in itertools.chain(range(index, len(self)), range(index)):
            if candidate < len(self._held):
                return self._held[candidate]
            image = None if candidate in self._bad else _decode(self._sources[candidate])
            if image is not None:
                return image
            if candidate not in self._bad:
                self._bad.add(candidate)
                self.corrupt += 1
        raise TrainingError(
            "no picture of the data set is readable any more; check that the disk is still there"
        )


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch, count)).permutation(count)


def _find(path: Path) -> list[Source]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        return [Source(file.name, file, 0, file.stat().st_size) for file in files]
    if path.suffix.lower() == ".tar":
        with tarfile.open(path, "r:") as archive:
            members = [
                member for member in archive if member.isfile() and member.name.lower().endswith(SUFFIXES)
            ]
        return [Source(member.name, path, member.offset_data, member.size) for member in members]
    return [Source(path.name, path, 0, path.stat().st_size)]


def _name_hash(source: Source) -> int:
    digest = hashlib.sha256(Path(source.name).name.encode("utf-8", "surrogateescape")).digest()
    # The low bits decide the split, so the rest only breaks ties in the order of a small set.
    return int.from_bytes(digest[:8], "little")


def _decode(source: Source) -> Pixels | None:
    try:
        pixels: Pixels = images.read(source.read())
    except (OSError, ImageError):
        return None
    return pixels


def _random_crop(image: Pixels, crop: int, rng: np.random.Generator) -> Pixels:
    scale = rng.uniform(SMALLEST_SCALE, 1.0) if rng.random() < RESIZE_SHARE else 1.0
    height, width = image.shape[:2]
    side = min(round(crop / scale), height, width)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    cut = _cut(image, top, left, side, crop)
    return cut[:, ::-1] if rng.random() < 0.5 else cut


def _cut(image: Pixels, top: int, left: int, side: int, crop: int) -> Pixels:
    """The square of `side` pixels at (top, left), resized to `crop` pixels a side."""
    square = image[top : top + side, left : left + side]
    if side == crop:
        return square
    return np.asarray(Image.fromarray(square).resize((crop, crop), Image.Resampling.BICUBIC))


def _to_tensor(crops: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)  # (B, 3, H, W), stored (B, H, W, 3)
