"""Batches of decoded, augmented images with heatmaps and tokens.

The batch of a step is a pure function of the step: which images, which captions, which crops and
which padded length follow from the seed and the position in the global order alone. So threads,
workers and the number of processes change nothing but speed, and a resume is a start at a step.

A batch is a dict of numpy arrays; b of the B global rows lie on this process, in order:
    image     uint8   (b, H, W, 3)  RGB
    heatmap   float32 (b, H, W)     in [0, 1]
    tokens    int32   (b, C, T)     padded with the table's pad id
    lengths   int32   (b, C)        ids before the padding, start and end token included
    image_id  int32   (b,)          record number in the shards
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import grain
import numpy as np
from absl import flags

from focusclip_jax.data import augment, heatmaps, images
from focusclip_jax.data.augment import View
from focusclip_jax.data.shards import Example, Shards
from focusclip_jax.data.text import TokenTable
from focusclip_jax.errors import UserError

Batch = dict[str, np.ndarray]

# What a second view can be guided by beside `heatmaps.KINDS`, and should not help; see `_guidance`.
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
    heatmap, heatmap_scale: what the second view is guided by, see `config.data`.
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
    make = functools.partial(_train_batch, shards, table, settings, rows)
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
    make = functools.partial(_eval_batch, shards, table, settings, rows)
    return _iterate(grain.MapDataset.range(steps).map(make), settings)


# The JPEG decoder may shrink to this many times the output; the rest of the smoothing is the resize's own.
# Measured on photographs of 1280x720: mean difference 0.4 of 255 from a full decode, in half its time.
_MARGIN = 1.25


def picture(
    example: Example, view: View, size: tuple[int, int], where: str, interpolation: str = "bilinear"
) -> np.ndarray:
    """The image of an example seen through `view`, uint8 (H, W, 3).

    view: pixels of the stored image. where: file and record, for the UserError of a broken image.
    """
    enough = (
        _MARGIN * size[0] * example.height / view.height,
        _MARGIN * size[1] * example.width / view.width,
    )
    pixels = images.decode(example.image, where, enough)
    seen = augment.scale_view(view, pixels.shape[0] / example.height, pixels.shape[1] / example.width)
    box = seen.left, seen.top, seen.left + seen.width, seen.top + seen.height
    image = images.resize(pixels, box, size, interpolation)
    return image[:, ::-1] if view.mirrored else image


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


def _guidance(example: Example, view: View, settings: LoaderSettings, position: int) -> np.ndarray:
    """What a second view is guided by, float32 (H, W): of an image's own people, or as a control of nothing.

    "constant" is 1 everywhere. "centred" is one Gaussian in the middle whose σ is a quarter of each side.
    "random" is one with its middle anywhere and a σ of 0.1 to 0.4 of each side, all uniform and functions of
    the seed and of `position` in the global order. "shuffled" is "parts" here: see `_guide`.
    """
    size = settings.image_size
    if settings.heatmap == "constant":
        return np.ones(size, np.float32)
    if settings.heatmap == "centred":
        return heatmaps.gaussian((0.5, 0.5), (0.25, 0.25), size)
    if settings.heatmap == "random":
        randoms = augment.uniforms(settings.seed + _GUIDANCE, np.array([position]), 4)[0]
        return heatmaps.gaussian(randoms[:2], 0.1 + 0.3 * randoms[2:], size)
    kind = "parts" if settings.heatmap == "shuffled" else settings.heatmap
    return joint_heatmap(example, view, size, kind, settings.heatmap_scale)


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
    shards: Shards, table: TokenTable, settings: LoaderSettings, rows: slice, step: int, records: np.ndarray
) -> Batch:
    positions = step * settings.batch_size + np.arange(settings.batch_size)
    most = int(table.counts[records].max())
    randoms = augment.uniforms(settings.seed, positions, augment.RANDOMS_PER_VIEW + most)
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

    def show(example: Example, view: View, where: str) -> np.ndarray:
        return picture(example, view, settings.image_size, where, settings.interpolation)

    batch = _images(shards, records, view, show, settings, rows, step)
    return batch | _texts(table, sequences, settings, rows)


def _eval_batch(shards: Shards, table: TokenTable, settings: LoaderSettings, rows: slice, step: int) -> Batch:
    wanted = step * settings.batch_size + np.arange(settings.batch_size)
    records = np.minimum(wanted, len(shards) - 1)
    nth = np.arange(settings.captions)
    present = nth < table.counts[records][:, None]
    sequences = np.where(present, 2 * (table.first[records][:, None] + nth), _ABSENT)
    size, fit = settings.image_size, settings.fit

    def view(row: int, example: Example) -> View:
        return augment.fitted(example.height, example.width, size, fit)

    def show(example: Example, view: View, where: str) -> np.ndarray:
        # The very pixels that evaluation and users' images get.
        return images.model_input(images.decode(example.image, where), size, fit, settings.interpolation)

    batch = _images(shards, records, view, show, settings, rows, step)
    batch |= _texts(table, sequences, settings, rows)
    return batch | {"mask": (wanted < len(shards))[rows]}


def _images(
    shards: Shards,
    records: np.ndarray,
    view: Callable[[int, Example], View],
    show: Callable[[Example, View, str], np.ndarray],
    settings: LoaderSettings,
    rows: slice,
    step: int,
) -> Batch:
    """Images and heatmaps of this process's rows.

    view: from a row of the global batch and its example. show: the image of an example through a view; the
    text names the example in messages.
    """
    local = records[rows]
    image = np.empty((len(local), *settings.image_size, 3), np.uint8)
    heatmap = np.empty((len(local), *settings.image_size), np.float32)
    further = _guide(settings, step)
    for at, record in enumerate(local):
        row = rows.start + at
        example = shards.read(record)
        seen = view(row, example)
        image[at] = show(example, seen, shards.where(record))
        if further:
            row = (row + further) % len(records)
            example = shards.read(records[row])
            seen = view(row, example)
        heatmap[at] = _guidance(example, seen, settings, step * settings.batch_size + row)
    return {"image": image, "heatmap": heatmap, "image_id": local.astype(np.int32)}


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
    options = grain.ReadOptions(settings.threads, settings.prefetch if settings.threads else 0)
    dataset = batches.to_iter_dataset(options)
    if settings.workers:
        # Grain reads absl flags to start its workers; nobody has parsed them in a test or a notebook.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(settings.workers, settings.prefetch))
    return iter(dataset)
