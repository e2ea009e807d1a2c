"""A sample of the pages as files: they open from a disk, and nothing in them leads elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from annotation.errors import UserError
from annotation.viewer import drawing, photos, views
from annotation.viewer.entries import OK, objections

_LINKS = views.Links(
    index=lambda page: "index.html" if page == 0 else f"page-{page + 1}.html",
    record=lambda number: f"image-{number}.html",
    thumb=lambda number: f"pictures/thumb-{number}.jpg",
    photo=lambda number: f"pictures/photo-{number}.jpg",
    heatmap=lambda number: f"pictures/heatmap-{number}.png",
)


def export(source, out: Path, count: int) -> int:
    """Write `count` images of a `JournalFolder` or `ShardFolder`, evenly spread over all; returns how many.

    The folder `out` appears once it is complete. Raises UserError where it holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--export={out}: exists and is not an empty folder; name a new one")
    partial = out.with_name(out.name + ".partial")
    try:
        (partial / "pictures").mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{partial}: left by an export that was interrupted; delete it") from None
    count = min(count, len(source))
    numbers = [n * len(source) // count for n in range(count)]
    images = []
    for position, number in enumerate(tqdm(numbers, unit=" images", desc="export", leave=False)):
        image = views.shown(source, number)
        counting = [a for a in image.entry.answers if a.current and a.status == OK]
        objected = sum(bool(objections(answer, image.record)) for answer in counting)
        images.append((image, objected))
        _write_pictures(source, image, partial)
        before = numbers[position - 1] if position else None
        after = numbers[position + 1] if position + 1 < count else None
        back = _LINKS.index(position // views.PER_PAGE)
        shown = views.record_page(image, _LINKS, before, after, back)
        (partial / _LINKS.record(number)).write_text(shown.html, "utf-8")
    note = f"a sample of {count:,} of {len(source):,} images"
    for start in range(0, count, views.PER_PAGE):
        some, page = images[start : start + views.PER_PAGE], start // views.PER_PAGE
        listed = views.list_page(Path(source.name).name, some, count, page, _LINKS, note=note)
        (partial / _LINKS.index(page)).write_text(listed.html, "utf-8")
    if out.exists():
        out.rmdir()
    os.rename(partial, out)
    return count


def _write_pictures(source, image: views.Shown, folder: Path) -> None:
    number = image.number
    (folder / _LINKS.heatmap(number)).write_bytes(drawing.heatmap_png(image.record, views.HEATMAP))
    if image.missing is None:
        for name, longest in ((_LINKS.thumb, views.THUMB), (_LINKS.photo, views.LARGE)):
            (folder / name(number)).write_bytes(photos.jpeg(source.photo(image.entry), longest))
