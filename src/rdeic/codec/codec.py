"""Pictures => .rdeic files => pictures.

    compress:    picture -> Encoder makes files of it until one has the wanted quality or size -> that file
                 -> [verify: unpack -> split -> decode -> compare]
    decompress:  unpack -> split -> decode -> z_c -> restore with the file's noise -> crop -> round -> [enlarge]

torch is imported when a model is first needed, not with this module.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from rdeic.checkpoints import model_wheels, registry
from rdeic.codec import limits, scaling, verification
from rdeic.codec.encoder import MAX_QUALITY_BYTE, Encoder, Goal, Loaded, Rates, Stamp
from rdeic.config import ModelConfig
from rdeic.container import container, marks, metadata, payload
from rdeic.container.container import Header, Section
from rdeic.container.info import Blob, parse, read_blob
from rdeic.container.metadata import Metadata
from rdeic.container.stored_size import Size
from rdeic.errors import ConfigError, ImageError, ModelMismatchError
from rdeic.model import precision as precisions
from rdeic.model.tiles import Tiling
from rdeic.pictures import exif, images, sources
from rdeic.pictures.sources import Source
from rdeic.system import arguments, forks, memory
from rdeic.system.arguments import PathLike
from rdeic.types import CodedLatent

if TYPE_CHECKING:
    import torch

    from rdeic.model.model import Rdeic

DEFAULT_MODEL = "mini"
MAX_DETAIL = 10.0
_MAX_SEED = 2**32 - 1
_SEARCH = 8  # trials of it


class Settings(NamedTuple):
    """Where and how a model computes; `load` says what each is, and checks it."""

    device: str | None = None
    compile: bool | None = None
    encoder_precision: str = precisions.AUTO
    precision: str = precisions.AUTO
    max_memory: int | None = None  # bytes


DEFAULTS = Settings()


def load(
    model: PathLike = DEFAULT_MODEL,
    device: str | torch.device | None = None,
    compile: bool | None = None,
    encoder_precision: str = precisions.AUTO,
    precision: str = precisions.AUTO,
    max_memory: int | str | None = None,
) -> Codec:
    """A codec for an installed model's name or a model folder; its weights are read when first needed.

    `device` is a torch device such as "cpu" or "cuda:1"; None means the first GPU, or else the CPU. `compile` is when a
    GPU records its work for a size of pictures, to repeat it faster: True with the first such picture, None with the
    second, False never.

    `encoder_precision` is what compressing computes in up to y, and `precision` what restoring does after y_hat:
    "fp32", "bf16" or "fp16". "auto" is bf16 for mini on a CPU that multiplies it (AVX-512 BF16, AMX, SVE BF16);
    elsewhere fp32, but on a GPU restoring is in the precision of the weights as they are stored. The first changes
    which file is made, the second changes pictures invisibly; the symbols of a file are exact either way.

    `max_memory`, in bytes or as "2GB" or "800MiB", is what this process may occupy in all (on a GPU: what the networks
    may take there); None: what is free when a picture comes. Large pictures run in tiles, in smaller ones where memory
    is short, and are an ImageError where even those are too large.

    Raises ConfigError if there is no such model or precision, and for an amount that makes no sense.
    """
    folder = registry.find(arguments.path(model, ConfigError))
    settings = Settings(
        None if device is None else arguments.device(device),
        None if compile is None else arguments.flag("compile", compile),
        precisions.check(encoder_precision),
        precisions.check(precision),
        None if max_memory is None else arguments.byte_count("max_memory", max_memory),
    )
    return Codec(folder, settings)


def load_for(blob: Blob, settings: Settings = DEFAULTS) -> Codec:
    """A codec for the installed model that made an .rdeic file; see `load`.

    Raises FileFormatError if it is none, ModelMismatchError if no installed model made it.
    """
    wanted = parse(blob, read_blob(blob), max_pixels=None).file.header.fingerprint
    for candidate in registry.installed():
        if wanted in map(registry.fingerprint, registry.rates(candidate.folder)):
            return Codec(candidate.folder, settings)
    raise _mismatch(wanted)


class Codec:
    """One model, at one or several rates, on one device. Threads may share it, and so may what they fork.

    A pickled codec loads its model again in the process that unpickles it. A copy of a codec is the codec itself.
    """

    def __init__(self, folder: PathLike, settings: Settings = DEFAULTS) -> None:
        """Of the model in `folder`; see `load`. Raises ConfigError if it holds none."""
        self._folder = Path(arguments.path(folder, ConfigError))
        self._settings = settings
        self.config: ModelConfig = registry.describe(self._folder).config
        self._rates = registry.rates(
            self._folder
        )  # lowest first; a model of continuous quality is a single one
        self._loading = threading.Lock()
        self._turn = threading.Lock()  # of the large networks, on a device with memory of its own
        self._loaded: dict[int, Loaded] = {}  # by rate

    def __reduce__(self) -> tuple[Callable[..., Codec], tuple[Any, ...]]:
        return load, (registry.lasting_name(self._folder), *self._settings)

    def __copy__(self) -> Codec:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Codec:
        return self

    def compress(
        self,
        image: Source,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
        verify: bool | None = None,
        metadata: Metadata | None = None,
        max_pixels: int = container.MAX_PIXELS,
        scale: bool = True,
    ) -> bytes:
        """A picture as the bytes of an .rdeic file.

        `image` is a path, the bytes of a picture file, an open file, a Pillow image, or an (H, W, 3) uint8 array, of
        numpy or of a library whose arrays numpy understands.

        At most one of `quality` (0..100, default 50), `bpp` (bits a pixel, met as closely as possible) and `max_bytes`
        (never exceeded) says how large; where a model has several fixed rates, the nearest is taken. For the last two
        the picture is stored smaller than it is where that looks better, or where the size cannot be met otherwise,
        unless `scale` is False; it is restored at its own size, and bits are counted for its own pixels. `seed`
        (0..2**32 - 1) picks the decoder's noise; other than 0 it costs 4 bytes. `metadata` goes into the file and
        counts among its bytes. With `verify` the bits are decoded again and compared; None means where that is cheap.

        Raises ImageError for the picture, also one above `max_pixels`; RateError for a size out of reach, ConfigError
        for settings that make no sense, CheckpointError for broken weights, VerifyError if the bits do not decode.
        """
        goal = _goal(quality, bpp, max_bytes, scale)
        stamp = Stamp(arguments.whole("seed", seed, 0, _MAX_SEED), _sections(metadata))
        checked = None if verify is None else arguments.flag("verify", verify)
        if goal.quality is not None and not self._highest:
            raise ConfigError(f"model {self.config.name} has one fixed rate; leave the quality out")
        # Outside of `coding`: a read may take for ever, of a pipe for instance.
        picture = images.read(sources.picture(image), arguments.whole("max_pixels", max_pixels, 1))
        with forks.coding(), self._enough_memory(picture.shape[1], picture.shape[0]):
            rates = Rates(self.config, self._highest, self._load, self._room(), self._taking_turns())
            encoder = Encoder(picture, rates, stamp)
            blob = encoder.meet(goal)
            if self._verifies_cheaply(len(encoder.trials)) if checked is None else checked:
                verification.verify(encoder.trials[blob])
        return blob

    def decompress(
        self,
        blob: Blob,
        detail: float = 1.0,
        steps: int | None = None,
        max_pixels: int = container.MAX_PIXELS,
    ) -> Image.Image:
        """The picture of an .rdeic file (its bytes, its path, or the file itself, open), at its own size.

        In its `info` are, as EXIF, the file's metadata, and from which file it was restored (`marks`). `detail` is
        lambda_s of Eq. 15, 0..10: below 1 smoother, above 1 sharper; other than 1 takes twice the time. `steps` is the
        number of denoising steps, 1 to the model's relay start; None: as many as the file says.

        Raises FileFormatError, also for a picture above `max_pixels`; ModelMismatchError if another model made the
        file, ConfigError for settings out of range, CheckpointError for broken weights, ImageError where memory is
        short and for values that the GPU's precision cannot hold.
        """
        detail = arguments.real("detail", detail, 0, MAX_DETAIL)
        if steps is not None:
            most = self.config.diffusion.relay_start
            steps = arguments.whole("steps", steps, 1, most, "{number} {name} are")
        data = read_blob(blob)
        file, described = parse(blob, data, arguments.whole("max_pixels", max_pixels, 1))
        with forks.coding():
            picture = self._decode(file, detail, steps)
        picture.info["exif"] = exif.to_bytes(described or Metadata(), marks.text(data))
        return picture

    @functools.cached_property
    def device(self) -> torch.device:
        """Where the networks run. Raises ConfigError if it cannot be used."""
        from rdeic.system import devices

        return devices.choose(self._settings.device)

    @property
    def remark(self) -> str:
        """A line about what the device cannot do; empty if it can do everything. Raises ConfigError as `device`."""
        from rdeic.system import devices

        return devices.remark(self.device)

    def memory_for(self, width: int, height: int) -> int:
        """Bytes of this machine's memory that a picture takes, about; 0 where the networks have memory of their own.

        Raises ConfigError as `device`.
        """
        if self._in_own_memory:
            return 0
        size = Size(width, height)
        return limits.needed_bytes(size, self.config, limits.plan(size, self.config, self._room()))

    def made(self, fingerprint: str) -> bool:
        """Whether files with that fingerprint (hex) are of this model, at one of its rates. Raises ConfigError."""
        return fingerprint in (registry.fingerprint(folder).hex() for folder in self._rates)

    def _decode(self, file: container.RdeicFile, detail: float, steps: int | None) -> Image.Image:
        header = file.header
        model = self._load_for(header.fingerprint)
        if steps is None:
            limits.check_steps(header.steps, self.config)
        coded = payload.split(header, file.payload, self.config)
        steps = header.steps if steps is None else steps
        tiling = limits.plan(header.coded, self.config, self._room(), steps)
        with self._enough_memory(header.width, header.height):
            picture = _restore(model, header, coded, _Way(detail, steps, tiling, self._taking_turns()))
            return scaling.enlarge(picture, Size(header.width, header.height))

    @property
    def _highest(self) -> int:
        """The finest level: quality bytes of a continuous model, indices of fixed rates otherwise."""
        return MAX_QUALITY_BYTE if self.config.compression.quality_levels else len(self._rates) - 1

    @property
    def _in_own_memory(self) -> bool:
        """Whether the networks' memory is a GPU's: never is a process killed for it."""
        return self.device.type == "cuda"

    def _room(self) -> int | None:
        """Bytes that the networks may take for a picture; None: as many as they need."""
        return self._settings.max_memory if self._in_own_memory else memory.room(self._settings.max_memory)

    def _taking_turns(self) -> contextlib.AbstractContextManager[object]:
        """Holds for one picture at a time where the device computes one after the other anyway.

        So several threads need no more of its memory than one does, while their pictures are read, written and coded.
        """
        return contextlib.nullcontext() if self.device.type == "cpu" else self._turn

    def _enough_memory(self, width: int, height: int) -> contextlib.AbstractContextManager[None]:
        """Raises ImageError if memory runs out inside the `with` block."""
        from rdeic.system import devices

        return devices.enough_for_picture(self.device, width, height)

    def _load(self, rate: int = 0) -> Loaded:
        forks.check_device(self.device.type)
        with self._loading:
            if rate not in self._loaded:
                self._loaded[rate] = self._read(rate)
            return self._loaded[rate]

    def _read(self, rate: int) -> Loaded:
        from rdeic.checkpoints.checkpoints import load_model
        from rdeic.system import devices

        sibling = next((loaded.model for loaded in self._loaded.values()), None)
        # Stable Diffusion's networks, in bfloat16, are further from float32 than mini's (docs/performance.md).
        measured = not self.config.unet.context_channels
        automatic = precisions.automatic(self.device, precisions.capabilities()) if measured else None
        analysis = precisions.asked(self._settings.encoder_precision) or automatic
        restoring = precisions.asked(self._settings.precision) or automatic
        with devices.enough_for_weights(self.device, self.config.name):
            model, fingerprint = load_model(self._rates[rate], self.device, sibling, restoring, analysis)
        if self._in_own_memory and self._settings.compile is not False:
            from rdeic.nn.graphs import CudaGraphs

            model.use_graphs(CudaGraphs(), at_once=bool(self._settings.compile))
        return Loaded(model, fingerprint)

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


def _sections(described: Metadata | None) -> tuple[Section, ...]:
    if not isinstance(described, Metadata | None):
        raise ConfigError(f"metadata must be a rdeic.Metadata, not {type(described).__name__}")
    try:
        content = b"" if described is None else metadata.pack(described)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(f"metadata: a field holds what it cannot ({error})") from error
    return (Section(metadata.KIND, content),) if content else ()


def _goal(quality: Any, bpp: Any, max_bytes: Any, scale: Any) -> Goal:
    """The checked wish of a caller. Raises ConfigError."""
    if sum(goal is not None for goal in (quality, bpp, max_bytes)) > 1:
        raise ConfigError("choose one of quality, bpp and max_bytes")
    return Goal(
        None if quality is None else arguments.real("quality", quality, 0, 100),
        None if bpp is None else arguments.positive("bpp", bpp),
        None if max_bytes is None else min(arguments.whole("max_bytes", max_bytes, 1), sys.maxsize),
        arguments.flag("scale", scale),
    )


class _Way(NamedTuple):
    """How to restore a picture."""

    detail: float
    steps: int
    tiling: Tiling | None  # None: whole
    turn: contextlib.AbstractContextManager[object]  # to be held while the large networks work


def _restore(model: Rdeic, header: Header, coded: CodedLatent, way: _Way) -> Image.Image:
    import torch

    from rdeic.model import tiled

    (width, height), (detail, steps, tiling, turn) = header.coded, way
    try:
        with torch.inference_mode():
            if tiling is not None:
                how = tiled.Restoring(functools.partial(noises, header.seed), steps, detail)
                with turn:
                    pixels = tiled.restore(model, coded, header.quality, header.coded, how, tiling)
            else:
                features = model.decode(coded, header.quality)
                with turn:
                    x = model.restore(
                        features, noises(header.seed, features.z_c), steps, detail
                    )  # (1, 3, H, W)
                    pixels = tiled.to_pixels(x[0, :, :height, :width])
            return Image.fromarray(pixels)
    except OverflowError as error:
        raise ImageError(
            f"model {model.config.name} overflows in {str(model.precision).removeprefix('torch.')}; "
            "restore it with another --precision"
        ) from error


def noises(seed: int, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """Standard normal tensors shaped like `like`, drawn on the CPU so that every device sees the same."""
    import torch

    from rdeic.nn.transfer import to_device

    generator = torch.Generator("cpu").manual_seed(seed)
    while True:
        yield to_device(torch.randn(like.shape, generator=generator, dtype=torch.float32).numpy(), like)


def _mismatch(wanted: bytes, name: str | None = None, *fingerprints: bytes) -> ModelMismatchError:
    known = [
        (registry.fingerprint(folder), one.name)
        for one in registry.installed()
        for folder in registry.rates(one.folder)
    ]
    there = ", ".join(f"{called} ({print_.hex()})" for print_, called in known) or "none"
    here = f", not with {name} ({', '.join(one.hex() for one in fingerprints)})" if name else ""
    called = dict(known).get(wanted)
    remedy = f"use model {called}-{wanted.hex()}" if called else model_wheels.remedy(wanted)
    return ModelMismatchError(f"made with model {wanted.hex()}{here}; installed: {there}; {remedy}")
