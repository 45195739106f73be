"""Thumbnails of a folder of photographs: each task decodes a JPEG, makes it small and writes it.

    python examples/gallery/thumbnails.py [FOLDER] [--to FOLDER]

Without a folder it draws photographs of its own, one of them torn in the middle, and keeps nothing. Pillow decodes
and scales in C without the GIL, so threads use all cores, and the pixels stay where they are. A file that can't be
read costs its own thumbnail and no other: `on_error="return"` puts the error in the result's place.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

import forkright as fr

KINDS = {".jpg", ".jpeg", ".png", ".webp"}


class Thumbnail(NamedTuple):
    """What became of one photograph."""

    source: Path
    width: int
    height: int
    bytes_before: int
    bytes_after: int


def thumbnail(source: Path, *, folder: Path, edge: int) -> Thumbnail:
    """Writes a copy into `folder` that is upright and fits into a square of `edge` pixels."""
    with Image.open(source) as photograph:
        photograph.draft("RGB", (edge * 2, edge * 2))  # a JPEG can be decoded at half its size, or less
        small = ImageOps.exif_transpose(photograph).convert("RGB")
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    target = folder / f"{source.stem}.jpg"
    small.save(target, quality=85)
    width, height = small.size
    return Thumbnail(source, width, height, source.stat().st_size, target.stat().st_size)


def draw_photographs(folder: Path, count: int, width: int) -> None:
    """Photographs for want of real ones: a sky with the grain of a sensor; the last one is torn in the middle."""
    height = width * 2 // 3
    sky = Image.linear_gradient("L").resize((width, height))
    grain = Image.effect_noise((width, height), 24)

    def draw(number: int) -> Path:
        photograph = Image.merge("RGB", (sky, sky.point(lambda light: light * number // count), grain))
        exif = photograph.getexif()
        exif[0x0112] = (1, 3, 6, 8)[number % 4]  # how the camera was held
        photograph.save(file := folder / f"photograph-{number:03}.jpg", quality=90, exif=exif)
        return file

    torn = fr.map(draw, range(count))[-1]
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])


def make_thumbnails(source: Path, target: Path, edge: int) -> None:
    """Maps the files of a folder, and tells what came of it."""
    files = sorted(file for file in source.iterdir() if file.suffix.lower() in KINDS)
    target.mkdir(parents=True, exist_ok=True)
    made: list[Thumbnail] = []
    work = functools.partial(thumbnail, folder=target, edge=edge)
    for file, result in zip(files, fr.map(work, files, on_error="return"), strict=True):
        if isinstance(result, BaseException):
            print(f"{file.name}: {result}")
        else:
            made.append(result)
    before, after = sum(it.bytes_before for it in made), sum(it.bytes_after for it in made)
    print(f"{len(made)} thumbnails of {len(files)} files: {before / 1e6:.1f} MB became {after / 1e6:.2f} MB")
    print(fr.report())


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes thumbnails of a folder of photographs.")
    parser.add_argument("folder", type=Path, nargs="?", help="the photographs; drawn if there is none")
    parser.add_argument("--to", type=Path, help="where thumbnails go; thrown away if not given")
    parser.add_argument("--edge", type=int, default=256, help="the longer side of a thumbnail, in pixels")
    parser.add_argument("--count", type=int, default=48, help="photographs to draw")
    parser.add_argument("--width", type=int, default=2400, help="their width, in pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = options.folder
        if source is None:
            source = Path(scratch, "photographs")
            source.mkdir()
            draw_photographs(source, options.count, options.width)
        make_thumbnails(source, options.to or Path(scratch, "thumbnails"), options.edge)


if __name__ == "__main__":
    main()
