"""One process of `cross_configuration.py`: encodes or decodes everything under one configuration.

Its arguments are "encode" or "decode", and a task and a configuration as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdeic.checkpoints import registry
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.errors import FileFormatError
from rdeic.pictures import images

if TYPE_CHECKING:
    import torch

    from rdeic.model.entropy_model import EntropyModel
    from rdeic.model.model import Rdeic


class Configuration(NamedTuple):
    """One way to compute."""

    name: str
    threads: int = 1
    mkldnn: bool = True
    channels_last: bool = False
    outside: str = "float32"  # what surrounds the coding networks; "bfloat16" by autocast
    device: str = "cpu"
    weakest: bool = False  # of the processor's instructions, as on one of 2008
    python: str = sys.executable


class Task(NamedTuple):
    """What all configurations share."""

    model: str  # folder
    pictures: tuple[str, ...]
    qualities: tuple[int, ...]  # bytes
    floating: bool
    work: str  # folder of the files


class Coded(NamedTuple):
    """What one encoder made of one picture."""

    quality: int
    indices: NDArray[np.int64]  # (h/4, w/4)
    stream: bytes
    symbols: str  # SHA-256

    @property
    def content(self) -> tuple[int, bytes, bytes]:
        """The same for files that say the same."""
        return self.quality, self.indices.tobytes(), self.stream


def encode_all(task: Task, configuration: Configuration, model: Rdeic) -> None:
    folder = Path(task.work) / configuration.name
    folder.mkdir()
    entropy = model.compression.entropy if task.floating else model.exact
    for number, path in enumerate(task.pictures):
        y = analysed(model, configuration, path)
        for quality in task.qualities:
            coded = encode(model, entropy, y, quality)
            np.savez(
                folder / f"{number}-{quality}.npz",
                indices=coded.indices,
                stream=np.frombuffer(coded.stream, np.uint8),
                symbols=coded.symbols,
            )


def decode_all(task: Task, configuration: Configuration, model: Rdeic) -> None:
    """Notes for each encoder how many files gave its symbols."""
    entropy = model.compression.entropy if task.floating else model.exact
    known: dict[Any, str] = {}  # what equal files were decoded to
    equal: dict[str, int] = {}
    for folder in sorted(path for path in Path(task.work).iterdir() if path.is_dir()):
        files = [read(path) for path in sorted(folder.iterdir())]
        for coded in files:
            if coded.content not in known:
                known[coded.content] = decode(model, entropy, coded)
        equal[folder.name] = sum(known[coded.content] == coded.symbols for coded in files)
    (Path(task.work) / f"{configuration.name}.json").write_text(json.dumps(equal))


def read(path: Path) -> Coded:
    with np.load(path) as stored:
        quality = int(path.stem.rpartition("-")[2])
        return Coded(quality, stored["indices"], stored["stream"].tobytes(), str(stored["symbols"]))


def load(task: Task, configuration: Configuration) -> Rdeic:
    """In a way that torch 1.13 knows too."""
    import torch
    from safetensors.numpy import load_file

    from rdeic.model.model import Rdeic

    torch.set_num_threads(configuration.threads)
    torch.backends.mkldnn.set_flags(configuration.mkldnn)
    model = Rdeic(registry.describe(Path(task.model)).config)
    state: dict[str, torch.Tensor] = {}
    for file in registry.weight_files(Path(task.model)):
        state |= {name: torch.from_numpy(value) for name, value in load_file(str(file)).items()}
    torch.nn.Module.load_state_dict(model, state)
    model.prepare().to(configuration.device)
    if configuration.device != "cpu":
        model.prepare()  # the coding networks are no part of what `to` moves
    if configuration.outside == "float64":
        model.double()
    if configuration.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def analysed(model: Rdeic, configuration: Configuration, path: str) -> torch.Tensor:
    """y of a picture file, before any gain."""
    import torch

    padded = images.pad(images.read(path), model.config.hyper_stride)
    weight = model.compression.to_latent.weight
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].to(weight) / 127.5 - 1
    if configuration.channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return model.analyse(pixels).to(weight.dtype)


def encode(model: Rdeic, entropy: EntropyModel, y: torch.Tensor, quality: int) -> Coded:
    import torch

    from rdeic.model.latent_codec import encode_y

    compression = model.compression
    scaled = compression.scale_y(y, torch.tensor([quality / 255]).to(y))
    indices = compression.entropy.codebook.nearest(compression.h_a(scaled).to(y.dtype))
    with symbols_hash() as digest:
        stream = encode_y(entropy, scaled.to(entropy.codebook.entries), hyper(entropy, indices, quality))
    return Coded(quality, indices[0].cpu().numpy(), stream, digest.hexdigest())


def decode(model: Rdeic, entropy: EntropyModel, coded: Coded) -> str:
    """SHA-256 of the symbols; empty if the stream was refused."""
    import torch

    from rdeic.model.latent_codec import decode_y

    indices = torch.from_numpy(coded.indices)[None].to(entropy.codebook.entries.device)
    try:
        with symbols_hash() as digest:
            decode_y(entropy, coded.stream, hyper(entropy, indices, coded.quality))
    except FileFormatError:
        return ""
    return str(digest.hexdigest())


def hyper(entropy: EntropyModel, indices: torch.Tensor, quality: int) -> torch.Tensor:
    import torch

    entries = entropy.codebook.lookup(indices)
    level = torch.tensor([quality / 255], dtype=torch.float64)
    return entropy.hyper(entries, level.to(entries))


@contextlib.contextmanager
def symbols_hash() -> Iterator[Any]:
    """The SHA-256 of all symbols that `latent_codec` codes meanwhile, as little-endian int32."""
    from rdeic.model import latent_codec

    digest = hashlib.sha256()

    class Encoder(SymbolEncoder):
        def encode(self, symbols: NDArray[np.int32], scale_indexes: NDArray[np.integer[Any]]) -> None:
            digest.update(symbols.astype("<i4").tobytes())
            super().encode(symbols, scale_indexes)

    class Decoder(SymbolDecoder):
        def decode(self, scale_indexes: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
            symbols = super().decode(scale_indexes)
            digest.update(symbols.astype("<i4").tobytes())
            return symbols

    latent_codec.SymbolEncoder, latent_codec.SymbolDecoder = Encoder, Decoder  # type: ignore[attr-defined]
    try:
        yield digest
    finally:
        latent_codec.SymbolEncoder, latent_codec.SymbolDecoder = SymbolEncoder, SymbolDecoder  # type: ignore[attr-defined]


def work(what: str, task: Task, configuration: Configuration) -> None:
    import torch

    model = load(task, configuration)
    job: Callable[[Task, Configuration, Rdeic], None] = encode_all if what == "encode" else decode_all
    autocast = configuration.outside == "bfloat16"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        job(task, configuration, model)


if __name__ == "__main__":
    work(sys.argv[1], Task(*json.loads(sys.argv[2])), Configuration(*json.loads(sys.argv[3])))
