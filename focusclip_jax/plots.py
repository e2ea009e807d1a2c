"""Every picture of a run, in one style. Each function writes one PNG and returns its path.

Colours are Okabe and Ito's, which remain distinct under all common forms of colour blindness; colour never
carries a meaning alone. Letters: B batch, H W image, P persons, N points, K classes, D embedding.
"""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.rcsetup import cycler
from matplotlib.typing import RcKeyType

from annotation import schema
from focusclip_jax.evaluation import statistics
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import Task
from focusclip_jax.evaluation.zero_shot import Result
from focusclip_jax.files import replacing

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
)
INK, FAINT = "#222222", "#B8B8B8"
VIEW_STYLE = {"image": (BLUE, "o"), "focus": (RED, "s"), "text": (GREEN, "^")}  # colour, marker

STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so pictures look the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, RED, GREEN, PURPLE, ORANGE, SKY]),
    "axes.grid": False,
    "grid.color": "#E4E4E4",
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.1,
}

# MPII joints that a bone joins.
BONES = (
    *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5)),
    *((6, 7), (7, 8), (8, 9)),
    *((10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15)),
)
SIDE_COLOUR = {"own right": RED, "own left": SKY, "middle": YELLOW}
JOINT: dict[str, Any] = {"marker": "o", "markersize": 4.2, "markeredgecolor": "black", "markeredgewidth": 0.8}
OUTLINE = [withStroke(linewidth=3.4, foreground="black")]  # legible on any background


@dataclasses.dataclass(frozen=True, eq=False)
class FocusView:
    """One row of `focus_figure`; all positions are pixels of `image`, 0-based, x then y.

    image: uint8 (H, W, 3). joints: (P, 16, 2). visibility: (P, 16), as in `annotation.schema`.
    centres, half_axes: (G, 2), the body parts that are drawn. heatmap: (H, W) in [0, 1].
    highlighted: (H, W, 3) uint8 or [0, 1], what the focus tower sees.
    """

    image: np.ndarray
    joints: np.ndarray
    visibility: np.ndarray
    centres: np.ndarray
    half_axes: np.ndarray
    heatmap: np.ndarray
    highlighted: np.ndarray


@mpl.rc_context(STYLE)
def focus_figure(path: Path, views: Mapping[str, FocusView]) -> Path:
    """How joints become attention: joints, body parts, heatmap and highlighted image, a row for each view.

    views: by title, such as "as packed" and "after crop and flip".
    """
    heights = [view.image.shape[0] / view.image.shape[1] for view in views.values()]
    figure = Figure(figsize=(10.5, 2.55 * sum(heights) + 0.95))
    axes = figure.subplots(len(views), 4, squeeze=False, height_ratios=heights)
    for row, (title, view) in zip(axes, views.items(), strict=True):
        for ax in row:
            ax.imshow(view.image)
            _bare(ax)
        row[0].set_ylabel(title, fontsize=10)
        _draw_people(row[0], view.joints, view.visibility)
        for centre, half in zip(view.centres, view.half_axes, strict=True):
            part = Ellipse(centre, *(2 * half), fill=False, edgecolor="white", linewidth=1.2)
            row[1].add_patch(part).set_path_effects(OUTLINE)
        heat = row[2].imshow(view.heatmap, cmap="inferno", vmin=0, vmax=1)
        row[3].imshow(view.highlighted)
        for ax in row:  # parts and joints may lie outside
            ax.set_xlim(-0.5, view.image.shape[1] - 0.5)
            ax.set_ylim(view.image.shape[0] - 0.5, -0.5)
    titles = ("joints", "body parts (1 σ)", "heatmap", "highlighted image")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    handles = [Line2D([], [], color=c, label=label, **JOINT, linewidth=2) for label, c in SIDE_COLOUR.items()]
    handles.append(Line2D([], [], color="white", label="derived joint", **JOINT, linewidth=0))
    bar = axes[-1, 2].inset_axes((0, -0.1, 1, 0.04))
    figure.colorbar(heat, cax=bar, orientation="horizontal", ticks=(0, 0.5, 1))
    figure.legend(handles=handles, loc="outside lower left", ncols=4)
    return _save(figure, path)


@mpl.rc_context(STYLE)
def image_grid(
    path: Path, rows: Mapping[str, Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray]
) -> Path:
    """A row of images for each title, with titles of their own where the row is a mapping.

    An image is (H, W, 3), uint8 or in [0, 1]; one of (H, W) in [0, 1] is drawn as a heatmap.
    """
    columns = max(map(len, rows.values()))
    titled = any(isinstance(row, Mapping) for row in rows.values())
    figure = Figure(figsize=(1.45 * columns + 0.3, (1.75 if titled else 1.5) * len(rows)))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for of_row, (title, row) in zip(axes, rows.items(), strict=True):
        names, images = (row.keys(), row.values()) if isinstance(row, Mapping) else ([""] * len(row), row)
        of_row[0].set_ylabel(title, fontsize=10)
        for ax, name, image in zip(of_row, names, images, strict=False):
            ax.imshow(image, cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
            ax.set_title(name, fontsize=9)
            _bare(ax)
        for ax in of_row[len(row) :]:
            ax.remove()
    return _save(figure, path)


def _draw_people(ax: Axes, joints: np.ndarray, visibility: np.ndarray) -> None:
    for person, visible in zip(joints, visibility, strict=True):
        for a, b in BONES:
            if visible[a] and visible[b]:
                ax.plot(*person[[a, b]].T, color=_side_colour(a, b), linewidth=2, path_effects=OUTLINE)
        for joint in np.flatnonzero(visible).tolist():
            colour = _side_colour(joint, joint) if visible[joint] == schema.LABELLED else "white"
            ax.plot(*person[joint], color=colour, **JOINT)


def _side_colour(a: int, b: int) -> str:
    """Colour of a bone or joint: that of the side that one of its ends belongs to."""
    sides = {schema.JOINT_NAMES[joint].split()[0] for joint in (a, b)}
    return SIDE_COLOUR["own right" if "right" in sides else "own left" if "left" in sides else "middle"]


@mpl.rc_context(STYLE)
def curves(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Training curves from the rows of `metrics.jsonl`; a panel without data is left out.

    Reads `loss` and its terms, `validation/<loss or term>`, `learning_rate`, `temperature`, `alpha`,
    `gradient_norm`, `zero_shot/<row>` (accuracy, a share) and `zero_shot/<row>/chance`, drawn dashed.
    """
    loss = ("loss", "image_text", "focus_text", "focus_image")
    names = list(dict.fromkeys(name for row in rows for name in row))
    accuracies = [name for name in names if name.startswith("zero_shot/") and not name.endswith("/chance")]
    panels = {
        "training loss": [name for name in loss if name in names],
        "validation loss": [name for name in (f"validation/{term}" for term in loss) if name in names],
        "zero-shot accuracy (%), dashed: chance": accuracies,
        "temperature": ["temperature"],
        "α, weight of the background": ["alpha"],
        "learning rate": ["learning_rate"],
        "gradient norm": ["gradient_norm"],
    }
    panels = {title: kept for title, wanted in panels.items() if (kept := [n for n in wanted if n in names])}
    columns = min(4, len(panels))
    rows_of_panels = -(-len(panels) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.4 * rows_of_panels))
    axes = figure.subplots(rows_of_panels, columns, squeeze=False).ravel()
    for ax, (title, wanted) in zip(axes, panels.items(), strict=False):
        for name in wanted:
            steps, values = np.array([(row["step"], row[name]) for row in rows if name in row], float).T
            values *= 100 if "(%)" in title else 1
            marker = "o" if len(steps) < 30 else None
            label = name.split("/", 1)[-1].replace("_", " ")
            (line,) = ax.plot(steps, values, marker=marker, markersize=3.5, label=label)
            chance = next((row[f"{name}/chance"] for row in rows if f"{name}/chance" in row), None)
            if chance is not None:
                ax.axhline(100 * chance, color=line.get_color(), linestyle="--", linewidth=1)
        ax.set_title(title)
        ax.set_xlabel("step")
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y")
        if len(wanted) > 3:  # many lines leave no room inside
            ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=1)
        elif len(wanted) > 1:
            ax.legend(fontsize=8)
    for ax in axes[len(panels) :]:
        ax.remove()
    return _save(figure, path)


@mpl.rc_context(STYLE)
def similarity_matrix(path: Path, images: np.ndarray, texts: np.ndarray, title: str = "") -> Path:
    """Cosine of every image with every text, (N, D) each, unit rows; row i of both belongs together."""
    cosine = images @ texts.T
    own = np.eye(len(cosine), dtype=bool)
    figure = Figure(figsize=(5.2, 4.8))
    ax = figure.subplots()
    picture = ax.imshow(cosine, cmap="viridis", interpolation="nearest")
    ax.set(xlabel="text", ylabel="image")
    means = f"mean cosine: own text {cosine[own].mean():.3f}, other texts {cosine[~own].mean():.3f}"
    ax.set_title(f"{title}\n{means}".strip())
    ax.spines[:].set_visible(False)
    figure.colorbar(picture, ax=ax, shrink=0.85, label="cosine")
    return _save(figure, path)


@mpl.rc_context(STYLE)
def embedding_pca(path: Path, views: Mapping[str, np.ndarray], title: str = "") -> Path:
    """The views of N images on their two principal axes; a line joins what belongs to one image.

    views: "image", "focus", "text" → (N, D), those there are; row i of all belongs to image i.
    """
    points = np.stack(list(views.values()), axis=1).astype(np.float64)  # (N, views, D)
    flat = points.reshape(-1, points.shape[-1])
    centred = flat - flat.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    share = singular**2 / max((singular**2).sum(), 1e-12)
    flat_2d = centred @ axes[:2].T
    points_2d = flat_2d.reshape(*points.shape[:2], 2)
    width, height = np.ptp(flat_2d, axis=0)
    # One unit is as long along both axes, and a flat cloud gets a flat picture.
    figure = Figure(figsize=(6, 1.1 + 5 * np.clip(height / max(width, 1e-12), 0.35, 1)))
    ax = figure.subplots()
    ax.add_collection(LineCollection(list(points_2d), colors=FAINT, linewidths=0.6, zorder=1))
    for i, name in enumerate(views):
        colour, marker = VIEW_STYLE[name]
        x, y = points_2d[:, i].T
        ax.scatter(x, y, s=20, color=colour, marker=marker, label=name, edgecolors="white", linewidths=0.4)
    ax.set_xlabel(f"first principal axis ({100 * share[0]:.0f} % of the variance)")
    ax.set_ylabel(f"second principal axis ({100 * share[1]:.0f} %)")
    ax.set_title(f"{title}{', ' if title else ''}{len(points)} images; lines join one image's views")
    ax.set_aspect("equal", adjustable="datalim")
    figure.legend(loc="outside lower center", ncols=len(views))
    return _save(figure, path)


@mpl.rc_context(STYLE)
def confusion(path: Path, result: Result) -> Path:
    """Where the images of each class go, in % of that class. More than 60 classes are numbered, not named."""
    counts = np.array(result.confusion)
    totals = counts.sum(axis=1)
    percent = 100 * counts / np.maximum(totals, 1)[:, None]
    darkest = max(10, percent.max())
    k = len(counts)
    side = max(3.2, min(0.42 * k, 9.0))
    small = 8 if k <= 20 else 6
    figure = Figure(figsize=(side + 2.4, side + 2.2))
    ax = figure.subplots()
    picture = ax.imshow(percent, cmap="Blues", vmin=0, vmax=darkest)
    names = [textwrap.shorten(name.replace("_", " "), 34, placeholder=" …") for name in result.classes]
    if k <= 60:
        ax.set_xticks(range(k), names, rotation=90, fontsize=small)
        ax.set_yticks(range(k), [f"{n} ({t:,})" for n, t in zip(names, totals, strict=True)], fontsize=small)
        ax.set(xlabel="top prediction", ylabel="true class (images)")
    else:
        ax.set(xlabel="top prediction, number of the class from 0", ylabel="true class")
    if k <= 20:  # more would not be legible
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
        for i, j in np.argwhere(percent >= 0.5):
            colour = "white" if percent[i, j] > 0.6 * darkest else INK
            ax.text(j, i, f"{percent[i, j]:.0f}", color=colour, **style)
    ax.spines[:].set_visible(False)
    assert result.balanced_top1 is not None, "images with several labels have no confusion"
    shares = f"top-1 {100 * result.top1:.1f} %, balanced {100 * result.balanced_top1:.1f} %"
    ax.set_title(
        f"{result.task} ({result.rows} classes), step {result.step:,}: {result.n:,} images\n"
        f"{shares}, chance {100 / k:.1f} %"
    )
    figure.colorbar(picture, ax=ax, shrink=0.6, label="% of the true class")
    return _save(figure, path)


@mpl.rc_context(STYLE)
def precisions(path: Path, result: Result) -> Path:
    """Average precision of each label, in %, beside its frequency, which a blind model would get."""
    names = [name for name in result.classes if name in result.per_class]
    images = np.array([result.per_class[name]["n"] for name in names])
    values = 100 * np.array([result.per_class[name]["average_precision"] for name in names])
    frequency = 100 * images / result.n
    figure = Figure(figsize=(7, 1.6 + 0.22 * len(names)))
    ax = figure.subplots()
    rows = np.arange(len(names))
    ax.barh(rows, values, color=BLUE, height=0.7, label="average precision")
    ax.plot(frequency, rows, "|", color=RED, markersize=11, markeredgewidth=2, label="frequency of the label")
    ax.set_yticks(rows, [f"{name.replace('_', ' ')} ({n:,})" for name, n in zip(names, images, strict=True)])
    ax.margins(y=0.01)
    ax.invert_yaxis()
    ax.set_xlabel("%")
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.set_title(
        f"{result.task} ({result.rows} classes), step {result.step:,}: {result.n:,} images\n"
        f"mean average precision {100 * result.accuracy:.1f} %, chance {100 * result.chance:.1f} %"
    )
    figure.legend(loc="outside lower center", ncols=2)
    return _save(figure, path)


@mpl.rc_context(STYLE)
def predictions(path: Path, task: Task, images: EvaluationSet, similarities: np.ndarray) -> Path:
    """Two rows of up to six images whose top prediction is right, and two where it is wrong.

    similarities: (N, K) of `zero_shot.similarities`. Images are spread evenly over the set, not picked. Where
    images have several labels, one of them is right.
    """
    labels = [of_image if task.several else (of_image,) for of_image in images.labels]
    top = statistics.ranked(similarities)[:, 0]
    right = np.array([task.classes[c] in of_image for c, of_image in zip(top, labels, strict=True)])
    figure = Figure(figsize=(10.5, 9.6))
    halves = figure.subfigures(2, 1, squeeze=False)[:, 0]
    for part, good, of_part in zip(halves, (True, False), (right, ~right), strict=True):
        colour = BLUE if good else RED
        title = f"{task.name}, top prediction {'right' if good else 'wrong'}: {100 * of_part.mean():.1f} %"
        part.suptitle(f"{title} of {len(labels):,} images", x=0.01, ha="left", color=colour, fontsize=11)
        axes = part.subplots(2, 6).ravel()
        for ax in axes:
            _bare(ax)
        for ax, i in zip(axes, _spread(np.flatnonzero(of_part), len(axes)), strict=False):
            ax.imshow(_letterboxed(images.read(i)))
            text = f"{'✓' if good else '✗'} {_name(task, top[i])} ({similarities[i, top[i]]:.2f})"
            if not good:
                numbers = [task.classes.index(name) for name in labels[i]]
                label = ", ".join(f"{_name(task, c)} ({similarities[i, c]:.2f})" for c in numbers)
                text += f"\nlabel: {label}"
            ax.set_xlabel(_wrapped(text), fontsize=7.5, color=colour, loc="left")
    return _save(figure, path)


def _letterboxed(image: np.ndarray) -> np.ndarray:
    """The image at the top left of a white square, so that pictures in a grid line up."""
    height, width = image.shape[:2]
    side = max(height, width)
    return np.pad(image, ((0, side - height), (0, side - width), (0, 0)), constant_values=255)


def _name(task: Task, c: int) -> str:
    return task.classes[c].replace("_", " ")


def _wrapped(text: str, width: int = 25) -> str:
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, width))


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the indices, evenly spaced."""
    if len(indices) <= count:
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).astype(int)]


def _bare(ax: Axes) -> None:
    ax.set(xticks=(), yticks=())
    ax.spines[:].set_visible(False)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)  # no window system, whatever the user's settings say
    with replacing(path) as temporary:
        figure.savefig(temporary)
    return path
