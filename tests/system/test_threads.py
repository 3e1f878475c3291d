"""How long torch's threads wait for each other: the program asks for less than libgomp's own, unless told otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

UNSAID = {
    name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
}


@pytest.mark.parametrize(
    ("said", "ours"), [({}, True), ({"OMP_WAIT_POLICY": "active"}, False)], ids=["nothing said", "a policy"]
)
def test_what_torch_is_told_of_waiting(said: dict[str, str], ours: bool) -> None:
    """Asked of torch's own libgomp, in the program as it is started from a shell."""
    run = subprocess.run(
        [sys.executable, "-m", "rdeic", "doctor"],
        env=UNSAID | said | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)
    if not found:
        pytest.skip("this torch computes with another library than libgomp")
    assert (set(found) == {"10000"}) is ours
