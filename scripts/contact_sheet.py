"""Pictures beside their copies at equal bytes: original | rdeic | AVIF | WebP | JPEG.

    python scripts/contact_sheet.py PICTURE... --bpp 0.05 -o sheet.png
    python scripts/contact_sheet.py PICTURE --bpp 0.05 --crop 448x320 --columns 3 -o docs/images/compare.jpg

rdeic compresses each picture to about --bpp; the other codecs get as many bytes, in the best of their variants (see
rdeic.evaluation.conventional), and a label says so where that is a downscaled one. Labels give the bytes of the real
file, which --crop (centred, to be seen pixel by pixel) does not change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import rdeic
from rdeic.evaluation import report
from rdeic.evaluation.conventional import Conventional
from rdeic.pictures import images

RIVALS = (("AVIF", "avif"), ("WebP", "webp"), ("JPEG", "jpeg"))
GAP = 8  # white pixels around every panel
SMALLEST_LABEL, LARGEST_LABEL = 12, 30  # pixels


class Panel(NamedTuple):
    label: str
    picture: images.Picture


def panels(codec: rdeic.Codec, path: Path, bpp: float) -> list[Panel]:
    """The row of one picture. Raises RateError if rdeic cannot reach `bpp`."""
    picture = images.read(path)
    height, width, _ = picture.shape
    blob = codec.compress(picture, bpp=bpp)
    row = [
        Panel(f"original, {path.stem}", picture),
        Panel(caption("rdeic", len(blob), width * height), np.asarray(codec.decompress(blob))),
    ]
    for title, name in RIVALS:
        attempt = Conventional(name, picture).closest(len(blob))
        scale = f" at 1/{attempt.downscale} size" if attempt.downscale > 1 else ""
        row.append(Panel(caption(title + scale, len(attempt.data), width * height), attempt.restored))
    for panel in row:
        print(f"{path.name}: {panel.label}")
    return row


def caption(title: str, size: int, pixels: int) -> str:
    return f"{title}: {size:,} bytes, {8 * size / pixels:.3f} bpp"


def crop(picture: images.Picture, size: tuple[int, int] | None) -> images.Picture:
    """The centre, at most `size` (width, height)."""
    if size is None:
        return picture
    height, width, _ = picture.shape
    w, h = min(size[0], width), min(size[1], height)
    left, top = (width - w) // 2, (height - h) // 2
    return picture[top : top + h, left : left + w]


def sheet(rows: list[list[Panel]], columns: int) -> Image.Image:
    """Every row of panels, broken after `columns`, with the labels above."""
    lines = [row[start : start + columns] for row in rows for start in range(0, len(row), columns)]
    cell_width = max(panel.picture.shape[1] for line in lines for panel in line)
    font = fitting([panel.label for line in lines for panel in line], cell_width)
    label_height = round(1.5 * font.size)
    heights = [label_height + max(panel.picture.shape[0] for panel in line) + GAP for line in lines]
    canvas = Image.new("RGB", (columns * (cell_width + GAP) + GAP, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    top = GAP // 2
    for line, height in zip(lines, heights, strict=True):
        for column, panel in enumerate(line):
            left = GAP + column * (cell_width + GAP)
            draw.text((left, top + label_height // 2), panel.label, fill="black", font=font, anchor="lm")
            canvas.paste(Image.fromarray(panel.picture), (left, top + label_height))
        top += height
    return canvas


def fitting(labels: list[str], width: int) -> ImageFont.FreeTypeFont:
    """The largest font in which every label fits a panel; the smallest readable one if none does."""
    for size in range(LARGEST_LABEL, SMALLEST_LABEL, -1):
        font = typeface(size)
        if max(font.getlength(label) for label in labels) <= width:
            return font
    return typeface(SMALLEST_LABEL)


def typeface(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise rdeic.ConfigError("Pillow was built without FreeType; install its wheel: pip install pillow")
    return font


def run(options: argparse.Namespace) -> None:
    kind = {".jpg": "jpg", ".png": "png", ".webp": "webp"}.get(options.output.suffix)
    if kind is None:
        raise rdeic.ConfigError(f"{options.output}: end it in .png, .jpg or .webp")
    codec = rdeic.load(options.model, options.device)
    rows = [panels(codec, path, options.bpp) for path in options.pictures]
    cropped = [[panel._replace(picture=crop(panel.picture, options.crop)) for panel in row] for row in rows]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    images.write(sheet(cropped, options.columns), options.output, kind)
    print(f"{options.output}, by: {report.command()}")


def dimensions(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text}: give WIDTHxHEIGHT, such as 448x320")
    return int(width), int(height)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    options.add_argument("--bpp", type=float, default=0.05)
    options.add_argument("--model", default="mini", metavar="NAME|DIR")
    options.add_argument("--device")
    options.add_argument("--crop", type=dimensions, metavar="WxH")
    options.add_argument("--columns", type=int, default=1 + 1 + len(RIVALS))
    options.add_argument("-o", "--output", type=Path, required=True, metavar="PNG|JPG")
    return options


if __name__ == "__main__":
    try:
        run(parser().parse_args())
    except rdeic.RdeicError as error:
        sys.exit(f"contact_sheet: {error}")
