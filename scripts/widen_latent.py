"""A model's weights in a preset with a wider latent; what is new starts as the preset does.

    python scripts/widen_latent.py OLD_MODEL --preset mini -o NEW_MODEL

The new latent channels are added behind the old ones, through identities where a layer maps latents to latents. The
result is a start for `rdeic train autoencoder`, not a model to use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from rdeic.checkpoints import checkpoints, registry
from rdeic.config import PRESETS, ModelConfig
from rdeic.model.model import Rdeic

MOMENTS = ("autoencoder.encoder.conv_out.", "autoencoder.quant_conv.")  # means, then log variances
LATENT_TO_LATENT = ("autoencoder.quant_conv.weight", "autoencoder.post_quant_conv.weight")
CONTROL_INPUT = "control.encoder.inputs.0.conv.weight"  # z_n, then the guide


def widened(name: str, old: Tensor, fresh: Tensor, guide_channels: int) -> Tensor:
    """`fresh` with `old` in the places that it had in the narrower model."""
    if old.shape == fresh.shape:
        return old
    new = torch.zeros_like(fresh) if name.endswith("bias") else fresh.clone()
    if name in LATENT_TO_LATENT:
        new = torch.eye(fresh.shape[0])[:, :, None, None]
    rows = _places(old.shape[0], fresh.shape[0], halves=name.startswith(MOMENTS))
    if old.ndim == 1:
        new[rows] = old
        return new
    if name == CONTROL_INPUT:
        kept = old.shape[1] - guide_channels
        columns = torch.cat(
            [torch.arange(kept), torch.arange(fresh.shape[1] - guide_channels, fresh.shape[1])]
        )
    else:
        columns = _places(old.shape[1], fresh.shape[1], halves=name == "autoencoder.quant_conv.weight")
    new[rows[:, None], columns] = old
    return new


def _places(old: int, new: int, halves: bool) -> Tensor:
    """Where `old` channels go among `new`: in front, or in front of each half."""
    if not halves:
        return torch.arange(old)
    return torch.cat([torch.arange(old // 2), new // 2 + torch.arange(old // 2)])


def widen(folder: Path, config: ModelConfig) -> Rdeic:
    """The weights of the model in `folder` in a new model of `config`."""
    old = load_file(folder / registry.WEIGHTS_FILE)
    torch.manual_seed(0)
    model = Rdeic(config)
    guide_channels = config.compression.width * config.unet.patch**2
    fresh = model.state_dict()
    # Embedded weights are float16 where that loses nothing that matters; training goes on in float32.
    model.load_state_dict(
        {key: widened(key, old[key].to(value.dtype), value, guide_channels) for key, value in fresh.items()}
    )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="mini")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    checkpoints.save_model(widen(arguments.model, PRESETS[arguments.preset]), arguments.output)


if __name__ == "__main__":
    main()
