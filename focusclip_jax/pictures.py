"""The pictures that a run leaves in `plots/`: what the model was shown, how it learned, what it answers."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from focusclip_jax import distributed, plots
from focusclip_jax.data import augment, heatmaps
from focusclip_jax.data.loader import LoaderSettings, eval_batches, joint_heatmap, picture
from focusclip_jax.data.shards import Example, Shards
from focusclip_jax.data.text import TokenTable
from focusclip_jax.evaluate import Outcome, draw_answers
from focusclip_jax.models.focusclip import FOCUS, IMAGE, TEXT, Architecture, second_view
from focusclip_jax.workdir import Workdir, read_metrics

# The augmentation of the picture is stronger than training's may be, so that it can be seen.
SHOWN_AREA, SHOWN_ASPECT = (0.55, 0.55), 1.15
MATRIX_ROWS = 64
SHOWN_IMAGES = 6


def draw(
    workdir: Workdir,
    shards: Shards,
    table: TokenTable,
    settings: LoaderSettings,
    embed: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]],
    alpha: float,
    architecture: Architecture,
    outcomes: Sequence[Outcome],
    step: int,
) -> list[pathlib.Path]:
    """Draw everything; returns the files. embed: a batch to its views' embeddings. alpha: the model's.

    How joints become a highlighted image is drawn only if that is what the second view is.
    """
    with contextlib.closing(
        eval_batches(
            shards, table, dataclasses.replace(settings, captions=1, workers=0, heatmap_on_device=False)
        )
    ) as batches:
        batch = next(batches)
    views = {name: np.asarray(value) for name, value in embed(batch).items()}
    if not distributed.is_first():  # all processes had to embed, one draws
        return []
    drawn = [plots.curves(workdir.plots / "curves.png", read_metrics(workdir.metrics))]
    if (settings.heatmap, architecture.focus_view) == ("parts", "dim"):
        example, path = shards.read(0), workdir.plots / "focus.png"
        drawn.insert(0, focus(path, example, settings.image_size, settings.fit, alpha))
    rows = min(MATRIX_ROWS, len(shards))
    image, text, highlighted = views[IMAGE][:rows], views[TEXT][:rows, 0], views[FOCUS][:rows]
    title = f"step {step:,}"
    drawn.append(second_views(workdir.plots / "second_views.png", batch, alpha, architecture))
    drawn.append(plots.similarity_matrix(workdir.plots / "similarity.png", image, text, title))
    drawn.append(
        plots.embedding_pca(
            workdir.plots / "embeddings.png", {"image": image, "focus": highlighted, "text": text}, title
        )
    )
    for outcome in outcomes:
        drawn += draw_answers(outcome, workdir.plots)
    return drawn


def second_views(
    path: pathlib.Path, batch: dict[str, np.ndarray], alpha: float, architecture: Architecture
) -> pathlib.Path:
    """The first images of a batch, what guides their second views, and these."""
    image = batch["image"][:SHOWN_IMAGES] / np.float32(255)
    heatmap = batch["heatmap"][:SHOWN_IMAGES]
    seen = np.asarray(second_view(jnp.asarray(image), jnp.asarray(heatmap), alpha, architecture))
    return plots.image_grid(path, {"image": image, "heatmap": heatmap, "second view": seen})


def focus(
    path: pathlib.Path, example: Example, size: tuple[int, int], fit: str, alpha: float
) -> pathlib.Path:
    """From joints to the highlighted image: stored, as input, mirrored, cropped. size: the input (H, W)."""
    whole = augment.whole(example.height, example.width)
    input_ = augment.fitted(example.height, example.width, size, fit)
    randoms = np.array([0.5, 0.9, 0.3, 0.6, 0.0])
    cropped = augment.random_view(randoms, example.height, example.width, SHOWN_AREA, SHOWN_ASPECT, 0.0)
    views = {
        "stored image": focus_view(example, whole, (example.height, example.width), alpha),
        f"input, {size[1]}×{size[0]}": focus_view(example, input_, size, alpha),
        "mirrored": focus_view(example, input_._replace(mirrored=True), size, alpha),
        "cropped": focus_view(example, cropped, size, alpha),
    }
    return plots.focus_figure(path, views)


def focus_view(example: Example, view: augment.View, size: tuple[int, int], alpha: float) -> plots.FocusView:
    """One row: what the loader makes of an example through a view. size: (H, W) of the output."""
    image = picture(example, view, size, example.image_id)
    heatmap = joint_heatmap(example, view, size)
    joints, visibility = augment.view_joints(example.joints, example.visibility, view, size)
    stored, original = (example.height, example.width), (example.original_height, example.original_width)
    centres, half_axes = heatmaps.ellipses(
        heatmaps.original_joints(example.joints, stored, original), example.visibility
    )
    per_pixel = np.array([original[1] / stored[1], original[0] / stored[0]])
    scale = np.array([size[1] / view.width, size[0] / view.height])
    centres = ((centres + 0.5) / per_pixel - (view.left, view.top)) * scale - 0.5
    if view.mirrored:
        centres[:, 0] = size[1] - 1 - centres[:, 0]
    return plots.FocusView(
        image=image,
        joints=joints,
        visibility=visibility,
        centres=centres,
        half_axes=half_axes / per_pixel * scale,
        heatmap=heatmap,
        highlighted=image / 255.0 * (alpha + (1.0 - alpha) * heatmap)[..., None],
    )
