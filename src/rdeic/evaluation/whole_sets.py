"""FID and KID of every codec at every setting: metrics that only a whole set of pictures has."""

from __future__ import annotations

from collections.abc import Sequence

from rdeic.evaluation import metrics, patches, pool, worker
from rdeic.evaluation.patches import Features
from rdeic.evaluation.types import Measurement, Score, SetScore, Unavailable
from rdeic.evaluation.worker import Setup, Task


def scores(
    setup: Setup, pairs: Sequence[tuple[Task, Measurement]]
) -> tuple[list[SetScore], list[Unavailable]]:
    """Those of every codec and setting whose pictures all came through; and why there are none of others."""
    found: list[SetScore] = []
    gaps: list[Unavailable] = []
    names = [name for name in metrics.OF_SET if name in setup.metrics]
    for (codec, setting), group in _groups(pairs).items() if names else ():
        features = _features(setup, group)
        for name in names:
            value = features if isinstance(features, str) else _value(name, *features)
            if isinstance(value, str):
                gaps.append(Unavailable(name, f"not of {codec} {setting}: {value}"))
            else:
                found.append(SetScore(codec, setting, Score(name, value)))
    return found, gaps


def _groups(
    pairs: Sequence[tuple[Task, Measurement]],
) -> dict[tuple[str, str], list[tuple[Task, Measurement]]]:
    groups: dict[tuple[str, str], list[tuple[Task, Measurement]]] = {}
    for task, one in pairs:
        groups.setdefault((one.codec, one.setting), []).append((task, one))
    return groups


def _features(setup: Setup, group: Sequence[tuple[Task, Measurement]]) -> tuple[Features, Features] | str:
    """Of the restored pictures and of the originals; or why there are none."""
    failures = sum(bool(one.error) for _, one in group)
    if failures:
        return f"{failures} of {len(group)} pictures failed"
    folder, tasks = setup.folder, [task for task, _ in group]
    try:
        restored = patches.stack([folder / worker.features_path(setup, task) for task in tasks])
        original = patches.stack([folder / worker.original_features_path(setup, task) for task in tasks])
    except Exception as error:  # of a damaged file, numpy raises almost anything
        return f"{pool.explain(error)}; remove the folder features of the report, and run it again"
    if len(original) < patches.MIN_PATCHES:
        return f"{len(original)} patches of {patches.SIDE} pixels are too few"
    return restored, original


def _value(name: str, restored: Features, original: Features) -> float | str:
    function = {"fid": patches.fid, "kid": patches.kid}[name]
    try:
        return function(restored, original)
    except Exception as error:  # of other people's code
        return pool.explain(error)
