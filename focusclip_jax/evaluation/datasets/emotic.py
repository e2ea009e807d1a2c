"""EMOTIC: people cut out of photographs, with emotions, age and gender as others perceived them.

`Annotations/Annotations.mat` (the release of 2019, a struct array for each of train, val and test) and the
photographs `emotic/<folder>/<filename>`. A person of the training split has the labels of one annotator, one
of the other splits the union of several annotators' labels (`combined_categories`).

The 2023 code evaluates on the training split of the release of 2017, and keeps the first emotion only.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.io

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import Box, EvaluationSet, clip_all, crop_reader, first_missing
from focusclip_jax.evaluation.tasks import AGES, EMOTIC_EMOTIONS

HOW_TO_GET = (
    "ask for access at https://github.com/rkosti/emotic (non-commercial research and education), then unpack "
    "Annotations/Annotations.mat and the folder emotic with mscoco, framesdb, emodb_small and ade20k into "
    "{root}"
)
ANNOTATIONS = "Annotations/Annotations.mat"


@dataclasses.dataclass(frozen=True)
class Person:
    """name: "<folder>/<filename> person <n>". box: in pixels of the photograph, may leave it."""

    name: str
    path: Path
    box: Box
    emotions: tuple[str, ...]
    age: str
    gender: str


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    return first_missing(root, ANNOTATIONS, "emotic/*/images/*")


def age(person: Person) -> str | None:
    return person.age if person.age in AGES else None


def first_emotion(person: Person) -> str | None:
    """The one that is listed first, as in the 2023 code."""
    return person.emotions[0] if person.emotions else None


def emotions(person: Person) -> tuple[str, ...] | None:
    return person.emotions or None


def load(root: Path, label: Callable[[Person], str | tuple[str, ...] | None], split: str) -> EvaluationSet:
    """The people of a split ("train", "val", "test") by one of the labels above; those without are left out.

    Raises `UserError` where the annotations or all photographs are missing, or an annotation is not of the
    form above.
    """
    expected, people, outside = _people(root, split)
    kept = [(person, said) for person in people if (said := label(person))]
    return EvaluationSet(
        names=tuple(person.name for person, _ in kept),
        labels=tuple(said for _, said in kept),
        read=crop_reader([person.path for person, _ in kept], [person.box for person, _ in kept]),
        expected=expected,
        source=f"{ANNOTATIONS}, {split}",
        groups={"perceived gender": tuple(person.gender for person, _ in kept)},
        left_out=outside + tuple(person.name for person in people if not label(person)),
    )


@functools.lru_cache(maxsize=2)
def _people(root: Path, split: str) -> tuple[int, tuple[Person, ...], tuple[str, ...]]:
    """How many people the split has, those whose photograph is here, cut to it, and the rest of these.

    Several tasks ask for the same people, and reading them takes seconds.
    """
    everyone = list(_annotated(root, split))
    here = [person for person in everyone if person.path.is_file()]
    if not here:
        raise UserError(f"{root / 'emotic'}: none of the photographs of the {split} split is there")
    boxes = list(clip_all([p.path for p in here], [p.box for p in here], "image sizes of EMOTIC"))
    inside = tuple(
        dataclasses.replace(person, box=box) for person, box in zip(here, boxes, strict=True) if box
    )
    outside = tuple(person.name for person, box in zip(here, boxes, strict=True) if not box)
    return len(everyone), inside, outside


def _annotated(root: Path, split: str) -> Iterator[Person]:
    path = root / ANNOTATIONS
    try:
        content = scipy.io.loadmat(
            path, squeeze_me=True, struct_as_record=False, variable_names=[split], chars_as_strings=True
        )
    except Exception as error:  # damaged files make the parser raise whatever it stumbles over
        raise UserError(f"{path}: not a readable Matlab 5 file ({error})") from None
    if split not in content:
        raise UserError(f"{path}: holds no variable {split}")
    for image in np.atleast_1d(content[split]):
        try:
            for number, person in enumerate(np.atleast_1d(image.person), 1):
                yield _person(root, image, person, number)
        except (AttributeError, TypeError, ValueError) as error:
            name = getattr(image, "filename", "an image")
            raise UserError(f"{path}, {split}, {name}: not an annotation of EMOTIC ({error})") from None


def _person(root: Path, image, person, number: int) -> Person:
    name = f"{image.folder}/{image.filename} person {number}"
    if hasattr(person, "combined_categories"):
        named = person.combined_categories
    else:
        named = person.annotations_categories.categories
    labels = tuple(str(label) for label in np.atleast_1d(named))
    unknown = sorted(set(labels) - set(EMOTIC_EMOTIONS))
    if unknown:
        raise UserError(f"{root / ANNOTATIONS}, {name}: {unknown[0]!r} is none of the 26 emotions")
    left, top, right, bottom = (float(edge) for edge in np.ravel(person.body_bbox))
    return Person(
        name=name,
        path=root / "emotic" / image.folder / image.filename,
        box=(left, top, right, bottom),
        emotions=labels,
        age=str(person.age).lower(),
        gender=str(person.gender).lower(),
    )
