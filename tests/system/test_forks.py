"""Programs that fork after they used a codec: the children work, and so do theirs.

Most of it runs in a process of its own, with two threads in torch whatever this machine has: with one, nothing hangs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rdeic
from rdeic.system import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")

HEAD = """
import faulthandler, json, multiprocessing, os, sys, threading, time
faulthandler.dump_traceback_later(50, exit=True)
import numpy as np
import rdeic
FOLDER = sys.argv[1]
PICTURE = (np.arange(256 * 256 * 3) * 7919 % 251).astype(np.uint8).reshape(256, 256, 3)
context = multiprocessing.get_context("fork")
def used():
    import torch
    torch.set_num_threads(2)
    codec = rdeic.load(FOLDER, "cpu", encoder_precision="fp32")
    codec.decompress(codec.compress(PICTURE, quality=30))
    return codec
def say(**found):
    print(json.dumps(found))
"""


def run(program: str, folder: Path) -> dict[str, Any]:
    """What `program` says, as its last line."""
    return said("-c", HEAD + program, str(folder))


def said(*arguments: str) -> dict[str, Any]:
    """What a Python with these arguments says, as its last line."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(Path(rdeic.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_children_and_their_children_make_the_same_files_and_the_parent_keeps_its_threads(
    tiny_folder: Path,
) -> None:
    found = run(
        """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
codec = used()
here = codec.compress(PICTURE, quality=30)

def work(depth):
    import torch
    matrix = torch.ones(700, 700)
    total = float((matrix @ matrix).sum() + torch.sort(torch.arange(200_000.0))[0].sum())
    with ThreadPoolExecutor(2) as pool:
        blobs = list(pool.map(lambda _: codec.compress(PICTURE, quality=30), range(2)))
    blobs.append(codec.compress(PICTURE, quality=30))
    same = blobs == [here] * 3 and codec.decompress(here).size == (256, 256) and total > 0
    if not depth:
        return same, torch.get_num_threads()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return same, *pool.submit(work, depth - 1).result()

with context.Pool(2) as pool:
    pooled = pool.map(work, [0, 0])
with ProcessPoolExecutor(1, mp_context=context) as pool:
    executed = pool.submit(work, 1).result()
import torch
say(pooled=pooled, executed=executed, parent=torch.get_num_threads(), again=codec.compress(PICTURE, quality=30) == here)
""",
        tiny_folder,
    )
    assert found == {
        "pooled": [[True, 1], [True, 1]],
        "executed": [True, True, 1],
        "parent": 2,
        "again": True,
    }


def test_a_fork_in_the_middle_of_another_threads_picture_works(tiny_folder: Path) -> None:
    """Also in the middle of loading a model, whose lock would stay locked."""
    found = run(
        """
codec, fresh, ended = used(), rdeic.load(FOLDER, "cpu", encoder_precision="fp32"), []
def keep_busy():
    rdeic.load(FOLDER, "cpu", encoder_precision="fp32").compress(PICTURE)
    fresh.compress(PICTURE)
    while not ended:
        codec.compress(PICTURE)
threads = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in threads:
    thread.start()
sizes = []
for _ in range(5):
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put([len(one.compress(PICTURE)) for one in (codec, fresh)]))
    child.start()
    sizes.append(queue.get())
    child.join()
ended.append(True)
for thread in threads:
    thread.join()
say(sizes=sizes, expected=[len(codec.compress(PICTURE))] * 2)
""",
        tiny_folder,
    )
    assert found["sizes"] == [found["expected"]] * 5


def test_a_child_that_loads_a_codec_of_its_own_after_the_parents_torch_worked(tiny_folder: Path) -> None:
    found = run(
        """
import torch, rdeic.codec.codec
torch.set_num_threads(2)
torch.sort(torch.rand(1_000_000)), torch.rand(500, 500) @ torch.rand(500, 500)
def work(_):
    return len(rdeic.load(FOLDER, "cpu", encoder_precision="fp32").compress(PICTURE)), torch.get_num_threads()
with context.Pool(1) as pool:
    (found,) = pool.map(work, [0])
say(found=found, expected=work(0))
""",
        tiny_folder,
    )
    assert found["found"] == [found["expected"][0], 1]
    assert found["expected"][1] == 2


def test_children_of_a_program_that_never_coded_are_left_alone(tiny_folder: Path) -> None:
    found = run(
        """
import torch, rdeic.codec.codec
torch.set_num_threads(2)
with context.Pool(1) as pool:
    say(threads=pool.apply(torch.get_num_threads))
""",
        tiny_folder,
    )
    assert found == {"threads": 2}


def test_a_gpu_that_a_fork_lost_is_named(tiny_folder: Path) -> None:
    """Torch says that it used one before the fork; a machine without any can tell what the child says then."""
    found = run(
        """
codec = used()
torch = sys.modules["torch"]
torch.cuda.is_initialized = lambda: True
def work(device):
    try:
        return len(rdeic.load(FOLDER, device, encoder_precision="fp32").compress(PICTURE))
    except rdeic.ConfigError as error:
        return str(error)
with context.Pool(1) as pool:
    say(cuda=pool.apply(work, ["cuda"]), cpu=pool.apply(work, ["cpu"]), expected=work("cpu"))
""",
        tiny_folder,
    )
    assert found["cuda"].startswith("this process was forked from one that used the GPU")
    assert 'get_context("spawn")' in found["cuda"]
    assert found["cpu"] == found["expected"]


def test_a_pickled_codec_works_in_a_spawned_process(tiny_folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "spawned.py"
    program.write_text(
        HEAD.replace('"fork"', '"spawn"')
        + """
def work(codec):
    return codec.compress(PICTURE).hex()
if __name__ == "__main__":
    codec = used()
    with context.Pool(1) as pool:
        say(same=pool.apply(work, [codec]) == work(codec))
""",
        encoding="utf-8",
    )
    assert said(str(program), str(tiny_folder)) == {"same": True}


def test_a_thread_that_codes_may_fork_itself() -> None:
    """It does not wait for itself, and neither process is left with a closed gate."""
    with forks.coding(), forks.coding():
        child = os.fork()
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with forks.coding():
        pass
