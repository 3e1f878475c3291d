"""Models for pictures that run in tiles."""

from __future__ import annotations

import dataclasses

import torch

from rdeic.config import ModelConfig
from rdeic.model.model import Rdeic
from support.tiny import LOCAL, TINY

# Convolutions alone: nothing depends on statistics, and attention is far from the picture's end nowhere.
LOCAL_TINY = dataclasses.replace(TINY, autoencoder=LOCAL)


def model_of(config: ModelConfig, seed: int = 0) -> Rdeic:
    torch.manual_seed(seed)
    return Rdeic(config).prepare()
