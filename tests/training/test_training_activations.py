"""Activation checkpointing: the same numbers from less memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rdeic.config import ModelConfig
from rdeic.model.model import Rdeic
from rdeic.training.activations import checkpoint_blocks
from rdeic.training.stages import build_stage
from support.stages import config, noise, pictures
from support.tiny import TINY, WIDE

STAGES = ("autoencoder", "prior", "independent", "fixed-step with decoder")


def trained(case: str, shape: ModelConfig, checkpointed: bool) -> tuple[dict[str, Tensor | None], float, int]:
    """Gradients, loss and the bytes that wait for the backward pass."""
    torch.manual_seed(0)
    model = Rdeic(shape).train()
    for connection in (*model.control.to_encoder, model.control.to_middle, *model.control.to_decoder):
        nn.init.normal_(connection.weight, std=0.1)
    stage = build_stage(case.split(" ")[0], model, config("decoder" in case))
    model.requires_grad_(False)
    for parameter in stage.trainable():
        parameter.requires_grad_(True)
    if checkpointed:
        checkpoint_blocks(model)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = stage.loss(pictures() / 127.5 - 1, noise(0)).total
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    waiting = sum(size for place, size in kept.items() if place not in weights)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}, loss.item(), waiting


@pytest.mark.parametrize("case", STAGES)
def test_gradients_keep_their_bits_and_activations_take_less_memory(case: str) -> None:
    plain, loss, waiting = trained(case, WIDE, checkpointed=False)
    again, same_loss, fewer = trained(case, WIDE, checkpointed=True)
    assert loss == same_loss
    assert plain.keys() == again.keys()  # a checkpoint of one run fits the other
    assert sum(grad is not None for grad in plain.values()) > 20
    for name, grad in plain.items():
        other = again[name]
        assert (grad is None) == (other is None), name
        assert grad is None or other is None or torch.equal(grad, other), name
    assert fewer < 0.7 * waiting


def test_outputs_without_a_gradient_stay_what_they_are() -> None:
    torch.manual_seed(0)
    model, x = Rdeic(TINY).eval(), pictures() / 127.5 - 1
    with torch.no_grad():
        before = model.autoencoder.decode(model.autoencoder.encode(x).mean)
        checkpoint_blocks(model)
        assert torch.equal(model.autoencoder.decode(model.autoencoder.encode(x).mean), before)
