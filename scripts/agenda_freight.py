"""What travels to a borrowed machine and back: loads that fit the way in, pieces that fit the way out.

An archive (a tar file) is cut into pieces; MANIFEST.json says what they are called and what they sum up to. A piece
carries part of its archive's checksum in its name, so that those of two states of a run never mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rdeic.errors import CheckpointError, ImageError
from rdeic.pictures import images
from rdeic.system import files
from rdeic.training.sources import Source

PIECE = 15_000_000  # bytes of a file on the way out
MOST_FILES = 8  # of them at a time, the manifest among them
MOST_BYTES = 61_000_000  # of them together
MANIFEST = "MANIFEST.json"
TAR_BLOCK, TAR_END = 512, 10_240  # bytes: of a header and of what a member is padded to; of the end


class Piece(NamedTuple):
    name: str
    size: int
    sha256: str


class Archive(NamedTuple):
    name: str
    sha256: str
    pieces: tuple[Piece, ...]


def archived(name: str, entries: Iterable[tuple[str, Path]]) -> tuple[Archive, list[bytes]]:
    """Files under new names as one tar file => its description and its pieces."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for inside, path in entries:
            tar.add(path, inside)
    data = stream.getvalue()
    sha256 = _sha256(data)
    parts = [data[first : first + PIECE] for first in range(0, len(data), PIECE)]
    pieces = [
        Piece(f"{name}-{sha256[:8]}.{number:02}", len(part), _sha256(part))
        for number, part in enumerate(parts)
    ]
    return Archive(name, sha256, tuple(pieces)), parts


def write_manifest(archives: Sequence[Archive], folder: Path) -> None:
    plain = [{**one._asdict(), "pieces": [piece._asdict() for piece in one.pieces]} for one in archives]
    files.atomic_write(folder / MANIFEST, json.dumps(plain, indent=1).encode())


def read_manifest(folder: Path) -> list[Archive]:
    """Those that the manifest of a folder knows; none without one. Raises CheckpointError for another file."""
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return [
            Archive(one["name"], one["sha256"], tuple(Piece(**piece) for piece in one["pieces"]))
            for one in plain
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not a manifest of pieces: {error}; fetch it again") from error


def join(folders: Sequence[Path], out: Path) -> list[str]:
    """Unpacks every archive whose pieces are all in `folders` into `out` => names of the pieces that are not there.

    Raises CheckpointError for a piece that is damaged.
    """
    where = {path.name: path for folder in folders for path in folder.rglob("*") if path.is_file()}
    manifests = [path.parent for folder in folders for path in sorted(folder.rglob(MANIFEST))]
    missing = []
    for archive in dict.fromkeys(one for folder in manifests for one in read_manifest(folder)):
        absent = [piece.name for piece in archive.pieces if piece.name not in where]
        missing += absent
        if absent:
            continue
        data = b"".join(_verified(where[piece.name], piece) for piece in archive.pieces)
        if _sha256(data) != archive.sha256:
            raise CheckpointError(f"the pieces of {archive.name} do not sum up to it; fetch them again")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(out, filter="data")
    return missing


def _verified(path: Path, piece: Piece) -> bytes:
    data = path.read_bytes()
    if len(data) != piece.size or _sha256(data) != piece.sha256:
        raise CheckpointError(f"{path} is damaged: its checksum is another; fetch it again")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Dispatch:
    """The way out: what waits in a folder, and what the output folder has room for.

    What one call has no room for, the next one sends, whose output folder is empty again.
    """

    def __init__(self, waiting: Path, output: Path) -> None:
        self._waiting, self._sent, self._output = waiting, waiting / "sent", output
        self._sent.mkdir(parents=True, exist_ok=True)
        output.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, entries: Iterable[tuple[str, Path]]) -> None:
        """An archive in place of the one of that name, whose pieces wait no longer."""
        archive, parts = archived(name, entries)
        known = read_manifest(self._waiting)
        if archive in known:
            return
        for old in (piece for one in known if one.name == name for piece in one.pieces):
            (self._waiting / old.name).unlink(missing_ok=True)
        for piece, part in zip(archive.pieces, parts, strict=True):
            files.atomic_write(self._waiting / piece.name, part)
        # The newest goes first: it is wanted most.
        write_manifest([archive] + [one for one in known if one.name != name], self._waiting)

    def send(self) -> int:
        """=> how many pieces still wait."""
        archives = read_manifest(self._waiting)
        waiting = [self._waiting / piece.name for archive in archives for piece in archive.pieces]
        waiting = [path for path in waiting if path.is_file()]
        write_manifest(archives, self._output)
        there = [path.stat().st_size for path in self._output.iterdir()]
        room, left = MOST_FILES - len(there), MOST_BYTES - sum(there)
        for count, path in enumerate(waiting):
            left -= path.stat().st_size
            if count >= room or left < 0:
                return len(waiting) - count
            files.atomic_write(self._output / path.name, path.read_bytes())
            path.replace(self._sent / path.name)
        return 0

    def send_again(self) -> None:
        """Everything that was sent waits once more."""
        for path in self._sent.iterdir():
            path.replace(self._waiting / path.name)


class _Loads:
    """Folders that are filled one after the other, each with at most `limit` bytes."""

    def __init__(self, out: Path, limit: int) -> None:
        self.out, self.limit, self.folders, self.room = out, limit, list[Path](), 0

    def place_for(self, size: int) -> Path:
        """The folder that has room for so many bytes, a new one if need be."""
        if self.room < size:
            self.folders.append(self.out / f"load-{len(self.folders)}")
            self.folders[-1].mkdir(parents=True)
            self.room = self.limit
        self.room -= size
        return self.folders[-1]


def pack(
    pictures: Sequence[Source], quality: int, entries: Sequence[tuple[str, Path]], limit: int, out: Path
) -> list[Path]:
    """Fills folders of `limit` bytes each: pieces of the entries, then pictures, re-encoded as WebP, in tar files.

    => the folders, to be brought one after the other.
    """
    loads = _Loads(out, limit)
    if entries:
        archive, parts = archived("freight", entries)
        for piece, part in zip(archive.pieces, parts, strict=True):
            (loads.place_for(piece.size) / piece.name).write_bytes(part)
        allowance = 1000 * (1 + len(archive.pieces))
        write_manifest([archive], loads.place_for(allowance))
    tars: dict[Path, tarfile.TarFile] = {}
    with contextlib.ExitStack() as stack:
        for name, data in _reencoded(pictures, quality):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            padded = TAR_BLOCK + -(-len(data) // TAR_BLOCK) * TAR_BLOCK
            folder = loads.place_for(padded)
            if folder not in tars:
                tars[folder] = stack.enter_context(tarfile.open(folder / "pictures.tar", "w"))
                loads.room -= TAR_END
            tars[folder].addfile(info, io.BytesIO(data))
    return loads.folders


def _reencoded(pictures: Sequence[Source], quality: int) -> Iterator[tuple[str, bytes]]:
    """Names and WebP files; what cannot be read is left out.

    File names stay what they were, whatever is in them now: they decide which pictures are held out.
    """

    def encode(place: int) -> bytes | None:
        try:
            before = pictures[place].read()
            picture = Image.fromarray(images.read(before))
        except (OSError, ImageError):
            return None
        stream = io.BytesIO()
        picture.save(stream, "webp", quality=quality, method=6)
        return min(stream.getvalue(), before, key=len)

    with ThreadPoolExecutor() as pool:
        for place, data in enumerate(pool.map(encode, range(len(pictures)))):
            if data is not None:
                yield f"{place:05}/{Path(pictures[place].name).name}", data
