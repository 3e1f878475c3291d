"""Pictures => .rdeic files => pictures.

    compress:    picture -> Encoder makes files of it until one has the wanted quality or size -> that file
                 -> [verify: unpack -> split -> decode -> compare]
    decompress:  unpack -> its picture (decoder.py)

torch is imported when a model is first needed, not with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from rdeic.checkpoints import registry
from rdeic.codec import decoder, limits, verification
from rdeic.codec.encoder import Encoder, Rates, Stamp, goal_of
from rdeic.codec.weights import DEFAULTS, Settings, Weights, mismatch
from rdeic.config import ModelConfig
from rdeic.container import container, marks, metadata
from rdeic.container.container import Section
from rdeic.container.info import Blob, parse, read_blob
from rdeic.container.metadata import Metadata
from rdeic.container.stored_size import Size
from rdeic.errors import ConfigError
from rdeic.model import precision as precisions
from rdeic.pictures import exif, images, sources
from rdeic.pictures.sources import Source
from rdeic.system import arguments, forks
from rdeic.system.arguments import PathLike

if TYPE_CHECKING:
    import torch

DEFAULT_MODEL = "mini"
MAX_DETAIL = 10.0
_MAX_SEED = 2**32 - 1
_SEARCH = 8  # trials of it


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
    raise mismatch(wanted)


class Codec:
    """One model, at one or several rates, on one device. Threads may share it, and so may what they fork.

    A pickled codec loads its model again in the process that unpickles it. A copy of a codec is the codec itself.
    """

    def __init__(self, folder: PathLike, settings: Settings = DEFAULTS) -> None:
        """Of the model in `folder`; see `load`. Raises ConfigError if it holds none."""
        self._weights = Weights(Path(arguments.path(folder, ConfigError)), settings)
        self.config: ModelConfig = self._weights.config

    def __reduce__(self) -> tuple[Callable[..., Codec], tuple[Any, ...]]:
        return load, (registry.lasting_name(self._weights.folder), *self._weights.settings)

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
        weights, goal = self._weights, goal_of(quality, bpp, max_bytes, scale)
        stamp = Stamp(arguments.whole("seed", seed, 0, _MAX_SEED), _sections(metadata))
        checked = None if verify is None else arguments.flag("verify", verify)
        if goal.quality is not None and not weights.highest:
            raise ConfigError(f"model {self.config.name} has one fixed rate; leave the quality out")
        # Outside of `coding`: a read may take for ever, of a pipe for instance.
        picture = images.read(sources.picture(image), arguments.whole("max_pixels", max_pixels, 1))
        del image
        with forks.coding(), weights.enough_memory(picture.shape[1], picture.shape[0]):
            rates = Rates(self.config, weights.highest, weights.load, weights.room(), weights.taking_turns())
            encoder = Encoder(picture, rates, stamp)
            del picture  # which the encoder lets go of as soon as it can
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
            picture = decoder.decode(self._weights, file, detail, steps)
        picture.info["exif"] = exif.to_bytes(described or Metadata(), marks.text(data))
        return picture

    @property
    def device(self) -> torch.device:
        """Where the networks run. Raises ConfigError if it cannot be used."""
        return self._weights.device

    @property
    def remark(self) -> str:
        """A line about what the device cannot do; empty if it can do everything. Raises ConfigError as `device`."""
        from rdeic.system import devices

        return devices.remark(self.device)

    def memory_for(self, width: int, height: int) -> int:
        """Bytes of this machine's memory that a picture takes, about; 0 where the networks have memory of their own.

        Raises ConfigError as `device`.
        """
        weights = self._weights
        if weights.in_own_memory:
            return 0
        size = Size(width, height)
        return limits.needed_bytes(size, self.config, limits.plan(size, self.config, weights.room()))

    def made(self, fingerprint: str) -> bool:
        """Whether files with that fingerprint (hex) are of this model, at one of its rates. Raises ConfigError."""
        return self._weights.made(fingerprint)

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
