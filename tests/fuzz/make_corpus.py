"""Writes the committed corpora anew: PYTHONPATH=tests python -m fuzz.make_corpus"""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from fuzz import engine, fuzz_decoder
from fuzz.mutations import resealed


def container_files() -> dict[str, bytes]:
    from rdeic.container import metadata
    from rdeic.container.container import Header, RdeicFile, Section, pack
    from rdeic.container.stored_size import Size

    plain = Header(b"\x01\x02\x03\x04", width=768, height=512, quality=128, steps=2, seed=0)
    described = metadata.Metadata(
        datetime(2024, 2, 29, 23, 59, 59),
        "Maker",
        "M\u00f6del",
        "sRGB",
        "Hello",
        metadata.Location(-89.5, 179.25),
    )
    largest = Header(b"\xff" * 4, 65_535, 65_535, 255, 255, 2**32 - 1)
    return {
        "plain": pack(RdeicFile(plain, b"payload")),
        "seeded": pack(RdeicFile(plain._replace(seed=0xDEADBEEF), bytes(64))),
        "empty-payload": pack(RdeicFile(plain, b"")),
        "sections": pack(RdeicFile(plain, b"payload", (Section(2, b""), Section(90, bytes(130))))),
        "metadata": pack(RdeicFile(plain, b"payload", (Section(metadata.KIND, metadata.pack(described)),))),
        "largest": pack(RdeicFile(largest, b"\xff" * 16)),
        "stored-smaller": pack(RdeicFile(plain._replace(stored=Size(256, 171)), b"payload")),
        "stored-smallest": pack(RdeicFile(largest._replace(stored=Size(1024, 1024)), b"\xff" * 16)),
        "seed-cut-off": resealed(pack(RdeicFile(plain, b""))[:4] + b"\x01" + pack(RdeicFile(plain, b""))[5:]),
    }


def decoder_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        codec = fuzz_decoder.tiny_codec(Path(folder))
        made = {f"fresh-{i}": data for i, data in enumerate(fuzz_decoder.fresh(codec))}
        made |= {f"wild-{i}": data for i, data in enumerate(fuzz_decoder.wild(codec))}
        made |= {f"stored-{i}": data for i, data in enumerate(fuzz_decoder.stored_smaller(codec))}
    return {name: resealed(data[:5] + fuzz_decoder.PLACEHOLDER + data[9:]) for name, data in made.items()}


def main() -> None:
    for name, files in (("container", container_files()), ("decoder", decoder_files())):
        folder = engine.CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for label, data in files.items():
            (folder / f"{label}.rdeic").write_bytes(data)


if __name__ == "__main__":
    main()
