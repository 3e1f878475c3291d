"""Every picture below a folder, read as rdeic reads it and by a second reader: lists where the two disagree.

    python scripts/try_pictures.py FOLDER [--levels 3]

The second reader is libvips (pip install 'pyvips[binary]'), which has decoders of its own; imagecodecs with tifffile
reads what libvips does not. Without either, only refusals are listed. Transparent pictures are compared on white. Where
a file names its colours by numbers (CICP, gAMA, cHRM), which no second reader follows, both go through rdeic's
conversion, so that the samples are compared and not the colours. Of AVIF and HEIC, the luminance of blocks is compared:
how subsampled colours are interpolated is left to the reader. Exit status 1 if anything differs by more than --levels.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdeic.container.container import MAX_PIXELS
from rdeic.errors import ImageError
from rdeic.pictures import boxes, colour, formats, images, png

PROFILES = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}  # by samples a pixel
BLOCK = 8  # pixels
Reader = Callable[[bytes], images.Picture]


class UnreadableError(Exception):
    """The second reader does not read this picture, or does not know its colours."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--levels", type=int, default=3, help="how far apart samples may be (default: 3 of 255)"
    )
    options = parser.parse_args()
    readers = second_readers()
    counts: Counter[str] = Counter()
    for path in sorted(
        path for path in options.folder.rglob("*") if path.suffix.lower() in images.readable_suffixes()
    ):
        if path.is_file():
            verdict, remark = judge(path, readers, options.levels)
            counts[verdict] += 1
            if verdict != "agree":
                print(f"{path.relative_to(options.folder)}: {verdict}: {remark}")
    print(f"{counts.total()} pictures by rdeic and {' or '.join(readers) or 'no second reader'}:", end=" ")
    print(", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items())) or "none")
    sys.exit(bool(counts["disagree"]))


def judge(path: Path, readers: dict[str, Reader], levels: int) -> tuple[str, str]:
    """(verdict, remark): agree (with one reader at least), disagree, refused (by rdeic), or not compared."""
    data = path.read_bytes()
    try:
        ours = images.read(data, background="white")
    except ImageError as error:
        return "refused", str(error)
    reasons = list[str]() if readers else ["no second reader is installed"]
    differences = list[str]()
    for name, reader in readers.items():
        try:
            remark, is_beyond = difference(ours, reader(data), levels, in_blocks=data[4:8] == b"ftyp")
        except UnreadableError as error:
            reasons.append(f"{name}: {error}")
            continue
        if not is_beyond:
            return "agree", ""
        differences.append(f"with {name} {remark}")
    return ("disagree", "; ".join(differences)) if differences else ("not compared", "; ".join(reasons))


def difference(
    ours: images.Picture, theirs: images.Picture, levels: int, in_blocks: bool
) -> tuple[str, bool]:
    """In words, and whether it is beyond `levels` anywhere."""
    if theirs.shape != ours.shape:
        return f"on the size, {shape(ours)} and {shape(theirs)}", True
    both = (luminance(ours), luminance(theirs)) if in_blocks else (ours, theirs)
    apart = np.abs(both[0].astype(np.int16) - both[1]).max(axis=2)
    beyond = int((apart > levels).sum())
    return f"by up to {apart.max()} levels, in {beyond} of {apart.size} places", beyond > 0


def second_readers() -> dict[str, Reader]:
    """Those that are installed, the better ones first."""
    found: dict[str, Reader] = {}
    for module, name, reader in (
        ("pyvips", "libvips", by_vips),
        ("imagecodecs", "imagecodecs", by_imagecodecs),
    ):
        try:
            __import__(module)
        except (ImportError, OSError):
            continue
        found[name] = reader
    return found


def by_vips(data: bytes) -> images.Picture:
    import pyvips

    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="warning").autorot()
        alpha = image[image.bands - 1] if image.hasalpha() else None
        colours = image[: image.bands - 1] if image.hasalpha() else image
        deep = image.interpretation in ("rgb16", "grey16")
        seen = vips_colours(colours, stated_space(data, profile=has_profile(image)))
        if alpha is not None:
            part = alpha / (65_535 if deep else 255)
            seen = (seen * part + (1 - part) * 255).rint()
        return pixels(seen.cast("uchar"), np.uint8)
    except pyvips.Error as error:
        raise UnreadableError(" ".join(str(error).split())) from error


def vips_colours(image: Any, space: colour.Space | None) -> Any:
    import pyvips

    deep = image.interpretation in ("rgb16", "grey16")
    if image.format not in ("uchar", "ushort"):
        raise UnreadableError(f"samples of type {image.format}")
    if has_profile(image):
        if bytes(image.get("icc-profile-data"))[16:20] != PROFILES.get(image.bands):
            raise UnreadableError("a profile of another kind than the samples")
        return image.icc_transform("srgb", embedded=True, intent="perceptual", depth=8)
    if image.interpretation == "cmyk":
        raise UnreadableError("CMYK without a profile, whose colours nobody knows")
    if space is None:
        return image.colourspace("srgb")
    codes = pixels(image.colourspace("rgb16" if deep else "srgb"), np.uint16 if deep else np.uint8)
    return pyvips.Image.new_from_array(colour.to_srgb(codes, space)).copy(interpretation="srgb")


def has_profile(image: Any) -> bool:
    return bool(image.get_typeof("icc-profile-data"))


def pixels(image: Any, kind: type) -> NDArray[Any]:
    return np.frombuffer(image.write_to_memory(), kind).reshape(image.height, image.width, image.bands)


def by_imagecodecs(data: bytes) -> images.Picture:
    """What libvips may not read: BMP, JPEG XL, JPEG 2000, QOI, and TIFF of grey and RGB."""
    import imagecodecs

    decoders: dict[str, Callable[[bytes], Any]] = {
        "BMP": imagecodecs.bmp_decode,
        "JXL": imagecodecs.jpegxl_decode,
        "JPEG2000": imagecodecs.jpeg2k_decode,
        "QOI": imagecodecs.qoi_decode,
        "TIFF": simple_tiff,
    }
    kind = next(iter(formats.candidates(data)), "")
    if kind not in decoders:
        raise UnreadableError(f"no decoder of {kind}")
    with images.open_limited(data, MAX_PIXELS) as image:
        if image.mode == "CMYK" or (
            image.info.get("icc_profile") and kind != "JXL"
        ):  # whose plugin makes one up
            raise UnreadableError("colours that it does not convert")
    seen = np.atleast_3d(decoders[kind](data))
    if seen.dtype != np.uint8:
        raise UnreadableError(f"samples of type {seen.dtype}")
    alpha = seen[..., -1:] / 255 if seen.shape[2] in (2, 4) and seen[..., -1].any() else np.ones((1, 1, 1))
    colours = seen[..., :1] if seen.shape[2] < 3 else seen[..., :3]
    blended = np.broadcast_to(colours * alpha + 255 * (1 - alpha), (*seen.shape[:2], 3))
    return np.asarray(np.rint(blended), np.uint8)


def simple_tiff(data: bytes) -> images.Picture:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if page.photometric not in (0, 1, 2) or page.samplesperpixel not in (1, 3):
            raise UnreadableError("not simply grey or RGB")
        samples = page.asarray().reshape(page.shape) / (2**page.bitspersample - 1)
    samples = np.moveaxis(samples, 0, 2) if page.axes == "SYX" else samples
    return np.asarray(np.rint(255 * (1 - samples if page.photometric == 0 else samples)), np.uint8)


def luminance(picture: images.Picture) -> images.Picture:
    """Means of blocks, (H / 8, W / 8, 1), to which the interpolation of subsampled colours makes no difference."""
    light = images.pad(picture, BLOCK) @ np.array([0.299, 0.587, 0.114])
    blocks = light.reshape(light.shape[0] // BLOCK, BLOCK, light.shape[1] // BLOCK, BLOCK)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3))), np.uint8)[..., None]


def stated_space(data: bytes, profile: bool) -> colour.Space | None:
    """The colours that a file names by numbers, unless its profile goes before."""
    if data.startswith(png.SIGNATURE):
        return png.parse(data).space
    return None if profile else boxes.space(data)


def shape(picture: images.Picture) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


if __name__ == "__main__":
    main()
