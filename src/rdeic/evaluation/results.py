"""Everything one evaluation measured, kept as results.json in its report folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation.types import Measurement, Score, SetScore, Unavailable, UnavailableCodec
from rdeic.system import files

RESULTS_FILE = "results.json"
ORIGINAL = "original"  # the codec of a Shown that is no codec's


class Shown(NamedTuple):
    """A picture kept for the viewer, lossless."""

    codec: str  # ORIGINAL for what the codecs were given
    setting: str  # "" for an original
    image: str  # file name in the data set
    path: str  # within the report folder, with forward slashes


class Results(NamedTuple):
    """What `runner.run` found out."""

    dataset: str  # name of the folder
    protocol: str  # how its pictures were prepared: a key of datasets.PROTOCOLS
    metrics: tuple[str, ...]  # asked for, those of whole sets and those unavailable included
    codecs: tuple[str, ...]  # measured, in the order asked for
    measurements: tuple[Measurement, ...]  # by codec, setting and image; failures included
    set_scores: tuple[SetScore, ...]
    unavailable: tuple[Unavailable, ...]
    unavailable_codecs: tuple[UnavailableCodec, ...]
    shown: tuple[Shown, ...]
    command: str  # that repeats it
    versions: tuple[str, ...]  # "Pillow 13.0.0" and so on, of what took part
    hardware: tuple[str, ...]  # that the measurements were made on, one line each


def save(results: Results, folder: Path) -> Path:
    """Writes results.json into `folder`, atomically, and returns its path. Raises OSError."""
    content = results._asdict()
    content["measurements"] = [plain(one) for one in results.measurements]
    content["set_scores"] = [one._asdict() | one.score._asdict() for one in results.set_scores]
    for one in content["set_scores"]:
        del one["score"]
    for name in ("unavailable", "unavailable_codecs", "shown"):
        content[name] = [one._asdict() for one in content[name]]
    path = folder / RESULTS_FILE
    files.atomic_write(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def load(folder: Path) -> Results:
    """What `save` wrote into `folder`. Raises ConfigError if nothing of the kind is there."""
    path = folder / RESULTS_FILE
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); make it with rdeic evaluate"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not the results of an evaluation ({error}); make it anew") from error


def plain(measurement: Measurement) -> dict[str, Any]:
    """A measurement as a JSON object; `measurement` is the inverse."""
    return measurement._asdict() | {"scores": [score._asdict() for score in measurement.scores]}


def measurement(content: dict[str, Any]) -> Measurement:
    """A Measurement from its JSON object. Raises KeyError, TypeError or ValueError if it is none."""
    return Measurement(**content | {"scores": tuple(Score(**score) for score in content["scores"])})


def _parse(content: dict[str, Any]) -> Results:
    return Results(
        dataset=content["dataset"],
        protocol=content["protocol"],
        metrics=tuple(content["metrics"]),
        codecs=tuple(content["codecs"]),
        measurements=tuple(measurement(one) for one in content["measurements"]),
        set_scores=tuple(
            SetScore(one["codec"], one["setting"], Score(one["metric"], one["value"]))
            for one in content["set_scores"]
        ),
        unavailable=tuple(Unavailable(**one) for one in content["unavailable"]),
        unavailable_codecs=tuple(UnavailableCodec(**one) for one in content["unavailable_codecs"]),
        shown=tuple(Shown(**one) for one in content["shown"]),
        command=content["command"],
        versions=tuple(content["versions"]),
        hardware=tuple(content["hardware"]),
    )
