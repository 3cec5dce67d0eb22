"""Makes pictures small enough for the repository: with fewer colours, and several as one animation."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from PIL import Image

COLOURS = 128  # a page's own, and the shades of its letters
MOVING_COLOURS = 64
STILL_MS_MAX = 1_500  # the longest time without a change
FRAME_MS_MIN = 60
LAST_MS = 2_500
PALETTE_FRAMES_MAX = 6
APART_MIN = 10  # of 255, in some component; nearer colours are merged into one


class Frame(NamedTuple):
    """One picture of a recording: a PNG, and when it was taken, in seconds of one clock."""

    png: bytes
    at: float


def save_still(pngs: Sequence[bytes], path: Path) -> int:
    """Save pictures beside each other as one PNG; returns its size in bytes."""
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    gap = 16 if len(images) > 1 else 0
    whole = Image.new(
        "RGB",
        (sum(image.width + gap for image in images) - gap, max(image.height for image in images)),
        "white",
    )
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + gap
    path.parent.mkdir(parents=True, exist_ok=True)
    reduced = whole.quantize(palette=palette_of([whole], COLOURS), dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
    return path.stat().st_size


def save_moving(frames: Sequence[Frame], path: Path) -> int:
    """Save a recording as a repeating animated GIF; returns its size in bytes.

    A frame is shown until the next different one was taken, within limits, which shorten the waits for a
    busy machine.
    """
    distinct = [frames[0]]
    for frame in frames[1:]:
        if frame.png != distinct[-1].png:
            distinct.append(frame)
    stands_ms = [
        round(min(max((b.at - a.at) * 1_000, FRAME_MS_MIN), STILL_MS_MAX))
        for a, b in pairwise(distinct)
    ]
    images = [Image.open(io.BytesIO(frame.png)).convert("RGB") for frame in distinct]
    some = images[:: -(-len(images) // PALETTE_FRAMES_MAX)] + images[-1:]
    palette = palette_of(some, MOVING_COLOURS)
    reduced = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    reduced[0].save(
        path,
        save_all=True,
        append_images=reduced[1:],
        duration=[*stands_ms, LAST_MS],
        loop=0,
        optimize=False,  # otherwise each frame would get its own palette
    )
    return path.stat().st_size


def palette_of(images: Sequence[Image.Image], colours: int) -> Image.Image:
    """An image with the most frequent colours of these, unchanged, and none near another.

    Pillow's own reductions mix colours: the background gets a tinge, and a small sign loses its colour.
    """
    counts: Counter[tuple[int, ...]] = Counter()
    for image in images:
        for count, colour in image.getcolors(image.width * image.height) or ():
            assert isinstance(colour, tuple)
            counts[colour] += count
    chosen: list[tuple[int, ...]] = []
    for colour, _ in counts.most_common():
        if len(chosen) == colours:
            break
        if all(_apart(colour, other) >= APART_MIN for other in chosen):
            chosen.append(colour)
    found = Image.new("P", (1, 1))
    found.putpalette([part for colour in chosen for part in colour])
    return found


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))
