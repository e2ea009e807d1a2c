"""Photographs as an experiment: Stanford 40 with ten activities held out, in five fixed ways, and faces.

`PARTITIONS` are plain data, made by this rule: write the forty activities in ascending order of the SHA-256
of "1/ACTIVITY"; the four tens of that order are the first four, so that each activity is held out once. The
fifth is the first ten in ascending order of the SHA-256 of "2/ACTIVITY". No image of a held-out activity is
trained on, and no caption names one.

Tested are, on the official test photographs that are there, zero-shot: the 30 seen activities among
themselves, the 10 unseen ones among themselves, all 40 together; and ages of UTKFace and emotions of FER2013,
whose crops show no body: they say what carries over to faces, and nothing about a subject in its scene.
Letters: N test images, K classes, H W sizes, B batch, P patches.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import PIL.Image
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import prepare
from focusclip_jax.ablation import attention
from focusclip_jax.ablation.experiment import Group, Reading, Tested
from focusclip_jax.ablation.grid import TRAINING_CODE
from focusclip_jax.data.shards import Shards
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import datasets, statistics, zero_shot
from focusclip_jax.evaluation.datasets import base, stanford40
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import FER2013, STANFORD40, STANFORD40_CLASSES, UTKFACE_AGE, Task
from focusclip_jax.files import write_text
from focusclip_jax.run import Run

PARTITIONS = (
    (
        "applauding",
        "blowing_bubbles",
        "climbing",
        "fixing_a_bike",
        "playing_guitar",
        "pouring_liquid",
        "pushing_a_cart",
        "reading",
        "riding_a_horse",
        "throwing_frisby",
    ),
    (
        "feeding_a_horse",
        "fixing_a_car",
        "gardening",
        "jumping",
        "looking_through_a_microscope",
        "riding_a_bike",
        "running",
        "texting_message",
        "walking_the_dog",
        "watching_TV",
    ),
    (
        "brushing_teeth",
        "cleaning_the_floor",
        "cutting_trees",
        "fishing",
        "holding_an_umbrella",
        "looking_through_a_telescope",
        "playing_violin",
        "taking_photos",
        "washing_dishes",
        "waving_hands",
    ),
    (
        "cooking",
        "cutting_vegetables",
        "drinking",
        "phoning",
        "rowing_a_boat",
        "shooting_an_arrow",
        "smoking",
        "using_a_computer",
        "writing_on_a_board",
        "writing_on_a_book",
    ),
    (
        "brushing_teeth",
        "fixing_a_bike",
        "gardening",
        "looking_through_a_microscope",
        "playing_guitar",
        "riding_a_horse",
        "rowing_a_boat",
        "shooting_an_arrow",
        "taking_photos",
        "washing_dishes",
    ),
)

FACES = {"ages": UTKFACE_AGE, "emotions": FER2013}
TOPS = {"top-1": 1, "top-3": 3}
NEEDED = (
    "JPEGImages/*.jpg",
    "annotations.csv",
    "poses_yolo_coco17.json",
    "ImageSplits/train.txt",
    "ImageSplits/test.txt",
)
SHORT_SIDE = 96  # of the packed photographs, pixels


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies in the user's folder.

    digest: 12 hexadecimal digits of the names and sizes of the images and of the tables: results of two
        digests cannot be paired. train, test: names of the photographs that are listed and there.
    images: data set → what was found, as a sentence. absent: a sentence for each that is not.
    """

    digest: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    images: Mapping[str, str]
    absent: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Photographs:
    """`data_dir` as docs/photographs.md lays it out; faces that are not there are not asked about.

    folder: where lists, journals and shards are made. partitions: numbers of `PARTITIONS`.
    Joints are in pixels of the size that annotations.csv states, if it does: a photograph that is stored
    smaller has them scaled.
    """

    axis: ClassVar[str] = "partition"
    repeats: ClassVar[bool] = True
    code: ClassVar[tuple[str, ...]] = (
        *TRAINING_CODE,
        "annotation/sources/coco.py",
        "annotation/skeletons.py",
        "annotation/shards.py",
        "focusclip_jax/weights/load.py",
        "focusclip_jax/weights/names.py",
        "focusclip_jax/evaluation/zero_shot.py",
        "focusclip_jax/evaluation/statistics.py",
        "focusclip_jax/evaluation/datasets/stanford40.py",
        "focusclip_jax/evaluation/datasets/utkface.py",
        "focusclip_jax/evaluation/datasets/fer2013.py",
        "focusclip_jax/ablation/photographs.py",
    )
    reading: ClassVar[Reading] = Reading(
        groups={
            "seen": Group("seen activities", 30),
            "unseen": Group("unseen activities", 10),
            "mixed": Group("seen and unseen activities together", 40),
            "ages": Group("ages of faces, UTKFace", len(UTKFACE_AGE.classes)),
            "emotions": Group("emotions of faces, FER2013", len(FER2013.classes)),
        },
        decisive=("seen", "unseen"),
        columns={"top-1": "top-1", "top-3": "top-3"},
        primary="top-1",
        differences={name: f"top-1/{name}" for name in ("seen", "unseen", "mixed", "ages", "emotions")},
        pictured={"30 seen": "top-1/seen", "10 unseen": "top-1/unseen", "40 mixed": "top-1/mixed"},
        where="test images",
        chosen_by="seeds and partitions",
        note="All shares in %, with 95 % intervals over partitions and images; where there are several "
        "seeds, each partition counts as their mean. Each group is ranked among its own classes; differences "
        "are of top-1. Faces fill their crops and show no body, so they tell of transfer and are no evidence "
        "about focus. The subject is the part of the photograph where the heatmap of the estimated joints is "
        "at least 0.5.",
    )

    folder: str
    data_dir: str
    partitions: tuple[int, ...] = tuple(range(len(PARTITIONS)))

    @property
    def conditions(self) -> tuple[int, ...]:
        return self.partitions

    def chosen(self, partition: float) -> dict[str, Any]:
        return {
            "held_out": PARTITIONS[int(partition)],
            "tests": _commands("DATA", "FOUND", "looked-at", "tests", "test"),
            "prompts": [task.prompts for task in (STANFORD40, *FACES.values())],
        }

    def tag(self, partition: float) -> str:
        return f"p{partition:g}"

    def title(self, partition: float) -> str:
        return f"partition {partition:g}"

    def train(self, partition: float) -> str:
        return _shards("FOUND", partition)

    def commands(self, partition: float) -> tuple[str, ...]:
        """Of the user's folder DATA and of FOUND, which `prepared` makes of it."""
        return _train("DATA", "FOUND", partition)

    def at(self, data_dir: pathlib.Path) -> Photographs:
        return dataclasses.replace(self, data_dir=str(data_dir))

    def prepared(self, config: ConfigDict, partition: float) -> ConfigDict:
        """Lists without the held-out activities, joints at the photographs' size; described and packed."""
        data, found = pathlib.Path(self.data_dir), look(self.data_dir)
        for sentence in (*found.images.values(), *found.absent):
            print(sentence)
        folder = self._folder(found)
        folder.mkdir(parents=True, exist_ok=True)
        looked_at = found.test[:: -(-len(found.test) // attention.LOOKED_AT)]
        seen = [name for name in found.train if _activity(name) not in PARTITIONS[int(partition)]]
        lists = {f"train-{partition:g}.txt": seen, "looked-at.txt": looked_at}
        for name, names in lists.items():
            if not names:
                raise UserError(f"{data}/stanford40: there is no photograph for {name}")
            write_text(folder / name, "\n".join(names) + "\n")
        poses = folder / "poses.json"
        if not poses.exists():
            write_text(poses, json.dumps(scaled_poses(data / "stanford40", [*found.train, *looked_at])))
        tests = _commands(str(data), str(folder), "looked-at", "tests", "test")
        prepare.run(ConfigDict({"data": {"train": f"{folder}/tests", "prepare": tests}}))
        real = config.copy_and_resolve_references()
        real.data.prepare = _train(str(data), str(folder), partition)
        real.data.train = _shards(str(folder), partition)
        prepare.run(real)
        return real

    def tested(self, encoder: Encoder, this: Run, partition: float) -> Tested:
        """Bits are ordered by activity, then as the official list is; groups keep that order.

        Raises UserError where a training caption names a held-out activity.
        """
        held_out = PARTITIONS[int(partition)]
        for name in held_out:
            if this.training_text.mentions(name):
                raise UserError(f"{this.workdir.training_text}: a caption names {name}, which is held out")
        data, found = pathlib.Path(self.data_dir), look(self.data_dir)
        size = this.config.evaluation.batch_size
        photos = datasets.load(STANFORD40, data)
        labels, similarities = _answered(encoder, STANFORD40, photos, size)
        answers = {}
        for group, classes in _asked([name in held_out for name in STANFORD40_CLASSES]).items():
            asked = classes[labels]
            if asked.any():
                own = np.searchsorted(np.flatnonzero(classes), labels[asked])
                answers[group] = own, similarities[np.ix_(asked, classes)]
        for group, task in FACES.items():
            if task.dataset in found.images:
                answers[group] = _answered(encoder, task, datasets.load(task, data), size)
        shards = Shards.open(f"{self._folder(found)}/tests", "test")
        counts = np.bincount(labels, minlength=len(STANFORD40_CLASSES))
        measures: dict[str, np.ndarray] = {}
        for group, answered in answers.items():
            measures |= _hits(group, *answered)
        return Tested(
            measures=measures,
            attention=attention.subject_attention(encoder, this.graph, shards, this.config.model.patch_size),
            shards={"looked at": shards.fingerprint()},
            about={
                "held_out": held_out,
                "data": {"digest": found.digest, **found.images},
                "images": dict(zip(STANFORD40_CLASSES, counts.tolist(), strict=True)),
                "tests": {group: _constant(labels) for group, (labels, _) in answers.items()},
            },
        )

    def row(self, about: Mapping[str, Any], measure: str, bits: np.ndarray) -> np.ndarray:
        group = measure.split("/")[1]
        if group in FACES:
            return bits.astype(np.float64)
        counts = list(about["images"].values())
        asked = _asked([name in about["held_out"] for name in about["images"]])[group]
        result = np.full(sum(counts), np.nan)
        result[np.repeat(asked, counts)] = bits
        return result

    def floors(self, abouts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        measures = [
            f"{top}/{group}" for group in abouts[0]["tests"] for top in TOPS if group in self.reading.groups
        ]
        random, constant = {}, {}
        for measure in measures:
            top, group = measure.split("/")
            random[measure] = TOPS[top] / self.reading.groups[group].classes
            constant[measure] = float(np.mean([about["tests"][group]["constant"][top] for about in abouts]))
        return {"random answers": random, "always the commonest": constant}

    def check(self, abouts: Mapping[str, Mapping[str, Any]]) -> None:
        """Results on other images would be paired with the wrong ones."""
        cells = {about["data"]["digest"]: cell for cell, about in abouts.items()}
        if len(cells) > 1:
            raise UserError(
                f"{', '.join(cells.values())}: these cells were tested on different data, so they cannot be "
                "compared; move the results on one of the two away, or name another folder by --results=DIR"
            )

    def _folder(self, found: Found) -> pathlib.Path:
        """Of what is made from exactly these data."""
        return pathlib.Path(self.folder) / found.digest


def _train(data: str, folder: str, partition: float) -> tuple[str, str]:
    return _commands(data, folder, f"train-{partition:g}", f"partition-{partition:g}", "train")


def _shards(folder: str, partition: float) -> str:
    return f"{folder}/partition-{partition:g}"


def _commands(data: str, folder: str, listed: str, out: str, split: str) -> tuple[str, str]:
    """Describe and pack the photographs of one list. data, folder: of the user and of what is made."""
    photos = f"--images={shlex.quote(f'{data}/stanford40/JPEGImages')}"
    folder = shlex.quote(folder)
    return (
        f"describe --source=coco-dict:{folder}/poses.json {photos} "
        f"--activities={shlex.quote(f'{data}/stanford40/annotations.csv')} --list={folder}/{listed}.txt "
        f"--describer=geometry --detail=short --out={folder}/journals/{listed}",
        f"pack --journal={folder}/journals/{listed} {photos} --split={split} --dataset=stanford40 "
        f"--size={SHORT_SIDE} --out={folder}/{out}",
    )


@functools.cache  # of the folder as it was when this process first looked
def look(data_dir: str) -> Found:
    """Find and count the data. Raises UserError where Stanford 40 is not there."""
    root = pathlib.Path(data_dir) / "stanford40"
    lacking = base.first_missing(root, *NEEDED)
    if lacking:
        raise UserError(
            f"{root}: holds no {lacking}; expected Stanford 40 with its joints as docs/photographs.md lays "
            "it out, below a folder that --data-dir=DIR can name"
        )
    names = {split: stanford40.load(root, split).names for split in ("train", "test")}
    digest = hashlib.sha256()
    for needed in NEEDED[1:]:
        digest.update((root / needed).read_bytes())
    absences = {task: datasets.absent(task, root.parent) for task in FACES.values()}
    faces = {task.dataset: datasets.load(task, root.parent) for task, why in absences.items() if not why}
    for split in names.values():
        for name in split:
            digest.update(f"{name} {(root / 'JPEGImages' / name).stat().st_size}\n".encode())
    for images_ in faces.values():
        digest.update("\n".join(images_.names).encode())
    counts = {
        split: f"{len(names[split]):,} of {stanford40.IMAGES[split]:,} {name}"
        for split, name in (("train", "training"), ("test", "test"))
    }
    return Found(
        digest=digest.hexdigest()[:12],
        train=names["train"],
        test=names["test"],
        images={
            "stanford40": f"Stanford 40: {counts['train']} and {counts['test']} images present.",
            **{name: images_.summary() for name, images_ in faces.items()},
        },
        absent=tuple(why for why in absences.values() if why),
    )


def scaled_poses(root: pathlib.Path, names: Sequence[str]) -> dict[str, list]:
    """The joints of some photographs, {image: 17 × [x, y]}, in pixels of the photographs as they are stored.

    Raises UserError where a photograph has another shape than annotations.csv states.
    """
    path = root / "poses_yolo_coco17.json"
    try:
        poses = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    table = root / "annotations.csv"
    rows = {row["image"]: row for _, row in base.table(table, ("image",))}
    result = {}
    for name in tqdm(names, "reading sizes", unit=" images", delay=2, leave=False):
        points, row = poses.get(name), rows.get(name, {})
        if not points or not row.get("width"):
            result[name] = points or []
            continue
        with PIL.Image.open(root / "JPEGImages" / name) as image:
            stored = image.size
        stated = float(row["width"]), float(row["height"])
        scale = min(stored) / min(stated)
        if any(abs(side - scale * whole) > 1.5 for side, whole in zip(stored, stated, strict=True)):
            raise UserError(
                f"{root / 'JPEGImages' / name}: is {stored[0]} x {stored[1]}, which is not the shape "
                f"{row['width']} x {row['height']} of {table}"
            )
        result[name] = [[round(scale * float(value), 2) for value in point] for point in points]
    return result


def _activity(name: str) -> str:
    return name.rpartition("_")[0]


def _answered(
    encoder: Encoder, task: Task, shown: EvaluationSet, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and similarities (N, K), ordered by label and then as the reader does."""
    similarities = zero_shot.similarities(encoder, task, shown, batch_size)
    labels = np.array([task.classes.index(label) for label in shown.labels])
    order = np.argsort(labels, kind="stable")
    return labels[order], similarities[order]


def _asked(held_out: Sequence[bool]) -> dict[str, np.ndarray]:
    """By group, bool (K,): the activities that are ranked in it."""
    out = np.array(held_out)
    return {"seen": ~out, "unseen": out, "mixed": np.ones_like(out)}


def _hits(group: str, labels: np.ndarray, similarities: np.ndarray) -> dict[str, np.ndarray]:
    """By measure, bool (N,): is the label among the first? labels: (N,). similarities: (N, K)."""
    ranking = statistics.ranked(similarities)
    return {f"{top}/{group}": statistics.top_k_hits(ranking, labels, k) for top, k in TOPS.items()}


def _constant(labels: np.ndarray) -> dict[str, Any]:
    """How many labels (N,) there are, and what answering the commonest gets right."""
    shares = {top: round(statistics.constant_predictor(labels, k), 6) for top, k in TOPS.items()}
    return {"n": len(labels), "constant": shares}
