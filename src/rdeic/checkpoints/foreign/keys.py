"""Names of our tensors in another layout, as a table of subtrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rdeic.checkpoints.checkpoints import Shape
from rdeic.errors import CheckpointError

Leaves = Mapping[str, str]

SAME: Leaves = {"": ""}  # a single layer


class Part(NamedTuple):
    """A subtree of our state dict and where the other layout keeps it."""

    ours: str
    theirs: str
    leaves: Leaves = SAME  # names of the layers below it, ours => theirs
    matrices: bool = False  # their 1x1 convolutions are matrices


class Foreign(NamedTuple):
    """One tensor as the other layout has it."""

    name: str
    shape: Shape
    matrix: bool = False  # a 1x1 convolution of ours without its trailing ones


def locate(ours: Mapping[str, Shape], parts: Sequence[Part]) -> dict[str, Foreign]:
    """Our keys and shapes => where the other layout keeps each.

    Raises CheckpointError for a key that lies in no part: the other layout cannot express such a model.
    """
    by_prefix = {part.ours: part for part in parts}
    found = {}
    for key, shape in ours.items():
        part = _part_of(key, by_prefix)
        matrix = part.matrices and shape[2:] == (1, 1)
        found[key] = Foreign(_rename(key, part), shape[:2] if matrix else shape, matrix)
    return found


def _part_of(key: str, parts: Mapping[str, Part]) -> Part:
    prefix = key
    while prefix not in parts:
        prefix, dot, _ = prefix.rpartition(".")
        if not dot:
            raise CheckpointError(
                f"a model with {key} cannot be imported: the other layout has no such tensor"
            )
    return parts[prefix]


def _rename(key: str, part: Part) -> str:
    """`leaves` name layers, or tensors that are called differently."""
    rest = key.removeprefix(part.ours).removeprefix(".")
    layer, _, tensor = rest.rpartition(".")
    names = (
        [part.theirs, part.leaves[rest]] if rest in part.leaves else [part.theirs, part.leaves[layer], tensor]
    )
    return ".".join(name for name in names if name)
