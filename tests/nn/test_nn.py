"""Networks: what they compute, whom their gradients reach, and how large the presets are."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from rdeic.config import MINI, SD21, ModelConfig
from rdeic.model.model import Rdeic
from rdeic.nn.blocks import timestep_embedding
from rdeic.nn.codebook import BETA, Codebook
from rdeic.nn.norm import GroupNorm
from rdeic.nn.quality import QualityTable
from rdeic.types import ControlResiduals
from support.tiny import TINY, WIDE

# Group normalisation


def normalised(
    layer: nn.GroupNorm, x: Tensor, dy: Tensor, memory_format: torch.memory_format
) -> tuple[Tensor, ...]:
    """y, dx, dweight, dbias."""
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    y = layer(x)
    assert layer.weight is not None and layer.bias is not None
    return (y, *torch.autograd.grad(y, (x, layer.weight, layer.bias), dy))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("groups", "channels", "size"), [(1, 6, (5, 7)), (4, 12, (8, 8)), (6, 6, (1, 3))])
def test_group_norm_is_the_librarys(
    groups: int, channels: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours, theirs = GroupNorm(groups, channels, eps=1e-6), nn.GroupNorm(groups, channels, eps=1e-6)
    for layer in (ours, theirs):
        layer.weight.data = torch.linspace(-1.0, 2.0, channels)
        layer.bias.data = torch.linspace(1.0, -1.0, channels)
    x, dy = 3.0 + 2.0 * torch.randn(3, channels, *size), torch.randn(3, channels, *size)
    for one, other in zip(
        normalised(ours, x.clone(), dy, memory_format),
        normalised(theirs, x.clone(), dy, memory_format),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_group_norm_in_bfloat16_is_as_good_as_bfloat16() -> None:
    torch.manual_seed(0)
    ours, theirs = GroupNorm(4, 16), nn.GroupNorm(4, 16)
    for layer in (ours, theirs):
        layer.weight.data = torch.linspace(-1.0, 2.0, 16)
    x, dy = (1.0 + torch.randn(2, 16, 12, 12)).bfloat16(), torch.randn(2, 16, 12, 12).bfloat16()
    found = normalised(ours, x.clone(), dy, torch.channels_last)
    assert [t.dtype for t in found] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    expected = normalised(theirs, x.float(), dy.float(), torch.channels_last)
    for one, other in zip(found, expected, strict=True):
        error = (one.float() - other).detach().square().mean() / other.detach().square().mean()
        assert float(error) < 0.01**2


def test_group_norm_without_gradients_is_the_same() -> None:
    torch.manual_seed(0)
    layer, x = GroupNorm(2, 6), torch.randn(2, 6, 4, 4)
    with torch.no_grad():
        plain = layer(x)
    torch.testing.assert_close(layer(x), plain)


# Noise estimator and control network


def residuals_of_zero(like: ControlResiduals) -> ControlResiduals:
    return ControlResiduals(
        encoder=tuple(torch.zeros_like(r) for r in like.encoder),
        middle=torch.zeros_like(like.middle),
        decoder=tuple(torch.zeros_like(r) for r in like.decoder),
    )


def test_an_untrained_control_network_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Rdeic(TINY).eval().requires_grad_(False)
    z, guide, t = torch.randn(2, 4, 8, 8), torch.randn(2, 16, 8, 8), torch.tensor([299, 3])
    plain = model.predict_noise(z, t, guide, detail=0.0)
    assert torch.equal(model.predict_noise(z, t, guide), plain)
    assert torch.equal(model.predict_noise(z, t, -guide), plain)


def test_every_control_connection_reaches_the_estimate() -> None:
    torch.manual_seed(0)
    model = Rdeic(WIDE).eval().requires_grad_(False)
    z, guide, t = torch.randn(1, 4, 8, 8), torch.randn(1, 16, 8, 8), torch.tensor([100])
    control = residuals_of_zero(model.control(z, guide, t, None))
    plain = model.unet(z, t, None, control)
    assert torch.equal(plain, model.unet(z, t, None))
    changed = [control._replace(middle=torch.randn_like(control.middle))]
    for name in ("encoder", "decoder"):
        connections = getattr(control, name)
        for i, residual in enumerate(connections):
            moved = (*connections[:i], torch.randn_like(residual), *connections[i + 1 :])
            changed.append(control._replace(**{name: moved}))
    assert len(changed) == 1 + 2 * len(model.unet.outputs)
    results = [model.unet(z, t, None, c) for c in changed]
    for one, other in itertools.combinations([plain, *results], 2):
        assert not torch.allclose(one, other, atol=1e-4)


def test_timesteps_are_embedded_per_picture() -> None:
    torch.manual_seed(0)
    model = Rdeic(WIDE).eval().requires_grad_(False)
    z = torch.randn(1, 4, 8, 8)
    both = model.unet(z.expand(2, -1, -1, -1), torch.tensor([5, 250]), None)
    assert not torch.allclose(both[0], both[1], atol=1e-3)
    torch.testing.assert_close(both[1:], model.unet(z, torch.tensor([250]), None))
    embedded = timestep_embedding(torch.tensor([0, 1]), 4)
    expected = torch.tensor([1.0, 0.01]).cos(), torch.tensor([1.0, 0.01]).sin()
    assert embedded[0].tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(embedded[1], torch.cat(expected))


# Codebook


def brute_force(entries: Tensor, z: Tensor) -> Tensor:
    rows = z.movedim(1, -1).double()
    return (rows[..., None, :] - entries.double()).norm(dim=-1).argmin(dim=-1)


def test_nearest_entry_against_brute_force() -> None:
    torch.manual_seed(0)
    codebook = Codebook(50, 6).eval()
    codebook.entries.data.normal_()
    z = torch.randn(3, 6, 7, 4)
    indices = codebook.nearest(z)
    assert torch.equal(indices, brute_force(codebook.entries, z))
    match = codebook(z)
    assert torch.equal(match.indices, indices)
    torch.testing.assert_close(match.z_q, codebook.lookup(indices))
    assert torch.equal(codebook.lookup(indices)[1, :, 6, 2], codebook.entries[indices[1, 6, 2]])


def test_codebook_gradients() -> None:
    """z_q passes them straight through; L_cb pulls z by beta and the chosen entries by 1 (Eq. 13)."""
    torch.manual_seed(0)
    codebook = Codebook(5, 6).eval()
    codebook.entries.data.normal_()
    z = torch.randn(2, 6, 3, 3, requires_grad=True)
    match, weights = codebook(z), torch.randn(2, 6, 3, 3)
    (through,) = torch.autograd.grad((match.z_q * weights).sum(), z, retain_graph=True)
    assert torch.equal(through, weights)
    pull, entries = torch.autograd.grad(match.loss, (z, codebook.entries))
    difference = (z - codebook.lookup(match.indices)).detach()
    torch.testing.assert_close(pull, 2 * BETA * difference / z.numel())
    chosen = torch.zeros_like(codebook.entries)
    chosen.index_add_(0, match.indices.flatten(), -2 * difference.movedim(1, -1).flatten(0, 2) / z.numel())
    torch.testing.assert_close(entries, chosen)
    assert match.loss.item() == pytest.approx((1 + BETA) * difference.square().mean().item(), rel=1e-5)


def test_dead_entries_are_revived_and_used_ones_left_alone() -> None:
    torch.manual_seed(0)
    centres = 4.0 * torch.eye(8)[:, :6]
    codebook = Codebook(8, 6).train()
    codebook.entries.data = centres.clone()
    codebook.entries.data[5:] = 100.0 + torch.randn(3, 6)  # nothing ever comes near these
    which = torch.arange(8).repeat(16).view(2, 8, 8)
    z = centres[which].movedim(-1, 1) + 0.1 * torch.randn(2, 6, 8, 8)
    assert set(codebook.nearest(z).unique().tolist()) <= set(range(5))
    codebook.settle(z)
    torch.testing.assert_close(codebook.entries[:5], centres[:5], rtol=0, atol=1e-6)
    assert bool((codebook.entries[5:].norm(dim=1) < 10).all())
    assert len(codebook.nearest(z).unique()) > 5


def test_a_codebook_in_use_never_moves_by_itself() -> None:
    torch.manual_seed(0)
    codebook = Codebook(8, 6)
    before = codebook.entries.detach().clone()
    codebook(torch.randn(2, 6, 4, 4))
    assert torch.equal(codebook.entries, before)
    assert not codebook.usage.any()


@pytest.mark.parametrize("positions", [1, 2])
def test_a_codebook_learns_from_the_smallest_pictures(positions: int) -> None:
    torch.manual_seed(0)
    codebook, z = Codebook(8, 6), torch.randn(1, 6, 1, positions)
    loss = codebook(z).loss + codebook.settle(z)
    loss.backward()
    assert bool(loss.isfinite())


# Quality


def table(levels: int = 3) -> QualityTable:
    made = QualityTable(2, 0.0, 0.0, levels)
    made.knots.data = torch.tensor([[0.0, 10.0], [1.0, 20.0], [5.0, 0.0]])[:levels]
    return made


def test_quality_interpolates_linearly_between_knots() -> None:
    found = table()(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert found.shape == (5, 2, 1, 1)
    assert found[:, :, 0, 0].tolist() == [[0, 10], [0.5, 15], [1, 20], [3, 10], [5, 0]]


def test_a_quality_trains_its_two_knots_only() -> None:
    made = table()
    made(torch.tensor([0.125])).sum().backward()
    assert made.knots.grad is not None
    assert made.knots.grad.tolist() == [[0.75, 0.75], [0.25, 0.25], [0, 0]]


def test_knots_start_on_a_straight_line() -> None:
    made = QualityTable(1, -1.0, 1.0, 5)
    assert made.knots[:, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_gain_is_interpolated_geometrically_and_undone_in_the_decoder() -> None:
    torch.manual_seed(0)
    compression = Rdeic(TINY).compression.requires_grad_(False)
    assert compression.log_gain is not None
    y = torch.randn(3, 16, 4, 4)
    scaled = compression.scale_y(y, torch.tensor([0.0, 0.25, 0.5]))
    gain = (scaled / y).mean(dim=(1, 2, 3))
    assert gain[1].item() == pytest.approx((gain[0] * gain[2]).sqrt().item(), rel=1e-4)
    assert gain[0] < gain[1] < gain[2]
    for level in (0.0, 0.3, 1.0):
        quality = torch.full((3,), level)
        guide = compression.features(compression.scale_y(y, quality), quality).guide
        torch.testing.assert_close(guide, compression.g_s(y), rtol=1e-4, atol=1e-5)


# Shapes and sizes


@pytest.mark.parametrize("size", [(64, 64), (64, 192)])
def test_strides(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = Rdeic(TINY).eval().requires_grad_(False)
    height, width = size
    x = torch.rand(1, 3, height, width) * 2 - 1
    encoded = model.autoencoder.encode(x)
    assert encoded.mean.shape == encoded.logvar.shape == (1, 4, height // 8, width // 8)
    assert model.autoencoder.decode(encoded.mean).shape == x.shape
    y = model.analyse(x)
    assert y.shape == (1, 16, height // TINY.y_stride, width // TINY.y_stride)
    z = model.compression.h_a(y)
    assert z.shape == (1, 16, height // TINY.hyper_stride, width // TINY.hyper_stride)
    assert model.compression.entropy.hyper(z, torch.ones(1)).shape == (1, 32, *y.shape[2:])
    z_c, guide = model.compression.features(y, torch.ones(1))
    assert z_c.shape == encoded.mean.shape
    assert guide.shape == (1, 16, height // 8, width // 8)


def parameters(config: ModelConfig) -> dict[str, int]:
    with torch.device("meta"):
        model = Rdeic(config)
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}


def test_the_full_system_is_the_published_one_in_size() -> None:
    assert parameters(SD21) == {
        "autoencoder": 83_653_863,
        "compression": 52_112_552,
        "unet": 865_910_724,
        "control": 24_555_392,
    }


def test_the_embedded_model_fits_in_40_megabytes_of_half_precision() -> None:
    assert 2 * sum(parameters(MINI).values()) < 40e6
