"""The pictures of `plots/`, inside the page."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence

import PIL.Image

from focusclip_jax.errors import UserError
from focusclip_jax.page.layout import columns, folded
from focusclip_jax.page.record import Record
from pages.markup import Markup, element, picture

LARGE = 250_000  # bytes of a picture file, above which it is of photographs and is compressed with loss
LONGER_SIDE = 1500  # of that, in pixels
QUALITY = 86

# What the file names of `plots/` begin with → section, and what its picture shows.
PICTURES = {
    "predictions-": ("answers", "Images answered right and wrong, spread evenly over the set: {}"),
    "confusion-": ("confusions", "What was taken for what, in % of the true class: {}"),
    "precision-": ("confusions", "Average precision of each label: {}"),
    "focus": ("views", "From joints to body parts, heatmap and highlighted image"),
    "second_views": ("views", "What the model is shown in training: image, heatmap, second view"),
    "similarity": ("space", "Cosine of every image with every caption; the diagonal belongs together"),
    "embeddings": ("space", "Images, highlighted images and captions on their two principal axes"),
}
SKIPPED = "curves"  # is drawn anew, as lines with values


def sections(records: Sequence[Record]) -> list[tuple[str, str, list[Markup]]]:
    """The sections of what `plots/` holds, a picture of each run beside the same picture of the others."""
    titles = {
        "answers": "Right and wrong answers",
        "views": "What the model was shown",
        "space": "Images and captions in one space",
        "other": "Other pictures",
    }
    contents: dict[str, list[Markup]] = {name: [] for name in titles}
    confusions: dict[str, list[Markup]] = {}
    stems = dict.fromkeys(
        path.stem for record in records for path in sorted((record.folder / "plots").glob("*.png"))
    )
    for stem in stems:
        if stem == SKIPPED:
            continue
        section, caption = _shown(stem)
        shown = [_figure(record.folder / "plots" / f"{stem}.png", caption) for record in records]
        if section == "confusions":
            confusions[caption] = shown
        else:
            contents[section] += [columns(records, shown)] if len(records) > 1 else shown
    if len(records) == 1:  # different pictures side by side, where they have room
        contents = {name: [element("div", *c, class_="columns")] if c else [] for name, c in contents.items()}
    contents["answers"] += [folded(caption, columns(records, shown)) for caption, shown in confusions.items()]
    hint = element("p", "Click a picture to enlarge it.", class_="faint small hint")
    return [(name, titles[name], [hint, *content] if content else []) for name, content in contents.items()]


def _shown(stem: str) -> tuple[str, str]:
    """The section of a picture and its caption."""
    for start, (section, caption) in PICTURES.items():
        if stem == start or (start.endswith("-") and stem.startswith(start)):
            of = stem.removeprefix(start)
            of = ", ".join(of.rsplit("-", 1)) if section == "confusions" else of  # task and rows
            return section, caption.format(of.replace("_", " "))
    return "other", stem.replace("_", " ")


def _figure(path: pathlib.Path, caption: str) -> Markup:
    if not path.exists():
        return element("p", f"This run has no {path.name}.", class_="faint small")
    content, media_type, width, height = embedded(path)
    image = picture(content, media_type, caption, width=width, height=height)
    enlarge = element("input", type="checkbox", aria_label=f"enlarge: {caption}")  # the style does it
    return element(
        "figure", element("label", enlarge, image), element("figcaption", caption), class_="picture"
    )


def embedded(path: pathlib.Path) -> tuple[bytes, str, int, int]:
    """A picture's bytes, media type, width and height: the file as it is, or if that is large a smaller WebP.

    Raises UserError where the file is not a PNG.
    """
    content = path.read_bytes()
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
            if len(content) <= LARGE:
                return content, "image/png", *opened.size
            image = opened.convert("RGB")
    except (PIL.UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a PNG that can be read ({error})") from None
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), PIL.Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    return stream.getvalue(), "image/webp", *image.size
