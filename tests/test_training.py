"""Training: batches that depend on (seed, step) alone, exact resume, frozen weights, distances, refusals."""

from __future__ import annotations

import dataclasses
import io
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from rdeic.errors import CheckpointError, ConfigError, TrainingError
from rdeic.training import checkpoint, loop, perceptual
from rdeic.training import config as settings
from rdeic.training.config import LossWeights, TrainConfig
from rdeic.training.contract import Stage, StageLoss
from rdeic.training.data import ImageSet, Source, find, split

CONFIGS = Path(__file__).parents[1] / "configs"
CONFIG = TrainConfig(
    name="tiny",
    model="mini",
    steps=6,
    batch=2,
    crop=64,
    learning_rate=1e-2,
    weight_decay=0.01,
    warmup_steps=2,
    final_lr_fraction=0.1,
    clip_norm=1.0,
    ema_decay=0.9,
    precision="fp32",
    seed=3,
    threads=0,
    cache_mb=100,
    log_every=2,
    validate_every=3,
    validation_images=2,
    checkpoint_every=2,
    keep_last=2,
    rounded_rate=False,
    train_decoder=False,
    perceptual="",
    loss=LossWeights(
        kl=0.0, lambda_min=0.0, lambda_max=0.0, mse=1.0, perceptual=0.0, ms_ssim=0.0, latent=0.0
    ),
)


class Denoising:
    """The smallest real stage: a frozen and a trained convolution that remove noise."""

    def __init__(self, poison_at: int = -1, interrupt_at: int = -1) -> None:
        torch.manual_seed(0)
        self.frozen, self.trained = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.model = nn.ModuleList([self.frozen, self.trained])
        self.steps, self.poison_at, self.interrupt_at, self.finished = 0, poison_at, interrupt_at, 0

    def trainable(self) -> list[nn.Parameter]:
        return list(self.trained.parameters())

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        noisy = x + 0.1 * torch.randn(x.shape, generator=generator)
        error = (self.trained(self.frozen(noisy)) - x).square().mean()
        if self.steps == self.poison_at:
            error = error * float("nan")
        return StageLoss(error, (("mse", error.detach()),))

    def after_step(self) -> None:
        self.steps += 1
        if self.steps == self.interrupt_at:
            signal.raise_signal(signal.SIGTERM)

    def validation(self, x: Tensor) -> tuple[tuple[str, float], ...]:
        # Draws from the global generator, which must disturb nothing.
        noise = torch.randn(x.shape)
        return (("mse", float((self.trained(self.frozen(x + 0.1 * noise)) - x).square().mean())),)

    def finish(self) -> None:
        self.finished += 1


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
    return loop.Data(ImageSet(training, 1 << 30), ImageSet(held_out, 1 << 30))


# Data


def test_a_batch_depends_on_seed_and_step_alone(folder: Path) -> None:
    one, two = ImageSet(find([folder]), 1 << 30), ImageSet(find([folder]), 1 << 30)
    for step in (5, 0, 17):
        two.batch(step, 3, 64, 1)  # what was asked before leaves no trace
    batch = one.batch(4, 3, 64, 1)
    assert (batch.shape, batch.dtype) == ((3, 3, 64, 64), torch.uint8)
    assert torch.equal(batch, two.batch(4, 3, 64, 1))
    assert not torch.equal(batch, one.batch(5, 3, 64, 1))
    assert not torch.equal(batch, one.batch(4, 3, 64, 2))


def test_prefetched_batches_are_the_same_batches(folder: Path) -> None:
    pictures = ImageSet(find([folder]), 1 << 30)
    ahead = list(pictures.batches(2, 9, 2, 64, 7))
    assert len(ahead) == 7
    for step, batch in enumerate(ahead, start=2):
        assert torch.equal(batch, pictures.batch(step, 2, 64, 7))


def test_pictures_beyond_the_memory_limit_give_the_same_batches(folder: Path) -> None:
    sources = find([folder])
    held, lazy = ImageSet(sources, 1 << 30), ImageSet(sources, 0)
    assert torch.equal(held.batch(3, 5, 64, 1), lazy.batch(3, 5, 64, 1))


def test_every_picture_comes_once_an_epoch(tmp_path: Path) -> None:
    for grey in range(8):
        Image.new("RGB", (64, 64), (grey * 30,) * 3).save(tmp_path / f"{grey}.png")
    pictures = ImageSet(find([tmp_path]), 1 << 30)
    for epoch in range(2):
        greys = torch.cat([pictures.batch(4 * epoch + step, 2, 64, 0)[:, 0, 0, 0] for step in range(4)])
        assert sorted(greys.tolist()) == [grey * 30 for grey in range(8)]


@pytest.mark.parametrize("memory_limit", [1 << 30, 0])
def test_corrupt_pictures_are_skipped_and_counted(folder: Path, tmp_path: Path, memory_limit: int) -> None:
    whole = (folder / "3.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d.webp").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture, and no suffix of one")
    pictures = ImageSet(find([tmp_path]), memory_limit)
    assert pictures.batch(0, 4, 64, 0).shape == (4, 3, 64, 64)
    assert pictures.corrupt == 3


def test_empty_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no usable picture; point --data"):
        ImageSet(find([tmp_path]), 1 << 30)
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    with pytest.raises(TrainingError, match=r"no usable picture \(1 unreadable\)"):
        ImageSet(find([tmp_path]), 1 << 30)
    with pytest.raises(TrainingError, match="disk"):
        ImageSet(find([tmp_path]), 0).batch(0, 1, 64, 0)
    with pytest.raises(TrainingError, match="missing"):
        find([tmp_path / "missing"])


def test_a_tar_file_gives_the_pictures_of_its_folder(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "shard.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=".")
    packed = {Path(source.name).name: source.read() for source in find([archive])}
    assert packed == {source.name: source.read() for source in find([folder])}
    (tmp_path / "bad.tar").write_bytes(b"no archive")
    with pytest.raises(TrainingError, match=r"bad\.tar"):
        find([tmp_path / "bad.tar"])


def test_the_split_is_stable_and_depends_on_names_alone() -> None:
    sources = [Source(f"{index}.jpg", Path("a") / f"{index}.jpg", 0, 1) for index in range(4000)]
    training, held_out = split(sources)
    assert 40 <= len(held_out) <= 85
    assert sorted(training + held_out) == sorted(sources)
    moved = [source._replace(path=Path("b") / source.name) for source in reversed(sources[:2000])]
    names = {source.name for source in held_out}
    assert {source.name for source in split(moved)[1]} == names & {source.name for source in moved}
    assert split(sources[:1]) == (sources[:1], sources[:1])
    assert [len(part) for part in split(sources[:3])] == [2, 1]


# Loop


def test_resume_ends_with_the_same_bits(data: loop.Data, tmp_path: Path) -> None:
    whole, broken, resumed = Denoising(), Denoising(interrupt_at=3), Denoising()
    assert loop.train(whole, data, CONFIG, tmp_path / "whole", resume=False)
    assert not loop.train(broken, data, CONFIG, tmp_path / "broken", resume=False)
    assert broken.finished == 0
    assert checkpoint.found(tmp_path / "broken")[-1].name == "checkpoint-3.pt"
    assert loop.train(resumed, data, CONFIG, tmp_path / "broken", resume=True)
    assert (whole.finished, resumed.finished) == (1, 1)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    ends = [checkpoint.load(tmp_path / run / "checkpoint-6.pt") for run in ("whole", "broken")]
    assert _flat(ends[0]) == _flat(ends[1])


def test_frozen_parameters_keep_their_bits_and_trained_ones_move(data: loop.Data, tmp_path: Path) -> None:
    before, stage = Denoising(), Denoising()
    loop.train(stage, data, CONFIG, tmp_path, resume=False)
    for old, new in zip(before.frozen.parameters(), stage.frozen.parameters(), strict=True):
        assert torch.equal(old, new)
    assert not torch.equal(before.trained.weight, stage.trained.weight)


def test_the_finished_model_holds_the_averages(data: loop.Data, tmp_path: Path) -> None:
    stage = Denoising()
    loop.train(stage, data, CONFIG, tmp_path, resume=False)
    saved = checkpoint.load(tmp_path / "checkpoint-6.pt")
    for parameter, average, last in zip(stage.trainable(), saved.ema, saved.trainable, strict=True):
        assert torch.equal(parameter, average)
        assert not torch.equal(parameter, last)


def test_averaging_follows_its_recurrence(data: loop.Data) -> None:
    trainer = loop.Trainer(Denoising(), CONFIG)
    expected = [parameter.detach().double() for parameter in trainer.parameters]
    for step in range(4):
        trainer.advance(data.training.batch(step, 2, 64, 3))
        decay = min(CONFIG.ema_decay, (1 + step) / (10 + step))
        expected = [
            decay * e + (1 - decay) * p.detach() for e, p in zip(expected, trainer.parameters, strict=True)
        ]
    for average, value in zip(trainer.ema.averages, expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_lowers_the_held_out_error(data: loop.Data, precision: str) -> None:
    trainer = loop.Trainer(Denoising(), dataclasses.replace(CONFIG, precision=precision, steps=60))
    pictures = data.held_out.centre_crops(2, 64)
    before = dict(trainer.validate(pictures))["mse"]
    for batch in data.training.batches(0, 60, 2, 64, 3):
        trainer.advance(batch)
    assert dict(trainer.validate(pictures))["mse"] < 0.9 * before


def test_nan_ends_the_run_with_a_remedy_and_spares_the_checkpoints(data: loop.Data, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at step 3; lower learning_rate"):
        loop.train(Denoising(poison_at=2), data, CONFIG, tmp_path, resume=False)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["checkpoint-2.pt"]


def test_only_the_newest_checkpoints_stay(data: loop.Data, tmp_path: Path) -> None:
    loop.train(Denoising(), data, dataclasses.replace(CONFIG, checkpoint_every=1), tmp_path, resume=False)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["checkpoint-5.pt", "checkpoint-6.pt"]
    assert not list(tmp_path.glob("*.part"))


def test_checkpoints_of_another_run_are_not_overwritten(data: loop.Data, tmp_path: Path) -> None:
    loop.train(Denoising(), data, CONFIG, tmp_path, resume=False)
    with pytest.raises(TrainingError, match="--resume"):
        loop.train(Denoising(), data, CONFIG, tmp_path, resume=False)


def test_bad_checkpoints_are_named(data: loop.Data, tmp_path: Path) -> None:
    loop.train(Denoising(), data, CONFIG, tmp_path, resume=False)
    newest = tmp_path / "checkpoint-6.pt"
    other: Stage = Denoising()
    other.model.append(nn.Conv2d(1, 1, 1))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"checkpoint-6\.pt belongs to another network"):
        loop.train(other, data, CONFIG, tmp_path, resume=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint-6\.pt.*delete it"):
        loop.train(Denoising(), data, CONFIG, tmp_path, resume=True)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [loop.learning_rate(dataclasses.replace(CONFIG, steps=102), step) for step in range(102)]
    assert rates[:3] == pytest.approx([0.005, 0.01, 0.01])
    assert rates[52] == pytest.approx((0.01 + 0.001) / 2)
    assert rates[101] == pytest.approx(0.001, rel=0.01)


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


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.toml")), ids=lambda path: path.stem)
def test_every_example_is_complete(path: Path) -> None:
    assert settings.read(path).name == path.parent.name


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    text = (CONFIGS / "mini" / "prior.toml").read_text(encoding="utf-8")
    path = tmp_path / "prior.toml"
    for old, new, complaint in (
        ("batch = ", "batsch = ", "batsch"),
        ('precision = "bf16"', 'precision = "fp8"', "precision must be one of fp32, bf16"),
        ("crop = 128", "crop = 130", "crop must be a multiple of 64"),
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
    loop.train(Denoising(interrupt_at=1), data, CONFIG, tmp_path, resume=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def _flat(state: checkpoint.Checkpoint) -> bytes:
    """The bits of everything in a checkpoint."""
    tensors = [*state.model.values(), *state.trainable, *state.ema]
    tensors += [moments[name] for moments in state.optimiser.values() for name in sorted(moments)]
    buffer = io.BytesIO()
    for tensor in tensors:
        buffer.write(tensor.contiguous().numpy().tobytes())
    return buffer.getvalue() + state.step.to_bytes(8, "little")
