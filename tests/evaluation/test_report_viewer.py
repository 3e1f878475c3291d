"""The viewer of a report: the very pictures, no other files, and a page that stays small."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from rdeic.evaluation import report_page
from rdeic.evaluation.results import ORIGINAL, Shown
from rdeic.evaluation.viewer import gallery
from support.report_results import CODECS, IMAGES, SETTINGS, Page, failed, picture_file, results, show


def test_the_viewer_has_the_very_pictures(tmp_path: Path) -> None:
    given = show(tmp_path, results())
    scenes = json.loads(Page(report_page.write(given, tmp_path)).raw["script"][0])
    assert [(scene["image"], scene["width"], scene["height"]) for scene in scenes] == [
        ("kodim01.png", 48, 32)
    ]
    versions = scenes[0]["versions"]
    assert versions[0]["codec"] == ORIGINAL and len(versions) == len(given.shown)
    order = [(CODECS.index(version["codec"]), version["bpp"]) for version in versions[1:]]
    assert order == sorted(order)
    for version in versions:
        kind, _, data = version["uri"].partition(";base64,")
        assert kind == "data:image/png"
        stored = tmp_path / f"shown/{version['codec']}-{version['setting']}.png"
        assert base64.b64decode(data) == stored.read_bytes()
    last = dict(versions[-1]["facts"])
    assert last["rate"] == f"{2.2 * 0.06 * 1.5**4:.4f} bpp" and last["PSNR"] == "27.20 dB"


def test_failures_have_no_size_in_the_viewer(tmp_path: Path) -> None:
    given = show(tmp_path, results())
    given = given._replace(measurements=(failed(given.measurements[0], "crashed"), *given.measurements[1:]))
    (scene,) = gallery(given, tmp_path, 1 << 20).scenes
    assert (scene.width, scene.height) == (48, 32)


@pytest.mark.parametrize("missing", [False, True])
def test_a_viewer_without_pictures_says_why(
    missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = show(tmp_path, results())
    monkeypatch.setattr(report_page, "PICTURE_BYTES", 1000)
    if missing:
        given = given._replace(shown=(Shown("avif", "1", IMAGES[0], "gone.png"),))
    page = Page(report_page.write(given, tmp_path))
    why = "gone.png: not a readable" if missing else "21 pictures lie beside this page as files"
    assert why in page.text and "Side by side" in page.text
    assert not {tag for tag, a in page.elements if a.get("class") == "stage"}
    assert len(page.raw["script"]) == 1  # no scenes for it


def test_the_viewer_takes_no_file_but_pictures_of_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    given = show(folder, results())
    (tmp_path / "secret.png").write_bytes(picture_file())
    (folder / "notes.png").write_bytes(b"<svg onload=alert(1)>")
    bad = ("../secret.png", str(tmp_path / "secret.png"), "notes.png", "missing.png", "shown", "a\0b")
    given = given._replace(shown=(*given.shown, *(Shown("avif", "1", IMAGES[0], path) for path in bad)))
    found = gallery(given, folder, 1 << 20)
    assert [line.partition(": not a readable")[0] for line in found.broken] == list(bad)
    assert len(found.scenes[0].versions) == 1 + len(CODECS) * len(SETTINGS)


@pytest.mark.parametrize("files", [21, 15, 8, 4])
def test_the_viewer_keeps_the_page_small_and_every_codec_in_it(tmp_path: Path, files: int) -> None:
    given = show(tmp_path, results())
    whole = gallery(given, tmp_path, 1 << 30).scenes[0].versions
    limit = files * max(len(version.uri) for version in whole)
    found = gallery(given, tmp_path, limit)
    kept = [version for scene in found.scenes for version in scene.versions]
    assert sum(len(version.uri) for version in kept) <= limit
    assert len(kept) + found.full == len(given.shown)
    # of each codec all five, the first, third and fifth, the first alone; not even that
    assert len(kept) == {21: 1 + 5 * 4, 15: 1 + 3 * 4, 8: 1 + 1 * 4, 4: 0}[files]
    assert {version.codec for version in kept} == ({ORIGINAL, *CODECS} if kept else set())
