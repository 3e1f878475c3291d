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

from rdeic.errors import ImageError, TrainingError
from rdeic.pictures import images
from rdeic.training import crops
from rdeic.training.crops import Pixels
from rdeic.training.flat import FlatPictures, OnDevice, Planned
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
        self._held: dict[int, Pixels] = {}  # on the host
        self._orders: dict[
            int, tuple[int, NDArray[np.int64]]
        ] = {}  # of each position: an epoch, and its order
        self._flat: FlatPictures | None = None  # on the device
        self._complete = False  # whether it holds all that this process draws from
        self._fill(holding)
        if not self._held:
            self._require_one()
        if holding.device is not None:
            self._complete = all(index in self._held or index in self.unreadable for index in self._own())
            self._flat, self._held = FlatPictures(self._held, holding.device), {}

    def __len__(self) -> int:
        """Pictures listed, unreadable ones included."""
        return len(self._sources)

    def batch(self, step: int) -> Tensor:
        """The crops of this process at `step`, uint8 (n, 3, crop, crop) in channels-last layout."""
        return self._cut([self._plan(step, position) for position in self._share])

    def whole_batch(self, step: int) -> Tensor:
        """The crops of all processes at `step`, uint8 (batch, 3, crop, crop)."""
        return self._cut([self._plan(step, position) for position in range(self._sampling.batch)])

    def batches(self, first: int, last: int) -> Generator[Tensor]:
        """`batch` of the steps first .. last - 1, prepared ahead by background threads."""
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:

            def order(step: int) -> list[Future[list[Planned]]]:
                return [pool.submit(self._plans, step, positions) for positions in tasks]

            # Where nothing is decoded any more, a task for each crop costs more than the crop.
            size = len(self._share) if self._complete else 1
            tasks = [self._share[first : first + size] for first in range(0, len(self._share), size)]

            pending = deque(order(step) for step in range(first, min(first + PREFETCH, last)))
            for step in range(first, last):
                if step + PREFETCH < last:
                    pending.append(order(step + PREFETCH))
                yield self._cut([one for task in pending.popleft() for one in task.result()])

    def _cut(self, planned: Sequence[Planned]) -> Tensor:
        if self._flat is not None:
            return self._flat.batch(planned)
        return torch.stack([one.permute(1, 2, 0) for one in planned if isinstance(one, Tensor)]).permute(
            0, 3, 1, 2
        )

    def _plans(self, step: int, positions: range) -> list[Planned]:
        return [self._plan(step, position) for position in positions]

    def _plan(self, step: int, position: int) -> Planned:
        _, size, seed = self._sampling
        rng = np.random.default_rng((seed, step, position))
        index, image = self._pixels(self._pick(step, position, rng))
        if image is not None:
            return crops.cut(image, crops.random(image.shape[0], image.shape[1], size, rng))
        assert self._flat is not None
        return OnDevice(index, crops.random(*self._flat.size(index), size, rng))

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

    def _pixels(self, index: int) -> tuple[int, Pixels | None]:
        """Picture `index`; if it is unreadable the next of the same position, or else any.

        Its pixels are None where the device has them.
        """
        for candidate in itertools.chain(range(index, len(self), self._sampling.batch), range(len(self))):
            if candidate in self.unreadable:
                continue
            if self._flat is not None and candidate in self._flat:
                return candidate, None
            image = self._held.get(candidate)
            if image is None:
                image = decode(self._sources[candidate])
            if image is not None:
                return candidate, image
            self.unreadable.add(candidate)
        raise TrainingError(
            "no picture of the data set is readable any more; check that the disk is still there"
        )

    def _fill(self, holding: Holding) -> None:
        held_bytes, full = 0, holding.limit == 0
        own = deque(self._own())
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
                        self._held[index] = image

    def _own(self) -> list[int]:
        """The pictures that the positions of this process draw from."""
        return [index for index in range(len(self)) if index % self._sampling.batch in self._share]

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
