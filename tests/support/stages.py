"""What training stages need: settings, a fresh model, noise, a batch."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from rdeic.config import ModelConfig
from rdeic.model.model import Rdeic
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage
from rdeic.training.noise import Noise
from support.tiny import TINY
from support.training_runs import PLAIN


def config(train_decoder: bool = False) -> TrainConfig:
    return dataclasses.replace(PLAIN, train_decoder=train_decoder)


def fresh(shape: ModelConfig = TINY) -> Rdeic:
    torch.manual_seed(0)
    return Rdeic(shape)


def noise(seed: int) -> Noise:
    """For a whole batch of `pictures`."""
    return Noise(torch.Generator().manual_seed(seed), 0, 2)


def pictures(size: int = 64) -> Tensor:
    """(2, 3, size, size) uint8: smooth, with edges and some noise."""
    ramp = torch.linspace(0, 6, size)
    waves = torch.stack([torch.sin(ramp[:, None] * k + ramp[None, :] * (3 - k)) for k in (1, 2, 3)])
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    both = torch.stack([waves, waves.flip(2).sign()])
    return (both * 80 + 128 + 8 * noise).clamp(0, 255).to(torch.uint8)


def lively(shape: ModelConfig) -> Rdeic:
    """A fresh one whose control network counts from the first step on."""
    model = fresh(shape).train()
    for connections in (model.control.to_encoder, [model.control.to_middle], model.control.to_decoder):
        for conv in connections:
            nn.init.normal_(conv.weight, std=0.1)
    return model


def reached(stage: Stage) -> set[str]:
    """Parameters of its model that its loss gives a gradient."""
    stage.model.requires_grad_(False)
    for parameter in stage.trainable():
        parameter.requires_grad_(True)
    for seed in range(3):  # so that every quality's knots are met
        stage.loss(pictures() / 127.5 - 1, noise(seed)).total.backward()
    named = stage.model.named_parameters()
    return {name for name, p in named if p.grad is not None and float(p.grad.abs().max()) > 1e-7}


def learnt(stage: Stage, steps: int) -> float:
    """What is left of the loss of a batch after so many steps on it, as a share of what it was."""
    parameters = stage.trainable()
    optimiser = torch.optim.Adam(parameters, lr=3e-3)
    x, losses = pictures() / 127.5 - 1, []
    for _ in range(steps):
        part = stage.loss(x, noise(7))  # the same noise every time
        loss = part.total
        if part.features is not None:
            loss = loss + stage.batch_loss(part.features).total
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]
