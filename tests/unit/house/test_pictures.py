"""Pictures of the page: still ones side by side, and a recording."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageSequence

from tests.support.pictures import LAST_MS, STILL_MS_MAX, Frame, palette_of, save_moving, save_still


def png(colour: str) -> bytes:
    text = io.BytesIO()
    Image.new("RGB", (40, 20), colour).save(text, "png")
    return text.getvalue()


def test_windows_stand_beside_each_other_in_few_colours(tmp_path: Path) -> None:
    size = save_still([png("red"), png("blue")], tmp_path / "new" / "both.png")
    with Image.open(tmp_path / "new" / "both.png") as found:
        assert (found.size, found.mode) == ((96, 20), "P")
        shown = found.convert("RGB")
        assert [shown.getpixel((x, 10)) for x in (10, 48, 80)] == [
            (255, 0, 0),
            (255, 255, 255),
            (0, 0, 255),
        ]
    assert size == (tmp_path / "new" / "both.png").stat().st_size


def test_a_recording_leaves_out_what_is_the_same_and_cuts_long_waits_short(tmp_path: Path) -> None:
    frames = [
        Frame(png("red"), 10.0),
        Frame(png("red"), 10.1),
        Frame(png("blue"), 10.4),
        Frame(png("green"), 99.0),
    ]
    save_moving(frames, tmp_path / "moving.gif")
    stands_ms = []
    with Image.open(tmp_path / "moving.gif") as found:
        assert found.info["loop"] == 0
        for frame in ImageSequence.Iterator(found):
            stands_ms.append(frame.info["duration"])
            last = frame.convert("RGB").getpixel((1, 1))
        assert last == (0, 128, 0)
    assert stands_ms == [400, STILL_MS_MAX, LAST_MS]


def test_a_small_sign_keeps_its_colour_beside_many_shades_of_another() -> None:
    image = Image.new("RGB", (300, 300), "white")
    for shade in range(200):  # the shades of letters
        image.paste((shade, shade, shade), (shade, 0, shade + 1, 100))
    image.paste((31, 122, 61), (250, 250, 255, 255))
    palette = palette_of([image], 30).getpalette() or []
    assert (31, 122, 61) in zip(palette[::3], palette[1::3], palette[2::3], strict=True)
