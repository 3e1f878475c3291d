"""Rows of y computed together, because hidden activations of a picture of 100 megapixels would take gigabytes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rdeic.nn.context import Checkerboard, checkerboard

HYPER_ROWS = 4  # rows of y for each of the hyper-latent


class Band(NamedTuple):
    """Rows of y that are computed together. The first of them is even, so that halves are halves of the whole's."""

    rows: slice
    board: Checkerboard
    hyper: Tensor  # (B, 2M, n, w)
    halves: tuple[Tensor, Tensor] | None  # of `hyper`; None: of many bands, each is taken when it is needed
    dtype: torch.dtype  # of the networks

    @property
    def anchors(self) -> Tensor:
        """The hyper feature (B, 2M, 1, P) at the band's anchors, in the precision of the networks."""
        return self.halves[0] if self.halves else self.board.anchors.take(self.hyper).to(self.dtype)

    @property
    def non_anchors(self) -> Tensor:
        """The same at all other positions."""
        return self.halves[1] if self.halves else self.board.non_anchors.take(self.hyper).to(self.dtype)

    def kept(self, x: Tensor) -> Tensor:
        """For later, as small as `hyper`."""
        return x if self.halves else x.to(self.hyper.dtype)

    def again(self, x: Tensor) -> Tensor:
        """What was kept."""
        return x if self.halves else x.to(self.dtype)

    def around(self, x: Tensor, reach: int) -> Tensor:
        """The band's rows of the whole's (B, C, h, w), and `reach` rows more on either side, as far as there are."""
        return x[:, :, max(0, self.rows.start - reach) : self.rows.stop + reach]

    def within(self, x: Tensor, reach: int) -> Tensor:
        """The band's rows of what was computed from `around`."""
        start = min(reach, self.rows.start)
        return x[:, :, start : start + self.rows.stop - self.rows.start]


def bands(hyper: Tensor, rows: int | None, dtype: torch.dtype) -> list[Band]:
    """Of at most `rows` rows, an even number; one of all for None. `dtype` is that of the networks."""
    height, width = hyper.shape[2:]
    if rows is None or rows >= height:
        hyper = hyper if rows is None else hyper.to(dtype)
        board = checkerboard(height, width, hyper.device)
        halves = board.anchors.take(hyper), board.non_anchors.take(hyper)
        return [Band(slice(0, height), board, hyper, halves, dtype)]
    assert rows % 2 == 0
    cuts = [slice(start, min(start + rows, height)) for start in range(0, height, rows)]
    boards = {n: checkerboard(n, width, hyper.device) for n in {cut.stop - cut.start for cut in cuts}}
    return [Band(cut, boards[cut.stop - cut.start], hyper[:, :, cut], None, dtype) for cut in cuts]
