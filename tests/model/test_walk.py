"""The walk over slices as a GPU sees it: what it waits for, and that graphs change no bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rdeic.model import latent_codec
from rdeic.model.entropy_model import EntropyModel
from rdeic.model.latent_codec import decode_y, encode_symbols, encode_y, symbols_of
from rdeic.nn.exact import exact_copy
from rdeic.nn.graphs import GraphCache, Runner
from rdeic.nn.transfer import to_host
from support.exact_networks import entropy, exact
from support.graphs import Recorder
from support.tiny import TINY, likely_y, lively_entropy_model

__all__ = ["entropy", "exact"]  # fixtures

PASSES = 2 * len(TINY.compression.slices)


def picture(exact: EntropyModel, seed: int) -> Tensor:
    """The hyper feature (1, 2M, 8, 12) of one."""
    indices = torch.randint(0, 16, (1, 2, 3), generator=torch.Generator().manual_seed(seed))
    return exact.hyper(exact.codebook.lookup(indices), torch.tensor([0.6], dtype=torch.float64))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of everything that the host waited for."""
    shapes = []

    def look(x: Tensor) -> Any:
        shapes.append(tuple(x.shape))
        return to_host(x)

    monkeypatch.setattr(latent_codec, "to_host", look)
    return shapes


def test_encoding_waits_once_and_decoding_once_a_pass(
    entropy: EntropyModel, exact: EntropyModel, fetched: list[tuple[int, ...]]
) -> None:
    hyper = picture(exact, 0)
    y = likely_y(entropy, hyper.float(), 0).double()
    stream = encode_y(exact, y, hyper)
    assert fetched == [(2, y.numel())]
    fetched.clear()
    decode_y(exact, stream, hyper)
    assert fetched == [(count * 48,) for count in (4, 4, 12, 12)]


def test_what_runs_on_the_device_depends_on_no_value(exact: EntropyModel) -> None:
    """On the meta device there are none: whatever looked at one would fail."""
    hyper, y = picture(exact, 0).to("meta"), torch.zeros(1, 16, 8, 12, device="meta", dtype=torch.float64)
    found = symbols_of(exact_copy(lively_entropy_model(0)).to("meta"), y, hyper)
    assert found.coded.shape == (2, y.numel())
    assert found.y_hat.shape == y.shape


def test_symbols_of_all_passes_are_coded_in_their_order(entropy: EntropyModel, exact: EntropyModel) -> None:
    hyper = picture(exact, 1)
    y = likely_y(entropy, hyper.float(), 1).double()
    found = symbols_of(exact, y, hyper)
    assert exact.pass_sizes(8, 12) == [4 * 48, 4 * 48, 12 * 48, 12 * 48]
    assert exact.pass_sizes(1, 3) == [4, 8, 12, 24]
    assert torch.equal(decode_y(exact, encode_symbols(exact, found), hyper), found.y_hat)


def test_graphs_of_passes_decode_the_same(entropy: EntropyModel, exact: EntropyModel) -> None:
    recorder = Recorder()
    cache = GraphCache(recorder, at_once=True)

    def runners(number: int, half: str) -> Runner:
        return cache.visit(number, half)

    for seed in range(3):
        hyper = picture(exact, seed)
        y = likely_y(entropy, hyper.float(), seed).double()
        found = symbols_of(exact, y, hyper)
        stream = encode_symbols(exact, found)
        assert torch.equal(decode_y(exact, stream, hyper, runners), found.y_hat)
    assert len(recorder.captured) == PASSES
    assert recorder.replays == 3 * PASSES + PASSES  # with each one's trial
