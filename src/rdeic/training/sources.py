"""Where training pictures are: in folders and in tar files such as webdataset shards; nothing is decoded here."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import TrainingError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
HELD_OUT_ONE_IN = 64


class Source(NamedTuple):
    """Where an encoded picture lies: a whole file, or a member of an uncompressed tar file."""

    name: str
    path: Path
    offset: int  # bytes
    size: int  # bytes

    def read(self) -> bytes:
        """The encoded picture. Raises OSError."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find(paths: Iterable[Path]) -> list[Source]:
    """Every jpg, png and webp under `paths` (pictures, tar files, folders of both, recursively), sorted by place.

    What else is in a tar file (labels, captions) is passed over. Raises TrainingError for a path that does not exist
    or cannot be listed.
    """
    sources: list[Source] = []
    for path in paths:
        try:
            sources += _find(path)
        except (OSError, tarfile.TarError) as error:
            raise TrainingError(f"cannot list the pictures in {path}: {error}") from error
    return sources


def split(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """(training, held-out) pictures; about one in 64 is held out, decided by its file name alone.

    A set too small to hold any out that way lends its last by that order; a lone picture serves as both.
    """
    held_out = [source for source in sources if _name_hash(source) % HELD_OUT_ONE_IN == 0]
    if not held_out and sources:
        held_out = [min(sources, key=_name_hash)]
    out = set(held_out)
    return [source for source in sources if source not in out] or list(sources), held_out


def _find(path: Path) -> Iterator[Source]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.name.lower().endswith((*SUFFIXES, ".tar", *COMPRESSED)) and file.is_file():
                yield from _find(file)
    elif path.name.lower().endswith(COMPRESSED):
        raise TrainingError(
            f"{path} is compressed; unpack it to a plain .tar, from which pictures can be read alone"
        )
    elif path.suffix.lower() == ".tar":
        yield from _members(path)
    else:
        yield Source(path.name, path, 0, path.stat().st_size)


def _members(path: Path) -> Iterator[Source]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(SUFFIXES):
                yield Source(member.name, path, member.offset_data, member.size)


def _name_hash(source: Source) -> int:
    digest = hashlib.sha256(Path(source.name).name.encode("utf-8", "surrogateescape")).digest()
    # The low bits decide the split, so the rest only breaks ties in the order of a small set.
    return int.from_bytes(digest[:8], "little")
