"""Rooms never import from floors above; checked on the syntax tree, imports inside functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rdeic

ROOT = Path(rdeic.__file__).parent
TESTS = Path(__file__).parents[1]
ENTRANCE = "__init__"  # `import rdeic`

# From the ground up. A room stands on the floors below it, and on its neighbours where its floor has several.
FLOORS = (
    ("errors", "config", "types"),  # the names that everybody shares
    ("system",),
    ("entropy",),
    ("container",),
    ("pictures",),
    ("nn", "diffusion"),
    ("model",),
    ("checkpoints",),
    ("codec", ENTRANCE),
    ("training", "evaluation", "pillow", "ray"),
    ("serve",),
    ("cli", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LOOSE = {ENTRANCE, "__main__", "config", "errors", "pillow", "types"}
WITHOUT_TORCH = (
    *("errors", "config", "entropy", "container", "pictures", "pillow", "cli", "model.tiles"),
    *("system.arguments", "system.files", "system.memory", "system.text"),
    *("checkpoints.model_wheels", "checkpoints.registry", "codec.codecs", "codec.rate"),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """Modules that `name` imports; `from package import module` counts as the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            base = node.module or ""
            found |= {full if (full := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return found


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ENTRANCE


def test_every_module_lies_in_a_room_that_has_a_floor() -> None:
    assert {room(name) for name in MODULES} == FLOOR.keys()
    assert {path.stem for path in ROOT.glob("*.py")} == LOOSE
    assert {f"rdeic.{one}" for one in WITHOUT_TORCH} <= MODULES.keys()


def test_every_test_lies_in_a_folder() -> None:
    assert [path.name for path in TESTS.glob("*.py")] == ["conftest.py"]


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    floor = FLOOR[room(name)]
    above = {other for other in imports(name) & MODULES.keys() if FLOOR[room(other)] > floor}
    assert not above, f"{name} (floor {floor}: {', '.join(FLOORS[floor])}) imports from above"


def test_no_import_cycles() -> None:
    graph = {name: imports(name) & MODULES.keys() - {name} for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(
        MODULES
    )  # raises CycleError, naming the cycle


@pytest.mark.parametrize(
    "name",
    [name for name in MODULES if f"{name}.".startswith(tuple(f"rdeic.{one}." for one in WITHOUT_TORCH))],
)
def test_these_never_import_torch(name: str) -> None:
    assert not {other for other in imports(name) if other.split(".")[0] == "torch"}


def test_importing_the_package_is_light() -> None:
    heavy = {"torch", "numpy", "PIL", "typer", "rich", "constriction"}
    program = f"import sys, rdeic; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_command_line_help_is_light() -> None:
    program = (
        "import sys, rdeic.cli.app; print(*sorted({'torch', 'numpy', 'PIL', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
