"""The golden files and the models that made them (tests/golden_files/README.md).

Nothing here depends on torch or on today's networks: names and shapes of the weights are in the folder, their values
follow from the names, and the weight file is written byte by byte, so that its fingerprint stays what it was.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "golden_files"
MANIFEST = FOLDER / "manifest.json"
MODELS = ("continuous", "fixed")


class Golden(NamedTuple):
    """A file that must decode for ever."""

    name: str
    sha256: str  # of the file
    model: str
    latent: str  # digest of the decoded latent, docs/format.md section 8
    picture: str | None  # file name of the restored picture
    mean_tolerance: float  # of its samples, 0..255
    max_tolerance: float


class Refused(NamedTuple):
    """A file that must be refused for ever."""

    name: str
    sha256: str
    model: str
    error: str  # class of `rdeic.errors`
    message: str  # part of what it says


class Manifest(NamedTuple):
    fingerprints: dict[str, str]  # by model
    golden: list[Golden]
    refused: list[Refused]


def read() -> Manifest:
    content = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return Manifest(
        content["fingerprints"],
        [Golden(**entry) for entry in content["golden"]],
        [Refused(**entry) for entry in content["refused"]],
    )


def write(manifest: Manifest) -> None:
    content = {
        "fingerprints": manifest.fingerprints,
        "golden": [entry._asdict() for entry in manifest.golden],
        "refused": [entry._asdict() for entry in manifest.refused],
    }
    MANIFEST.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_model(name: str, folder: Path) -> Path:
    """One of MODELS as a model folder below `folder`."""
    spec = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    place = folder / name
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(spec["config"]), encoding="utf-8")
    (place / "model.safetensors").write_bytes(weights(spec["tensors"]))
    return place


def weights(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file: length of the header, header, float32 numbers."""
    header: dict[str, Any] = {}
    body = b""
    for name, shape in sorted(shapes.items()):
        numbers = tensor(name, tuple(shape)).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [len(body), len(body) + len(numbers)],
        }
        body += numbers
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def tensor(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """centre + r / 2^(15 + s); r are the 16-bit integers, least significant byte first, of SHAKE-256 of the name."""
    count = int(np.prod(shape))
    r = np.frombuffer(hashlib.shake_256(name.encode()).digest(2 * count), "<i2").reshape(shape)
    centre, s = _scale(name, shape)
    return (centre + r / 2.0 ** (15 + s)).astype("<f4")  # exact: at most 24 bits


def _scale(name: str, shape: tuple[int, ...]) -> tuple[NDArray[np.float64] | float, int]:
    if name.endswith("log_gain.knots"):
        return np.linspace(-1, 1, shape[0])[:, None], 3
    if name.endswith(("knots", "codebook.entries", "codebook.usage")):
        return 0.0, 1
    if name.endswith("_params.4.bias"):  # sigma in -1..3, mu in -2..2
        return (np.arange(shape[0]) < shape[0] // 2).astype(np.float64), -1
    if name.endswith("bias"):
        return 0.0, 3
    if len(shape) == 1:  # weights of norms
        return 1.0, 3
    louder = 4 if name == "compression.g_a.4.weight" else 0  # y of some units
    return 0.0, (int(np.prod(shape[1:])).bit_length() - 1) // 2 - louder


def stored_weights(folder: Path, prefix: str) -> dict[str, NDArray[np.float32]]:
    """The tensors of a model folder below `prefix`, read without the library that reads them for the decoder."""
    data = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    return {
        name.removeprefix(prefix): np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(
            entry["shape"]
        )
        for name, entry in header.items()
        if name.startswith(prefix)
    }
