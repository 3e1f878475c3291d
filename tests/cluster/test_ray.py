"""Tables, an actor, and a local cluster that loses a worker."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import rdeic
from rdeic.errors import ConfigError
from rdeic.pictures import images
from rdeic.ray import Compress, Decompress, folders
from rdeic.ray.manifest import Manifest, Row
from rdeic.ray.stores import Found, Store

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import sys, ray
from rdeic.ray import folders
ray.init(num_cpus=2, include_dashboard=False)
print("RESULT", *folders.compress(*sys.argv[1:4], folders.Workers(actors=2, batch=4), model=sys.argv[4])[:3])
"""


def encoded(array: images.Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def pngs() -> list[bytes]:
    """Small pictures, no two alike."""
    random = np.random.default_rng(0)
    return [encoded(random.integers(0, 256, (64, 64 + n % 3, 3), np.uint8)) for n in range(120)]


# -- tables


def test_a_table_of_pictures_becomes_one_of_the_codecs_own_files(
    tiny_folder: Path, pngs: list[bytes]
) -> None:
    table = pa.table({"name": ["a", "b"], "bytes": pngs[:2]})
    done = Compress(str(tiny_folder), quality=80)(table)
    files = [rdeic.load(tiny_folder).compress(png, quality=80) for png in pngs[:2]]
    assert done.column_names == ["name", "result", "digest", "bytes", "bpp", "seconds", "failure"]
    assert done["name"].to_pylist() == ["a", "b"]
    assert done["result"].to_pylist() == files
    assert done["digest"].to_pylist() == [hashlib.sha256(png).hexdigest() for png in pngs[:2]]
    assert done["bytes"].to_pylist() == [len(file) for file in files]
    assert done["bpp"].to_pylist() == [rdeic.inspect(file).bpp for file in files]
    assert done["failure"].to_pylist() == [None, None]


def test_numpy_batches_and_other_columns_do(tiny_folder: Path, pngs: list[bytes]) -> None:
    batch = {"jpg": np.array(pngs[:2], dtype=object)}
    assert Compress(str(tiny_folder), column="jpg")(batch)["failure"].to_pylist() == [None, None]


def test_a_broken_picture_is_a_row_that_says_why_and_the_others_are_done(
    tiny_folder: Path, pngs: list[bytes]
) -> None:
    table = pa.table({"bytes": pa.array([pngs[0], pngs[1][:100], None, pngs[2]], pa.binary())})
    done = Compress(str(tiny_folder))(table)
    assert [result is None for result in done["result"].to_pylist()] == [False, True, True, False]
    failures = done["failure"].to_pylist()
    assert "truncated" in failures[1]
    assert failures[2] == "no content"


def test_what_would_fail_for_every_picture_is_an_error(tiny_folder: Path, pngs: list[bytes]) -> None:
    for settings in ({"model": "nobody's"}, {"quality": 101.0}):
        with pytest.raises(ConfigError):
            Compress(**{"model": str(tiny_folder), **settings})
    with pytest.raises(ConfigError, match="no column 'bytes'; there is jpg"):
        Compress(str(tiny_folder))({"jpg": np.array(pngs[:1], dtype=object)})
    with pytest.raises(ConfigError, match="format 'gif' is none of png, webp, jpg"):
        Decompress(str(tiny_folder), format="gif")
    with pytest.raises(ConfigError, match="steps"):
        Decompress(str(tiny_folder), steps=0)


def test_files_come_back_as_the_codecs_own_pictures(tiny_folder: Path, pngs: list[bytes]) -> None:
    own = rdeic.load(tiny_folder)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Camera maker"
    Image.open(io.BytesIO(pngs[0])).save(stream, "PNG", exif=exif)
    described = pa.table({"bytes": [stream.getvalue()]})
    (blob,) = Compress(str(tiny_folder), metadata=True)(described)["result"].to_pylist()
    done = Decompress(str(tiny_folder), detail=0.5)(pa.table({"bytes": [blob, b"RDEC"]}))
    picture = Image.open(io.BytesIO(done["result"][0].as_py()))
    assert np.array_equal(np.asarray(picture), np.asarray(own.decompress(blob, detail=0.5)))
    assert picture.getexif()[0x010F] == "Camera maker"
    assert done["result"][1].as_py() is None
    assert done["bpp"].to_pylist() == [rdeic.inspect(blob).bpp, None]


# -- a worker


def test_what_cannot_be_read_or_written_is_a_row_that_says_why(
    tiny_folder: Path, pngs: list[bytes], tmp_path: Path
) -> None:
    names = ["a.png", "gone.png", "broken.png", "taken.png", "b.png"]
    for name, content in zip(names, [*pngs[:2], b"no picture", *pngs[2:4]], strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "gone.png").unlink()
    (tmp_path / "out" / "taken.png.rdeic").mkdir(parents=True)
    store, out = Store(str(tmp_path)), Store(str(tmp_path / "out"))
    worker = folders._Worker(store, out, Compress, {"model": str(tiny_folder)})
    found = [Found(name, 1, 2) for name in names]
    rows = [Row(**row) for row in worker(folders._table(found, ".rdeic")).to_pylist()]
    assert [one.path for one in rows] == names
    assert rows[0].failure is None and rows[4].failure is None
    assert rows[1].failure is not None and rows[1].failure.startswith("cannot be read: ")
    assert rows[1].digest is None
    assert rows[2].failure is not None and rows[2].failure.startswith("not a picture")
    assert rows[3].failure is not None and rows[3].failure.startswith("taken.png.rdeic: cannot be written: ")
    for one, png in ((rows[0], pngs[0]), (rows[4], pngs[3])):
        content = (tmp_path / "out" / one.output).read_bytes()
        assert content == rdeic.load(tiny_folder).compress(png)
        assert (one.bytes, one.digest) == (len(content), hashlib.sha256(png).hexdigest())
    assert len(list((tmp_path / "out").iterdir())) == 3


# -- a cluster


def run(*arguments: str | Path) -> tuple[int, int, int]:
    """Done, finished before, failed."""
    process = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, timeout=900
    )
    assert process.returncode == 0, process.stderr[-4000:]
    line = next(one for one in process.stdout.splitlines() if one.startswith("RESULT"))
    done, before, failed = map(int, line.split()[1:])
    return done, before, failed


def workers() -> dict[psutil.Process, str]:
    """Ray's processes below this one => their titles."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may have ended
            found[process] = " ".join(process.cmdline())
    return {process: line for process, line in found.items() if "ray::" in line or "default_worker" in line}


def kill_an_actor_after_the_first_results(folder: Path, killed: list[int], counts: list[int]) -> None:
    """SIGKILL for one of the actors; `counts` hears how many workers there are, until then."""
    until = time.monotonic() + 600
    actors: list[psutil.Process] = []
    while not actors and time.monotonic() < until:
        found = workers()
        counts.append(len(found))
        actors = [process for process, line in found.items() if "MapBatches(_Worker)" in line]
        time.sleep(0.1)
    while not list(folder.glob("*.rdeic")) and time.monotonic() < until:
        time.sleep(0.01)
    if actors:
        actors[0].kill()
        killed.append(actors[0].pid)


def survives_a_killed_worker(folder: Path, model: Path, pngs: list[bytes]) -> None:
    places = (folder / "in", folder / "out", folder / "manifest")
    places[0].mkdir()
    for n, png in enumerate(pngs):
        (places[0] / f"{n:04d}.png").write_bytes(png)
    killed, counts = list[int](), list[int]()
    killer = threading.Thread(target=kill_an_actor_after_the_first_results, args=(places[1], killed, counts))
    killer.start()
    assert run(*places, model) == (len(pngs), 0, 0)
    killer.join()
    assert len(killed) == 1
    assert max(counts) < 30  # however many pictures there are

    rows = Manifest(str(places[2])).rows()
    assert sorted(rows) == [f"{n:04d}.png" for n in range(len(pngs))]
    for n, png in enumerate(pngs):
        name = f"{n:04d}.png"
        content = (places[1] / f"{name}.rdeic").read_bytes()
        assert rows[name].digest == hashlib.sha256(png).hexdigest()
        assert rows[name].bytes == len(content)
        assert rows[name].bpp == rdeic.inspect(content).bpp
    assert len(list(places[1].iterdir())) == len(pngs)


@pytest.mark.slow  # starting a cluster takes half a minute, a minute and more where the machine is busy
def test_a_cluster_that_loses_a_worker_does_everything_once_and_then_nothing(
    tmp_path: Path, tiny_folder: Path, pngs: list[bytes]
) -> None:
    survives_a_killed_worker(tmp_path, tiny_folder, pngs)
    source, out, manifest = (tmp_path / name for name in ("in", "out", "manifest"))
    (source / "0003.png").write_bytes(pngs[4])  # another picture under the same name
    (source / "broken.png").write_bytes(pngs[0][:50])
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(source, out, manifest, tiny_folder) == (1, len(pngs) - 1, 1)
    changed = [path.name for path, before in times.items() if path.stat().st_mtime_ns != before]
    assert changed == ["0003.png.rdeic"]
    assert Manifest(str(manifest)).rows()["broken.png"].failure
    assert not (out / "broken.png.rdeic").exists()


COUNT = """
import sys, ray, torch
from rdeic.ray import Compress
class Counting(Compress):
    def __call__(self, batch):
        return {"threads": [torch.get_num_threads()]}
ray.init(num_cpus=2, include_dashboard=False)
one = ray.data.from_items([{"bytes": b""}]).map_batches(
    Counting, fn_constructor_args=sys.argv[1:], compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1
)
print("THREADS", one.take_all()[0]["threads"])
"""


@pytest.mark.slow
def test_an_actor_computes_in_as_many_threads_as_it_has_cpus(tiny_folder: Path) -> None:
    """Ray itself leaves that to the node's OMP_NUM_THREADS."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(tiny_folder)],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert "THREADS 1\n" in done.stdout, done.stderr[-4000:]


@pytest.mark.slow
def test_the_pages_own_code_runs_on_a_cluster(tmp_path: Path) -> None:
    photograph = Image.open(ROOT / "examples" / "kodim23.png")
    pngs = [encoded(np.asarray(photograph)[8 * n : 8 * n + 256, :384]) for n in range(8)]
    (tmp_path / "photographs" / "2026").mkdir(parents=True)
    for n, png in enumerate(pngs[:5]):
        (tmp_path / "photographs" / "2026" / f"{n}.png").write_bytes(png)
    pq.write_table(pa.table({"jpg": pngs[5:], "label": [5, 6, 7]}), tmp_path / "photographs.parquet")
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    start = "import ray\nray.init(num_cpus=2, include_dashboard=False)\n"
    subprocess.run([sys.executable, "-c", start + code], cwd=tmp_path, check=True, timeout=900)

    own = rdeic.load()
    for n in range(5):
        blob = (tmp_path / "small" / "2026" / f"{n}.png.rdeic").read_bytes()
        restored = images.read(tmp_path / "restored" / "2026" / f"{n}.png.rdeic.png")
        alone = np.asarray(own.decompress(blob))  # maybe in more threads, in which bfloat16 adds up otherwise
        assert np.allclose(restored, alone, rtol=0, atol=8)
    rows = pq.read_table(tmp_path / "small.parquet").to_pylist()
    assert sorted(row["label"] for row in rows) == [5, 6, 7]
    assert all(rdeic.inspect(row["result"]).bpp == row["bpp"] for row in rows)


@pytest.mark.slow  # a minute or two
def test_a_thousand_pictures_survive_a_killed_worker(tmp_path: Path, tiny_folder: Path) -> None:
    random = np.random.default_rng(1)
    pngs = [encoded(random.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(1000)]
    survives_a_killed_worker(tmp_path, tiny_folder, pngs)
    places = [tmp_path / name for name in ("in", "out", "manifest")]
    assert run(*places, tiny_folder) == (0, 1000, 0)
