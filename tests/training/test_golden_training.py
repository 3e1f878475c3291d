"""The published training, reproduced: recorded losses and gradients of each stage."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rdeic.diffusion.relay import diffuse, predict_z0, relay_noise
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import ddpm_mix, spaced_schedule, spaced_steps
from rdeic.model.model import Rdeic
from rdeic.training.config import TrainConfig
from rdeic.training.contract import StageLoss
from rdeic.training.noise import Noise
from rdeic.training.relay_stages import Distortion, FixedStepStage, IndependentStage
from rdeic.types import Compressed
from support.golden_set import QUALITY, TOLERANCE, Golden, assert_close, golden, model, pixels
from support.training_runs import changed

__all__ = ["golden", "model", "pixels"]  # fixtures


class TestTraining:
    """One step of each stage, with the recorded noises; the total is the authors' weighted sum."""

    def test_codebook(self, golden: Golden, model: Rdeic) -> None:
        v = golden.vectors
        codebook = copy.deepcopy(model.compression.entropy.codebook).train().requires_grad_()
        codebook.usage.copy_(v["vq_train_embed_prob_in"])
        z = v["vq_train_in"].clone().requires_grad_()
        match = codebook(z)
        loss = match.loss + codebook.settle(z.detach())
        (loss + 0.01 * match.z_q.sum()).backward()
        assert loss.item() == pytest.approx(golden.meta["train"]["vq_loss"], rel=TOLERANCE)
        assert torch.equal(match.indices.int(), v["vq_train_index"])
        assert_close(match.z_q.detach(), v["vq_train_zq"])
        assert z.grad is not None and codebook.entries.grad is not None
        assert_close(z.grad, v["vq_train_grad_z"])
        assert_close(codebook.entries.grad, v["vq_train_grad_w"])
        assert_close(codebook.entries.detach(), v["vq_train_weight_out"])
        assert_close(codebook.usage, v["vq_train_embed_prob_out"])

    def test_independent_stage(self, golden: Golden, model: Rdeic, pixels: Tensor) -> None:
        v, t = golden.vectors, golden.meta["train"]["t_stage1"]
        compressed = compress_in_training(golden, model, pixels)
        assert_close(compressed.features.z_c, v["train_c_latent"])
        stage = IndependentStage(model, train_config(mse=0.0))
        loss = independent(stage, pixels, compressed, v["train_x_start"], t, v["train_eps"])
        names = {"bpp": "V/l_bpp", "codebook": "V/l_emb", "z_c": "V/l_guide", "z0": "V/l_simple"}
        assert_terms(loss, names, golden.meta["train"]["stage1"])

    def test_fixed_step_stage(self, golden: Golden, model: Rdeic, pixels: Tensor) -> None:
        v, wanted = golden.vectors, golden.meta["train"]["stage2"]
        compressed = compress_in_training(golden, model, pixels)
        stage = FixedStepStage(model, train_config(mse=1.0))
        z_c, z0 = compressed.features.z_c, v["train_x_start"]
        z0_hat, x_hat = reconstruct(stage, compressed, iter(v["train_stage2_noise"]))
        assert squared(z0_hat, z0).item() == pytest.approx(wanted["V/l_simple"], rel=TOLERANCE)
        stand_in = (x_hat - pixels).abs().mean(dim=(1, 2, 3))  # what the golden run took for LPIPS
        parts = [
            Distortion("z_c", 1.0, squared(z_c, z0)),  # their code leaves out the z0 of Eq. 14
            Distortion("mse", 1.0, squared(x_hat, pixels)),
            Distortion("perceptual", 0.5, stand_in),
        ]
        names = {"bpp": "V/l_bpp", "codebook": "V/l_emb", "z_c": "V/l_guide"}
        loss = stage.objective(QUALITY, compressed, parts)
        assert_terms(loss, {**names, "mse": "V/l_mse", "perceptual": "V/l_lpips"}, wanted)

    def test_the_independent_stage_puts_these_together(self, model: Rdeic, pixels: Tensor) -> None:
        stage = IndependentStage(model, train_config(mse=0.0))
        replay = torch.Generator().manual_seed(5)
        compressed, z0 = compress_like(stage, pixels, replay)
        n = int(torch.randint(0, 300, (1,), generator=replay))
        wanted = independent(stage, pixels, compressed, z0, n, torch.randn(z0.shape, generator=replay))
        found = stage.loss(pixels, Noise(torch.Generator().manual_seed(5), 0, 1))
        assert float(found.total) == pytest.approx(float(wanted.total), rel=1e-5)

    def test_the_fixed_step_stage_puts_these_together(self, model: Rdeic, pixels: Tensor) -> None:
        stage = FixedStepStage(model, train_config(mse=1.0))
        replay = torch.Generator().manual_seed(5)
        compressed, z0 = compress_like(stage, pixels, replay)
        noises = iter([torch.randn(z0.shape, generator=replay) for _ in range(2)])
        z0_hat, x_hat = reconstruct(stage, compressed, noises)
        distortion = squared(compressed.features.z_c, z0) + squared(z0_hat, z0) + squared(x_hat, pixels)
        bpp = compressed.bits / (pixels.shape[2] * pixels.shape[3])
        wanted = float(bpp + compressed.codebook_loss + LAMBDA * distortion)
        found = stage.loss(pixels, Noise(torch.Generator().manual_seed(5), 0, 1))
        assert float(found.total) == pytest.approx(wanted, rel=1e-5)


def independent(
    stage: IndependentStage, pixels: Tensor, compressed: Compressed, z0: Tensor, n: int, noise: Tensor
) -> StageLoss:
    """Eq. 13 at step index `n`."""
    model, (z_c, guide) = stage.model, compressed.features
    alpha_bar, start = float(model.alpha_bar[n]), float(model.alpha_bar[299])
    z_n = diffuse(z0, relay_noise(noise, z_c, z0, start), alpha_bar)
    z0_hat = predict_z0(z_n, model.predict_noise(z_n, torch.tensor([n]), guide), alpha_bar)
    parts = [Distortion("z_c", 1.0, squared(z_c, z0)), Distortion("z0", 1.0, squared(z0_hat, z0))]
    return stage.objective(QUALITY, compressed, parts)


def reconstruct(
    stage: FixedStepStage, compressed: Compressed, noises: Iterator[Tensor]
) -> tuple[Tensor, Tensor]:
    """z0_hat and x_hat of Eq. 14."""
    schedule = spaced_schedule(stage.model.alpha_bar, spaced_steps(300, 2))
    z_n = diffuse(compressed.features.z_c, next(noises), schedule[0].alpha_bar)

    def denoise(z: Tensor, t: int) -> Tensor:
        return stage.model.predict_noise(z, torch.tensor([t]), compressed.features.guide)

    z0_hat = sample(denoise, z_n, schedule, ddpm_mix, noises)
    return z0_hat, stage.model.autoencoder.decode(z0_hat)


def compress_like(
    stage: IndependentStage | FixedStepStage, pixels: Tensor, generator: torch.Generator
) -> tuple[Compressed, Tensor]:
    """What a stage compresses and its z0, with the noises it draws."""
    model = stage.model
    encoded = model.autoencoder.encode(pixels)
    z0 = model.autoencoder.sample(encoded, torch.randn(encoded.mean.shape, generator=generator))
    torch.rand(1, generator=generator)  # the quality, which this model has no use for
    batch, _, height, width = encoded.feature.shape
    shape = (batch, model.config.compression.y_channels, height // 2, width // 2)
    noise = torch.rand(shape, generator=generator) - 0.5
    return model.compression(encoded.feature, QUALITY, noise), z0


LAMBDA = 2.0


def train_config(mse: float) -> TrainConfig:
    return changed(
        {"kl": 0.0, "lambda_min": LAMBDA, "lambda_max": LAMBDA, "mse": mse}, name="golden", model="golden"
    )


def compress_in_training(golden: Golden, model: Rdeic, pixels: Tensor) -> Compressed:
    """With the whole of the codebook's loss, which also moves its entries: so on a copy."""
    compression = copy.deepcopy(model.compression).train()
    feature = model.autoencoder.feature(pixels)
    compressed: Compressed = compression(feature, QUALITY, golden.vectors["train_uniform_noise"])
    together = compression.entropy.codebook.settle(compressed.hyper.detach())
    return compressed._replace(codebook_loss=compressed.codebook_loss + together)


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


def assert_terms(loss: StageLoss, names: dict[str, str], wanted: dict[str, float]) -> None:
    found = {name: float(value) for name, value in loss.terms}
    assert found == pytest.approx({name: wanted[theirs] for name, theirs in names.items()}, rel=TOLERANCE)
    assert float(loss.total) == pytest.approx(wanted["loss"], rel=TOLERANCE)
