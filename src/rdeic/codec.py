"""Pictures => .rdeic files => pictures.

    compress:    picture -> pad -> x -> analyse -> y -> encode at a quality -> pack     (the last two per trial)
                 -> [verify: unpack -> split -> decode -> compare]                      (the chosen one)
    decompress:  unpack -> split -> decode -> z_c -> restore with the file's noise -> crop -> round -> picture

torch is imported when a model is first needed, not with this module.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from rdeic import container, exif, images, limits, marks, metadata, payload, rate, registry, verification
from rdeic.config import ModelConfig
from rdeic.container import Header, RdeicFile, Section
from rdeic.errors import ConfigError, ImageError, ModelMismatchError
from rdeic.info import Blob, parse, read_blob
from rdeic.metadata import Metadata
from rdeic.types import CodedLatent
from rdeic.verification import Trial

if TYPE_CHECKING:
    import torch

    from rdeic.model import Rdeic

DEFAULT_MODEL = "mini"
DEFAULT_QUALITY = 50.0
PRECISIONS = ("fp32", "bf16", "fp16")  # of E
MAX_DETAIL = 10.0
_MAX_SEED = 2**32 - 1
_MAX_QUALITY_BYTE = 255
_SEARCH = 8  # trials of it


class _Loaded(NamedTuple):
    model: Rdeic
    fingerprint: bytes


def load(
    model: str | Path = DEFAULT_MODEL,
    device: str | None = None,
    compile: bool | None = None,
    encoder_precision: str = "fp32",
) -> Codec:
    """A codec for an installed model's name or a model folder; its weights are read when first needed.

    `device` is a torch device such as "cpu" or "cuda:1"; None means the first GPU, or else the CPU. `compile` is when a
    GPU records its work for a size of pictures, to repeat it faster: True with the first such picture, None with the
    second, False never. `encoder_precision` of E is "fp32", or "bf16" or "fp16", quicker on a GPU: other files, which
    decode as exactly. Raises ConfigError if there is no such model or precision.
    """
    return Codec(registry.find(model), device, compile, encoder_precision)


def load_for(blob: Blob, device: str | None = None, compile: bool | None = None) -> Codec:
    """A codec for the installed model that made an .rdeic file; see `load`.

    Raises FileFormatError if it is none, ModelMismatchError if no installed model made it.
    """
    wanted = parse(blob, read_blob(blob), max_pixels=None).file.header.fingerprint
    for candidate in registry.installed():
        if wanted in map(registry.fingerprint, registry.rates(candidate.folder)):
            return Codec(candidate.folder, device, compile)
    raise _mismatch(wanted)


class Codec:
    """One model, at one or several rates, on one device. Threads may share it."""

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        compile: bool | None = None,
        encoder_precision: str = "fp32",
    ) -> None:
        """Of the model in `folder`; see `load`. Raises ConfigError."""
        if encoder_precision not in PRECISIONS:
            raise ConfigError(f"precision {encoder_precision!r} is none of {', '.join(PRECISIONS)}")
        self.config: ModelConfig = registry.describe(folder).config
        self._rates = registry.rates(folder)  # lowest first; a model of continuous quality is a single one
        self._device_name, self._compile, self._encoder_precision = device, compile, encoder_precision
        self._loading = threading.Lock()
        self._loaded: dict[int, _Loaded] = {}  # by rate

    def compress(
        self,
        image: images.Source,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
        verify: bool | None = None,
        metadata: Metadata | None = None,
        max_pixels: int = container.MAX_PIXELS,
    ) -> bytes:
        """A picture (path, file bytes, Pillow image or (H, W, 3) uint8 array) as the bytes of an .rdeic file.

        At most one of `quality` (0..100, default 50), `bpp` (bits a pixel, met as closely as possible) and `max_bytes`
        (never exceeded) says how large; where a model has several fixed rates, the nearest is taken. `seed`
        (0..2**32 - 1) picks the decoder's noise; other than 0 it costs 4 bytes. `metadata` goes into the file and
        counts among its bytes. With `verify` the bits are decoded again and compared; None means where that is cheap.

        Raises ImageError for the picture, also one above `max_pixels`; RateError for a size out of reach, ConfigError
        for settings that make no sense, CheckpointError for broken weights, VerifyError if the bits do not decode.
        """
        _check_goal(quality, bpp, max_bytes)
        if not 0 <= seed <= _MAX_SEED:
            raise ConfigError(f"seed {seed} is not within 0..{_MAX_SEED}")
        highest = self._highest
        if quality is not None and not highest:
            raise ConfigError(f"model {self.config.name} has one fixed rate; leave the quality out")
        picture = images.read(image, max_pixels)
        height, width, _ = picture.shape
        with self._enough_memory(width, height):
            trials: dict[bytes, Trial] = {}
            encode = self._encoder(picture, seed, _sections(metadata))

            def make(level: int) -> bytes:
                trial = encode(level)
                trials[trial.blob] = trial
                return trial.blob

            if bpp is not None:
                blob = rate.closest(make, highest, bpp, width * height)
            elif max_bytes is not None:
                blob = rate.largest_within(make, highest, max_bytes)
            else:
                blob = make(round((DEFAULT_QUALITY if quality is None else quality) * highest / 100))
            if self._verifies_cheaply(len(trials)) if verify is None else verify:
                verification.verify(trials[blob])
        return blob

    def decompress(
        self,
        blob: Blob,
        detail: float = 1.0,
        steps: int | None = None,
        max_pixels: int = container.MAX_PIXELS,
    ) -> Image.Image:
        """The picture of an .rdeic file (its bytes or its path), with EXIF in its `info`: the file's metadata, and from
        which file it was restored (`marks`).

        `detail` is lambda_s of Eq. 15, 0..10: below 1 smoother, above 1 sharper; other than 1 takes twice the time.
        `steps` is the number of denoising steps, 1 to the model's relay start; None: as many as the file says.

        Raises FileFormatError, also for a picture above `max_pixels`; ModelMismatchError if another model made the
        file, ConfigError for settings out of range, CheckpointError for broken weights, ImageError where memory is
        short and for values that the GPU's precision cannot hold.
        """
        relay_start = self.config.diffusion.relay_start
        if not 0 <= detail <= MAX_DETAIL:
            raise ConfigError(f"detail {detail} is not within 0..{MAX_DETAIL:g}")
        if steps is not None and not 1 <= steps <= relay_start:
            raise ConfigError(f"{steps} steps are not within 1..{relay_start}")
        data = read_blob(blob)
        file, described = parse(blob, data, max_pixels)
        header = file.header
        model = self._load_for(header.fingerprint)
        if steps is None:
            limits.check_steps(header.steps, self.config)
        coded = payload.split(header, file.payload, self.config)
        with self._enough_memory(header.width, header.height):
            picture = _restore(model, header, coded, detail, header.steps if steps is None else steps)
        picture.info["exif"] = exif.to_bytes(described or Metadata(), marks.text(data))
        return picture

    @functools.cached_property
    def device(self) -> torch.device:
        """Where the networks run. Raises ConfigError if it cannot be used."""
        from rdeic import devices

        return devices.choose(self._device_name)

    @property
    def remark(self) -> str:
        """A line about what the device cannot do; empty if it can do everything. Raises ConfigError as `device`."""
        from rdeic import devices

        return devices.remark(self.device)

    def made(self, fingerprint: str) -> bool:
        """Whether files with that fingerprint (hex) are of this model, at one of its rates. Raises ConfigError."""
        return fingerprint in (registry.fingerprint(folder).hex() for folder in self._rates)

    @property
    def _highest(self) -> int:
        """The finest level: quality bytes of a continuous model, indices of fixed rates otherwise."""
        return _MAX_QUALITY_BYTE if self.config.compression.quality_levels else len(self._rates) - 1

    def _enough_memory(self, width: int, height: int) -> contextlib.AbstractContextManager[None]:
        """Raises ImageError where the picture's networks cannot fit, and inside the `with` block if they do not."""
        from rdeic import devices

        if self.device.type != "cuda":  # which has memory of its own, and never kills a process for it
            limits.check_memory(width, height, self.config)
        return devices.enough_for_picture(self.device, width, height)

    def _load(self, rate: int = 0) -> _Loaded:
        with self._loading:
            if rate not in self._loaded:
                from rdeic import devices
                from rdeic.checkpoints import load_model

                sibling = next((loaded.model for loaded in self._loaded.values()), None)
                with devices.enough_for_weights(self.device, self.config.name):
                    model, fingerprint = load_model(
                        self._rates[rate],
                        self.device,
                        sibling,
                        analysis=_torch_dtype(self._encoder_precision),
                    )
                if self.device.type == "cuda" and self._compile is not False:
                    from rdeic.nn.graphs import CudaGraphs

                    model.use_graphs(CudaGraphs(), at_once=bool(self._compile))
                self._loaded[rate] = _Loaded(model, fingerprint)
            return self._loaded[rate]

    def _load_for(self, wanted: bytes) -> Rdeic:
        """The model with the fingerprint `wanted`. Raises ModelMismatchError if it is none of the rates."""
        several = len(self._rates) > 1
        known = (
            [registry.fingerprint(folder) for folder in self._rates]
            if several
            else [self._load().fingerprint]
        )
        if wanted not in known:
            raise _mismatch(wanted, self.config.name, *known)
        return self._load(known.index(wanted)).model

    def _verifies_cheaply(self, trials: int) -> bool:
        """Whether decoding the bits of one file takes under a tenth of the time that making it took.

        After a search it does, and where E convolves at full resolution; not for mini at a given quality.
        """
        return trials >= _SEARCH or self.config.autoencoder.slow

    def _encoder(
        self, picture: images.Picture, seed: int, sections: tuple[Section, ...]
    ) -> Callable[[int], Trial]:
        """Level 0..`_highest` => file; the picture is analysed once for each rate, whatever the qualities tried."""
        import torch

        height, width, _ = picture.shape
        padded = images.pad(picture, self.config.hyper_stride)
        pixels = torch.from_numpy(padded).permute(2, 0, 1)[None]  # (1, 3, H, W)

        @functools.cache
        def analysed(rate: int) -> torch.Tensor:
            model = self._load(rate).model
            with torch.inference_mode():
                y = model.analyse(pixels.to(self.device) / 127.5 - 1)
            if not y.isfinite().all():
                raise ImageError(
                    f"E of model {model.config.name} overflows in {self._encoder_precision}; take another precision"
                )
            return y

        @functools.cache
        def encode(level: int) -> Trial:
            rate = level if len(self._rates) > 1 else 0
            quality = round(_MAX_QUALITY_BYTE * level / self._highest) if self._highest else 0
            model, fingerprint = self._load(rate)
            with torch.inference_mode():
                coded, y_hat = model.encode_with_y_hat(analysed(rate), quality)
            header = Header(fingerprint, width, height, quality, model.config.diffusion.default_steps, seed)
            blob = container.pack(RdeicFile(header, payload.join(coded, self.config), sections))
            return Trial(blob, payload.digest(coded.hyper_indices, y_hat.cpu().numpy()), model)

        return encode


def _sections(described: Metadata | None) -> tuple[Section, ...]:
    content = b"" if described is None else metadata.pack(described)
    return (Section(metadata.KIND, content),) if content else ()


def _check_goal(quality: float | None, bpp: float | None, max_bytes: int | None) -> None:
    if sum(goal is not None for goal in (quality, bpp, max_bytes)) > 1:
        raise ConfigError("choose one of quality, bpp and max_bytes")
    if quality is not None and not 0 <= quality <= 100:
        raise ConfigError(f"quality {quality} is not within 0..100")
    if bpp is not None and not (math.isfinite(bpp) and bpp > 0):
        raise ConfigError(f"bpp {bpp} is not a positive number")


def _restore(model: Rdeic, header: Header, coded: CodedLatent, detail: float, steps: int) -> Image.Image:
    import torch

    with torch.inference_mode():
        features = model.decode(coded, header.quality)
        x = model.restore(features, noises(header.seed, features.z_c), steps, detail)  # (1, 3, H, W)
        if not x.isfinite().all():
            raise ImageError(
                f"model {model.config.name} overflows in {str(model.precision).removeprefix('torch.')}; "
                "try --device cpu, or import it again with --precision fp32"
            )
        x = x[0, :, : header.height, : header.width]
        pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)  # (3, height, width)
        return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def noises(seed: int, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """Standard normal tensors shaped like `like`, drawn on the CPU so that every device sees the same."""
    import torch

    from rdeic.nn.transfer import to_device

    generator = torch.Generator("cpu").manual_seed(seed)
    while True:
        yield to_device(torch.randn(like.shape, generator=generator, dtype=torch.float32).numpy(), like)


def _torch_dtype(precision: str) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _mismatch(wanted: bytes, name: str | None = None, *fingerprints: bytes) -> ModelMismatchError:
    there = ", ".join(
        f"{one.name} ({registry.fingerprint(folder).hex()})"
        for one in registry.installed()
        for folder in registry.rates(one.folder)
    )
    here = f", not with {name} ({', '.join(one.hex() for one in fingerprints)})" if name else ""
    return ModelMismatchError(
        f"made with model {wanted.hex()}{here}; installed: {there or 'none'}; "
        "ask the file's sender for the model folder and pass it with --model"
    )
