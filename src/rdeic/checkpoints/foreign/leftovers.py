"""Tensors of foreign checkpoints that we do without, and why. Anything not named here must be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rdeic.checkpoints.checkpoints import Shape
from rdeic.checkpoints.foreign import original
from rdeic.config import ModelConfig


class Leftover(NamedTuple):
    """Tensors that come together: all of them or none."""

    why: str
    tensors: Mapping[str, Shape]


IGNORED_PREFIXES = (
    "model_ema.",  # a second copy of the noise estimator; the first one holds the averaged weights already
    "cond_stage_model.",  # of the text encoder only the empty prompt's context is kept, see `text`
)

_SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
_GAUSSIAN = f"{original.COMPRESSION}.gaussian_conditional"
_LPIPS_CONVS = {  # AlexNet
    "slice1.0": (64, 3, 11, 11),
    "slice2.3": (192, 64, 5, 5),
    "slice3.6": (384, 192, 3, 3),
    "slice4.8": (256, 384, 3, 3),
    "slice5.10": (256, 256, 3, 3),
}


def _lpips() -> dict[str, Shape]:
    tensors: dict[str, Shape] = {
        f"scaling_layer.{name}": (1, 3, 1, 1) for name in ("shift", "scale", "mean", "std")
    }
    for i, (name, shape) in enumerate(_LPIPS_CONVS.items()):
        tensors[f"net.{name}.weight"], tensors[f"net.{name}.bias"] = shape, shape[:1]
        tensors[f"lin{i}.model.1.weight"] = (1, shape[0], 1, 1)
    return {f"perceptual_loss.{name}": shape for name, shape in tensors.items()}


def leftovers(config: ModelConfig) -> tuple[Leftover, ...]:
    """What a checkpoint for `config` may hold besides our weights."""
    steps = (config.diffusion.train_steps,)
    return (
        Leftover("the noise schedule follows from the configuration", dict.fromkeys(_SCHEDULE, steps)),
        Leftover("the loss weight of each timestep", {"logvar": steps}),
        Leftover("the perceptual distance of training", _lpips()),
        Leftover(
            "entropy tables are built from the configuration; training leaves them empty",
            {
                f"{_GAUSSIAN}.{name}": (0,)
                for name in ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
            },
        ),
        Leftover(
            "lower bounds of scales and likelihoods, which are constants",
            {
                f"{_GAUSSIAN}.{name}": (1,)
                for name in ("scale_bound", "likelihood_lower_bound.bound", "lower_bound_scale.bound")
            },
        ),
    )


def expected_leftovers(config: ModelConfig, found: Mapping[str, Shape]) -> dict[str, Shape]:
    """The leftovers that a checkpoint with the tensors `found` ought to have, given those it has."""
    groups = [group.tensors for group in leftovers(config) if group.tensors.keys() & found.keys()]
    return {name: shape for tensors in groups for name, shape in tensors.items()}


def ignored(name: str) -> bool:
    """Whether a tensor of a checkpoint is not read because of how its name begins."""
    return name.startswith(IGNORED_PREFIXES)
