"""What an encoder keeps of its picture."""

from __future__ import annotations

import contextlib
import weakref

import pytest

from rdeic.codec.codec import Codec
from rdeic.codec.encoder import Encoder, Goal, Rates, Stamp
from rdeic.pictures import images


@pytest.mark.parametrize(
    ("goal", "kept"),
    [(Goal(50.0, None, None, scale=True), False), (Goal(None, None, 400, scale=True), True)],
)
def test_a_picture_is_let_go_when_its_last_analysis_is_done(
    tiny: Codec, photo: images.Picture, goal: Goal, kept: bool
) -> None:
    weights = tiny._weights
    rates = Rates(tiny.config, weights.highest, weights.load, None, contextlib.nullcontext())
    picture = photo.copy()
    alive = weakref.ref(picture)
    encoder = Encoder(picture, rates, Stamp(0, ()))
    del picture
    assert len(encoder.meet(goal)) > 0
    assert (alive() is not None) == kept
    assert encoder.trials
