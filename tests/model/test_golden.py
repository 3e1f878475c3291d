"""The published system, reproduced: every recorded tensor of a golden set, loaded through the importer's key map."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rdeic.checkpoints.foreign import original, text
from rdeic.diffusion.relay import diffuse, relay_lambda
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import alpha_bars, ddpm_mix, spaced_schedule, spaced_steps
from rdeic.entropy import tables
from rdeic.model.entropy_model import Pass
from rdeic.model.latent_codec import decode_y, encode_y, quantise_all
from rdeic.model.model import Rdeic
from rdeic.nn.blocks import CrossAttention, ResBlock, Transformer
from rdeic.nn.exact import exact_copy
from rdeic.nn.rate import bits, likelihood
from rdeic.types import CompressedFeatures
from support.golden_set import QUALITY, TOLERANCE, Golden, assert_close, golden, model, pixels, relative_error

__all__ = ["golden", "model", "pixels"]  # fixtures


class TestAutoencoder:
    def test_encoder_feature_and_posterior(self, golden: Golden, model: Rdeic, pixels: Tensor) -> None:
        autoencoder, v = model.autoencoder, golden.vectors
        feature = autoencoder.encoder(pixels)
        assert_close(feature, v["ae_h"])
        assert_close(autoencoder.quant_conv(autoencoder.encoder.conv_out(feature)), v["ae_moments"])
        encoded, (mean, logvar) = autoencoder.encode(pixels), v["ae_moments"].chunk(2, dim=1)
        assert_close(encoded.mean, mean)
        assert_close(encoded.logvar, logvar.clamp(-30.0, 20.0))
        assert_close(encoded.feature, autoencoder.scale * v["ae_h"])
        assert_close(autoencoder.sample(encoded, v["train_posterior_noise"]), v["train_x_start"])

    def test_decoded_picture(self, golden: Golden, model: Rdeic) -> None:
        x = model.autoencoder.decode(golden.vectors["sample_2"])
        assert_close(x, golden.vectors["dec_2"])
        truncated = (255.0 * ((x + 1.0) / 2.0).clamp(0.0, 1.0)).to(torch.uint8).permute(0, 2, 3, 1)
        error = truncated.int() - golden.vectors["rec_u8_2"].int()
        assert int(error.abs().max()) <= 1  # their code truncates, so rounding noise may cost one level
        assert float((error != 0).float().mean()) < 5e-3


class Symbols:
    """Collects what would be coded, in coding order."""

    def __init__(self, y: Tensor) -> None:
        self.y = y
        self.values: list[Tensor] = []
        self.indexes: list[np.ndarray] = []

    def __call__(self, step: Pass) -> Tensor:
        symbols = (step.half.take(self.y[:, step.channels]) - step.params.mu).round()
        self.values.append(symbols.flatten())
        sigma = step.params.sigma.flatten().double().numpy()
        # As the authors index the same table: the next scale above. Our files take the nearest, which costs less.
        self.indexes.append(np.searchsorted(tables.SCALES[:-1], sigma))
        return symbols + step.params.mu


class TestCompression:
    def test_transforms_and_hyper_latent(self, golden: Golden, model: Rdeic, pixels: Tensor) -> None:
        v, compression = golden.vectors, model.compression
        y = model.analyse(pixels)
        assert_close(y, v["y"])
        z = compression.h_a(y)
        assert_close(z, v["z"])
        indices = compression.entropy.codebook.nearest(z)
        assert torch.equal(indices.int(), v["vq_index"])
        z_q = compression.entropy.codebook.lookup(indices)
        assert torch.equal(z_q, v["z_q"])
        assert_close(compression.entropy.hyper(z_q, QUALITY), v["hyper_params"])

    def test_entropy_parameters_of_every_slice(self, golden: Golden, model: Rdeic) -> None:
        v = golden.vectors
        walked = quantise_all(model.compression.entropy, v["y"], v["hyper_params"])
        first = 0
        for count in golden.config.compression.slices:
            channels = slice(first, first + count)
            assert_close(walked.params.mu[:, channels], v["means"][:, channels])
            assert_close(walked.params.sigma[:, channels], v["scales"][:, channels])
            first += count
        assert_close(walked.y_hat, v["y_hat"])
        assert_close(likelihood(walked.y_hat, walked.params), v["y_likelihood_eval"])
        assert float(bits(walked.y_hat, walked.params)) == pytest.approx(
            golden.meta["bits_eval"], rel=TOLERANCE
        )

    def test_symbols_are_identical_in_coding_order(self, golden: Golden, model: Rdeic) -> None:
        v, symbols = golden.vectors, Symbols(golden.vectors["y"])
        model.compression.entropy.walk(v["hyper_params"], symbols)
        assert torch.equal(torch.cat(symbols.values).int(), v["symbols"])
        assert np.array_equal(np.concatenate(symbols.indexes), v["cdf_indexes"].numpy())

    def test_features(self, golden: Golden, model: Rdeic) -> None:
        v = golden.vectors
        features = model.compression.features(v["y_hat"], QUALITY)
        assert_close(features.guide, v["guide_hint"])
        assert_close(features.z_c, v["z_c"])

    def test_exact_arithmetic_stays_close_to_the_float_networks(self, golden: Golden, model: Rdeic) -> None:
        """Coding rounds weights and activations, which may move a symbol that lies near a tie, and no more."""
        v, exact = golden.vectors, exact_copy(model.compression.entropy)
        hyper = exact.hyper(exact.codebook.lookup(v["vq_index"].long()), QUALITY.double())
        symbols = Symbols(v["y"].double())
        y_hat = exact.walk(hyper, symbols)
        assert float((torch.cat(symbols.values) != v["symbols"]).double().mean()) < 0.02
        assert float((np.concatenate(symbols.indexes) != v["cdf_indexes"].numpy()).mean()) < 0.02
        stream = encode_y(exact, v["y"].double(), hyper)
        assert torch.equal(decode_y(exact, stream, hyper), y_hat)
        assert 8 * len(stream) <= 1.01 * golden.meta["bits_eval"]  # what the likelihoods promise


class TestNoiseEstimator:
    @pytest.mark.parametrize("t", [299, 150, 0])
    @pytest.mark.parametrize(("detail", "name"), [(1.0, "eps_t"), (0.0, "eps_uncond_t")])
    def test_predictions(self, golden: Golden, model: Rdeic, t: int, detail: float, name: str) -> None:
        v = golden.vectors
        eps = model.predict_noise(v["unet_x"], torch.tensor([t]), v["guide_hint"], detail)
        assert_close(eps, v[f"{name}{t}"])

    def test_a_batch_with_two_timesteps(self, golden: Golden, model: Rdeic) -> None:
        x, guide, context = (golden.vectors[name] for name in ("unet_x", "guide_hint", "context"))
        x, guide = torch.cat([x, x.flip(-1)]), torch.cat([guide, guide.flip(-2)])
        context, t = torch.cat([context, context.flip(1)]), torch.tensor([299, 0])
        eps = model.unet(x, t, context, model.control(x, guide, t, context))
        assert_close(eps, golden.vectors["eps_batch2_t299_0"])

    @pytest.mark.parametrize(
        ("count", "detail", "name"), [(2, 1.0, "sample_2"), (5, 1.0, "sample_5"), (2, 1.5, "sample_2_gs1.5")]
    )
    def test_sampler(self, golden: Golden, model: Rdeic, count: int, detail: float, name: str) -> None:
        v = golden.vectors
        steps = spaced_schedule(model.alpha_bar, spaced_steps(model.config.diffusion.relay_start, count))
        z_n = diffuse(v["z_c"], v["noise_start"], steps[0].alpha_bar)
        assert_close(z_n, v["x_T"])

        def denoise(z: Tensor, t: int) -> Tensor:
            return model.predict_noise(z, torch.tensor([t]), v["guide_hint"], detail)

        assert_close(sample(denoise, z_n, steps, ddpm_mix, iter(v["noise_steps"])), v[name])


class TestPrepared:
    """`prepare` derives what inference needs from the weights; nothing of it outlives them."""

    @pytest.fixture
    def prepared(self, model: Rdeic) -> Rdeic:
        return copy.deepcopy(model).prepare()

    @staticmethod
    def eps(golden: Golden, model: Rdeic, detail: float = 1.0) -> Tensor:
        v = golden.vectors
        return model.predict_noise(v["unet_x"], torch.tensor([150]), v["guide_hint"], detail)

    @pytest.mark.parametrize(("detail", "name"), [(1.0, "eps_t150"), (0.0, "eps_uncond_t150")])
    def test_the_context_is_not_looked_at_again(
        self, golden: Golden, prepared: Rdeic, detail: float, name: str
    ) -> None:
        assert prepared.context is not None
        prepared.context.fill_(float("nan"))
        for layer in prepared.modules():
            if isinstance(layer, CrossAttention):
                layer.k.weight.fill_(float("nan"))
                layer.v.weight.fill_(float("nan"))
        assert_close(self.eps(golden, prepared, detail), golden.vectors[name])

    def test_a_batch(self, golden: Golden, prepared: Rdeic) -> None:
        v = golden.vectors
        x, guide = (torch.cat([v[name]] * 2) for name in ("unet_x", "guide_hint"))
        eps = prepared.predict_noise(x, torch.tensor([150, 0]), guide)
        assert_close(eps[:1], v["eps_t150"])
        assert_close(eps[1:], v["eps_t0"])

    def test_it_is_no_part_of_the_state(self, model: Rdeic, prepared: Rdeic) -> None:
        assert prepared.state_dict().keys() == model.state_dict().keys()

    def test_training_sees_changed_weights_and_gradients(self, golden: Golden, prepared: Rdeic) -> None:
        prepared.train().requires_grad_()
        layer = next(layer for layer in prepared.control.modules() if isinstance(layer, CrossAttention))
        self.eps(golden, prepared).square().mean().backward()
        assert layer.k.weight.grad is not None and float(layer.k.weight.grad.abs().max()) > 0
        with torch.no_grad():
            for parameter in prepared.parameters():
                parameter.copy_(parameter.detach() * 0.9)
        fresh = Rdeic(golden.config).eval()
        fresh.load_state_dict(prepared.state_dict())
        assert torch.equal(self.eps(golden, prepared.eval()), self.eps(golden, fresh))

    def test_other_weights_are_used_at_once(self, golden: Golden, model: Rdeic, prepared: Rdeic) -> None:
        other = Rdeic(golden.config).eval().requires_grad_(False)
        prepared.load_state_dict(other.state_dict())
        assert torch.equal(self.eps(golden, prepared), self.eps(golden, other))
        y, exact = golden.vectors["y"], other.prepare().exact
        assert prepared.encode(y, 0).y_stream == other.encode(y, 0).y_stream
        assert prepared.exact is not exact
        prepared.load_state_dict(model.state_dict())
        assert prepared.encode(y, 0).y_stream == model.encode(y, 0).y_stream


class TestPrecision:
    """On the CPU too, where it gains nothing, so that it can be tested without a GPU."""

    TOLERANCES: Mapping[torch.dtype, float] = {torch.float16: 1e-2, torch.bfloat16: 8e-2}  # a few roundings

    @pytest.fixture(params=TOLERANCES, ids=str)
    def narrow(self, request: pytest.FixtureRequest, model: Rdeic) -> Rdeic:
        return copy.deepcopy(model).set_precision(request.param).prepare()

    def test_bits_do_not_depend_on_it(
        self, golden: Golden, model: Rdeic, narrow: Rdeic, pixels: Tensor
    ) -> None:
        wide = copy.deepcopy(model).prepare()
        coded, wanted = (one.encode(one.analyse(pixels), 0) for one in (narrow, wide))
        assert coded.y_stream == wanted.y_stream
        assert np.array_equal(coded.hyper_indices, wanted.hyper_indices)
        assert torch.equal(narrow.decode_y_hat(coded, 0), wide.decode_y_hat(coded, 0))

    def test_noise_predictions_and_pictures_stay_close(self, golden: Golden, narrow: Rdeic) -> None:
        v, tolerance = golden.vectors, self.TOLERANCES[narrow.precision]
        for t in (299, 150, 0):
            eps = narrow.predict_noise(v["unet_x"], torch.tensor([t]), v["guide_hint"])
            assert eps.dtype == torch.float32
            assert relative_error(eps, v[f"eps_t{t}"]) < tolerance
        features = CompressedFeatures(v["z_c"], v["guide_hint"])
        x = narrow.restore(features, iter([v["noise_start"], *v["noise_steps"]]), 2, 1.0)
        assert x.dtype == torch.float32
        assert relative_error(x, v["dec_2"]) < tolerance

    def test_what_is_computed_in_it(self, narrow: Rdeic) -> None:
        """Nothing that the bits depend on."""
        wide = [name for name, p in narrow.named_parameters() if p.dtype == torch.float32]
        parts = ("compression.", "autoencoder.encoder.", "autoencoder.quant_conv.")
        assert all(name.startswith(parts) or ".time_embed." in name for name in wide)
        assert all(b.dtype == narrow.precision for name, b in narrow.named_buffers() if "fixed_" in name)


def test_single_blocks(golden: Golden, model: Rdeic) -> None:
    """Inputs of deviation 1e-3, so that a wrong epsilon of a norm shows."""
    v, config = golden.vectors, golden.config
    places = {part.theirs: part.ours for part in original.stable_diffusion(config) + original.authors(config)}
    names = [key.removeprefix("blk_in:") for key in v if key.startswith("blk_in:")]
    assert len(names) >= 7
    for name in names:
        x = v[f"blk_in:{name}"]
        if name == f"{original.UNET}.out":
            found = model.unet.conv_out(model.unet.norm_out(x))
        else:
            block = model.get_submodule(places[name])
            match block:
                case ResBlock() if block.embed is not None:
                    found = block(x, v["blk_emb"])
                case Transformer():
                    found = block(x, v["blk_context"])
                case _:
                    found = block(x)
        assert_close(found, v[f"blk_out:{name}"])


def test_text_tower(golden: Golden) -> None:
    clip, v = golden.meta["clip"], golden.vectors
    config = text.TextConfig(clip["width"], clip["heads"], clip["layers"], clip["vocab"])
    found = {
        key: tuple(value.shape) for key, value in golden.state.items() if key.startswith("cond_stage_model.")
    }
    tower = text.open_clip(found, golden.state.__getitem__, config, "golden")
    assert_close(text.context_of(tower, v["clip_tokens"].long()), v["clip_context"])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 50])
def test_schedule(golden: Golden, model: Rdeic, count: int) -> None:
    """The sampler's coefficients; a single step is not theirs to compare with, it fails there."""
    table = json.loads((Path(__file__).parents[1] / "golden" / "schedule.json").read_text())
    wanted = table["steps"][str(count)]
    steps = spaced_schedule(model.alpha_bar, spaced_steps(300, count))[::-1]
    mixes = [ddpm_mix(step) for step in steps]
    assert [step.t for step in steps] == wanted["timesteps"]
    for name, found in {
        "alphas_cumprod": [step.alpha_bar for step in steps],
        "betas": [step.beta for step in steps],
        "coef1": [mix.z0 for mix in mixes],
        "coef2": [mix.zn for mix in mixes],
        "var": [mix.sigma**2 for mix in mixes],
    }.items():
        assert found == pytest.approx(wanted[name], rel=1e-9, abs=1e-12), name


def test_schedule_constants(golden: Golden, model: Rdeic) -> None:
    table = json.loads((Path(__file__).parents[1] / "golden" / "schedule.json").read_text())
    alpha_bar = alpha_bars(golden.config.diffusion)
    for index, value in table["alphas_cumprod"].items():
        assert alpha_bar[int(index)] == pytest.approx(value, rel=1e-12)
    assert relay_lambda(float(alpha_bar[299])) == pytest.approx(table["lambda_paper"], rel=1e-12)
    assert np.allclose(alpha_bar, golden.state["alphas_cumprod"].numpy(), rtol=1e-6)
