"""What a grid needs of the data that its cells are trained and tested on.

`grid.Figures` are procedural people, `photographs.Photographs` are Stanford 40 with classes held out.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from ml_collections import ConfigDict

from focusclip_jax.encoder import Encoder
from focusclip_jax.run import Run


@dataclasses.dataclass(frozen=True)
class Group:
    """Classes that are answered among themselves. title: such as "trained activities". classes: K."""

    title: str
    classes: int


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the measures of an experiment are read. Each is named "MEASURE/GROUP".

    groups: by name. decisive: those that the rule is about; the width of the first decides on more seeds.
    columns: measure → heading, in the table of every group. primary: the measure that a method must win by.
    differences, pictured: heading → "MEASURE/GROUP".
    where: what the primary measure is of, for headings. chosen_by: what a grid for choosing has used up.
    note: what one must know to read the numbers.
    """

    groups: Mapping[str, Group]
    decisive: tuple[str, ...]
    columns: Mapping[str, str]
    primary: str
    differences: Mapping[str, str]
    pictured: Mapping[str, str]
    where: str
    chosen_by: str
    note: str


@dataclasses.dataclass(frozen=True)
class Tested:
    """What is known of a trained cell.

    measures: "MEASURE/GROUP" → bool (N,), one an image. attention: reading → {"inside", "area"}, shares.
    shards: name → fingerprint of those that were tested on. about: what else its result must say.
    """

    measures: Mapping[str, np.ndarray]
    attention: Mapping[str, Mapping[str, float]]
    shards: Mapping[str, str]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Experiment(Protocol):
    """Conditions to train under, and tests.

    axis: what a condition is called in a result. repeats: False where each condition is a question of its
    own; True where all ask the same one, so that a conclusion is drawn over them.
    code: patterns of the modules that decide a number. reading: of the measures.
    """

    axis: ClassVar[str]
    repeats: ClassVar[bool]
    code: ClassVar[tuple[str, ...]]
    reading: ClassVar[Reading]

    @property
    def conditions(self) -> Sequence[float]:
        """The values of the axis."""

    def chosen(self, condition: float) -> dict[str, Any]:
        """As JSON, what decides a number beside the config, the method and the commands."""

    def tag(self, condition: float) -> str:
        """The condition in the name of a cell, such as "c0.5"."""

    def title(self, condition: float) -> str:
        """The condition in a heading."""

    def train(self, condition: float) -> str:
        """The folder of the training shards; the same text wherever the user's data are."""

    def commands(self, condition: float) -> tuple[str, ...]:
        """For `config.data.prepare`: they fill `train`; the same texts wherever the user's data are."""

    def at(self, data_dir: pathlib.Path) -> Experiment:
        """The same with the user's data in another folder. Raises UserError where there are none."""

    def prepared(self, config: ConfigDict, condition: float) -> ConfigDict:
        """Make the shards unless they are there. Returns the config that trains on them.

        Raises UserError where data are missing.
        """

    def tested(self, encoder: Encoder, this: Run, condition: float) -> Tested:
        """Measure a model that was trained under a condition."""

    def row(self, about: Mapping[str, Any], measure: str, bits: np.ndarray) -> np.ndarray:
        """A measure of one result as float (N,), the same N images for all; NaN for an image not asked."""

    def floors(self, abouts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        """Name → measure → share that takes no model, as rows of the tables."""

    def check(self, abouts: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises UserError where results, by the name of their cell, cannot be compared."""
