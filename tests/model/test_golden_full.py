"""The published system at its full widths: `RDEIC_GOLDEN_FULL` names the folder of the recorded results.

The 5.5 GB of weights are generated from their names by the folder's own `full_state.py`. 10 GB of memory, minutes.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rdeic.checkpoints.foreign.convert import convert_state
from rdeic.config import SD21
from rdeic.diffusion.relay import diffuse
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import ddpm_mix, spaced_schedule, spaced_steps
from rdeic.model.latent_codec import quantise_all
from rdeic.model.model import Rdeic
from support.golden_set import assert_close

FOLDER = Path(os.environ.get("RDEIC_GOLDEN_FULL", "not set"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # in the folder's script
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="RDEIC_GOLDEN_FULL does not name the recorded results"),
]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Tensor]:
    return load_file(FOLDER / "vectors.safetensors")


@pytest.fixture(scope="module")
def model(vectors: dict[str, Tensor]) -> Rdeic:
    spec = importlib.util.spec_from_file_location("full_state", FOLDER / "full_state.py")
    assert spec is not None and spec.loader is not None
    rule: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    foreign = rule.full_state(FOLDER.parent / "keys_full.txt.xz", FOLDER / "gains.json")
    with torch.device("meta"):
        model = Rdeic(SD21)
    state = {**convert_state(foreign, SD21), "context": vectors["context"]}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def test_parameters_per_part() -> None:
    with torch.device("meta"):
        model = Rdeic(SD21)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == {
        "autoencoder": 83_653_863,
        "compression": 52_112_552,
        "unet": 865_910_724,
        "control": 24_555_392,
    }


def test_everything_is_reproduced(model: Rdeic, vectors: dict[str, Tensor]) -> None:
    v, autoencoder, compression, quality = vectors, model.autoencoder, model.compression, torch.zeros(1)
    pixels = v["image_u8"].permute(2, 0, 1)[None] / 255.0 * 2.0 - 1.0
    h = autoencoder.encoder(pixels)
    assert_close(h[:, :16], v["ae_h_first16ch"])
    assert_close(autoencoder.quant_conv(autoencoder.encoder.conv_out(h)), v["ae_moments"])
    y = compression.g_a(autoencoder.scale * h)
    assert_close(y[:, :32], v["y_first32ch"])
    z = compression.h_a(y)
    assert_close(z, v["z"])
    indices = compression.entropy.codebook.nearest(z)
    assert torch.equal(indices.int(), v["vq_index"])
    hyper = compression.entropy.hyper(compression.entropy.codebook.lookup(indices), quality)
    features = compression.features(quantise_all(compression.entropy, y, hyper).y_hat, quality)
    assert_close(features.guide[:, :32], v["guide_hint_first32ch"])
    assert_close(features.z_c, v["z_c"])  # one symbol off would move it by more

    t = torch.tensor([150])
    assert_close(model.predict_noise(v["unet_x"], t, features.guide), v["eps_t150"])
    assert_close(model.predict_noise(v["unet_x"], t, features.guide, 0.0), v["eps_uncond_t150"])

    steps = spaced_schedule(model.alpha_bar, spaced_steps(300, 2))
    z_n = diffuse(features.z_c, v["noise_start"], steps[0].alpha_bar)
    assert_close(z_n, v["x_T"])

    def denoise(z: Tensor, t: int) -> Tensor:
        return model.predict_noise(z, torch.tensor([t]), features.guide)

    assert_close(sample(denoise, z_n, steps, ddpm_mix, iter(v["noise_steps"])), v["sample_2"])
    assert_close(autoencoder.decode(v["sample_2"]), v["dec_2"])
