"""Pictures of all sizes in one flat tensor on the device: the crops of a batch are one gather from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rdeic.training.crops import Crop, Pixels

CUBIC = -0.5  # a of the bicubic kernel, as Pillow's


class OnDevice(NamedTuple):
    """A crop that is still to be cut, together with those beside it."""

    picture: int
    crop: Crop


Planned: TypeAlias = OnDevice | Tensor  # the latter uint8 (3, size, size), already cut on the host


class _Squares(NamedTuple):
    """Squares of pixels in the flat tensor, on its device; each (n,) int64."""

    first: Tensor  # the pixel at top and left
    stride: Tensor  # from a pixel to the one below: the picture's width
    side: Tensor
    flip: Tensor  # 0 or 1


class FlatPictures:
    """Decoded pictures in one flat tensor on a device, by number."""

    def __init__(self, pictures: Mapping[int, Pixels], device: torch.device) -> None:
        total = sum(picture.shape[0] * picture.shape[1] for picture in pictures.values())
        self._pixels = torch.empty(total, 3, dtype=torch.uint8, device=device)
        self._places: dict[int, tuple[int, int, int]] = {}  # first pixel, height, width
        first = 0
        for number, picture in pictures.items():
            height, width = picture.shape[:2]
            self._pixels[first : first + height * width].copy_(torch.from_numpy(picture).view(-1, 3))
            self._places[number] = first, height, width
            first += height * width

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of a picture, in pixels."""
        return self._places[number][1:]

    def batch(self, planned: Sequence[Planned]) -> Tensor:
        """`cut`, with what the host has cut in its places."""
        cut = [one for one in planned if isinstance(one, Tensor)]
        if not cut:
            return self.cut([one for one in planned if isinstance(one, OnDevice)])
        batch = torch.stack([one.permute(1, 2, 0) for one in cut]).to(self._pixels.device)
        places = sorted(range(len(planned)), key=lambda place: isinstance(planned[place], OnDevice))
        if wanted := [one for one in planned if isinstance(one, OnDevice)]:
            batch = torch.cat([batch, self.cut(wanted).permute(0, 2, 3, 1)])
        return _placed(batch, torch.tensor(places, device=batch.device)).permute(0, 3, 1, 2)

    def cut(self, wanted: Sequence[OnDevice]) -> Tensor:
        """uint8 (n, 3, size, size) in channels-last layout: crops, all of one size, of pictures held here.

        They are what `crops.cut` gives on the host; resized ones may differ by a level or two. Nothing here waits for
        the device.
        """
        size = wanted[0].crop.size
        order = sorted(range(len(wanted)), key=lambda place: wanted[place].crop.side != size)
        whole = sum(crop.side == size for _, crop in wanted)
        squares, places = self._squares([wanted[place] for place in order], order)
        plain, resized = (_Squares(*(column[part] for column in squares)) for part in _halves(whole))
        parts = [self._gather(plain, size, plain.flip)] if whole else []
        if whole < len(wanted):
            largest = max(crop.side for _, crop in wanted if crop.side != size)
            parts.append(
                _resized(self._gather(resized, largest, torch.zeros_like(resized.flip)), resized, size)
            )
        return _placed(torch.cat(parts), places).permute(0, 3, 1, 2)

    def _squares(self, wanted: Sequence[OnDevice], order: Sequence[int]) -> tuple[_Squares, Tensor]:
        rows = []
        for (number, crop), place in zip(wanted, order, strict=True):
            first, _, width = self._places[number]
            rows.append((first + crop.top * width + crop.left, width, crop.side, int(crop.flip), place))
        table = torch.tensor(rows).T.contiguous()
        if self._pixels.is_cuda:
            table = table.pin_memory().to(self._pixels.device, non_blocking=True)
        *columns, places = table
        return _Squares(*columns), places

    def _gather(self, squares: _Squares, size: int, flip: Tensor) -> Tensor:
        """uint8 (n, size, size, 3), those with `flip` mirrored; what lies beyond a smaller square repeats its edge."""
        steps = torch.arange(size, device=self._pixels.device)
        steps = torch.minimum(steps, squares.side[:, None] - 1)  # (n, size)
        columns = torch.where(flip[:, None] > 0, steps.flip(1), steps)
        rows = squares.first[:, None] + steps * squares.stride[:, None]
        return self._pixels[rows[:, :, None] + columns[:, None, :]]


def _placed(rows: Tensor, places: Tensor) -> Tensor:
    """Row k of `rows` at place `places[k]`."""
    return torch.empty_like(rows).index_copy_(0, places, rows)


def _halves(first: int) -> tuple[slice, slice]:
    return slice(first), slice(first, None)


def _resized(pixels: Tensor, squares: _Squares, size: int) -> Tensor:
    """uint8 (n, L, L, 3), the squares at the top left -> (n, size, size, 3), mirrored where they are to be."""
    weights = _weights(squares.side, size, pixels.shape[1])
    columns = torch.where(squares.flip[:, None, None] > 0, weights.flip(1), weights)
    planes = pixels.permute(0, 3, 1, 2).float()
    planes = weights[:, None] @ planes @ columns[:, None].mT  # (n, 3, size, size)
    return planes.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _weights(side: Tensor, size: int, length: int) -> Tensor:
    """(n, size, length): what each of `length` pixels, of which `side` (n,) count, gives to each of `size`.

    Antialiased bicubic: where pictures shrink, the kernel is stretched over what becomes one pixel.
    """
    scale = side[:, None, None].float() / size
    stretch = scale.clamp(min=1.0)
    pixel = torch.arange(length, device=side.device)
    centre = (torch.arange(size, device=side.device)[:, None] + 0.5) * scale  # (n, size, 1)
    x = ((pixel + 0.5 - centre) / stretch).abs()
    near = ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    far = ((x - 5.0) * x + 8.0) * x * CUBIC - 4.0 * CUBIC
    kernel = torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))
    kernel = kernel * (pixel < side[:, None, None])
    return kernel / kernel.sum(2, keepdim=True)
