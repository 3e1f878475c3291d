"""Samples in a colour space that a file names by numbers => 8-bit sRGB.

The numbers are those of ITU-T H.273 (CICP: primaries and transfer characteristics), or PNG's gAMA and cHRM. ICC
profiles go through Little CMS instead (render.py). Each picture takes the way

    code value -> light (the inverse of the transfer function) -> [tone mapping of HDR] -> sRGB's primaries -> sRGB

Light is relative to sRGB's white, HDR's to the 203 cd/m2 of a white paper (ITU-R BT.2408).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Light: TypeAlias = NDArray[np.floating[Any]]
Curve: TypeAlias = Callable[[Light], Light]  # code value 0..1 => light

_BT709, _BT2020 = 1, 9
_UNSPECIFIED = 2
_PQ, _HLG = 16, 18
_SRGB = 13
# Pictures are often marked with a video camera's curve though their samples are sRGB's; browsers show all of them so.
_SHOWN_AS_SRGB = frozenset({1, _UNSPECIFIED, 6, 11, 12, _SRGB})
_PAPER_WHITE = 203.0  # cd/m2, ITU-R BT.2408
_PEAK = 1000.0  # cd/m2; what is brighter becomes white
_HLG_PEAK = _PEAK / _PAPER_WHITE
_OOTF = 1.2  # exponent of the display that HLG is meant for, ITU-R BT.2100
_GRID = np.linspace(0, 1, 1 << 16)
_STRIP = 1 << 18  # pixels at a time, so that the light of a large picture takes little memory
_D65, _C, _E = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3)


class Primaries(NamedTuple):
    """CIE 1931 x, y of red, green, blue and white."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


class Space(NamedTuple):
    """What the code values of a picture mean: primaries and transfer function."""

    primaries: Primaries
    transfer: int  # H.273, table 3; 0 for a power
    exponent: float = 0.0  # of that power: light = code value ^ exponent
    full_range: bool = True  # or black at 16/255 and white at 235/255


_PRIMARIES = {  # H.273, table 2
    _BT709: Primaries(_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    _BT2020: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    10: Primaries(_E, (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
    11: Primaries((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
SRGB = Space(_PRIMARIES[_BT709], _SRGB)


def from_cicp(primaries: int, transfer: int, full_range: bool) -> Space | None:
    """The space of the numbers of H.273; None if they name none, or one that is not known here."""
    if primaries == transfer == _UNSPECIFIED:
        return None
    if primaries == _UNSPECIFIED:
        primaries = _BT2020 if transfer in (_PQ, _HLG) else _BT709
    if primaries not in _PRIMARIES or not (transfer in _SHOWN_AS_SRGB or transfer in _CURVES):
        return None
    return Space(
        _PRIMARIES[primaries], _SRGB if transfer in _SHOWN_AS_SRGB else transfer, full_range=full_range
    )


def from_png(gamma: int | None, chromaticities: tuple[int, ...] | None) -> Space | None:
    """The space of gAMA's number and cHRM's eight; None if both are missing, or are no sensible numbers.

    A gAMA within 2% of 1/2.2 is what the specification gives sRGB pictures for old readers, and means sRGB's curve.
    """
    space = SRGB
    if gamma is not None and 1_000 <= gamma <= 1_000_000 and abs(gamma * 2.2e-5 - 1) > 0.02:
        space = space._replace(transfer=0, exponent=100_000 / gamma)
    if chromaticities is not None:
        x, y = [value / 100_000 for value in chromaticities[::2]], [v / 100_000 for v in chromaticities[1::2]]
        named = Primaries(*zip(x, y, strict=True))
        if np.abs(np.subtract(named, space.primaries)).max() > 0.001 and _is_sensible(named):
            space = space._replace(primaries=named)
    return None if space == SRGB else space


def to_srgb(codes: NDArray[np.uint8] | NDArray[np.uint16], space: Space) -> NDArray[np.uint8]:
    """Code values (H, W, 3) of all of their type's range => (H, W, 3) uint8 sRGB; colours beyond sRGB are clipped."""
    if space == SRGB and codes.dtype == np.uint8:
        return codes.astype(np.uint8, copy=False)
    table = _light(space, int(np.iinfo(codes.dtype).max)).astype(np.float32)
    matrix = _to_srgb_primaries(space.primaries).astype(np.float32)
    peak = float(table[codes.max()])
    if space.transfer == _HLG:
        peak = peak**_OOTF * _HLG_PEAK
    dimming = _dimming(peak) if space.transfer in (_PQ, _HLG) and peak > 1 else None
    flat, out = codes.reshape(-1, 3), np.empty((codes.size // 3, 3), np.uint8)
    for start in range(0, len(flat), _STRIP):
        light = table.take(flat[start : start + _STRIP])
        if space.transfer == _HLG:
            light *= (light @ _luminance(space.primaries))[:, None] ** np.float32(_OOTF - 1) * _HLG_PEAK
        if dimming is not None:
            light *= dimming(np.maximum(np.maximum(light[:, 0], light[:, 1]), light[:, 2]))[:, None]
        out[start : start + _STRIP] = _encoded(light @ matrix.T)
    return out.reshape(codes.shape)


def _light(space: Space, top: int) -> Light:
    """Light of each code value 0..top."""
    codes = np.arange(top + 1) / top
    if not space.full_range:
        codes = np.clip((codes * 255 - 16) / 219, 0, 1)
    return codes**space.exponent if space.transfer == 0 else _CURVES[space.transfer](codes)


def _dimming(peak: float) -> Curve:
    """By how much to dim a pixel of given largest component, so that `peak` (relative to paper white) becomes white.

    That is the spline of ITU-R BT.2390, 5.4.1. To dim R, G and B alike keeps the hue.
    """
    source = min(peak, _PEAK / _PAPER_WHITE)
    largest = source * _GRID**2
    white = float(_to_pq(np.array(source)))
    code = _to_pq(largest) / white
    top = float(_to_pq(np.array(1.0))) / white  # maxLum
    knee = 1.5 * top - 0.5  # KS
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    )
    mapped = np.where(code < knee, largest, _from_pq(spline * white))
    factors = np.divide(mapped, largest, out=np.ones_like(largest), where=largest > 0).astype(np.float32)

    def dimming(light: Light) -> Light:
        shown = np.minimum(light, np.float32(source))
        return factors.take(_place(shown / np.float32(source))) * shown / np.maximum(light, np.float32(1e-9))

    return dimming


def _encoded(light: Light) -> NDArray[np.uint8]:
    """Linear sRGB => sRGB, clipped and rounded, within 0.003 levels before that."""
    return _srgb_codes().take(_place(np.clip(light, 0, 1)))


@functools.cache
def _srgb_codes() -> NDArray[np.uint8]:
    return np.rint(255 * _srgb(_GRID**2)).astype(np.uint8)


def _place(light: Light) -> NDArray[np.intp]:
    """Where a table over the squares of `_GRID` has the nearest light, 0..1; much faster than powers of pixels."""
    return (np.sqrt(light) * np.float32(len(_GRID) - 1) + np.float32(0.5)).astype(np.intp)


def _srgb(light: Light) -> Light:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _from_srgb(code: Light) -> Light:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _from_bt2020(code: Light) -> Light:
    return np.where(code < 4.5 * 0.018, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


def _from_smpte240(code: Light) -> Light:
    return np.where(code < 4 * 0.0228, code / 4, ((code + 0.1115) / 1.1115) ** (1 / 0.45))


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _from_pq(code: Light) -> Light:
    power = code ** (1 / _M2)
    return (
        10_000 / _PAPER_WHITE * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    )  # SMPTE ST 2084


def _to_pq(light: Light) -> Light:
    power = (light * (_PAPER_WHITE / 10_000)) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _from_hlg(code: Light) -> Light:
    """Light of the scene, 0..1 (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


_CURVES: dict[int, Curve] = {  # H.273, table 3
    4: lambda code: code**2.2,
    5: lambda code: code**2.8,
    7: _from_smpte240,
    8: lambda code: code,
    9: lambda code: np.where(code > 0, 10 ** (2 * (code - 1)), 0),
    10: lambda code: np.where(code > 0, 10 ** (2.5 * (code - 1)), 0),
    _SRGB: _from_srgb,
    14: _from_bt2020,
    15: _from_bt2020,
    _PQ: _from_pq,
    17: lambda code: 52.37 / 48 * code**2.6,
    _HLG: _from_hlg,
}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _xyz(x: float, y: float) -> Light:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(primaries: Primaries) -> Light:
    """Linear RGB => XYZ; its middle row is luminance."""
    columns = _columns(primaries)
    return columns * np.linalg.solve(columns, _xyz(*primaries.white))


def _columns(primaries: Primaries) -> Light:
    return np.array([(x, y, 1 - x - y) for x, y in primaries[1:]]).T


def _luminance(primaries: Primaries) -> Light:
    return _to_xyz(primaries)[1].astype(np.float32)


@functools.lru_cache(maxsize=32)
def _to_srgb_primaries(primaries: Primaries) -> Light:
    """Linear RGB => linear sRGB; white stays white (Bradford)."""
    there, here = _BRADFORD @ _xyz(*primaries.white), _BRADFORD @ _xyz(*_D65)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(here / there) @ _BRADFORD
    return np.linalg.inv(_to_xyz(_PRIMARIES[_BT709])) @ adapted @ _to_xyz(primaries)


def _is_sensible(primaries: Primaries) -> bool:
    """Whether white lies inside the triangle of the others, which is no needle."""
    points = np.array(primaries)
    if points.max() > 1 or primaries.white[1] < 0.05 or abs(np.linalg.det(_columns(primaries))) < 0.01:
        return False
    return bool((np.linalg.solve(_columns(primaries), _xyz(*primaries.white)) > 0).all())
