"""Activation checkpointing: blocks keep their input only, and run again when the gradient needs what was in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from rdeic.nn.autoencoder import Middle
from rdeic.nn.blocks import ResBlock
from rdeic.nn.unet import UNetBlock, UNetMiddle

BLOCKS = (UNetBlock, UNetMiddle, Middle, ResBlock)  # of autoencoder, noise estimator and control network


def checkpoint_blocks(model: nn.Module) -> None:
    """Makes the outermost blocks in `model` compute their activations twice instead of keeping them.

    Loss and gradients stay what they are: nothing in a block is random. Names of parameters do not change.
    """
    for block in _outermost(model):
        again: Callable[..., Any] = partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
        )
        block.forward = again


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, BLOCKS):
            yield child
        else:
            yield from _outermost(child)
