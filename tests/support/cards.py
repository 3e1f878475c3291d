"""Two camera cards with the same names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from rdeic.pictures import images


@pytest.fixture
def cards(tmp_path: Path, photo: images.Picture) -> tuple[Path, Path]:
    """Two camera cards that count from the same number; the files are of the same size and age."""
    found = []
    for number in (1, 2):
        place = tmp_path / f"card{number}" / "IMG_0001.bmp"
        place.parent.mkdir()
        Image.fromarray(photo if number == 1 else 255 - photo).save(place)
        os.utime(place, ns=(0, 0))
        found.append(place)
    assert found[0].stat().st_size == found[1].stat().st_size
    return found[0], found[1]
