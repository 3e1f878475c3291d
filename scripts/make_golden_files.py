"""Makes the golden files that are not there yet; what is there stays, for ever.

    python scripts/make_golden_files.py

Run it to add a file to RECIPES or REFUSED. Files, pictures and their entries in the manifest that exist are never
touched: a decoder that no longer reads them is wrong, not they.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import rdeic
from rdeic import config
from rdeic.container import container, metadata, payload, stored_size
from rdeic.container.container import Section
from rdeic.container.metadata import Location, Metadata
from rdeic.container.stored_size import Size
from rdeic.model.model import Rdeic
from rdeic.pictures import images
from support import golden_files_set as golden_set

MEAN_TOLERANCE, MAX_TOLERANCE = 0.25, 4.0  # of 255; float64 and bfloat16 networks: see the folder's README
DESCRIBED = Metadata(
    datetime(2026, 11, 21, 10, 30, 0),
    "Maker",
    "Model 1",
    "Display P3",
    "Straße, 写真",
    Location(48.858370, 2.294481),
)
SPECS = {
    "continuous": {"quality_levels": 3, "codebook_size": 16, "slices": (4, 12)},
    "fixed": {"quality_levels": 0, "codebook_size": 12, "slices": (3, 5, 8)},
}


class Recipe(NamedTuple):
    size: tuple[int, int]  # width, height
    quality: float | None = None  # None: as the model says
    seed: int = 0
    sections: tuple[Section, ...] = ()
    model: str = "continuous"
    outliers: bool = False  # symbols that need every length of escape
    original: tuple[int, int] | None = None  # width, height of what the picture of `size` is stored for


METADATA = Section(metadata.KIND, metadata.pack(DESCRIBED))
RECIPES = {
    "plain": Recipe((70, 45), 50),
    "seed": Recipe((70, 45), 50, seed=0xDEADBEEF),
    "metadata": Recipe((70, 45), 50, sections=(METADATA,)),
    "unknown-optional": Recipe((70, 45), 50, 7, (METADATA, Section(2, b""), Section(127, bytes(range(200))))),
    "one-pixel": Recipe((1, 1), 50),
    "lowest": Recipe((65, 129), 0),
    "between": Recipe((31, 64), 33.3),
    "highest": Recipe((64, 64), 100),
    "fixed-rate": Recipe((33, 70), model="fixed"),
    "escapes": Recipe((64, 64), 50, outliers=True),
    "stored-smaller": Recipe((70, 45), 50, 7, (METADATA,), original=(208, 135)),
}


def resealed(blob: bytes, change: Callable[[bytearray], None]) -> bytes:
    """A changed file with the checksum that belongs to it."""
    body = bytearray(blob[:-4])
    change(body)
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


def _set(offset: int, value: int) -> Callable[[bytearray], None]:
    return lambda body: body.__setitem__(offset, value)


class Refusal(NamedTuple):
    message: str
    make: Callable[[bytes], bytes]  # from plain.rdeic


def _with(*sections: Section) -> Callable[[bytes], bytes]:
    return lambda blob: container.pack(container.unpack(blob)._replace(sections=sections))


def _stored(width: int, height: int) -> Section:
    """As no file may have it."""
    return Section(stored_size.KIND, struct.pack("<HH", width, height))


REFUSED = {
    "unknown-critical": Refusal("newer rdeic is needed: the file has a section of kind 200", _with(Section(200, b"x"))),
    "version-2": Refusal("version 2 is newer than this program", lambda blob: resealed(blob, _set(3, 2))),
    "future-flags": Refusal("unknown flags 0x04", lambda blob: resealed(blob, _set(4, 4))),
    "stored-larger": Refusal("implausible stored size 71x45", _with(_stored(71, 45))),
    "stored-the-same": Refusal("implausible stored size 70x45", _with(_stored(70, 45))),
    "stored-nothing": Refusal("implausible stored size 0x45", _with(_stored(0, 45))),
    "stored-far-too-small": Refusal("implausible stored size 1x45", _with(_stored(1, 45))),
    "malformed-stored-size": Refusal("stored size takes 3 bytes", _with(Section(stored_size.KIND, b"\x23\0\x16"))),
    "malformed-metadata": Refusal("metadata", _with(Section(metadata.KIND, b"\1\1\0x"))),
    "trailing-byte": Refusal("damaged", lambda blob: resealed(blob, lambda body: body.append(0))),
    "flipped-bit": Refusal("checksum", lambda blob: blob[:30] + bytes([blob[30] ^ 16]) + blob[31:]),
    "truncated": Refusal("truncated", lambda blob: blob[:-1]),
}  # fmt: skip


def picture(width: int, height: int) -> images.Picture:
    """Smooth waves; any picture would do."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 9 + y / 17), np.cos(y / 7 - x / 31), np.sin(x * y / 900)]
    return (np.stack(waves, -1) * 110 + 128).clip(0, 255).astype(np.uint8)


def write_spec(name: str) -> None:
    """Names, shapes and configuration of a model, once."""
    path = golden_set.FOLDER / f"{name}.json"
    if path.exists():
        return
    fields = json.loads(config.to_json(config.MINI)) | {"name": f"golden-{name}"}
    fields["autoencoder"] |= {"widths": (8, 16, 16), "latent_channels": 4}
    fields["compression"] |= {"width": 16, "y_channels": 16, "blocks": 1, "context_widths": (16, 16)} | SPECS[
        name
    ]
    fields["unet"] |= {"widths": (16, 32), "attention_levels": (1,), "head_channels": 16}
    fields["control"] = {"ratio": 0.5, "head_channels": 8}
    built = config.build(config.ModelConfig, fields, name)
    shapes = {key: list(value.shape) for key, value in Rdeic(built).state_dict().items()}
    rows = ",\n".join(f'  "{key}": {shape}' for key, shape in shapes.items())
    path.write_text(f'{{"config":\n{config.to_json(built)}, "tensors": {{\n{rows}\n}}}}\n', encoding="utf-8")


def encode(codec: rdeic.Codec, recipe: Recipe) -> bytes:
    source = picture(*recipe.size)
    blob = codec.compress(source, recipe.quality, seed=recipe.seed, verify=True)
    file = container.unpack(blob)._replace(sections=recipe.sections)
    if recipe.original:
        width, height = recipe.original
        header = file.header._replace(width=width, height=height, stored=Size(*recipe.size))
        file = file._replace(header=header)
    if recipe.outliers:
        model = codec._weights.load().model
        x = torch.from_numpy(images.pad(source, codec.config.hyper_stride)).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            y = model.analyse(x)
            for place, value in enumerate((9.0, -300.0, 7.0e4, -3.0e7)):
                y[0, 3 * place, place, 2] = value
            coded = model.encode(y, file.header.quality)
        file = file._replace(payload=payload.join(coded, codec.config))
    return container.pack(file)


def latent(codec: rdeic.Codec, blob: bytes) -> str:
    file = container.unpack(blob)
    coded = payload.split(file.header, file.payload, codec.config)
    with torch.inference_mode():
        y_hat = codec._weights.load().model.decode_y_hat(coded, file.header.quality)
    return payload.digest(coded.hyper_indices, y_hat.numpy()).hex()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    golden_set.FOLDER.mkdir(exist_ok=True)
    known = golden_set.read() if golden_set.MANIFEST.exists() else golden_set.Manifest({}, [], [])
    with tempfile.TemporaryDirectory() as scratch:
        codecs = {}
        for name in SPECS:
            write_spec(name)
            folder = golden_set.make_model(name, Path(scratch))
            codecs[name] = rdeic.load(folder, "cpu", encoder_precision="fp32", precision="fp32")
        add_golden(codecs, known)
        add_refused(known)
    golden_set.write(known)


def add_golden(codecs: dict[str, rdeic.Codec], known: golden_set.Manifest) -> None:
    for name, recipe in RECIPES.items():
        path, codec = golden_set.FOLDER / f"{name}.rdeic", codecs[recipe.model]
        if path.exists():
            print(f"{path.name}: there already, left alone")
            continue
        blob = encode(codec, recipe)
        known.fingerprints.setdefault(recipe.model, rdeic.inspect(blob).fingerprint)
        restored = None if recipe.outliers else f"{name}.png"
        if restored is not None:
            (golden_set.FOLDER / restored).write_bytes(png(codec, blob))
        path.write_bytes(blob)
        known.golden.append(
            golden_set.Golden(
                path.name,
                sha256(blob),
                recipe.model,
                latent(codec, blob),
                restored,
                MEAN_TOLERANCE,
                MAX_TOLERANCE,
            )
        )
        print(f"{path.name}: {len(blob)} bytes")


def png(codec: rdeic.Codec, blob: bytes) -> bytes:
    restored = codec.decompress(blob)
    restored.info.clear()
    buffer = io.BytesIO()
    restored.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def add_refused(known: golden_set.Manifest) -> None:
    plain = (golden_set.FOLDER / "plain.rdeic").read_bytes()
    for name, refusal in REFUSED.items():
        path = golden_set.FOLDER / f"refused-{name}.rdeic"
        if path.exists():
            print(f"{path.name}: there already, left alone")
            continue
        blob = refusal.make(plain)
        path.write_bytes(blob)
        known.refused.append(
            golden_set.Refused(path.name, sha256(blob), "continuous", "FileFormatError", refusal.message)
        )
        print(f"{path.name}: {len(blob)} bytes")


if __name__ == "__main__":
    main()
