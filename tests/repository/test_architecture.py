"""Lower layers never import higher ones; checked on the syntax tree, imports inside functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rdeic

ROOT = Path(rdeic.__file__).parent

# The longest matching prefix decides.
LAYERS = {
    "rdeic.errors": 0,
    "rdeic.arguments": 0,
    "rdeic.memory": 0,
    "rdeic.stored_size": 0,
    "rdeic.tiles": 0,
    "rdeic.config": 0,
    "rdeic.container": 0,
    "rdeic.files": 0,
    "rdeic.marks": 0,
    "rdeic.text": 0,
    "rdeic.metadata": 0,
    "rdeic.entropy": 0,
    "rdeic.types": 1,
    "rdeic.images": 1,
    "rdeic.exif": 1,
    "rdeic.forks": 1,
    "rdeic.info": 1,
    "rdeic.limits": 1,
    "rdeic.devices": 1,
    "rdeic.payload": 1,
    "rdeic.precision": 1,
    "rdeic.pictures": 1,
    "rdeic.rate": 1,
    "rdeic.registry": 1,
    "rdeic.threads": 1,
    "rdeic.scaling": 1,
    "rdeic.sources": 1,
    "rdeic.diffusion.schedule": 1,
    "rdeic.diffusion.relay": 1,
    "rdeic.diffusion": 1,
    "rdeic.nn": 2,
    "rdeic.diffusion.sampler": 3,
    "rdeic.latent_codec": 3,
    "rdeic.model": 3,
    "rdeic.tiled": 4,
    "rdeic.checkpoints": 4,
    "rdeic.shards": 4,
    "rdeic.foreign": 4,
    "rdeic.verification": 4,
    "rdeic.codec": 5,
    "rdeic.codecs": 5,
    "rdeic.encoder": 5,
    "rdeic": 5,
    "rdeic.pillow": 6,
    "rdeic.ray": 6,
    "rdeic.training": 6,
    "rdeic.evaluation": 6,
    "rdeic.serve": 7,
    "rdeic.cli": 7,
    "rdeic.__main__": 7,
}
WITHOUT_TORCH = {name for name, layer in LAYERS.items() if layer == 0} | {
    "rdeic.images",
    "rdeic.info",
    "rdeic.pictures",
    "rdeic.rate",
    "rdeic.registry",
    "rdeic.codecs",
    "rdeic.pillow",
    "rdeic.cli",
}


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


def layer(name: str) -> int:
    while name not in LAYERS:
        assert "." in name, f"{name} is in no layer"
        name = name.rpartition(".")[0]
    return LAYERS[name]


def test_every_module_has_a_layer_of_its_own_or_its_packages() -> None:
    top = {name for name in MODULES if name.count(".") == 1}
    assert top - LAYERS.keys() == set()


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    for other in imports(name):
        if other in MODULES:
            assert layer(other) <= layer(name), (
                f"{name} (layer {layer(name)}) imports {other} (layer {layer(other)})"
            )


def test_no_import_cycles() -> None:
    graph = {name: imports(name) & MODULES.keys() - {name} for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(
        MODULES
    )  # raises CycleError, naming the cycle


@pytest.mark.parametrize(
    "name", [name for name in MODULES if any(f"{name}.".startswith(f"{p}.") for p in WITHOUT_TORCH)]
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
