"""What one or two models say to a photo: ranked labels, and where they look. No page in here."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw

from annotation import schema
from focusclip_jax import api, focus_maps
from focusclip_jax import config as configs
from focusclip_jax.ablation import attention
from focusclip_jax.data import heatmaps
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import tasks
from focusclip_jax.plots import BONES
from focusclip_jax.workdir import Workdir

SHOWN = 640  # pixels of the longer side of the pictures in the page
SIDES = {"right": (213, 94, 0), "left": (86, 180, 233)}  # the colours of `plots.SIDE_COLOUR`
MIDDLE = (240, 228, 66)


@dataclasses.dataclass(frozen=True)
class Run:
    """A model to ask. name: the folder's. about: one line of what it is. patch: pixels of its patches.

    prompt: the words around a label, {}, that the model is evaluated with.
    """

    name: str
    about: str
    model: api.Model
    patch: int
    prompt: str


@dataclasses.dataclass(frozen=True)
class Look:
    """One map. picture: uint8 (H, W, 3), the photo with the map over it.

    inside: the share of the map that falls on the people; None without joints, or of a map that is 0.
    """

    picture: np.ndarray
    inside: float | None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one model says. ranked: labels with their probabilities, the likeliest first."""

    run: Run
    ranked: list[tuple[str, float]]
    rollout: Look
    gradient: Look


@dataclasses.dataclass(frozen=True)
class People:
    """The photo with joints and with their heatmap, uint8 (H, W, 3). area: the share of it that is people."""

    skeletons: np.ndarray
    heatmap: np.ndarray
    area: float


@dataclasses.dataclass(frozen=True)
class Answers:
    """text: what the maps by gradient are of. people: None without joints."""

    of_runs: list[Answer]
    text: str
    people: People | None


def open_run(folder: pathlib.Path, step: int | None) -> Run:
    """The model of a workdir. Raises UserError where it is none."""
    workdir = Workdir(folder)
    if not workdir.run.is_file():
        raise UserError(
            f"{folder}: no workdir of a run (it has no run.json); ./launch.sh --config=FILE makes one"
        )
    config = configs.from_json(workdir.config)
    model = api.load(folder, step)
    focused = config.loss.focus_text or config.loss.focus_image
    training = "trained with subject focus" if focused else "trained without subject focus"
    side = model.image_size
    about = f"{training}; sees {side} × {side} pixels in patches of {config.model.patch_size}"
    return Run(folder.resolve().name, about, model, config.model.patch_size, _prompt(config.evaluation.tasks))


def _prompt(names: Sequence[str]) -> str:
    """That of the first of these tasks whose prompts are its labels in other words; else the paper's."""
    found = (tasks.TASKS[name] for name in names if name in tasks.TASKS)
    for task in found:
        label, text = task.classes[0], task.prompts[0][0]
        if label in text:
            return text.replace(label, "{}")
    return "a photo of a person {}"


def ask(
    runs: Sequence[Run],
    photo: np.ndarray,
    labels: Sequence[str],
    prompt: str,
    joints: tuple[np.ndarray, np.ndarray] | None = None,
    text: str = "",
    progress: Callable[[float, str], object] = lambda done, doing: None,
) -> Answers:
    """All that the page shows. Raises UserError.

    photo: uint8 (H, W, 3). joints: see `inputs.read_joints`. text: of the maps by gradient; the prompt of the
    first model's likeliest label where it is empty. progress: is told how much is done and what is next.
    """
    steps = _counted(3 * len(runs), progress)
    ranked = []
    for run in runs:
        next(steps)(f"{run.name}: comparing the labels")
        ranked.append(run.model.classify(photo, labels, prompt=prompt)[0])
    text = text.strip() or prompt.replace("{}", ranked[0][0][0])
    shown = _resized(photo)
    answered = []
    for run, labelled in zip(runs, ranked, strict=True):
        subject = None if joints is None else _subject(run, photo, joints)
        next(steps)(f"{run.name}: following its attention")
        shares = focus_maps.attention_shares(run.model, photo)
        next(steps)(f"{run.name}: following the gradient")
        relevance = focus_maps.relevance(run.model, photo, text)
        looks = [_look(run, shown, values, subject) for values in (shares, relevance)]
        answered.append(Answer(run, labelled, *looks))
    people = None if joints is None else _people(runs[0], photo, shown, joints)
    return Answers(answered, text, people)


def _counted(total: int, progress: Callable[[float, str], object]) -> Iterator[Callable[[str], object]]:
    for done in range(total):
        yield functools.partial(progress, done / total)


def _look(run: Run, shown: np.ndarray, values: np.ndarray, subject: np.ndarray | None) -> Look:
    picture = focus_maps.overlay(run.model, shown, focus_maps.as_map(values, run.model.image_size))
    if subject is None or values.sum() == 0:
        return Look(picture, None)
    share, _ = attention.inside((values / values.sum()).reshape(1, -1), subject)
    return Look(picture, share)


def _heatmap(run: Run, photo: np.ndarray, joints: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The paper's, of ten body parts, over the model's input: float32 (S, S)."""
    side = run.model.image_size
    return heatmaps.render(*joints, focus_maps.seen(run.model, *photo.shape[:2]), (side, side))


def _subject(run: Run, photo: np.ndarray, joints: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The share of each patch that is subject, (1, P)."""
    subject = attention.subject_share(_heatmap(run, photo, joints)[None], run.patch)
    if not subject.any():
        raise UserError(
            f"The joints draw nobody inside what {run.name} sees of the photo, which has "
            f"{photo.shape[1]} × {photo.shape[0]} pixels."
        )
    return subject


def _people(run: Run, photo: np.ndarray, shown: np.ndarray, joints: tuple[np.ndarray, np.ndarray]) -> People:
    heatmap = focus_maps.overlay(run.model, shown, _heatmap(run, photo, joints))
    scale = np.array(shown.shape[1::-1]) / np.array(photo.shape[1::-1])
    skeletons = _skeletons(shown, (joints[0] + 0.5) * scale - 0.5)
    return People(skeletons, heatmap, float(_subject(run, photo, joints).mean()))


def _resized(photo: np.ndarray) -> np.ndarray:
    """The photo with its longer side SHOWN pixels, enlarged if need be."""
    factor = SHOWN / max(photo.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in photo.shape[1::-1])
    return np.asarray(PIL.Image.fromarray(photo).resize(size, PIL.Image.Resampling.BICUBIC))


def _skeletons(shown: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """The picture with the bones between its joints (P, 16, 2)."""
    picture = PIL.Image.fromarray(shown)
    draw = PIL.ImageDraw.Draw(picture)
    for person in joints:
        for a, b in BONES:
            if not np.isnan(person[[a, b]]).any():
                ends = [tuple(map(float, person[a])), tuple(map(float, person[b]))]
                draw.line(ends, fill=(0, 0, 0), width=7)
                draw.line(ends, fill=_side_colour(a, b), width=4)
        for joint, (x, y) in enumerate(person):
            if math.isfinite(x):
                dot = (x - 5, y - 5, x + 5, y + 5)
                draw.ellipse(dot, fill=_side_colour(joint, joint), outline=(0, 0, 0), width=1)
    return np.asarray(picture)


def _side_colour(a: int, b: int) -> tuple[int, int, int]:
    """Of a bone or joint: that of the person's side that one of its ends belongs to."""
    words = {schema.JOINT_NAMES[joint].split()[0] for joint in (a, b)}
    return next((colour for side, colour in SIDES.items() if side in words), MIDDLE)
