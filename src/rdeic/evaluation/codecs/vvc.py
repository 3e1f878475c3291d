"""VVC still pictures through vvenc and vvdec, which know video only: one frame of Y4M, 4:2:0 with 10 bits, BT.709."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdeic.errors import ImageError
from rdeic.evaluation.codecs import commands
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures.images import Picture, pad

SETTINGS = ("q55", "q52", "q49", "q46", "q43")
ENCODE = "vvencapp -i {input} -o {output} --preset slower --qp {value} --qpa 0 --frames 1"
DECODE = "vvdecapp -b {input} -o {output}"
_HIGHEST = 63  # QP
_RED, _BLUE = 0.2126, 0.0722  # weights of BT.709's luma
_HEAD = b"YUV4MPEG2 W%d H%d F1:1 Ip A1:1 C420p10\nFRAME\n"


@dataclass(frozen=True)
class VvcCodec:
    """Settings: "q32" is QP 32, up to q63. A byte ahead of the bitstream says which sides are padded by one."""

    settings: tuple[str, ...]
    timeout: float  # seconds

    @property
    def name(self) -> str:
        """vvc, in tables and files."""
        return "vvc"

    @property
    def version(self) -> str:
        """The encoder's name, with a hash of both commands and of its program file."""
        return commands.fingerprint("vvc", ENCODE + DECODE, "vvencapp")

    def prepare(self) -> None:
        """Nothing stays loaded between calls of a program."""

    def encode(self, picture: Picture, setting: str) -> bytes:
        """(H, W, 3) uint8, padded to even sides -> a byte and the bitstream. Raises ImageError if the program fails."""
        height, width, _ = picture.shape
        odd = bytes([height % 2 << 1 | width % 2])
        return odd + self._run(ENCODE, to_y4m(pad(picture, 2)), "y4m", "266", setting.lstrip("q"))

    def decode(self, data: bytes) -> Picture:
        """The padding that the first byte tells is cut off again. Raises ImageError if the program fails."""
        picture = from_y4m(self._run(DECODE, data[1:], "266", "y4m", ""))
        height, width, _ = picture.shape
        return picture[: height - (data[0] >> 1), : width - data[0] % 2]

    def _run(self, command: str, data: bytes, before: str, after: str, value: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="rdeic-") as folder:
            source, target = Path(folder) / f"in.{before}", Path(folder) / f"out.{after}"
            source.write_bytes(data)
            places = {"input": str(source), "output": str(target), "value": value}
            commands.call([word.format(**places) for word in command.split()], self.timeout / 2, None)
            if not target.is_file():
                raise ImageError(f"{command.split()[0]} left no file")
            return target.read_bytes()


def create(settings: tuple[str, ...], timeout: float) -> VvcCodec | UnavailableCodec:
    """The codec; no settings: the default ones. Raises ConfigError for a setting that it does not have."""
    commands.check_parameters("vvc", settings, _HIGHEST)
    for program in ("vvencapp", "vvdecapp"):
        if shutil.which(program) is None:
            return UnavailableCodec("vvc", f"no program {program} on the PATH; install vvenc and vvdec")
    return VvcCodec(settings or SETTINGS, timeout)


def to_y4m(picture: Picture) -> bytes:
    """(H, W, 3) with even sides -> one frame of limited range; chroma is the mean of 2x2."""
    height, width, _ = picture.shape
    red, green, blue = (picture[:, :, i].astype(np.float64) / 255 for i in range(3))
    luma = _RED * red + (1 - _RED - _BLUE) * green + _BLUE * blue
    planes = [64 + 876 * luma]
    for colour, weight in ((blue, _BLUE), (red, _RED)):
        chroma = (colour - luma) / (2 * (1 - weight))
        planes.append(512 + 896 * chroma.reshape(height // 2, 2, width // 2, 2).mean((1, 3)))
    samples = [plane.round().clip(0, 1023).astype("<u2").tobytes() for plane in planes]
    return _HEAD % (width, height) + b"".join(samples)


def from_y4m(data: bytes) -> Picture:
    """What `to_y4m` makes -> (H, W, 3); chroma is scaled up bicubically. Raises ImageError for any other Y4M."""
    head, _, rest = data.partition(b"\n")
    fields = {field[:1]: field[1:] for field in head.split()[1:]}
    frame, _, samples = rest.partition(b"\n")
    if not (
        head.startswith(b"YUV4MPEG2 ") and fields.get(b"C", b"")[:6] == b"420p10" and frame[:5] == b"FRAME"
    ):
        raise ImageError("the decoder did not write 4:2:0 Y4M with 10 bits")
    width, height = int(fields[b"W"]), int(fields[b"H"])
    size, quarter = width * height, width * height // 4
    if len(samples) < 2 * (size + 2 * quarter):
        raise ImageError("the decoder's picture is truncated")
    values = np.frombuffer(samples, "<u2", size + 2 * quarter).astype(np.float32)
    luma = (values[:size].reshape(height, width) - 64) / 876
    blue, red = (_enlarge(values[size + i * quarter :][:quarter], width, height) for i in range(2))
    blue, red = luma + 2 * (1 - _BLUE) * blue, luma + 2 * (1 - _RED) * red
    green = (luma - _RED * red - _BLUE * blue) / (1 - _RED - _BLUE)
    picture: Picture = (np.stack([red, green, blue], -1) * 255).round().clip(0, 255).astype(np.uint8)
    return picture


def _enlarge(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    small = Image.fromarray((plane.reshape(height // 2, width // 2) - 512) / 896)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
