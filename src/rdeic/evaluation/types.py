"""What the parts of an evaluation hand to each other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from rdeic.pictures.images import Picture


class Codec(Protocol):
    """One way to turn pictures into files and back. A file alone restores its picture: no state between calls.

    Codecs travel to the processes that measure them: they can be pickled, and load what is large in `prepare`.
    """

    @property
    def name(self) -> str:
        """Short, unique within a report: "rdeic", "avif", "avif/2" for its downscaled variant."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """The grid of settings to measure, smallest files first."""
        ...

    @property
    def version(self) -> str:
        """What makes its files, such as "libavif 1.4.2"; measurements of another version are not reused."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that one picture may take, loading, encoding and decoding together."""
        ...

    def prepare(self) -> None:
        """Loads what `encode` and `decode` need, so that their times hold no loading. Raises any exception."""
        ...

    def encode(self, picture: Picture, setting: str) -> bytes:
        """(H, W, 3) uint8 -> a whole file. Raises any exception: the run records it."""
        ...

    def decode(self, data: bytes) -> Picture:
        """A file -> (H, W, 3) uint8 at the size of the original. Raises any exception: the run records it."""
        ...


class Score(NamedTuple):
    """One metric of one picture, or of a whole set."""

    metric: str
    value: float


class Measurement(NamedTuple):
    """One picture through one codec at one setting."""

    codec: str
    setting: str
    image: str  # file name
    width: int  # pixels of the original
    height: int
    bytes: int
    bpp: float  # bytes * 8 / original pixels
    encode_seconds: float
    decode_seconds: float
    scores: tuple[Score, ...]  # empty where it failed
    error: str  # "" or why there is no result, one line


class SetScore(NamedTuple):
    """A metric that only a whole set of pictures has (FID, KID)."""

    codec: str
    setting: str
    score: Score


class Unavailable(NamedTuple):
    """A metric that was asked for and cannot be had here."""

    metric: str
    reason: str  # one line, with the remedy


class UnavailableCodec(NamedTuple):
    """A codec that was asked for and cannot be had here."""

    codec: str
    reason: str  # one line, with the remedy


class Metric(NamedTuple):
    """What a metric is called, and which way is better."""

    name: str  # as in Score.metric and in tables
    title: str  # for people
    unit: str  # "" if it has none
    lower_is_better: bool
    of_set: bool  # one value for a whole set of pictures (SetScore), none for each
    ideal: float | None = (
        None  # where neither end is best: then `lower_is_better` is about the distance to this
    )

    def graded(self, value: float) -> float:
        """The value, or its distance to `ideal`: the smaller or larger of these is better."""
        return value if self.ideal is None else abs(value - self.ideal)

    @property
    def arrow(self) -> str:
        """An arrow up, down or to the ideal value, for the heading of a table."""
        if self.ideal is not None:
            return f"→ {self.ideal:g}"
        return "↓" if self.lower_is_better else "↑"

    @property
    def heading(self) -> str:
        """Title, unit and arrow, for a column of a table or above a plot."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit} {self.arrow}"


METRICS = (
    Metric("psnr", "PSNR", "dB", lower_is_better=False, of_set=False),
    Metric("ms_ssim", "MS-SSIM", "", lower_is_better=False, of_set=False),
    Metric("ssim", "SSIM", "", lower_is_better=False, of_set=False),
    Metric("lpips", "LPIPS", "", lower_is_better=True, of_set=False),
    Metric("dists", "DISTS", "", lower_is_better=True, of_set=False),
    Metric("niqe", "NIQE", "", lower_is_better=True, of_set=False),
    Metric("ssimulacra2", "SSIMULACRA2", "", lower_is_better=False, of_set=False),
    Metric("cvvdp", "ColorVideoVDP", "JOD", lower_is_better=False, of_set=False),
    Metric("butteraugli", "Butteraugli (3-norm)", "", lower_is_better=True, of_set=False),
    Metric("gradients", "gradients, over the original's", "", lower_is_better=True, of_set=False, ideal=1.0),
    Metric("perceptual", "perceptual distance (SqueezeNet)", "", lower_is_better=True, of_set=False),
    Metric("fid", "FID", "", lower_is_better=True, of_set=True),
    Metric("kid", "KID", "", lower_is_better=True, of_set=True),
)
