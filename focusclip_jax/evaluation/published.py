"""What the paper reports (arXiv 2403.06904, its zero-shot tables), to stand beside our rows."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Top-k accuracies of one task in %: of random answers, the paper's CLIP and its FocusCLIP."""

    random: float
    clip: float
    focusclip: float


# By the names of `tasks.TASKS`.
PUBLISHED = {
    "kinetics400": Published(0.76, 15.00, 15.18),
    "stanford40": Published(8.24, 6.49, 10.47),
    "emotic_age": Published(33.54, 37.56, 41.80),
    "lagenda_body": Published(33.46, 39.48, 59.44),
    "lagenda_face": Published(33.13, 44.56, 71.41),
    "utkface_age": Published(20.86, 27.02, 35.13),
    "emotic_emotion": Published(11.54, 10.39, 13.73),
    "fer2013": Published(43.23, 52.56, 63.35),
    "ferplus": Published(36.79, 47.38, 47.57),
    "fairface_race": Published(14.45, 13.47, 15.78),
}

# The paper averages within each kind of task first, then over the kinds, so that four age sets count as
# much as one activity set. Kinetics, FER+ and FairFace are reported but do not enter.
HEADLINE = {
    "activity": ("stanford40",),
    "age": ("emotic_age", "lagenda_body", "lagenda_face", "utkface_age"),
    "emotion": ("emotic_emotion", "fer2013"),
}


def shares(task: str) -> dict[str, float]:
    """The paper's numbers on a task as shares in [0, 1] by column; {} where it has none.

    A task named …_train asks the same on the split that the paper's code evaluated.
    """
    figures = PUBLISHED.get(task.removesuffix("_train"))
    if figures is None:
        return {}
    return {column: round(value / 100, 4) for column, value in figures._asdict().items()}
