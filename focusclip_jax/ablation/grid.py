"""A grid as plain data: methods × conditions of an experiment × seeds, and what identifies each of its cells.

A grid file is Python with `get_grid() -> Grid`; the shipped ones are configs/ablation_*.py.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax import flops, prepare, state
from focusclip_jax.ablation import attention
from focusclip_jax.ablation.experiment import Experiment, Group, Reading, Tested
from focusclip_jax.data.shards import Shards
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import tasks
from focusclip_jax.run import Run

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The code that decides a number: what describes people, what makes batches of them, the model, its losses and
# updates, their defaults, and where it looks. Comments, docstrings and blank lines do not count. Of the loop
# in train.py nothing does: it decides when something is saved and logged.
TRAINING_CODE = (
    "annotation/describers/geometry.py",
    "annotation/geometry.py",
    "focusclip_jax/config.py",
    "focusclip_jax/data/*.py",
    "focusclip_jax/models/*.py",
    "focusclip_jax/losses.py",
    "focusclip_jax/optimizer.py",
    "focusclip_jax/run.py",
    "focusclip_jax/state.py",
    "focusclip_jax/step.py",
    "focusclip_jax/ablation/attention.py",
)
# Of figures also what draws them, and what is measured.
CODE = ("annotation/sources/figures/*.py", *TRAINING_CODE, "focusclip_jax/ablation/measure.py")
GROUPS = {"trained": tasks.FIGURES, "held-out": tasks.FIGURES_HELD_OUT}


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to train.

    settings: dotted name → value, on top of the grid's base.
    role: "focus" (claims to help), "baseline" (no second view) or "control" (a second view without guidance).
    compute_of: the method whose floating-point operations this one spends too, by as many more steps as it
        takes; "" keeps the base's steps.
    """

    settings: Mapping[str, Any]
    role: str
    compute_of: str = ""

    def __post_init__(self):
        if self.role not in ("focus", "baseline", "control"):
            raise UserError(f"role {self.role!r}: expected focus, baseline or control")


@dataclasses.dataclass(frozen=True)
class Figures:
    """The procedural people that a grid is trained and tested on (`annotate describe --source=figures:…`).

    folder: where the shards lie. seed: of the training images; the people of the tests have the next one, the
    other people in the same scenes the one after. styles: of the tests, "test" or "confirmation".
    correlations: probability that a training image shows its activity's own scene; each is a question of its
        own.
    """

    axis: ClassVar[str] = "correlation"
    repeats: ClassVar[bool] = False
    code: ClassVar[tuple[str, ...]] = CODE
    reading: ClassVar[Reading] = Reading(
        groups={name: Group(f"{name} activities", len(task.classes)) for name, task in GROUPS.items()},
        decisive=tuple(GROUPS),
        columns={
            "independent": "independent scene",
            "matching": "scene as in training",
            "right on both backgrounds": "right on both backgrounds",
            "same answer on another background": "same answer on another background",
            "right on both subjects": "right on both subjects",
        },
        primary="independent",
        differences={
            "trained": "independent/trained",
            "held-out": "independent/held-out",
            "trained, scene as in training": "matching/trained",
        },
        pictured={
            "trained, independent": "independent/trained",
            "trained, scene as in training": "matching/trained",
            "held-out, independent": "independent/held-out",
        },
        where="independent scenes",
        chosen_by="seeds and drawing styles",
        note="All shares in %, with 95 % intervals over seeds and images. Independent scenes say nothing "
        "about the activity; in the others the scene is correlated with it as in training. The subject is "
        "the part of the image where the true heatmap is at least 0.5.",
    )

    folder: str
    seed: int
    train_images: int
    test_images: int
    styles: str
    correlations: tuple[float, ...]

    @property
    def conditions(self) -> tuple[float, ...]:
        return self.correlations

    def chosen(self, correlation: float) -> dict[str, Any]:
        return {"tests": self.test_commands, "prompts": [task.prompts for task in GROUPS.values()]}

    def tag(self, correlation: float) -> str:
        return f"c{correlation:g}"

    def title(self, correlation: float) -> str:
        return f"background correlation {correlation:g}"

    @property
    def tests(self) -> str:
        """The folder of those tests that no correlation changes."""
        return f"{self.folder}/tests"

    def train(self, correlation: float) -> str:
        """The folder of the training images and of the test whose scenes are correlated alike."""
        return f"{self.folder}/correlation-{correlation:g}"

    def commands(self, correlation: float) -> tuple[str, ...]:
        """For `config.data.prepare`: they fill `train(correlation)`."""
        folder, flag = self.train(correlation), f"--figures-correlation={correlation:g}"
        training = f"{flag} --figures-activities=trained --figures-styles=train"
        return (
            *_commands(folder, "train", self.seed, self.train_images, training),
            *self._test(folder, "matching", self.seed + 1, f"--figures-scenes=3 {flag}"),
        )

    @property
    def test_commands(self) -> tuple[str, ...]:
        """They fill `tests`: the people of the tests in two independent scenes, and others in the first."""
        return (
            *self._test(self.tests, "independent", self.seed + 1, "--figures-scenes=1"),
            *self._test(self.tests, "background", self.seed + 1, "--figures-scenes=2"),
            *self._test(self.tests, "subject", self.seed + 2, "--figures-scenes=1"),
        )

    def at(self, data_dir: pathlib.Path) -> Figures:
        raise UserError(f"--data-dir={data_dir}: this grid draws its images and reads none of yours")

    def prepared(self, config: ConfigDict, correlation: float) -> ConfigDict:
        """Draw, describe and pack the people, unless they are there."""
        prepare.run(ConfigDict({"data": {"train": self.tests, "prepare": self.test_commands}}))
        prepare.run(config)
        return config

    def tested(self, encoder: Encoder, this: Run, correlation: float) -> Tested:
        from focusclip_jax.ablation import measure  # it measures on what is defined here

        config, shards = this.config, Shards.open(self.tests, "independent")
        return Tested(
            measures=measure.measures(encoder, self, correlation, config.evaluation.batch_size),
            attention=attention.subject_attention(encoder, this.graph, shards, config.model.patch_size),
            shards={"independent": shards.fingerprint()},
        )

    def row(self, about: Mapping[str, Any], measure: str, bits: np.ndarray) -> np.ndarray:
        return bits.astype(np.float64)  # every cell answers all images

    def floors(self, abouts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        return {}  # the classes are equally frequent, so that chance says it

    def check(self, abouts: Mapping[str, Mapping[str, Any]]) -> None:
        """Nothing to check: the settings of a result say which images were drawn."""

    def _test(self, folder: str, split: str, seed: int, flags: str) -> tuple[str, str]:
        flags = f"--figures-activities=all --figures-styles={self.styles} {flags}"
        return _commands(folder, split, seed, self.test_images, flags)


def _commands(folder: str, split: str, seed: int, count: int, flags: str) -> tuple[str, str]:
    journal = f"{folder}/journals/{split}"
    return (
        f"describe --source=figures:{seed} --describer=geometry --detail=short --figures-count={count} "
        f"{flags} --out={journal}",
        f"pack --journal={journal} --split={split} --size=original --dataset=figures --out={folder}",
    )


@dataclasses.dataclass(frozen=True)
class Grid:
    """What to run, and until when.

    name: names the folders below results/ and runs/ablation/.
    purpose: "selection" (to choose by) or "confirmation" (used once, by a rule written before).
    base: settings that all cells share. methods: by name. experiment: what they are trained and tested on.
    seeds: at most these, in this order. fewest_seeds: at least so many; more are added while a difference
        that the rule is about has a 95 % interval of more than ± half_width.
    """

    name: str
    purpose: str
    base: ConfigDict
    methods: Mapping[str, Method]
    experiment: Experiment
    seeds: tuple[int, ...]
    fewest_seeds: int
    half_width: float = 0.02

    def __post_init__(self):
        if self.purpose not in ("selection", "confirmation"):
            raise UserError(f"grid {self.name}: purpose {self.purpose!r}: expected selection or confirmation")
        if not 1 <= self.fewest_seeds <= len(self.seeds):
            raise UserError(f"grid {self.name}: fewest_seeds={self.fewest_seeds} of {len(self.seeds)} seeds")
        for name, method in self.methods.items():
            if method.compute_of and method.compute_of not in self.methods:
                raise UserError(f"grid {self.name}: {name} spends the compute of no method of the grid")

    def cells(self, seeds: tuple[int, ...] | None = None) -> list[Cell]:
        """Seed by seed, so that wherever it is stopped the finished seeds compare everything."""
        return [
            cell(self, method, condition, seed)
            for seed in (self.seeds if seeds is None else seeds)
            for condition in self.experiment.conditions
            for method in self.methods
        ]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run and its tests.

    condition: of the grid's experiment.
    settings: 16 hexadecimal digits of all that was chosen: what differs from the default config, with the
        seed and the commands that make the data, and the prompts.
    key: the same with the version of the code; a result with this key is not computed again.
    flops: floating-point operations of its training, by arithmetic.
    """

    name: str
    method: str
    condition: float
    seed: int
    config: ConfigDict
    settings: str
    key: str
    flops: float


def load(path: str) -> Grid:
    """Raises UserError for a file that is not there or has no `get_grid`."""
    if not pathlib.Path(path).is_file():
        raise UserError(f"--config={path}: no such file; the shipped grids are configs/ablation_*.py")
    namespace: dict[str, Any] = {"__file__": path, "__name__": "grid"}
    exec(compile(pathlib.Path(path).read_text(), path, "exec"), namespace)
    if "get_grid" not in namespace:
        raise UserError(f"{path}: it defines no get_grid(); configs of single runs are for the verb train")
    return namespace["get_grid"]()


def cell(grid: Grid, method: str, condition: float, seed: int) -> Cell:
    """Resolve all settings of a cell. Raises UserError where they make no sense."""
    config = _with_settings(grid, method)
    other = grid.methods[method].compute_of
    if other:
        # The floating-point operations of a step are arithmetic (`flops.of_step`), not a measurement.
        config.steps = round(config.steps * step_flops(_with_settings(grid, other)) / step_flops(config))
    config.name = f"{grid.name}/{method}"
    config.seed = seed
    config.data.prepare = grid.experiment.commands(condition)
    config.data.train = grid.experiment.train(condition)
    # Nothing is looked at before the end, and no checkpoint but the last is measured.
    config.data.validation = ""
    config.evaluation.tasks = ()
    config.evaluate_every = config.steps
    configs.check(config, grid.base)
    chosen = {
        # Not the whole config: a setting that is added later, with its default, changes nothing.
        "config": differences(config, configs.default()),
        **grid.experiment.chosen(condition),
    }
    return Cell(
        name=f"{method}-{grid.experiment.tag(condition)}-s{seed}",
        method=method,
        condition=condition,
        seed=seed,
        config=config,
        settings=_digest(chosen),
        key=_digest(chosen | {"code": code_version(grid.experiment.code)}),
        flops=float(config.steps * step_flops(config)),
    )


def _with_settings(grid: Grid, method: str) -> ConfigDict:
    config = grid.base.copy_and_resolve_references()
    known = dict(configs.leaves(config))
    settings = dict(grid.methods[method].settings)
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        raise UserError(f"grid {grid.name}: method {method}: there is no setting {unknown[0]}")
    try:
        config.update_from_flattened_dict(settings)
    except TypeError as error:
        raise UserError(f"grid {grid.name}: method {method}: {error}") from None
    return config


def step_flops(config: ConfigDict) -> int:
    """Of one training step, forward and backward, with texts of the longest length."""
    architecture = state.architecture(config, config.text.vocabulary)
    return flops.of_step(architecture, config, config.text.buckets[-1]).model


def differences(config: ConfigDict, base: ConfigDict) -> dict[str, Any]:
    """The settings that differ from `base`, with the seed in any case, as JSON would give them back."""
    recorded = dict(configs.leaves(configs.recorded(base)))
    changed = {
        name: value
        for name, value in configs.leaves(configs.recorded(config))
        if name not in recorded or recorded[name] != value
    }
    return {**changed, "seed": config.seed}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache  # of the code as it was when this process began to use it
def code_version(patterns: tuple[str, ...] = CODE) -> str:
    """16 hexadecimal digits of the modules of the patterns, without comments, docstrings and blank lines."""
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\n{essence(path.read_text())}\n".encode())
    return digest.hexdigest()[:16]


def essence(source: str) -> str:
    """The lines of a module that can change what it does."""
    lines = source.splitlines()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            for line in range(docstring.lineno - 1, docstring.end_lineno or docstring.lineno):
                lines[line] = ""
    kept = (line.rstrip() for line in lines)
    return "\n".join(line for line in kept if line and not line.lstrip().startswith("#"))
