"""Numbers that belong to an id for good: drawn from a seed, a name and the id, and stored nowhere."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Steele, Lea and Flood's SplitMix64: each input bit changes half of the output's.
_STEP, _MIX_1, _MIX_2 = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_FRACTION_BITS = 53


def uniforms(seed: int, name: str, ids: Ids, count: int = 1) -> Floats:
    """Return `count` numbers for each id, above 0 and below 1, as an array (ids, count)."""
    start = np.uint64((seed * 0x100000001B3 + zlib.crc32(name.encode())) % 2**64)
    with np.errstate(over="ignore"):
        places = ids.astype(np.uint64)[:, None] * np.uint64(count + 1) + np.arange(
            count, dtype=np.uint64
        )
        bits = _mixed(_mixed(places + start) ^ start)
    return ((bits >> np.uint64(64 - _FRACTION_BITS)).astype(np.float64) + 0.5) / 2**_FRACTION_BITS


def normals(seed: int, name: str, ids: Ids, count: int = 1) -> Floats:
    """Return `count` numbers for each id, normal with mean 0 and deviation 1 (Box and Muller)."""
    radius = np.sqrt(-2 * np.log(uniforms(seed, f"{name} radius", ids, count)))
    return radius * np.cos(2 * np.pi * uniforms(seed, f"{name} angle", ids, count))


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    bits = bits + _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return bits ^ (bits >> np.uint64(31))
