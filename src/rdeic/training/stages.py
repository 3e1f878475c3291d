"""The four stages of training, each an objective on one model.

    autoencoder   E and D: pixels, perceptual distance, a little KL; at the end latents are whitened
    prior         eps_sd: the vanilla noise estimation of Eq. 1, unconditional; frozen from then on
    independent   compression module and control network, every step on its own (Eq. 13)
    fixed-step    the same through the whole L-step reconstruction (Eq. 14)

"L2 norms" of the paper are means over elements here, as in its published system, so lambda_r compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.nn.codebook import Codebook
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage
from rdeic.training.latent_stages import AutoencoderStage, PriorStage
from rdeic.training.method import MethodConfig, reshaped
from rdeic.training.relay_stages import FixedStepStage, IndependentStage

ON_FEATURES = ("prior", "independent")  # stages that need no pixel, so that features of E will do


def build_stage(name: str, model: Rdeic, config: TrainConfig) -> Stage:
    """The stage of that name, on `model` made one of the configured method.

    Raises ConfigError for an unknown name, for a method that the stage or the model cannot have, and for features
    where the stage needs pixels.
    """
    kinds: dict[str, Callable[[Rdeic, TrainConfig], Stage]] = {
        "autoencoder": AutoencoderStage,
        "prior": PriorStage,
        "independent": IndependentStage,
        "fixed-step": FixedStepStage,
    }
    if name not in kinds:
        raise ConfigError(f"no training stage {name!r}: choose from {', '.join(kinds)}")
    if config.features and name not in ON_FEATURES:
        raise ConfigError(f'the {name} stage sees pixels; set features = ""')
    reshape(model, config.method, config.seed)
    model.config = dataclasses.replace(model.config, name=config.name)
    return kinds[name](model, config)


def reshape(model: Rdeic, method: MethodConfig, seed: int) -> None:
    """Give `model` N, L and the codebook of `method`; it keeps them when it is saved.

    A codebook of another size starts anew, drawn from `seed`; one of the same size is kept. Raises ConfigError if the
    noise schedule is shorter than N.
    """
    shape = reshaped(model.config, method)
    entries = model.compression.entropy.codebook.entries
    if len(entries) != method.codebook:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.compression.entropy.codebook = Codebook(method.codebook, entries.shape[1]).to(entries)
    model.config = shape
