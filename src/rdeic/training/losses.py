"""Losses of the parts of a batch, put together."""

from __future__ import annotations

import torch

from rdeic.training.contract import StageLoss


def detached(loss: StageLoss) -> StageLoss:
    """The same numbers without gradients, and without the critics' loss."""
    return loss._replace(total=loss.total.detach(), critic=None)


def averaged(losses: list[StageLoss]) -> StageLoss:
    """The mean loss of equally large parts of a batch, their features one after the other."""
    columns = zip(*(loss.terms for loss in losses), strict=True)
    terms = tuple((column[0][0], torch.stack([value for _, value in column]).mean()) for column in columns)
    features = [loss.features for loss in losses if loss.features is not None]
    total = torch.stack([loss.total for loss in losses]).mean()
    return StageLoss(total, terms, torch.cat(features) if features else None)


def added(share: StageLoss, together: StageLoss) -> StageLoss:
    """Adds up the totals, and the terms of the same name."""
    more = dict(together.terms)
    terms = [(name, value + more.pop(name) if name in more else value) for name, value in share.terms]
    return StageLoss(share.total + together.total, (*terms, *more.items()))
