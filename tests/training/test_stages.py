"""Training stages on a tiny model: they learn, and touch what is theirs only."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from rdeic.errors import ConfigError, TrainingError
from rdeic.training.latent_stages import AutoencoderStage, whiten_latents
from rdeic.training.metrics import ms_ssim, ms_ssim_each
from rdeic.training.relay_stages import Distortion, IndependentStage
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer, to_signed
from rdeic.types import Compressed, CompressedFeatures
from support.stages import config, fresh, learnt, lively, noise, pictures, reached
from support.tiny import WIDE

STAGES = ("autoencoder", "prior", "independent", "fixed-step")
TRAINED = {
    "autoencoder": ("autoencoder",),
    "prior": ("unet",),
    "independent": ("compression", "control"),
    "fixed-step": ("compression", "control"),
    "fixed-step with decoder": (
        "compression",
        "control",
        "autoencoder.decoder",
        "autoencoder.post_quant_conv",
    ),
}


def test_a_model_is_called_as_its_run_says() -> None:
    model = fresh()
    build_stage("prior", model, dataclasses.replace(config(), name="portraits"))
    assert model.config.name == "portraits"


@pytest.mark.parametrize("end", ["lambda_min", "lambda_max"])
def test_a_rate_that_costs_nothing_is_refused(end: str) -> None:
    loss = dataclasses.replace(config().loss, **{end: 0.0})
    with pytest.raises(ConfigError, match="above 0"):
        build_stage("independent", fresh(), dataclasses.replace(config(), loss=loss))


def test_gains_learn_faster_than_the_rest_when_asked_to() -> None:
    model = fresh()
    settings = dataclasses.replace(config(), gain_lr_factor=5.0)
    trainer = Trainer(build_stage("independent", model, settings), settings)
    table = model.compression.log_gain
    assert table is not None
    gains, others = table.knots, model.compression.g_a.parameters()
    bias = next(parameter for parameter in others if parameter.ndim == 1)
    before = gains.detach().clone(), bias.detach().clone()
    trainer.advance(pictures())
    # Adam's first step is as long as the learning rate, whatever the gradient, where there is one.
    moved = [(new.detach() - old).abs().max() for new, old in zip((gains, bias), before, strict=True)]
    assert [float(step) for step in moved] == pytest.approx([5 * 3e-3, 3e-3], rel=1e-3)


@pytest.mark.parametrize("case", TRAINED)
def test_a_stage_trains_its_own_parameters_and_no_others(case: str) -> None:
    model = fresh()
    stage = build_stage(case.split(" ")[0], model, config("decoder" in case))
    trainer = Trainer(stage, config())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    for _ in range(
        3
    ):  # what lies behind the control network's zero connections moves from the second step on
        trainer.advance(pictures())
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    own = {name for name in before if name.startswith(TRAINED[case])}
    assert moved == own


@pytest.mark.parametrize("case", TRAINED)
def test_every_trained_parameter_gets_a_gradient(case: str) -> None:
    """Weight decay and revival also move parameters, so look at the gradients themselves."""
    stage = build_stage(case.split(" ")[0], lively(WIDE), config("decoder" in case))
    own = {id(parameter) for parameter in stage.trainable()}
    assert reached(stage) == {name for name, p in stage.model.named_parameters() if id(p) in own}


@pytest.mark.parametrize(("name", "fraction"), list(zip(STAGES, (0.4, 0.4, 0.5, 0.6), strict=True)))
def test_a_stage_learns_one_batch_by_heart(name: str, fraction: float) -> None:
    assert learnt(build_stage(name, fresh().train(), config()), 25) < fraction


@pytest.mark.parametrize("name", STAGES)
def test_a_loss_depends_on_its_generator_alone(name: str) -> None:
    stage, x = build_stage(name, fresh().eval(), config()), pictures() / 127.5 - 1
    one, two, other = (stage.loss(x, noise(seed)).total.item() for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize("name", STAGES)
def test_bfloat16_gives_nearly_the_loss_of_full_precision(name: str) -> None:
    stage, x = build_stage(name, fresh().eval(), config()), pictures() / 127.5 - 1
    full = stage.loss(x, noise(0)).total
    with torch.autocast("cpu", torch.bfloat16):
        half = stage.loss(x, noise(0)).total
    half.backward()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.05)


@pytest.mark.parametrize("name", ["independent", "fixed-step"])
def test_validation_reports_rate_and_distortion_at_three_qualities(name: str) -> None:
    model = fresh().eval()
    with torch.no_grad():
        found = dict(build_stage(name, model, config()).validation(pictures(192) / 127.5 - 1, noise(0)))
    assert found["bpp_0.0"] < found["bpp_0.5"] < found["bpp_1.0"]
    for level in ("0.0", "0.5", "1.0"):
        assert 0 < found[f"psnr_{level}"] < 30
        assert -1 < found[f"ms_ssim_{level}"] < 1


def test_validation_of_the_stages_before() -> None:
    model, x = fresh().eval(), pictures(192) / 127.5 - 1
    with torch.no_grad():
        autoencoder = dict(build_stage("autoencoder", model, config()).validation(x, noise(0)))
        prior = dict(build_stage("prior", model, config()).validation(x, noise(0)))
    assert 0 < autoencoder["psnr"] < 30
    assert 0 < autoencoder["latent_std_min"] <= autoencoder["latent_std_max"]
    assert all(value == pytest.approx(1, abs=0.5) for value in prior.values())  # an untrained guess of noise


@pytest.mark.parametrize("balance", [0.0, 0.75, 1.0])
def test_balance_divides_each_pictures_loss_by_its_own_lambda(balance: float) -> None:
    settings = dataclasses.replace(config(), loss=dataclasses.replace(config().loss, balance=balance))
    stage = build_stage("independent", fresh(), settings)
    assert isinstance(stage, IndependentStage)
    quality = torch.tensor([0.0, 1.0])
    bits, error = torch.tensor([1024.0, 8192.0]), torch.tensor([3.0, 0.5])
    nothing = torch.zeros(2, 1, 8, 8)  # 64x64 pixels
    compressed = Compressed(CompressedFeatures(nothing, nothing), bits, torch.tensor(0.125), nothing)
    found = stage.objective(quality, compressed, [Distortion("z_c", 2.0, error)])
    each = [(bpp + lam * 2.0 * d) / lam**balance for bpp, lam, d in ((0.25, 0.5, 3.0), (2.0, 8.0, 0.5))]
    assert float(found.total) == pytest.approx(sum(each) / 2 + 0.125)


def weighed(stage: str = "fixed-step", **weights: float) -> dict[str, float]:
    """Terms of a loss with these weights, its total among them."""
    base = config(train_decoder=True)
    loss = build_stage(
        stage, fresh(), dataclasses.replace(base, loss=dataclasses.replace(base.loss, **weights))
    ).loss(to_signed(pictures(), torch.device("cpu")), noise(1))
    return {"total": float(loss.total.detach())} | {name: float(value) for name, value in loss.terms}


@pytest.mark.parametrize("stage", ["independent", "fixed-step"])
def test_the_compressed_latent_has_a_weight_of_its_own(stage: str) -> None:
    equal = {"lambda_min": 2.0, "lambda_max": 2.0}
    without, with_both = weighed(stage, z_c=0.0, **equal), weighed(stage, **equal)
    assert with_both["total"] - without["total"] == pytest.approx(2.0 * without["z_c"], rel=1e-4)


def test_an_anchor_is_refused_where_the_decoder_does_not_learn() -> None:
    base = config()
    with pytest.raises(ConfigError, match="set train_decoder = true"):
        build_stage(
            "fixed-step",
            fresh(),
            dataclasses.replace(base, loss=dataclasses.replace(base.loss, anchor=1.0)),
        )


def test_an_anchored_decoder_also_restores_the_latent_itself() -> None:
    model = fresh()
    with torch.no_grad():
        x = to_signed(pictures(), torch.device("cpu"))
        encoded = model.autoencoder.encode(x)
        z0 = model.autoencoder.sample(encoded, noise(1).normal(encoded.mean))
        error = float((model.autoencoder.decode(z0[:1]) - x[:1]).square().mean())
    free, anchored = weighed(), weighed(anchor=3.0)
    assert anchored["anchor"] == pytest.approx(error, rel=1e-4)
    assert anchored["total"] - free["total"] == pytest.approx(3.0 * error, rel=1e-3)


def test_unknown_stages_and_a_distance_without_a_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="no training stage 'priors': choose from autoencoder, prior"):
        build_stage("priors", fresh(), config())
    wanting = dataclasses.replace(config(), loss=dataclasses.replace(config().loss, perceptual=1.0))
    with pytest.raises(TrainingError, match="`perceptual` names no distance"):
        build_stage("fixed-step", fresh(), wanting)


# Whitening


def test_whitening_keeps_reconstructions_and_makes_latents_standard() -> None:
    torch.manual_seed(0)
    model = fresh().eval().requires_grad_(False)
    autoencoder, x = model.autoencoder, torch.rand(6, 3, 64, 64) * 2 - 1
    autoencoder.quant_conv.bias.normal_(std=3.0)
    noise = torch.randn(6, 4, 8, 8)
    before = autoencoder.encode(x)
    assert float(before.mean.mean(dim=(0, 2, 3)).abs().max()) > 0.5
    plain, noisy = (autoencoder.decode(autoencoder.sample(before, n)) for n in (0 * noise, noise))
    whiten_latents(model, [x[:2], x[2:]])
    after = autoencoder.encode(x)
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), rtol=1e-4, atol=0)
    assert torch.equal(after.feature, before.feature)
    again, noisy_again = (autoencoder.decode(autoencoder.sample(after, n)) for n in (0 * noise, noise))
    torch.testing.assert_close(again, plain, rtol=0, atol=1e-4)
    torch.testing.assert_close(noisy_again, noisy, rtol=0, atol=1e-4)


def test_the_autoencoder_stage_ends_by_whitening_what_it_saw_last() -> None:
    model = fresh().requires_grad_(False)
    stage, x = AutoencoderStage(model, config()), pictures() / 127.5 - 1
    stage.finish(iter([x]))
    spread = model.autoencoder.encode(x).mean.std(dim=(0, 2, 3))
    torch.testing.assert_close(spread, torch.ones(4), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(192, 256), (173, 166)], ids=["even", "odd"])
def test_ms_ssim_and_its_gradient_are_those_of_the_reference(size: tuple[int, int]) -> None:
    reference = pytest.importorskip("pytorch_msssim")
    x = pictures(256)[..., : size[0], : size[1]].float() / 127.5
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    x_hat = (0.9 * x + 0.1 * noise + 0.05).requires_grad_(True)
    wanted = reference.ms_ssim(x_hat, x, data_range=2.0, size_average=False)
    found = ms_ssim_each(x_hat, x, 2.0)
    assert wanted.min().item() > 0.3 and wanted.max().item() < 0.999
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    ours, theirs = (torch.autograd.grad(value.sum(), x_hat)[0] for value in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    whole = [(v.detach() * 127.5).round().clamp(0, 255) for v in (x_hat, x)]
    of_8_bit = float(reference.ms_ssim(*whole, data_range=255.0))
    assert ms_ssim(x_hat.detach() - 1, x - 1) == pytest.approx(of_8_bit, rel=1e-5)


def test_ms_ssim_is_of_full_precision_under_autocast() -> None:
    x = (
        torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(0)) * 0.1 + 1.5
    )  # bright and nearly flat
    x_hat = (x + 0.02).requires_grad_(True)
    plain = ms_ssim_each(x_hat, x, 2.0)
    (gradient,) = torch.autograd.grad(plain.sum(), x_hat)
    with torch.autocast("cpu", torch.bfloat16):
        found = ms_ssim_each(x_hat, x, 2.0)
    assert torch.equal(found, plain)
    assert torch.equal(torch.autograd.grad(found.sum(), x_hat)[0], gradient)
