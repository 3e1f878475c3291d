"""Whatever the bytes, the decoder returns a picture of the announced size or raises a documented error.

The model is a tiny one with random weights: what is fuzzed is the code. Files of more than 128x128 pixels are refused
before they reach it, since what they cost is no defect: it is bounded by width, height and steps, as the format states.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz import engine
from fuzz.mutations import resealed

if TYPE_CHECKING:
    from rdeic.codec.codec import Codec

MEMORY = 1 << 30
MAX_PIXELS = 128 * 128
PLACEHOLDER = b"TINY"  # in the stored corpus, instead of the fingerprint of whatever the random weights are
CODEBOOK_SIZE = 13  # no power of two: some indices are invalid
SOURCES = (
    (64, 64, 0.0),
    (64, 64, 100.0),
    (70, 50, 50.0),
    (1, 1, 20.0),
    (128, 64, 30.0),
)  # width, height, quality


def load() -> engine.Harness:
    import torch

    import rdeic
    from rdeic.container import container

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        codec = tiny_codec(Path(folder))
        corpus = [*fresh(codec), *wild(codec), *stored_smaller(codec)]
    fingerprint = container.unpack(corpus[0]).header.fingerprint
    corpus += [adopted(data, fingerprint) for data in engine.stored("decoder")]
    decoded = (rdeic.FileFormatError, rdeic.ModelMismatchError)

    def target(data: bytes) -> bool:
        try:
            header = container.unpack(data, MAX_PIXELS).header
            picture = codec.decompress(data)
        except decoded:
            return False
        assert picture.size == (header.width, header.height)
        return True

    return engine.Harness(target, corpus, MEMORY)


def tiny_codec(folder: Path) -> Codec:
    """Loaded: nothing in `folder` is needed any more."""
    import rdeic
    from support.tiny import TINY, save_random_model

    compression = dataclasses.replace(TINY.compression, codebook_size=CODEBOOK_SIZE)
    save_random_model(dataclasses.replace(TINY, compression=compression), folder, seed=0)
    codec = rdeic.load(folder, "cpu")
    codec.decompress(fresh(codec)[0])
    return codec


def fresh(codec: Codec) -> list[bytes]:
    """Files that the codec made of noise."""
    import numpy as np

    random = np.random.default_rng(0)
    return [
        codec.compress(random.integers(0, 256, (height, width, 3), np.uint8), quality, seed=i % 2)
        for i, (width, height, quality) in enumerate(SOURCES)
    ]


def stored_smaller(codec: Codec) -> list[bytes]:
    """The first of `fresh`, for larger pictures than they code."""
    from rdeic.container import container

    made = []
    for width, height in ((65, 64), (128, 128)):
        file = container.unpack(fresh(codec)[0])
        header = file.header._replace(width=width, height=height, stored=file.header.coded)
        made.append(container.pack(file._replace(header=header)))
    return made


def wild(codec: Codec) -> list[bytes]:
    """Valid files that no encoder would make: any index, and symbols up to the largest that can be coded."""
    import numpy as np
    import torch

    from rdeic.container import container
    from rdeic.entropy import indices
    from rdeic.model.latent_codec import encode_y

    template = container.unpack(fresh(codec)[0])
    model = codec._weights.load().model
    made = []
    for seed, magnitude in enumerate((0.3, 3.0, 30.0, 3e4, 2.0**31 - 2.0**13)):
        generator = torch.Generator().manual_seed(seed)
        index = torch.randint(0, CODEBOOK_SIZE, (1, 1, 1), generator=generator)
        y = (2 * torch.rand((1, 16, 4, 4), generator=generator, dtype=torch.float64) - 1) * magnitude
        stream = encode_y(model.exact, y, model.exact_hyper(index, template.header.quality))
        payload = indices.pack_indices(index.numpy().astype(np.int64), CODEBOOK_SIZE) + stream
        made.append(container.pack(template._replace(payload=payload)))
    return made


def adopted(data: bytes, fingerprint: bytes) -> bytes:
    """A file of the stored corpus as one of the model at hand."""
    return resealed(data.replace(PLACEHOLDER, fingerprint, 1))


if __name__ == "__main__":
    engine.main(load, str(__doc__))
