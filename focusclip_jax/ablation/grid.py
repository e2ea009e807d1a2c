"""A grid as plain data: methods × background correlations × seeds, and what identifies each of its cells.

A grid file is Python with `get_grid() -> Grid`; the shipped ones are configs/ablation_*.py.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax import flops, state
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import tasks

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The code that decides a number: what draws and describes the figures, what makes batches of them, the
# model, its losses and updates, their defaults, and what is measured. Comments, docstrings and blank lines do
# not count. Of the loop in train.py nothing does: it decides when something is saved and logged.
CODE = (
    "annotation/sources/figures/*.py",
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
    "focusclip_jax/ablation/measure.py",
)
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
    """

    folder: str
    seed: int
    train_images: int
    test_images: int
    styles: str

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
    base: settings that all cells share. methods: by name.
    correlations: probability that a training image shows its activity's own scene.
    seeds: at most these, in this order. fewest_seeds: at least so many; more are added while a difference
        that the rule is about has a 95 % interval of more than ± half_width.
    """

    name: str
    purpose: str
    base: ConfigDict
    methods: Mapping[str, Method]
    figures: Figures
    correlations: tuple[float, ...]
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
            cell(self, method, correlation, seed)
            for seed in (self.seeds if seeds is None else seeds)
            for correlation in self.correlations
            for method in self.methods
        ]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run and its tests.

    settings: 16 hexadecimal digits of all that was chosen: what differs from the default config, with the
        seed and the commands that make the data, and the prompts.
    key: the same with the version of the code; a result with this key is not computed again.
    flops: floating-point operations of its training, by arithmetic.
    """

    method: str
    correlation: float
    seed: int
    config: ConfigDict
    settings: str
    key: str
    flops: float

    @property
    def name(self) -> str:
        return f"{self.method}-c{self.correlation:g}-s{self.seed}"


def load(path: str) -> Grid:
    """Raises UserError for a file that is not there or has no `get_grid`."""
    if not pathlib.Path(path).is_file():
        raise UserError(f"--config={path}: no such file; the shipped grids are configs/ablation_*.py")
    namespace: dict[str, Any] = {"__file__": path, "__name__": "grid"}
    exec(compile(pathlib.Path(path).read_text(), path, "exec"), namespace)
    if "get_grid" not in namespace:
        raise UserError(f"{path}: it defines no get_grid(); configs of single runs are for the verb train")
    return namespace["get_grid"]()


def cell(grid: Grid, method: str, correlation: float, seed: int) -> Cell:
    """Resolve all settings of a cell. Raises UserError where they make no sense."""
    config = _with_settings(grid, method)
    other = grid.methods[method].compute_of
    if other:
        # The floating-point operations of a step are arithmetic (`flops.of_step`), not a measurement.
        config.steps = round(config.steps * step_flops(_with_settings(grid, other)) / step_flops(config))
    config.name = f"{grid.name}/{method}"
    config.seed = seed
    config.data.prepare = grid.figures.commands(correlation)
    config.data.train = grid.figures.train(correlation)
    # Nothing is looked at before the end, and no checkpoint but the last is measured.
    config.data.validation = ""
    config.evaluation.tasks = ()
    config.evaluate_every = config.steps
    configs.check(config, grid.base)
    chosen = {
        # Not the whole config: a setting that is added later, with its default, changes nothing.
        "config": differences(config, configs.default()),
        "tests": grid.figures.test_commands,
        "prompts": [task.prompts for task in GROUPS.values()],
    }
    return Cell(
        method=method,
        correlation=correlation,
        seed=seed,
        config=config,
        settings=_digest(chosen),
        key=_digest(chosen | {"code": code_version()}),
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
def code_version() -> str:
    """16 hexadecimal digits of the modules of `CODE`, without comments, docstrings and blank lines."""
    digest = hashlib.sha256()
    for pattern in CODE:
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
