"""FER+: the test faces of FER2013, each labelled anew by ten people.

`fer2013new.csv` (the votes) and `fer2013.csv` (the pixels; here or in the folder `fer2013` beside this
one), joined by row. Folders of FER2013 will not do, since the numbers in their file names are not rows.

The label follows the authors' majority rule: an answer with a single vote is dropped as an outlier, and
what has more than half of the votes that remain is the label. A face without such a majority, or whose
majority is "unknown" or "not a face" (NF), is left out. (The 2023 code drops faces with a vote for NF and
takes the emotion with most votes, however few.)
"""

import itertools
from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets import fer2013
from focusclip_jax.evaluation.datasets.base import EvaluationSet, table

HOW_TO_GET = (
    "put fer2013new.csv of https://github.com/microsoft/FERPlus (MIT) into {root}, and the Kaggle "
    "challenge's fer2013.csv beside it or into the folder fer2013 beside {root}"
)
VOTES = "fer2013new.csv"

# The columns of votes in their order, by the class of `tasks.FERPLUS`; the last two are no emotion.
COLUMNS = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprised",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "contempt": "contemptuous",
    "unknown": None,
    "NF": None,
}


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not there."""
    if not (root / VOTES).is_file():
        return VOTES
    return None if _faces(root).is_file() else "fer2013.csv"


def load(root: Path) -> EvaluationSet:
    """The faces of PrivateTest.

    Raises `UserError` where a file is missing, the two do not have the same rows, or a vote is not a number.
    """
    votes, faces = root / VOTES, _faces(root)
    names, labels, images, left_out = [], [], [], []
    rows = itertools.zip_longest(table(votes, ("Usage", "Image name", *COLUMNS)), fer2013.table_rows(faces))
    for vote, face in rows:
        if vote is None or face is None or vote[1]["Usage"] != face[1]["Usage"]:
            where = (vote or face)[0]
            raise UserError(
                f"{where}: expected {VOTES} and {faces.name} to list the same faces in the same rows"
            )
        if vote[1]["Usage"] != "PrivateTest":
            continue
        name = vote[1]["Image name"] or f"{VOTES} line {vote[0].rpartition(' ')[2]}"
        label = majority(_votes(*vote))
        if label is None:
            left_out.append(name)
            continue
        names.append(name)
        labels.append(label)
        images.append(fer2013.pixels(face[1]["pixels"], face[0]))
    if not names:
        raise UserError(f"{votes}: no row with Usage PrivateTest and a majority for one emotion")
    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=lambda i: fer2013.rgb(images[i]),
        expected=fer2013.IMAGES["PrivateTest"],
        source=f"{VOTES} by majority, {faces.name}, Usage PrivateTest",
        left_out=tuple(left_out),
    )


def majority(votes: dict[str, int]) -> str | None:
    """The class that the votes by column elect, or None. See the rule above."""
    counted = {column: count for column, count in votes.items() if count > 1}
    winner = max(counted, key=lambda column: counted[column], default=None)
    return COLUMNS[winner] if winner and 2 * counted[winner] > sum(counted.values()) else None


def _faces(root: Path) -> Path:
    own = root / "fer2013.csv"
    return own if own.is_file() else root.parent / "fer2013" / "fer2013.csv"


def _votes(where: str, row: dict[str, str]) -> dict[str, int]:
    try:
        return {column: int(row[column]) for column in COLUMNS}
    except ValueError:
        raise UserError(f"{where}: expected whole numbers of votes in {', '.join(COLUMNS)}") from None
