"""Batches of crops as a pure function of (seed, step): nothing else decides them, so a resumed run sees the same."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdeic import images
from rdeic.errors import ImageError, TrainingError
from rdeic.training import crops
from rdeic.training.crops import Held, Pixels
from rdeic.training.sources import Source

PREFETCH = 3  # batches prepared ahead
DECODE_CHUNK = 8  # pictures decoded between two looks at the memory limit


class Sampling(NamedTuple):
    """What decides the crops of every step, together with the pictures."""

    batch: int  # crops per step, of all processes together
    crop: int  # pixels a side
    seed: int


class Holding(NamedTuple):
    """How many decoded pictures are kept, and where."""

    limit: int  # bytes
    device: torch.device | None  # None: on the host


class ImageSet:
    """Pictures and the crops that this process takes of them.

    Position k of every batch draws from a fixed part of the pictures (those at k, k + batch, k + 2 batch, ... of the
    list): a process, which has the same positions in every batch, decodes and holds its own parts only, and how many
    processes there are changes nothing. An epoch deals out every picture once; where the last round of that is not
    full, random pictures fill it.
    """

    unreadable: set[int]  # pictures that this process found so, and passed over

    def __init__(self, sources: Sequence[Source], sampling: Sampling, share: range, holding: Holding) -> None:
        """`share` are the positions of this process. Decodes what it may hold, in threads.

        Raises TrainingError if no picture is readable.
        """
        self._sources, self._sampling, self._share = list(sources), sampling, share
        self.unreadable: set[int] = set()
        self._held: dict[int, Held] = {}
        self._orders: dict[
            int, tuple[int, NDArray[np.int64]]
        ] = {}  # of each position: an epoch, and its order
        self._fill(holding)
        if not self._held:
            self._require_one()

    def __len__(self) -> int:
        """Pictures listed, unreadable ones included."""
        return len(self._sources)

    def batch(self, step: int) -> Tensor:
        """The crops of this process at `step`, uint8 (n, 3, crop, crop) in channels-last layout."""
        return self._stack([self._crop(step, position) for position in self._share])

    def whole_batch(self, step: int) -> Tensor:
        """The crops of all processes at `step`, uint8 (batch, 3, crop, crop)."""
        return self._stack([self._crop(step, position) for position in range(self._sampling.batch)])

    def batches(self, first: int, last: int) -> Generator[Tensor]:
        """`batch` of the steps first .. last - 1, prepared ahead by background threads."""
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:

            def order(step: int) -> list[Future[Tensor]]:
                return [pool.submit(self._crop, step, position) for position in self._share]

            pending = deque(order(step) for step in range(first, min(first + PREFETCH, last)))
            for step in range(first, last):
                if step + PREFETCH < last:
                    pending.append(order(step + PREFETCH))
                yield self._stack([crop.result() for crop in pending.popleft()])

    def _stack(self, cut: list[Tensor]) -> Tensor:
        return torch.stack([one.permute(1, 2, 0) for one in cut]).permute(0, 3, 1, 2)

    def _crop(self, step: int, position: int) -> Tensor:
        _, size, seed = self._sampling
        rng = np.random.default_rng((seed, step, position))
        image = self._pixels(self._pick(step, position, rng))
        return crops.cut(image, crops.random(image.shape[0], image.shape[1], size, rng))

    def _pick(self, step: int, position: int, rng: np.random.Generator) -> int:
        batch, _, seed = self._sampling
        rounds = -(-len(self) // batch)
        epoch, turn = divmod(step, rounds)
        known, order = self._orders.get(position, (-1, None))
        if known != epoch or order is None:
            order = np.random.default_rng((seed, epoch, position)).permutation(rounds)
            self._orders[position] = epoch, order
        index = position + batch * int(order[turn])
        return index if index < len(self) else int(rng.integers(len(self)))

    def _pixels(self, index: int) -> Held:
        """Picture `index`; if it is unreadable the next of the same position, or else any."""
        for candidate in itertools.chain(range(index, len(self), self._sampling.batch), range(len(self))):
            if candidate in self.unreadable:
                continue
            image = self._held.get(candidate)
            if image is None:
                image = decode(self._sources[candidate])
            if image is not None:
                return image
            self.unreadable.add(candidate)
        raise TrainingError(
            "no picture of the data set is readable any more; check that the disk is still there"
        )

    def _fill(self, holding: Holding) -> None:
        batch, held_bytes, full = self._sampling.batch, 0, holding.limit == 0
        own = deque(index for index in range(len(self)) if index % batch in self._share)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            while own and not full:
                chunk = [own.popleft() for _ in range(min(DECODE_CHUNK, len(own)))]
                decoded = pool.map(decode, [self._sources[index] for index in chunk])
                for index, image in zip(chunk, decoded, strict=True):
                    if image is None:
                        self.unreadable.add(index)
                    elif held_bytes + image.nbytes > holding.limit:
                        full = True  # the rest is not even decoded now
                    else:
                        held_bytes += image.nbytes
                        self._held[index] = _placed(image, holding.device)

    def _require_one(self) -> None:
        try:
            self._pixels(0)
        except TrainingError as error:
            unreadable = f" ({len(self.unreadable)} unreadable)" if self.unreadable else ""
            raise TrainingError(
                f"no usable picture{unreadable}; point --data at folders of jpg, png or webp files, or tar files of"
                " them"
            ) from error


def centre_crops(sources: Sequence[Source], count: int, crop: int) -> Tensor:
    """Centre crops of the first `count` readable pictures, uint8 (at most count, 3, crop, crop).

    Raises TrainingError if none is readable.
    """
    decoded = (image for image in map(decode, sources) if image is not None)
    found = [
        crops.cut(image, crops.centre(image.shape[0], image.shape[1], crop))
        for image in itertools.islice(decoded, count)
    ]
    if not found:
        raise TrainingError(
            f"none of the {len(sources)} pictures held out for validation is readable; replace them"
        )
    return torch.stack(found)


def decode(source: Source) -> Pixels | None:
    """The picture, or None where it is unreadable."""
    try:
        pixels: Pixels = images.read(source.read())
    except (OSError, ImageError):
        return None
    return pixels


def _placed(image: Pixels, device: torch.device | None) -> Held:
    return image if device is None else torch.from_numpy(image).to(device)
