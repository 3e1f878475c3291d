"""One measurement: a picture through a codec at a setting, compared with the original."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rdeic.errors import ConfigError, ImageError, RdeicError
from rdeic.evaluation import datasets, metrics, patches, pool
from rdeic.evaluation.metrics import Judges
from rdeic.evaluation.types import Codec, Measurement
from rdeic.pictures import images
from rdeic.pictures.images import Picture
from rdeic.system import files

_PICTURES, _FEATURES = "pictures", "features"
_ORIGINAL = "original"
_WEBP_LIMIT = 16_383  # pixels a side


class Setup(NamedTuple):
    """What stays the same for a whole run."""

    codecs: tuple[Codec, ...]
    metrics: tuple[str, ...]  # those that can be had
    weights: str | None  # file of the metric "perceptual"
    device: str | None  # of the metrics
    protocol: str
    threads: int  # of torch, in each process
    folder: Path  # of the report
    scratch: Path  # for temporary files: a process that is killed leaves its own


class Task(NamedTuple):
    """One measurement to make."""

    codec: int  # which of the setup's
    setting: str
    image: datasets.Entry
    shown: bool  # whether the restored picture is kept for the viewer


def start(setup: Setup) -> Callable[[Task], Measurement]:
    """The work of one process, which has this alone to do.

    Raises ConfigError if a metric cannot be loaded: the others alone would be taken for all that were asked for.
    """
    os.environ["TMPDIR"] = str(setup.scratch)  # which the programs that codecs start go by, too
    tempfile.tempdir = None  # what it remembers of the variable
    torch.set_num_threads(setup.threads)
    judges = metrics.load(setup.metrics, setup.weights, setup.device)
    if judges.unavailable:
        raise ConfigError("; ".join(f"{one.metric}: {one.reason}" for one in judges.unavailable))
    return _Measurer(setup, judges).measure


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written in a report folder."""
    files.sweep(folder)
    for top in (_PICTURES, _FEATURES):
        for place, _, _ in os.walk(folder / top):
            files.sweep(Path(place))


def failed(setup: Setup, task: Task, reason: str) -> Measurement:
    """The record of a measurement that failed, with the reason."""
    name = setup.codecs[task.codec].name
    return Measurement(name, task.setting, task.image.name, 0, 0, 0, 0.0, 0.0, 0.0, (), reason)


def picture_path(setup: Setup, task: Task) -> Path:
    """Where the restored picture goes, within the report folder."""
    return (
        Path(_PICTURES) / _place(setup.codecs[task.codec], task.setting, setup.protocol) / _name(task, "webp")
    )


def original_path(setup: Setup, task: Task) -> Path:
    """Where the original goes as the codecs got it, within the report folder."""
    return Path(_PICTURES) / f"{_ORIGINAL}-{setup.protocol}" / _name(task, "webp")


def features_path(setup: Setup, task: Task) -> Path:
    """Where the features of the restored picture's patches go, within the report folder."""
    return (
        Path(_FEATURES) / _place(setup.codecs[task.codec], task.setting, setup.protocol) / _name(task, "npy")
    )


def original_features_path(setup: Setup, task: Task) -> Path:
    """Where the features of the original's patches go, within the report folder."""
    return Path(_FEATURES) / f"{_ORIGINAL}-{setup.protocol}" / _name(task, "npy")


class _Measurer:
    def __init__(self, setup: Setup, judges: Judges) -> None:
        self._setup, self._judges = setup, judges
        self._prepared: set[int] = set()
        self._last: tuple[Path, Picture] | None = None  # most tasks are of the picture of the one before

    def measure(self, task: Task) -> Measurement:
        codec = self._setup.codecs[task.codec]
        try:
            original = self._read(task.image.path)
            if task.codec not in self._prepared:
                codec.prepare()
                self._prepared.add(task.codec)
            began = time.perf_counter()
            data = codec.encode(original, task.setting)
            encoded = time.perf_counter()
            restored = codec.decode(data)
            decoded = time.perf_counter()
            _check(restored, original)
            scores = metrics.scores(self._judges, restored, original)
        except RdeicError as error:
            return failed(self._setup, task, " ".join(str(error).split()))
        except Exception as error:  # a codec may raise anything
            return failed(self._setup, task, pool.explain(error))
        self._keep(task, restored, original)
        height, width, _ = original.shape
        return Measurement(
            codec=codec.name,
            setting=task.setting,
            image=task.image.name,
            width=width,
            height=height,
            bytes=len(data),
            bpp=8 * len(data) / (width * height),
            encode_seconds=encoded - began,
            decode_seconds=decoded - encoded,
            scores=scores,
            error="",
        )

    def _read(self, path: Path) -> Picture:
        if self._last is None or self._last[0] != path:
            self._last = path, datasets.read(path, self._setup.protocol)
        return self._last[1]

    def _keep(self, task: Task, restored: Picture, original: Picture) -> None:
        if task.shown:
            self._write_picture(picture_path(self._setup, task), restored)
            self._write_picture(original_path(self._setup, task), original)
        if self._judges.extractor is not None:
            self._write_features(features_path(self._setup, task), restored)
            if not (self._setup.folder / original_features_path(self._setup, task)).exists():
                self._write_features(original_features_path(self._setup, task), original)

    def _write_picture(self, path: Path, picture: Picture) -> None:
        # Browsers go by the content, not by the name: what WebP cannot hold is a PNG.
        kind = "webp" if max(picture.shape[:2]) <= _WEBP_LIMIT else "png"
        _write(self._setup.folder / path, images.encode(picture, kind))

    def _write_features(self, path: Path, picture: Picture) -> None:
        assert self._judges.extractor is not None
        buffer = io.BytesIO()
        np.save(buffer, patches.features(self._judges.extractor, picture))
        _write(self._setup.folder / path, buffer.getvalue())


def _check(restored: Picture, original: Picture) -> None:
    if restored.shape != original.shape or restored.dtype != np.uint8:
        there, here = ("x".join(map(str, one.shape[1::-1])) for one in (restored, original))
        raise ImageError(f"returned a picture of {there} ({restored.dtype}), the original is {here}")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.atomic_write(path, data)


def _place(codec: Codec, setting: str, protocol: str) -> str:
    """A folder of its own for each version, so that a report never shows the pictures of another."""
    digest = hashlib.sha256(f"{codec.version} {protocol}".encode()).hexdigest()[:8]
    return f"{_slug(codec.name)}-{digest}/{_slug(setting)}"


def _name(task: Task, suffix: str) -> str:
    return f"{_slug(task.image.name)}-{task.image.digest[:8]}.{suffix}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text).strip(".") or "_"
