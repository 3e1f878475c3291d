"""Training: exact resume, checkpoints, the best model, frozen weights, distances, refusals."""

from __future__ import annotations

import dataclasses
import io
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from rdeic.config import PRESETS
from rdeic.errors import CheckpointError, ConfigError, TrainingError
from rdeic.training import checkpoint, loop, memory, perceptual
from rdeic.training import config as settings
from rdeic.training.config import LossWeights, TrainConfig
from rdeic.training.contract import StageLoss
from rdeic.training.data import Holding, ImageSet, Sampling, centre_crops
from rdeic.training.method import MethodConfig
from rdeic.training.noise import Noise
from rdeic.training.processes import ALONE
from rdeic.training.selection import badness
from rdeic.training.sources import find, split
from rdeic.training.trainer import Trainer, learning_rate

CONFIGS = Path(__file__).parents[1] / "configs"
CONFIG = TrainConfig(
    name="tiny",
    model="mini",
    steps=6,
    batch=2,
    accumulate=1,
    crop=64,
    learning_rate=1e-2,
    gain_lr_factor=1.0,
    weight_decay=0.01,
    warmup_steps=2,
    final_lr_fraction=0.1,
    clip_norm=1.0,
    ema_decay=0.9,
    precision="fp32",
    checkpoint_activations=False,
    seed=3,
    threads=0,
    cache_mb=100,
    images_on="host",
    log_every=2,
    validate_every=3,
    validation_images=2,
    checkpoint_every=2,
    keep_last=2,
    keep_best="",
    rounded_rate=False,
    train_decoder=False,
    perceptual="",
    loss=LossWeights(
        kl=0.0, lambda_min=0.0, lambda_max=0.0, balance=0.0, mse=1.0, perceptual=0.0, ms_ssim=0.0, latent=0.0
    ),
    method=MethodConfig(framework="relay", relay_start=300, steps=2, codebook=16),
)


class Denoising:
    """The smallest real stage: a frozen and a trained convolution that remove noise."""

    def __init__(self, poison_at: int = -1, interrupt_at: int = -1) -> None:
        torch.manual_seed(0)
        self.frozen, self.trained = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.model = nn.ModuleList([self.frozen, self.trained])
        self.model.register_buffer("seen", torch.zeros(()))
        self.steps, self.poison_at, self.interrupt_at = 0, poison_at, interrupt_at
        self.finished: list[float] = []

    def trainable(self) -> list[nn.Parameter]:
        return list(self.trained.parameters())

    def gains(self) -> list[nn.Parameter]:
        return []

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

    def after_step(self) -> None:
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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures, one of them smaller than a crop, in two nested folders."""
    top = tmp_path_factory.mktemp("pictures")
    (top / "deep").mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        size = (90 + index, 100, 3) if index else (40, 50, 3)
        name = f"{index}.png" if index % 2 else f"deep/{index}.webp"
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(top / name, lossless=True)
    return top


@pytest.fixture(scope="module")
def data(folder: Path) -> loop.Data:
    training, held_out = split(find([folder]))
    sampling = Sampling(CONFIG.batch, CONFIG.crop, CONFIG.seed)
    images = ImageSet(training, sampling, range(CONFIG.batch), Holding(1 << 30, None))
    return loop.Data(images, centre_crops(held_out, 2, 64))


# Resuming


def test_resume_ends_with_the_same_bits(data: loop.Data, tmp_path: Path) -> None:
    whole, broken, resumed = Denoising(), Denoising(interrupt_at=3), Denoising()
    run(whole, data, CONFIG, tmp_path / "whole")
    run(broken, data, CONFIG, tmp_path / "broken", whole=False)
    assert broken.finished == []
    assert checkpoint.steps(tmp_path / "broken")[-1] == 3
    run(resumed, data, CONFIG, tmp_path / "broken", resume=True)
    # What the end depends on, the last steps' pictures, is all there, those from before the interruption too.
    assert len(whole.finished) == 6 and whole.finished == resumed.finished
    assert (tmp_path / "whole" / "model" / "weights").read_bytes() == (
        tmp_path / "broken" / "model" / "weights"
    ).read_bytes()
    ends = [checkpoint.load(tmp_path / name / "checkpoint-6.pt") for name in ("whole", "broken")]
    assert _flat(ends[0]) == _flat(ends[1])


def test_moments_of_another_order_are_refused(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(interrupt_at=3), data, CONFIG, tmp_path, whole=False)
    saved = checkpoint.load(tmp_path / "checkpoint-3.pt")
    moments = dict(zip(saved.optimiser, reversed(saved.optimiser.values()), strict=True))
    checkpoint.save(saved._replace(optimiser=moments), tmp_path, keep_last=1)
    with pytest.raises(CheckpointError, match="moments"):
        run(Denoising(), data, CONFIG, tmp_path, resume=True)


def test_a_finished_run_is_finished_again_alike(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(), data, CONFIG, tmp_path)
    before = (tmp_path / "model" / "weights").read_bytes()
    (tmp_path / "model" / "weights").unlink()
    run(Denoising(), data, CONFIG, tmp_path, resume=True)
    assert (tmp_path / "model" / "weights").read_bytes() == before


def test_only_the_newest_checkpoints_stay(data: loop.Data, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-2.part").write_bytes(b"of a run that was killed while writing")
    run(Denoising(), data, dataclasses.replace(CONFIG, checkpoint_every=1), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == [
        "checkpoint-5.pt",
        "checkpoint-6.pt",
    ]


def test_checkpoints_of_another_run_are_not_overwritten(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(), data, CONFIG, tmp_path)
    with pytest.raises(TrainingError, match="--resume"):
        run(Denoising(), data, CONFIG, tmp_path)


def test_bad_checkpoints_are_named(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(), data, CONFIG, tmp_path)
    newest = tmp_path / "checkpoint-6.pt"
    larger, elsewhere, renamed = Denoising(), Denoising(), Denoising()
    larger.model.append(nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        elsewhere.frozen.weight[0, 0, 0, 0] += 1e-6
    renamed.model.register_buffer("other", torch.zeros(()))
    for other in (larger, elsewhere, renamed):
        with pytest.raises(CheckpointError, match=r"checkpoint-6\.pt belongs to another network"):
            run(other, data, CONFIG, tmp_path, resume=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint-6\.pt.*delete it"):
        run(Denoising(), data, CONFIG, tmp_path, resume=True)


def test_a_disk_that_refuses_is_named(data: loop.Data, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stage = Denoising()
    with pytest.raises(TrainingError, match=r"cannot make the folder .*file/run.*another with -o"):
        run(stage, data, CONFIG, tmp_path / "file" / "run")
    assert stage.steps == 0
    (tmp_path / "checkpoint-4.part").mkdir()
    with pytest.raises(TrainingError, match=r"cannot write the checkpoint.*make room"):
        run(stage, data, CONFIG, tmp_path)


# Steps


def test_frozen_parameters_keep_their_bits_and_trained_ones_move(data: loop.Data, tmp_path: Path) -> None:
    before, stage = Denoising(), Denoising()
    run(stage, data, CONFIG, tmp_path)
    for old, new in zip(before.frozen.parameters(), stage.frozen.parameters(), strict=True):
        assert torch.equal(old, new)
    assert not torch.equal(before.trained.weight, stage.trained.weight)


def test_the_finished_model_holds_the_averages(data: loop.Data, tmp_path: Path) -> None:
    stage = Denoising()
    run(stage, data, CONFIG, tmp_path)
    saved, found = checkpoint.load(tmp_path / "checkpoint-6.pt"), weights(tmp_path)
    assert torch.equal(found["1.weight"], saved.ema[0])
    assert torch.equal(found["1.bias"], saved.ema[1] + stage.finished[0])
    assert not torch.equal(found["1.weight"], saved.trainable[0])


def test_averaging_follows_its_recurrence(data: loop.Data) -> None:
    trainer = Trainer(Denoising(), CONFIG)
    expected = [parameter.detach().double() for parameter in trainer.parameters]
    for step in range(4):
        trainer.advance(data.training.batch(step))
        decay = min(CONFIG.ema_decay, (1 + step) / (10 + step))
        expected = [
            decay * e + (1 - decay) * p.detach() for e, p in zip(expected, trainer.parameters, strict=True)
        ]
    for average, value in zip(trainer.ema.averages, expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_lowers_the_held_out_error(data: loop.Data, precision: str) -> None:
    trainer = Trainer(Denoising(), dataclasses.replace(CONFIG, precision=precision, steps=60))
    before = dict(trainer.validate(data.held_out))["mse"]
    for batch in data.training.batches(0, 60):
        trainer.advance(batch)
    assert dict(trainer.validate(data.held_out))["mse"] < 0.9 * before


def test_a_step_that_overflows_in_half_precision_is_left_out(data: loop.Data, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, precision="fp16")
    trainer = Trainer(Denoising(), config)
    trainer.advance(data.training.batch(0))
    trainer.scaler.update(1e38)  # gradients of the next step are beyond all floating-point numbers
    before = [parameter.detach().clone() for parameter in trainer.parameters]
    trainer.advance(data.training.batch(1))
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.parameters, strict=True))
    assert trainer.scaler.get_scale() == pytest.approx(5e37)
    trainer.save(tmp_path)
    again = Trainer(Denoising(), config)
    again.restore(tmp_path / "checkpoint-2.pt")
    assert again.scaler.get_scale() == trainer.scaler.get_scale()


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    pictures = torch.randint(
        0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    ends = {}
    for accumulate in (1, 2, 4):
        trainer = Trainer(Denoising(), dataclasses.replace(CONFIG, batch=4, accumulate=accumulate))
        steps = [trainer.advance(pictures) for _ in range(3)]
        ends[accumulate] = steps, [parameter.detach() for parameter in trainer.parameters]
    for accumulate in (2, 4):
        for one, other in zip(ends[1][0], ends[accumulate][0], strict=True):
            torch.testing.assert_close(other.loss.total, one.loss.total)
            torch.testing.assert_close(other.grad_norm, one.grad_norm)
            assert [name for name, _ in other.loss.terms] == ["mse", "largest"]
            for (_, value), (_, expected) in zip(other.loss.terms, one.loss.terms, strict=True):
                torch.testing.assert_close(value, expected)
        torch.testing.assert_close(ends[accumulate][1], ends[1][1])


def test_validation_does_not_depend_on_how_it_is_cut_up(data: loop.Data) -> None:
    pictures = torch.cat([data.held_out, data.training.batch(0), data.training.batch(1)])
    found = [
        Trainer(Denoising(), dataclasses.replace(CONFIG, batch=batch)).validate(pictures)
        for batch in (1, 3, 8)
    ]
    for other in found[:2]:
        assert dict(other) == pytest.approx(dict(found[2]), rel=1e-5)


def test_nan_ends_the_run_with_a_remedy_and_spares_the_checkpoints(data: loop.Data, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at step 3; lower learning_rate"):
        run(Denoising(poison_at=2), data, CONFIG, tmp_path)
    assert checkpoint.steps(tmp_path) == [2]


def test_memory_that_runs_out_is_said_with_a_remedy() -> None:
    class Greedy(Denoising):
        def loss(self, x: Tensor, noise: Noise) -> StageLoss:
            return super().loss(torch.empty(1 << 53, dtype=torch.uint8), noise)

    with pytest.raises(TrainingError, match="out of memory; raise `accumulate`"):
        Trainer(Greedy(), CONFIG).advance(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(TrainingError, match="out of memory"), memory.named_when_exhausted():
        np.zeros(1 << 53, dtype=np.uint8)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), memory.named_when_exhausted():
        torch.zeros(2, 3) @ torch.zeros(2, 3)  # other errors are none of its business


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(dataclasses.replace(CONFIG, steps=102), step) for step in range(102)]
    assert rates[:3] == pytest.approx([0.005, 0.01, 0.01])
    assert rates[52] == pytest.approx((0.01 + 0.001) / 2)
    assert rates[101] == pytest.approx(0.001, rel=0.01)


def test_neither_clipping_nor_averaging_may_be_asked_for(data: loop.Data) -> None:
    trainer = Trainer(Denoising(), dataclasses.replace(CONFIG, clip_norm=math.inf, ema_decay=0.0))
    trainer.advance(data.training.batch(0))
    for parameter, average in zip(trainer.parameters, trainer.ema.averages, strict=True):
        assert bool(parameter.isfinite().all()) and torch.equal(parameter, average)


# The best model


class Recorded(Denoising):
    """Reports what it is told to on held-out pictures, one value a validation; the first is a trial."""

    def __init__(self, values: list[float], interrupt_at: int = -1, metric: str = "psnr_0.5") -> None:
        super().__init__(interrupt_at=interrupt_at)
        self.values, self.metric = iter([0.0, *values]), metric

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        return ((self.metric, next(self.values)),)


BEST = dataclasses.replace(CONFIG, validate_every=1, keep_best="psnr_0.5", validation_images=1)


def test_the_best_model_is_kept_and_training_goes_on_from_its_own_weights(
    data: loop.Data, tmp_path: Path
) -> None:
    data = data._replace(held_out=data.held_out[:1])
    plain = run(Denoising(), data, CONFIG, tmp_path / "plain")
    best = run(Recorded([20.0, 22.0, 21.0, math.nan, 21.9, 19.0]), data, BEST, tmp_path / "best")
    for name, value in weights(plain).items():
        assert torch.equal(weights(best)[name], value)
    second = run(Denoising(), data, dataclasses.replace(CONFIG, steps=2), tmp_path / "second")
    # The same schedule would be needed to compare weights; the counter tells which step they are of.
    assert weights(best, "best")["seen"] == weights(second)["seen"] == 2


def test_a_resumed_run_remembers_its_best(data: loop.Data, tmp_path: Path) -> None:
    data = data._replace(held_out=data.held_out[:1])
    run(Recorded([22.0, 21.0, 20.0], interrupt_at=3), data, BEST, tmp_path, whole=False)
    run(Recorded([21.5, 21.9, 21.0]), data, BEST, tmp_path, resume=True)
    assert weights(tmp_path, "best")["seen"] == 1


def test_the_best_by_another_metric_starts_anew(data: loop.Data, tmp_path: Path) -> None:
    data = data._replace(held_out=data.held_out[:1])
    run(Recorded([22.0, 23.0, 24.0], interrupt_at=3), data, BEST, tmp_path, whole=False)
    other = dataclasses.replace(BEST, keep_best="ms_ssim_0.5")
    run(Recorded([0.9, 0.8, 0.7], metric="ms_ssim_0.5"), data, other, tmp_path, resume=True)
    assert weights(tmp_path, "best")["seen"] == 4


def test_what_is_better_depends_on_the_metric() -> None:
    assert badness("psnr_0.5", [("psnr_0.5", 30.0)]) < badness("psnr_0.5", [("psnr_0.5", 29.0)])
    assert badness("ms_ssim_1.0", [("ms_ssim_1.0", 0.9)]) < badness("ms_ssim_1.0", [("ms_ssim_1.0", 0.8)])
    assert badness("perceptual_0.5", [("perceptual_0.5", 0.4)]) < badness(
        "perceptual_0.5", [("perceptual_0.5", 0.5)]
    )


def test_a_metric_that_does_not_exist_is_named_before_the_first_step(data: loop.Data, tmp_path: Path) -> None:
    stage = Denoising()
    with pytest.raises(ConfigError, match=r"keep_best = 'psnr'.*choose from mse"):
        run(stage, data, dataclasses.replace(CONFIG, keep_best="psnr"), tmp_path)
    assert stage.steps == 0


# Perceptual distance


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SqueezeNet-shaped random weights in half precision."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file({k: v.half() for k, v in perceptual.SqueezeNetDistance().state_dict().items()}, path)
    return path


def _pair(count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(count, 3, 96, 64, generator=generator) * 2 - 1
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)


def test_distance_is_zero_for_identical_and_symmetric(squeezenet: Path) -> None:
    distance = perceptual.load(str(squeezenet))
    a, b = _pair()
    assert distance(a, a).tolist() == [0.0, 0.0]
    assert torch.equal(distance(a, b), distance(b, a))
    assert (distance(a, b) > 1e-4).all()
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_distance_and_gradient_agree_with_the_definition(squeezenet: Path) -> None:
    distance = perceptual.load(str(squeezenet))
    weights = {name: value.double() for name, value in distance.state_dict().items()}
    a, b = (x.requires_grad_() for x in _pair())
    naive = _naive_distance(weights, a.double(), b.double())
    torch.testing.assert_close(distance(a, b).double(), naive, rtol=1e-4, atol=0)
    slopes = torch.autograd.grad(distance(a, b).sum(), (a, b))
    for slope, expected in zip(slopes, torch.autograd.grad(naive.sum(), (a, b)), strict=True):
        assert (slope - expected).norm() < 1e-3 * expected.norm()


def test_missing_or_foreign_weights_are_refused(squeezenet: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.safetensors"):
        perceptual.load(str(tmp_path / "none.safetensors"))
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(TrainingError, match=r"text\.safetensors"):
        perceptual.load(str(tmp_path / "text.safetensors"))
    save_file({"conv1.weight": torch.zeros(96, 3, 7, 7)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"part\.safetensors.*conv1\.bias"):
        perceptual.load(str(tmp_path / "part.safetensors"))


def _naive_distance(weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    def maps(x: Tensor) -> list[Tensor]:
        x = (x + 1) / 2 * 255
        x = torch.stack([x[:, 2] - 104, x[:, 1] - 117, x[:, 0] - 123], dim=1)
        out = [
            x := functional.relu(
                functional.conv2d(x, weights["conv1.weight"], weights["conv1.bias"], stride=2)
            )
        ]
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        for number in range(2, 10):
            w = {k.removeprefix(f"fire{number}."): v for k, v in weights.items() if f"fire{number}." in k}
            s = functional.relu(functional.conv2d(x, w["squeeze1x1.weight"], w["squeeze1x1.bias"]))
            wide = functional.conv2d(s, w["expand3x3.weight"], w["expand3x3.bias"], padding=1)
            x = functional.relu(
                torch.cat([functional.conv2d(s, w["expand1x1.weight"], w["expand1x1.bias"]), wide], 1)
            )
            out.append(x)
            if number in (4, 8):
                x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        return [out[index] for index in (0, 2, 3, 4, 6, 8)]

    layers = [
        (functional.normalize(u, dim=1) - functional.normalize(v, dim=1)).square().sum(1).mean((1, 2))
        for u, v in zip(maps(a), maps(b), strict=True)
    ]
    return sum(layers, torch.zeros(len(a), dtype=torch.float64)) / len(layers)


# Settings


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_every_example_is_complete(path: Path) -> None:
    assert settings.read(path).name in PRESETS


def test_every_setting_is_documented() -> None:
    page = (CONFIGS.parent / "docs" / "training.md").read_text(encoding="utf-8")
    for kind in (TrainConfig, LossWeights, MethodConfig):
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in page or f"`[{field.name}]`" in page, field.name


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    text = (CONFIGS / "mini" / "prior.toml").read_text(encoding="utf-8")
    path = tmp_path / "prior.toml"
    for old, new, complaint in (
        ("batch = ", "batsch = ", "batsch"),
        ('precision = "bf16"', 'precision = "fp8"', "precision must be one of fp32, bf16, fp16"),
        ('images_on = "host"', 'images_on = "moon"', "images_on must be one of host, device"),
        ("accumulate = 1", "accumulate = 3", "batch must be a multiple of accumulate"),
        ("crop = 128", "crop = 130", "crop must be a multiple of 64 up to 4096"),
        ("kl = 0.0", "kl = -1.0", r"loss\.kl must be at least 0"),
        ("[loss]", "[loss", "not valid TOML"),
    ):
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ConfigError, match=complaint):
            settings.read(path)
    with pytest.raises(ConfigError, match=r"none\.toml"):
        settings.read(tmp_path / "none.toml")


def test_interruption_gives_the_signal_handlers_back(data: loop.Data, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(Denoising(interrupt_at=1), data, CONFIG, tmp_path, whole=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def _flat(state: checkpoint.Checkpoint) -> bytes:
    """The bits of everything in a checkpoint."""
    tensors = [*state.buffers.values(), *state.trainable, *state.ema]
    tensors += [moments[name] for moments in state.optimiser.values() for name in sorted(moments)]
    buffer = io.BytesIO()
    for tensor in tensors:
        buffer.write(tensor.contiguous().numpy().tobytes())
    return buffer.getvalue() + state.step.to_bytes(8, "little")
