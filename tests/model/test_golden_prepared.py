"""The published system prepared for inference, and in the precision of its weights: nearly the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from rdeic.model.model import Rdeic
from rdeic.nn.blocks import CrossAttention
from rdeic.types import CompressedFeatures
from support.golden_set import Golden, assert_close, golden, model, pixels, relative_error

__all__ = ["golden", "model", "pixels"]  # fixtures


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
