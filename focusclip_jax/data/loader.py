"""Batches of decoded, augmented images with heatmaps and tokens.

The batch of a step is a pure function of the step: which images, which captions, which crops and
which padded length follow from the seed and the position in the global order alone. So threads,
workers and the number of processes change nothing but speed, and a resume is a start at a step.

A batch is a dict of numpy arrays; b of the B global rows lie on this process, in order:
    image     uint8   (b, H, W, 3)  RGB
    heatmap   float32 (b, H, W)     in [0, 1]; or in its place, for the step to draw it:
    gaussians float32 (b, G, 5)     see `heatmaps.gaussians`; G is the same in all batches of the shards
    tokens    int32   (b, C, T)     padded with the table's pad id
    lengths   int32   (b, C)        ids before the padding, start and end token included
    image_id  int32   (b,)          record number in the shards
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from tqdm import tqdm

from annotation import schema
from focusclip_jax.data import augment, heatmaps, images
from focusclip_jax.data.augment import View
from focusclip_jax.data.shards import Example, Shards
from focusclip_jax.data.text import TokenTable
from focusclip_jax.errors import UserError

Batch = dict[str, np.ndarray]

# What a second view can be guided by beside `heatmaps.KINDS`, and should not help; see `_gaussians`.
CONTROLS = ("shuffled", "constant", "centred", "random")


@dataclasses.dataclass(frozen=True)
class LoaderSettings:
    """What a batch holds, and how many hands make it.

    batch_size: B, images of the global batch. image_size: (H, W). captions: C drawn for each image.
    text_lengths: the T that a batch may have, rising; the smallest that fits the global batch is taken.
        One entry is the 2023 code's fixed length.
    crop_area: smallest and largest share of the image that a random crop keeps; (1, 1) never crops.
    crop_aspect: largest change of a crop's width-to-height ratio, as a factor.
    flip: probability that an image is mirrored, with its words.
    heatmap, heatmap_scale: what the second view is guided by, see `config.data`. heatmap_on_device: leave the
        drawing to the step.
    fit, interpolation: how a whole image becomes image_size, see `images.model_input`. With fit="crop"
        the area and aspect of a random crop are relative to that central part.
    threads: batches made at once; 0 makes each when it is asked for. workers: processes, each with
        that many threads; 0 uses the threads of this one. prefetch: batches kept ready (by each worker).
    """

    batch_size: int
    image_size: tuple[int, int] = (224, 224)
    captions: int = 1
    text_lengths: tuple[int, ...] = (16, 32, 48, 64)
    seed: int = 0
    crop_area: tuple[float, float] = (1.0, 1.0)
    crop_aspect: float = 1.0
    flip: float = 0.0
    fit: str = "stretch"
    interpolation: str = "bilinear"
    heatmap: str = "parts"
    heatmap_scale: float = 1.0
    heatmap_on_device: bool = False
    threads: int = 2
    workers: int = 0
    prefetch: int = 4

    def __post_init__(self):
        _expect(self.batch_size > 0, f"batch_size is {self.batch_size}, expected a positive number")
        _expect(
            len(self.image_size) == 2 and min(self.image_size) > 0,
            f"image_size is {self.image_size}, expected (height, width)",
        )
        _expect(self.seed >= 0, f"seed is {self.seed}, expected a number that is not negative")
        _expect(self.captions > 0, f"captions is {self.captions}, expected a positive number")
        rising = bool(self.text_lengths) and list(self.text_lengths) == sorted(set(self.text_lengths))
        _expect(rising, f"text_lengths is {self.text_lengths}, expected rising lengths")
        _expect(
            len(self.crop_area) == 2 and 0 < self.crop_area[0] <= self.crop_area[1] <= 1,
            f"crop_area is {self.crop_area}, expected (smallest, largest) share in (0, 1]",
        )
        _expect(self.crop_aspect >= 1, f"crop_aspect is {self.crop_aspect}, expected a factor of at least 1")
        _expect(0 <= self.flip <= 1, f"flip is {self.flip}, expected a probability")
        _expect(self.fit in ("stretch", "crop"), f"fit is {self.fit}, expected stretch or crop")
        kinds = heatmaps.KINDS + CONTROLS
        _expect(self.heatmap in kinds, f"heatmap is {self.heatmap}, expected one of {', '.join(kinds)}")
        _expect(
            self.heatmap != "shuffled" or self.batch_size > 1,
            'heatmap is "shuffled" in batches of one image, expected at least two',
        )
        _expect(self.heatmap_scale > 0, f"heatmap_scale is {self.heatmap_scale}, expected a factor above 0")
        _expect(
            self.heatmap != "person" or not self.heatmap_on_device,
            "heatmap_on_device is set, and heatmap is person, which only the loader draws",
        )
        _expect(
            self.interpolation in images.FILTERS,
            f"interpolation is {self.interpolation}, expected one of {', '.join(images.FILTERS)}",
        )


def train_batches(
    shards: Shards,
    table: TokenTable,
    settings: LoaderSettings,
    *,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Endless batches from `start_step` on; in each epoch every example once, in a new order.

    Close the iterator when done. Raises UserError where a batch cannot be made, here or from `next`.
    """
    rows = _local_rows(settings.batch_size, process_index, process_count)
    _check(shards, table, settings)
    silent = np.flatnonzero(table.counts == 0)
    if len(silent):
        raise UserError(
            f"{shards.where(silent[0])}: has no caption ({len(silent)} of {len(shards)} have none)"
        )
    order = grain.MapDataset.range(len(shards)).seed(settings.seed).shuffle().repeat()
    most = _most_gaussians(shards, settings)
    make = functools.partial(_train_batch, shards, table, settings, rows, most)
    batches = order.batch(settings.batch_size).map_with_index(make)
    return _iterate(batches[start_step:], settings)


def eval_batches(
    shards: Shards,
    table: TokenTable,
    settings: LoaderSettings,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Every example once, in order, as zero-shot evaluation shows it, with its first C captions.

    Adds `mask` bool (b,): False for the rows that fill up the last batch. A caption that an example
    does not have is all padding and has length 0.
    """
    rows = _local_rows(settings.batch_size, process_index, process_count)
    _check(shards, table, settings)
    steps = -(-len(shards) // settings.batch_size)
    most = _most_gaussians(shards, settings)
    make = functools.partial(_eval_batch, shards, table, settings, rows, most)
    return _iterate(grain.MapDataset.range(steps).map(make), settings)


# The JPEG decoder may shrink to this many times the output; the rest of the smoothing is the resize's own.
# Measured on photographs of 1280x720: mean difference 0.4 of 255 from a full decode, in half its time.
_MARGIN = 1.2


def picture(
    example: Example, view: View, size: tuple[int, int], where: str, interpolation: str = "bilinear"
) -> np.ndarray:
    """The image of an example seen through `view`, uint8 (H, W, 3).

    view: pixels of the stored image. where: file and record, for the UserError of a broken image.
    """
    image = np.empty((*size, 3), np.uint8)
    _draw_picture(image, example, view, where, interpolation)
    return image


def _draw_picture(image: np.ndarray, example: Example, view: View, where: str, interpolation: str) -> None:
    height, width = image.shape[:2]
    enough = _MARGIN * height * example.height / view.height, _MARGIN * width * example.width / view.width
    right, bottom = (view.left + view.width) / example.width, (view.top + view.height) / example.height
    part = view.left / example.width, view.top / example.height, min(right, 1.0), min(bottom, 1.0)
    images.decode_view(example.image, where, enough, part, view.mirrored, interpolation, out=image)


def joint_heatmap(
    example: Example, view: View, size: tuple[int, int], kind: str = "parts", scale: float = 1.0
) -> np.ndarray:
    """The heatmap of an example's people seen through `view`, float32 (H, W).

    view: pixels of the stored image. kind, scale: see `heatmaps.render`.
    """
    stored = example.height, example.width
    original = example.original_height, example.original_width
    joints = heatmaps.original_joints(example.joints, stored, original)
    view = augment.scale_view(view, original[0] / stored[0], original[1] / stored[1])
    return heatmaps.render(joints, example.visibility, view, size, kind, scale)


# A stream of random numbers apart from that of views and captions, which they must not change.
_GUIDANCE = 1 << 40


class _Shown(NamedTuple):
    """An example, how it is seen, and its position in the global order."""

    example: Example
    view: View
    position: int


def _gaussians(shown: Sequence[_Shown], settings: LoaderSettings) -> tuple[np.ndarray, np.ndarray]:
    """What second views are guided by: of the images' own people, or as a control of nothing.

    "constant" is 1 everywhere: a Gaussian without end. "centred" is one in the middle whose σ is a quarter of
    each side. "random" is one with its middle anywhere and a σ of 0.1 to 0.4 of each side, all uniform and
    functions of the seed and of the position. "shuffled" is "parts" here: see `_guide`.
    Returns Gaussians (G, 5), see `heatmaps.gaussians`, and how many of them are of each, (N,).
    """
    one, size = np.ones(len(shown), int), settings.image_size
    sides = np.array([size[1], size[0]])
    if settings.heatmap == "constant":
        return np.tile([0.0, 0.0, np.inf, np.inf, 1.0], (len(shown), 1)), one
    if settings.heatmap in ("centred", "random"):
        randoms = np.full((len(shown), 4), 0.5)
        if settings.heatmap == "random":
            positions = np.array([one.position for one in shown])
            randoms = augment.uniforms(settings.seed + _GUIDANCE, positions, 4)
        middle = randoms[:, :2] * sides - 0.5
        sigma = (0.1 + 0.3 * randoms[:, 2:]) * sides
        return np.concatenate([middle, sigma, one[:, None]], axis=1), one
    people = [len(example.joints) for example, _, _ in shown]
    image = np.repeat(np.arange(len(shown)), people)
    scales = np.array(
        [(e.original_width / e.width, e.original_height / e.height) for e, _, _ in shown]
    ).reshape(-1, 2)
    views = np.array(
        [augment.scale_view(view, *scale[::-1]) for (_, view, _), scale in zip(shown, scales, strict=True)]
    ).reshape(-1, len(View._fields))
    joints = np.concatenate([example.joints for example, _, _ in shown])
    visibility = np.concatenate([example.visibility for example, _, _ in shown])
    gaussians, person = heatmaps.gaussians(
        heatmaps.scaled_joints(joints, scales[image, None]),
        visibility,
        views[image],
        size,
        "parts" if settings.heatmap == "shuffled" else settings.heatmap,
        settings.heatmap_scale,
    )
    return gaussians, np.bincount(image[person], minlength=len(shown))


def _guide_views(guides: np.ndarray, shown: Sequence[_Shown], settings: LoaderSettings) -> None:
    """Fill in heatmaps (N, H, W), or with `settings.heatmap_on_device` their Gaussians (N, most, 5)."""
    if settings.heatmap == "person":
        for heatmap, (example, view, _) in zip(guides, shown, strict=True):
            heatmap[...] = joint_heatmap(example, view, settings.image_size, "person", settings.heatmap_scale)
        return
    gaussians, counts = _gaussians(shown, settings)
    if not settings.heatmap_on_device:
        heatmaps.draw(gaussians, counts, guides)
        return
    guides[...] = heatmaps.NOTHING
    guides[np.arange(guides.shape[1]) < counts[:, None]] = gaussians


@functools.lru_cache(maxsize=8)
def _most_people(shards: Shards) -> int:
    """People of the image that has most of them: known only to whoever has read all records."""
    records = tqdm(range(len(shards)), desc="counting people", unit="image", leave=False)
    return max(len(shards.read(record).joints) for record in records)


def _most_gaussians(shards: Shards, settings: LoaderSettings) -> int:
    """How many Gaussians any image has at most; 0 where heatmaps are rendered here.

    The same number in all batches and processes: a step is compiled once, and global arrays fit together.
    """
    if not settings.heatmap_on_device:
        return 0
    if settings.heatmap in ("constant", "centred", "random"):
        return 1
    each = {"joints": schema.JOINT_COUNT, "box": 1}.get(settings.heatmap, len(schema.PARTS))
    return each * max(1, _most_people(shards))


def _guide(settings: LoaderSettings, step: int) -> int:
    """So many rows further (cyclically) in the global batch is the row whose heatmap a row gets.

    0, its own, but for "shuffled": then 1 to B - 1, a function of the seed and the step. So no row has its
    own, each is used once, and it does not matter which process has which rows.
    """
    if settings.heatmap != "shuffled":
        return 0
    random = augment.uniforms(settings.seed + _GUIDANCE, np.array([step]), 1)[0, 0]
    return 1 + int(random * (settings.batch_size - 1))


def _train_batch(
    shards: Shards,
    table: TokenTable,
    settings: LoaderSettings,
    rows: slice,
    most: int,
    step: int,
    records: np.ndarray,
) -> Batch:
    positions = step * settings.batch_size + np.arange(settings.batch_size)
    captions = int(table.counts[records].max())
    randoms = augment.uniforms(settings.seed, positions, augment.RANDOMS_PER_VIEW + captions)
    of_view, of_captions = np.split(randoms, [augment.RANDOMS_PER_VIEW], axis=1)
    mirrored = augment.is_mirrored(of_view, settings.flip)
    sequences = 2 * _draw_captions(table, records, of_captions, settings.captions) + mirrored[:, None]

    def view(row: int, example: Example) -> View:
        return augment.random_view(
            of_view[row],
            example.height,
            example.width,
            settings.crop_area,
            settings.crop_aspect,
            settings.flip,
            largest=augment.fitted(example.height, example.width, settings.image_size, settings.fit),
        )

    def show(image: np.ndarray, example: Example, view: View, where: str) -> None:
        _draw_picture(image, example, view, where, settings.interpolation)

    batch = _images(shards, records, view, show, settings, rows, most, step)
    return batch | _texts(table, sequences, settings, rows)


def _eval_batch(
    shards: Shards, table: TokenTable, settings: LoaderSettings, rows: slice, most: int, step: int
) -> Batch:
    wanted = step * settings.batch_size + np.arange(settings.batch_size)
    records = np.minimum(wanted, len(shards) - 1)
    nth = np.arange(settings.captions)
    present = nth < table.counts[records][:, None]
    sequences = np.where(present, 2 * (table.first[records][:, None] + nth), _ABSENT)
    size, fit = settings.image_size, settings.fit

    def view(row: int, example: Example) -> View:
        return augment.fitted(example.height, example.width, size, fit)

    def show(image: np.ndarray, example: Example, view: View, where: str) -> None:
        # The very pixels that evaluation and users' images get.
        pixels = images.decode(example.image, where)
        image[...] = images.model_input(pixels, size, fit, settings.interpolation)

    batch = _images(shards, records, view, show, settings, rows, most, step)
    batch |= _texts(table, sequences, settings, rows)
    return batch | {"mask": (wanted < len(shards))[rows]}


_TOGETHER = 32  # images whose heatmaps are drawn at once: numpy's calls cost more than their arithmetic


def _images(
    shards: Shards,
    records: np.ndarray,
    view: Callable[[int, Example], View],
    show: Callable[[np.ndarray, Example, View, str], None],
    settings: LoaderSettings,
    rows: slice,
    most: int,
    step: int,
) -> Batch:
    """Images of this process's rows and what guides their second views.

    view: from a row of the global batch and its example. show: draws the image of an example through a view;
    the text names the example in messages. most: Gaussians an image, see `_most_gaussians`.
    """
    local = records[rows]
    image = np.empty((len(local), *settings.image_size, 3), np.uint8)
    name, shape = "heatmap", settings.image_size
    if settings.heatmap_on_device:
        name, shape = "gaussians", (most, heatmaps.NUMBERS)
    guides = np.empty((len(local), *shape), np.float32)
    further = _guide(settings, step)
    shown: list[_Shown] = []
    for at, (record, example) in enumerate(zip(local, shards.read_each(local), strict=True)):
        row = rows.start + at
        seen = view(row, example)
        show(image[at], example, seen, shards.where(record))
        if further:
            row = (row + further) % len(records)
            example = shards.read(records[row])
            seen = view(row, example)
        shown.append(_Shown(example, seen, step * settings.batch_size + row))
        if len(shown) == _TOGETHER or at == len(local) - 1:
            _guide_views(guides[at + 1 - len(shown) : at + 1], shown, settings)
            shown = []
    return {"image": image, name: guides, "image_id": local.astype(np.int32)}


_ABSENT = -1  # stands for a sequence where an example has fewer captions than asked for


def _texts(table: TokenTable, sequences: np.ndarray, settings: LoaderSettings, rows: slice) -> Batch:
    """Tokens of this process's rows, as long as the longest of all rows needs. sequences: (B, C)."""
    lengths = np.zeros(sequences.shape, np.int32)
    present = sequences != _ABSENT
    lengths[present] = table.lengths(sequences[present])
    longest = next(length for length in settings.text_lengths if length >= lengths.max())
    sequences, lengths = sequences[rows], lengths[rows]
    tokens = np.full((*sequences.shape, longest), table.pad_id, np.int32)
    for row, nth in np.argwhere(lengths):
        tokens[row, nth, : lengths[row, nth]] = table.tokens(sequences[row, nth])
    return {"tokens": tokens, "lengths": lengths}


def _draw_captions(table: TokenTable, records: np.ndarray, randoms: np.ndarray, count: int) -> np.ndarray:
    """`count` captions of each record, int64 (B, C), numbered as in the table: all different while they last.

    randoms: (B, at least the most captions of any record). A record with fewer captions repeats them.
    """
    available = table.counts[records][:, None]
    unordered = np.where(np.arange(randoms.shape[1]) < available, randoms, np.inf)
    picks = np.take_along_axis(unordered.argsort(axis=1), np.arange(count) % available, axis=1)
    return table.first[records][:, None] + picks


def _local_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        raise UserError(f"batch_size {batch_size} cannot be divided among {process_count} processes")
    each = batch_size // process_count
    return slice(process_index * each, (process_index + 1) * each)


def _check(shards: Shards, table: TokenTable, settings: LoaderSettings) -> None:
    if not len(shards):
        raise UserError(f"{', '.join(shards.paths)}: hold no examples")
    if settings.text_lengths[-1] < table.context:
        raise UserError(
            f"text_lengths {settings.text_lengths} do not reach the context of {table.context} tokens"
        )


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _iterate(batches: grain.MapDataset, settings: LoaderSettings) -> grain.DatasetIterator:
    # Grain makes no more batches at once than it may keep, however many threads there are.
    ready = max(settings.prefetch, settings.threads) if settings.threads else 0
    options = grain.ReadOptions(settings.threads, ready)
    dataset = batches.to_iter_dataset(options)
    if settings.workers:
        # Grain reads absl flags to start its workers; nobody has parsed them in a test or a notebook.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(settings.workers, settings.prefetch))
    return iter(dataset)
