"""The smallest real stage of training, and runs of it on a few small pictures."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rdeic.training import loop
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Paced, StageLoss
from rdeic.training.data import Holding, ImageSet, Sampling, centre_crops
from rdeic.training.noise import Noise
from rdeic.training.processes import ALONE
from rdeic.training.sources import find, split
from support.image_sets import folder
from support.training_runs import changed

__all__ = ["folder"]  # a fixture, for `data`

CONFIG = changed(
    {"kl": 0.0, "lambda_min": 0.0, "lambda_max": 0.0, "latent": 0.0, "z_c": 0.0},
    model="mini",
    steps=6,
    learning_rate=1e-2,
    weight_decay=0.01,
    warmup_steps=2,
    final_lr_fraction=0.1,
    seed=3,
    cache_mb=100,
    log_every=2,
    validate_every=3,
    validation_images=2,
    checkpoint_every=2,
    keep_last=2,
)


class Convolution(nn.Conv2d):
    """One that torch.compile takes for a network of ours: those of torch itself it passes over."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


class Denoising:
    """The smallest real stage: a frozen and a trained convolution that remove noise."""

    def __init__(self, poison_at: int = -1, interrupt_at: int = -1) -> None:
        torch.manual_seed(0)
        self.frozen, self.trained = Convolution(3, 4, 3, padding=1), Convolution(4, 3, 3, padding=1)
        self.model = nn.ModuleList([self.frozen, self.trained])
        self.model.register_buffer("seen", torch.zeros(()))
        self.steps, self.poison_at, self.interrupt_at = 0, poison_at, interrupt_at
        self.finished: list[float] = []

    def trainable(self) -> list[nn.Parameter]:
        return list(self.trained.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.frozen, self.trained]

    def paced(self) -> list[Paced]:
        return []

    def critics(self) -> nn.Module | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        assert not state

    def loss(self, x: Tensor, noise: Noise) -> StageLoss:
        error = (self.trained(self.frozen(x + 0.1 * noise.normal(x))) - x).square().mean()
        if self.steps == self.poison_at:
            error = error * float("nan")
        return StageLoss(error, (("mse", error.detach()),), x.detach().mean((2, 3)))

    def batch_loss(self, features: Tensor) -> StageLoss:
        """Pulls a bias towards something that is no mean over pictures."""
        assert self.trained.bias is not None
        total = 0.1 * (self.trained.bias - features.amax(0)).square().sum()
        return StageLoss(total, (("mse", total.detach()), ("largest", features.amax())))

    def after_step(self, average: Callable[[Tensor], Tensor]) -> None:
        self.steps += 1
        self.model.get_buffer("seen").add_(1)
        if self.steps == self.interrupt_at:
            signal.raise_signal(signal.SIGTERM)

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        # Draws from the global generator too, which must disturb nothing.
        noisy = x + 0.1 * noise.normal(x) + 0.0 * torch.randn(x.shape)
        return (("mse", float((self.trained(self.frozen(noisy)) - x).square().mean())),)

    def finish(self, recent: Iterator[Tensor]) -> None:
        """Depends on the last steps' pictures, and leaves a trace in the weights."""
        self.finished = [float(x.mean()) for x in recent]
        self.model.get_parameter("1.bias").add_(self.finished[0])

    def export(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        save_file({name: v.contiguous() for name, v in self.model.state_dict().items()}, folder / "weights")


def run(
    stage: Denoising,
    data: loop.Data,
    config: TrainConfig,
    out: Path,
    resume: bool = False,
    whole: bool = True,
) -> Path:
    """Trains alone, to the end unless `whole` is false; returns `out`."""
    assert loop.train(stage, data, config, out, resume, stage.export, ALONE) == whole
    return out


def weights(out: Path, name: str = "model") -> dict[str, Tensor]:
    return load_file(out / name / "weights")


@pytest.fixture(scope="module")
def data(folder: Path) -> loop.Data:
    training, held_out = split(find([folder]))
    sampling = Sampling(CONFIG.batch, CONFIG.crop, CONFIG.seed)
    images = ImageSet(training, sampling, range(CONFIG.batch), Holding(1 << 30, None))
    return loop.Data(images, centre_crops(held_out, 2, 64))
