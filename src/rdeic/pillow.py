"""Pillow opens and saves .rdeic files once this module is imported. docs/integrations.md tells users how.

    import rdeic.pillow

    image = Image.open("photo.rdeic")                 # size, mode, EXIF; no model is read, torch is not imported
    image.load()                                      # restores the picture, as whatever needs its pixels does
    image.save("smaller.rdeic", max_bytes=2000)

Opening checks all that can be checked without a model: signature, checksum, header, sections, metadata. What is no
.rdeic file of this version is left to Pillow's other plugins. A broken one raises UnidentifiedImageError, and a
picture that cannot be restored OSError, both with the words of rdeic's own errors, which are their `__cause__`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL import (
    TiffImagePlugin as TiffImagePlugin,
)  # writes EXIF; later, the first picture opened would wait for it
from PIL.ExifTags import Base

from rdeic.codec.codec import Codec
from rdeic.codec.codecs import Codecs
from rdeic.codec.weights import Settings
from rdeic.container import container, info, marks
from rdeic.container.metadata import Metadata
from rdeic.errors import ConfigError, FileFormatError, RdeicError
from rdeic.pictures import exif, images, render

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

FORMAT = "RDEIC"
SUFFIX = ".rdeic"
_SIGNATURE = container.MAGIC + bytes([container.VERSION])
# Versions to come; a letter after the magic begins some other text.
_NEWER = tuple(bytes([version]) for version in range(container.VERSION + 1, 0x20))


class RdeicImageFile(ImageFile.ImageFile):
    """An .rdeic file, of which only what it says of itself is known until `load`."""

    format = FORMAT
    format_description = "RDEIC extreme image compression"
    codecs: Codecs | None = None  # None: of its own, which loads the model for this picture only
    _blob = b""  # the file, until it is restored

    def load(
        self, codec: Codec | None = None, detail: float = 1.0, steps: int | None = None
    ) -> PixelAccess | None:
        """Restores the picture, unless that has been done: the options count the first time.

        `codec` is None for the one that `register` chose a device for, of the model that made the file; `detail` and
        `steps` are those of `Codec.decompress`. Raises OSError for whatever goes wrong.
        """
        if self.tile and self._im is None:  # neither restored nor closed
            with _errors(OSError):
                chosen = codec or (self.codecs or Codecs()).for_file(self._blob)
                picture = chosen.decompress(self._blob, detail, steps, max_pixels=self.width * self.height)
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self.im, self.fp, self.tile, self.readonly = picture.im, None, [], 0
        return super().load()

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """A picture that is stored smaller than it is is not enlarged, if that size is enough; `thumbnail` asks so.

        None, and no change, where it is stored at its own size: the networks know no other. `mode` has no effect.
        """
        if not self.tile or size is None:
            return None
        file = container.unpack(self._blob, max_pixels=None)
        stored = file.header.stored
        if stored is None or stored.width < size[0] or stored.height < size[1]:
            return None
        header = file.header._replace(width=stored.width, height=stored.height, stored=None)
        self._blob, self._size = container.pack(file._replace(header=header)), (stored.width, stored.height)
        return self.mode, (0, 0, *self.size)

    def load_seek(self, pos: int) -> None:
        """Never called; that it is there tells `ImageFile.Parser` to wait for the whole file."""

    def _open(self) -> None:
        if self.fp is None or not (blob := self.fp.read()).startswith(_SIGNATURE):
            raise SyntaxError("not an .rdeic file")
        with _errors(UnidentifiedImageError):
            # Pillow has a limit of its own for the number of pixels, and looks at it next.
            file, described = info.parse(blob, blob, max_pixels=None)
        self._blob, self._mode, self._size = blob, "RGB", (file.header.width, file.header.height)
        self.info["exif"] = exif.to_bytes(described or Metadata(), marks.text(blob))
        self.tile = [ImageFile._Tile("rdeic", (0, 0, *self.size))]


def register(device: str | None = None) -> None:
    """Tells Pillow of the format; importing this module has done so.

    `device` is where pictures are computed that are opened or saved from now on, unless `load` or `save` is given a
    codec: a torch device such as "cpu" or "cuda:1". With None stays what an earlier call chose, at first the first
    GPU, or else the CPU. Each model is loaded once, when it is first needed; threads share it.
    """
    if device is None and FORMAT in Image.OPEN:
        return
    codecs = Codecs(Settings(device))

    def opened(stream: IO[bytes], name: str | bytes) -> RdeicImageFile:
        image = RdeicImageFile(stream, name)
        image.codecs = codecs
        return image

    Image.register_open(FORMAT, opened, _accept)
    Image.register_save(FORMAT, functools.partial(_save, codecs))
    Image.register_save_all(FORMAT, functools.partial(_save_all, codecs))
    Image.register_extension(FORMAT, SUFFIX)
    Image.register_mime(FORMAT, container.MEDIA_TYPE)


def _accept(prefix: bytes) -> bool | str:
    """Whether a file that begins so is for this plugin; of a newer version, what Pillow may warn of."""
    if prefix.startswith(container.MAGIC) and prefix[len(container.MAGIC) :][:1] in _NEWER:
        try:
            container.unpack(prefix)
        except FileFormatError as error:
            return str(error)
    return prefix.startswith(_SIGNATURE)


def _save(codecs: Codecs, image: Image.Image, stream: IO[bytes], _: str | bytes) -> None:
    """For `Image.save`: nothing is written before all of it is made.

    Options: one of quality, bpp and max_bytes; seed, scale and verify, as of `Codec.compress`; exif, of which the place
    is kept only with location=True; icc_profile; background, behind transparent pixels; codec. Raises ValueError for
    options that make no sense, OSError for anything else.
    """
    options = image.encoderinfo
    with _errors(OSError, ConfigError):
        told = _exif(options.get("exif"))
        shown = _as_told(image, told, options.get("icc_profile", image.info.get("icc_profile")))
        picture = images.read(shown, image.width * image.height, options.get("background"))
        blob = (options.get("codec") or codecs.default).compress(
            picture,
            quality=options.get("quality"),
            bpp=options.get("bpp"),
            max_bytes=options.get("max_bytes"),
            seed=options.get("seed", 0),
            verify=options.get("verify"),
            metadata=None if told is None else exif.said(told, location=bool(options.get("location"))),
            max_pixels=image.width * image.height,
            scale=options.get("scale", True),
        )
    stream.write(blob)


def _save_all(codecs: Codecs, image: Image.Image, stream: IO[bytes], name: str | bytes) -> None:
    """For `Image.save` with save_all or append_images. Raises ValueError if there is more than one picture."""
    count = getattr(image, "n_frames", 1) + len(list(image.encoderinfo.get("append_images", ())))
    if count > 1:
        raise ValueError(f"an .rdeic file holds one picture, not {count}: save each in a file of its own")
    _save(codecs, image, stream, name)


def _exif(given: Any) -> Image.Exif | None:
    """The option exif; None if it says nothing. Raises ConfigError."""
    if not isinstance(given, bytes | Image.Exif | None):
        raise ConfigError(f"exif must be bytes or a PIL.Image.Exif, not {type(given).__name__}")
    return (exif.parse(given) if isinstance(given, bytes) else given) or None


def _as_told(image: Image.Image, told: Image.Exif | None, profile: bytes | None) -> Image.Image:
    """The image, with the orientation of the EXIF and the colour profile that `save` was given, where they differ."""
    turn = render.orientation(image) if told is None else told.get(Base.Orientation, 1)
    if turn == render.orientation(image) and profile == image.info.get("icc_profile"):
        return image
    changed = image.copy()
    changed.info["icc_profile"] = profile
    changed.getexif()[Base.Orientation] = turn
    return changed


@contextlib.contextmanager
def _errors(other: type[OSError], *senseless: type[RdeicError]) -> Iterator[None]:
    """Turns rdeic's errors into those that Pillow's users expect: ValueError for the kinds `senseless`, or `other`."""
    try:
        yield
    except senseless as error:
        raise ValueError(str(error)) from error
    except RdeicError as error:
        raise other(str(error)) from error


register()
