"""Words that the shell offers for an option or argument: those that begin as `incomplete`. No torch.

Where nothing fits, the shell completes file names by itself. So it does for names that it would have to quote, which
these functions cannot do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator

_PLAIN = re.compile(r"[\w./+,@%-]*")  # means itself in every shell


def models(incomplete: str) -> list[str]:
    """Names of installed models."""
    from rdeic.checkpoints import registry

    return sorted({folder.name for folder in registry.folders() if folder.name.startswith(incomplete)})


def rdeic_files(incomplete: str) -> list[str]:
    """Folders, and files that end in .rdeic."""
    return _files(incomplete, (".rdeic",))


def pictures(incomplete: str) -> list[str]:
    """Folders, and picture files that can be read here."""
    from rdeic.pictures import images

    return _files(incomplete, images.readable_suffixes())


def stages(incomplete: str) -> list[str]:
    """Names of training stages."""
    names = ("autoencoder", "prior", "independent", "fixed-step")
    return [name for name in names if name.startswith(incomplete)]


def _files(incomplete: str, suffixes: Collection[str]) -> list[str]:
    found = sorted(_matches(incomplete, suffixes))
    # The shell would put a space after the only word; a folder's content follows without.
    while len(found) == 1 and found[0].endswith("/"):
        found = sorted(_matches(found[0], suffixes))
    return found if all(_PLAIN.fullmatch(name) for name in found) else []


def _matches(incomplete: str, suffixes: Collection[str]) -> Iterator[str]:
    folder, start = os.path.split(incomplete)
    try:
        entries = list(os.scandir(folder or "."))
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        name = os.path.join(folder, entry.name)
        if entry.is_dir():
            yield f"{name}/"
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            yield name
