"""The critics' side of a step: their optimiser, and what a checkpoint keeps of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rdeic.training.config import TrainConfig
from rdeic.training.processes import Processes

BETAS = (0.5, 0.9)  # short memories: what critics must learn changes as the model does
CLIP_NORM = 5.0


class Rival:
    """What a stage's critics need to learn beside its model. A stage without critics has one that does nothing."""

    def __init__(self, critics: nn.Module | None, config: TrainConfig, processes: Processes) -> None:
        self._critics = nn.ModuleList() if critics is None else critics
        self._peak, self._processes = config.critic.learning_rate, processes
        self._parameters = list(self._critics.parameters())
        self._optimiser = (
            torch.optim.AdamW(self._parameters, self._peak, betas=BETAS, fused=True)
            if self._parameters
            else None
        )

    def step(self, share: float, scaler: torch.amp.GradScaler) -> None:
        """After gradients are there, if they are; `share` of its peak is what the model's learning rate is at."""
        if self._optimiser is None or all(parameter.grad is None for parameter in self._parameters):
            return
        for group in self._optimiser.param_groups:
            group["lr"] = self._peak * min(1.0, 2.0 * share)  # at its full pace for longer than the model
        self._processes.average_gradients(self._parameters)
        scaler.unscale_(self._optimiser)
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP_NORM, foreach=True)
        scaler.step(self._optimiser)
        self._optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Weights, what spectral norm remembers, the optimiser's moments; empty without critics."""
        if self._optimiser is None:
            return {}
        return {
            "critics": self._critics.state_dict(),
            "optimiser": self._optimiser.state_dict()["state"],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`; where there is none, critics stay fresh. Raises RuntimeError or LookupError."""
        if self._optimiser is None or not state:
            return
        self._critics.load_state_dict(state["critics"])
        groups = self._optimiser.state_dict()["param_groups"]  # the settings are the configuration's
        self._optimiser.load_state_dict({"state": state["optimiser"], "param_groups": groups})
