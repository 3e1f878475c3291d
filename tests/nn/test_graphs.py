"""When graphs are captured and given up, with a capture that needs no GPU, and that they change no picture."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from rdeic.model.model import Rdeic
from rdeic.nn.graphs import Capture, GraphCache, Work
from rdeic.types import CompressedFeatures
from support.graphs import Recorder
from support.tiny import TINY


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def visit(cache: GraphCache, size: int, times: int = 1) -> None:
    """A picture of that size: `times` runs that must be right."""
    run = cache.visit("double", size)
    for value in range(times):
        assert torch.equal(run(doubled, torch.full((size,), float(value))), torch.full((size,), 2.0 * value))


def test_the_second_picture_of_a_shape_is_captured_and_not_the_second_run_of_the_first() -> None:
    recorder = Recorder()
    cache = GraphCache(recorder)
    visit(cache, 3, times=5)
    assert recorder.captured == []
    visit(cache, 3, times=5)
    visit(cache, 4)
    visit(cache, 3)
    assert recorder.captured == [(3,)]
    assert recorder.replays == 6 + 1


def test_or_the_first_one_when_told_so() -> None:
    recorder = Recorder()
    cache = GraphCache(recorder, at_once=True)
    for size in (3, 4, 3):
        visit(cache, size)
    assert (recorder.captured, recorder.replays) == ([(3,), (4,)], 3 + 2)


def test_a_full_cache_gives_up_the_graph_visited_longest_ago() -> None:
    recorder = Recorder()
    cache = GraphCache(recorder, most=2)
    for size in (1, 1, 2, 2, 1, 3, 3, 1, 2, 2):
        visit(cache, size)
    # 3 takes the place of 2, visited before both of its pictures; 2 comes twice again, after the latest of 3.
    assert recorder.captured == [(1,), (2,), (3,), (2,)]
    assert recorder.replays == 6 + 4


@pytest.mark.parametrize("at_once", [False, True])
def test_too_many_shapes_that_take_turns_keep_the_graphs_there_are(at_once: bool) -> None:
    recorder = Recorder()
    cache = GraphCache(recorder, at_once, most=2)
    for _ in range(10):
        for size in (1, 2, 3):
            visit(cache, size)
    assert recorder.captured == [(1,), (2,)]


def test_many_shapes_are_not_remembered_for_ever() -> None:
    cache = GraphCache(Recorder(), at_once=True, most=2)
    for size in range(1, 500):
        visit(cache, size)
    assert len(cache._entries) <= 8
    assert len(cache._graphed()) == 2


def test_what_cannot_be_captured_runs_as_it_is_and_is_not_tried_again() -> None:
    tried = []

    def refuse(work: Work, inputs: tuple[Tensor, ...]) -> Work:
        tried.append(inputs)
        raise RuntimeError("operation not permitted when stream is capturing")

    cache = GraphCache(refuse)
    for _ in range(4):
        visit(cache, 3)
    assert len(tried) == 1


@pytest.mark.parametrize("wrong", [2.1, float("nan")])
def test_a_graph_that_finds_something_else_is_not_used(wrong: float) -> None:
    cache = GraphCache(lambda work, inputs: lambda x: wrong * x, at_once=True)
    for _ in range(3):
        assert torch.equal(cache.visit("double")(doubled, torch.ones(3)), torch.full((3,), 2.0))


def test_a_graph_of_exact_numbers_must_find_them_exactly() -> None:
    def nearly(work: Work, inputs: tuple[Tensor, ...]) -> Work:
        return lambda x: (2 + 2.0**-40) * x

    cache, ones = GraphCache(nearly, at_once=True), torch.ones(3)
    assert torch.equal(cache.visit("exact")(doubled, ones.double()), 2 * ones.double())
    assert cache._graphed() == []
    cache.visit("float")(doubled, ones)
    assert len(cache._graphed()) == 1


def test_what_is_baked_into_a_graph_shows() -> None:
    """One that went on with the values it was captured with."""

    def bake(work: Work, inputs: tuple[Tensor, ...]) -> Work:
        first = work(*(torch.zeros_like(x) for x in inputs))
        return lambda *given: first

    cache = GraphCache(bake, at_once=True)
    assert torch.equal(cache.visit("double")(doubled, torch.ones(3)), torch.full((3,), 2.0))


def test_graphs_are_given_up_before_memory_runs_out() -> None:
    recorder = Recorder()
    cache = GraphCache(recorder, at_once=True)
    visit(cache, 3)

    def hungry(x: Tensor) -> Tensor:
        if cache._graphed():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x + 1

    assert torch.equal(cache.visit("hungry")(hungry, torch.ones(2)), torch.full((2,), 2.0))
    assert cache._graphed() == []

    def starving(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        cache.visit("starving")(starving, torch.ones(2))


def test_a_graph_that_finds_no_memory_is_run_as_it_was() -> None:
    def starve(*_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    cache = GraphCache(lambda work, inputs: starve, at_once=True)
    visit(cache, 3, times=2)


def test_a_visit_that_goes_on_after_all_was_forgotten_captures_nothing() -> None:
    recorder = Recorder()
    cache = GraphCache(recorder, at_once=True)
    run = cache.visit("double", 3)
    run(doubled, torch.ones(3))
    assert cache.clear()
    assert not cache.clear()
    assert torch.equal(run(doubled, torch.ones(3)), torch.full((3,), 2.0))
    assert len(recorder.captured) == 1


def test_threads_take_turns() -> None:
    cache = GraphCache(Recorder())
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(visit, cache, 1 + i % 3, 20) for i in range(48)]:
            done.result()


# In a model


@pytest.fixture
def model() -> Rdeic:
    torch.manual_seed(0)
    return Rdeic(TINY).prepare()


def restored(model: Rdeic, features: CompressedFeatures, steps: int = 2, detail: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noises: Callable[[], Tensor] = lambda: torch.randn(features.z_c.shape, generator=generator)  # noqa: E731
    with torch.inference_mode():
        return model.restore(features, iter(noises, None), steps, detail)


def features(seed: int) -> CompressedFeatures:
    generator = torch.Generator().manual_seed(seed)
    z_c, guide = (torch.randn(1, c, 8, 16, generator=generator) for c in (4, 16))
    return CompressedFeatures(z_c=z_c, guide=guide)


def test_pictures_are_those_of_no_graphs(model: Rdeic) -> None:
    pictures = [
        (features(i), steps, detail) for i, (steps, detail) in enumerate([(2, 1.0), (5, 1.0), (2, 0.5)])
    ]
    plain = [restored(model, *picture) for picture in pictures]
    recorder = Recorder()
    model.use_graphs(recorder, at_once=True)
    for _ in range(2):
        for picture, wanted in zip(pictures, plain, strict=True):
            assert torch.equal(restored(model, *picture), wanted)
    assert len(recorder.captured) == 3  # a step at two values of detail, and D
    assert recorder.replays == 2 * (2 + 5 + 2 + 3) + 3


def test_analysis_is_that_of_no_graphs(model: Rdeic) -> None:
    x = torch.rand(3, 1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        plain = [model.analyse(one) for one in x]
        model.use_graphs(recorder := Recorder(), at_once=False)
        found = [model.analyse(one) for one in x]
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))
    assert recorder.replays == 2 + 1


def test_bits_are_those_of_no_graphs_and_decode_with_them(model: Rdeic) -> None:
    y = 8 * torch.randn(3, 1, 16, 4, 8, generator=torch.Generator().manual_seed(0))

    def coded() -> list[tuple[bytes, Tensor, CompressedFeatures]]:
        made = []
        with torch.inference_mode():
            for one, quality in zip(y, (0, 100, 255), strict=True):
                coded, y_hat = model.encode_with_y_hat(one, quality)
                assert torch.equal(model.decode_y_hat(coded, quality), y_hat)
                made.append((coded.y_stream, y_hat, model.decode(coded, quality)))
        return made

    plain = coded()
    model.use_graphs(recorder := Recorder(), at_once=False)
    for (stream, y_hat, features), (stream_, y_hat_, features_) in zip(coded(), plain, strict=True):
        assert stream == stream_
        assert torch.equal(y_hat, y_hat_)
        assert all(torch.equal(one, other) for one, other in zip(features, features_, strict=True))
    # Of the encoder; of the decoder: the hyper feature and two slices' passes, twice a picture; guide and z_c.
    assert len(recorder.captured) == 1 + (1 + 4) + 1
    assert recorder.replays == 2 * 1 + 5 * 5 + 2 * 1 + 7


def test_graphs_end_where_weights_change_or_gradients_are_wanted(model: Rdeic) -> None:
    def never(work: Work, inputs: tuple[Tensor, ...]) -> Work:
        raise AssertionError

    capture: Capture = never
    x = torch.zeros(1, 3, 64, 64)
    model.use_graphs(capture, at_once=True)
    assert model.requires_grad_(True).analyse(x).requires_grad
    for change in (lambda: model.train(), lambda: model.load_state_dict(model.state_dict())):
        model.use_graphs(capture, at_once=True)
        change()
        with torch.inference_mode():
            model.analyse(x)


def test_large_pictures_are_left_as_they_are(model: Rdeic) -> None:
    model.use_graphs(recorder := Recorder(), at_once=True)
    with torch.inference_mode():
        model.analyse(torch.zeros(1, 3, 1024, 1088))
    assert recorder.captured == []
