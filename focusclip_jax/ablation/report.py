"""What the results of a grid say: tables, a picture and the verdict of the rule. Nothing is trained.

The rule (docs/focus.md): a method with the role "focus" helps, under one condition and for one group of
classes, if by the experiment's primary measure it beats CLIP at equal compute and every control of the grid:
the lower bound of each paired difference lies above 0.

Letters: N images, R repetitions. Those are the seeds of a condition; or, where all conditions ask the same
question, the conditions, each the mean of its seeds.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from focusclip_jax.ablation import picture, results, statistics
from focusclip_jax.ablation.experiment import Experiment
from focusclip_jax.ablation.grid import Grid
from focusclip_jax.ablation.picture import Panel
from focusclip_jax.ablation.results import Result
from focusclip_jax.ablation.statistics import Interval
from focusclip_jax.files import write_text

PICTURED_CLAIMS = 4


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods beside each other, over the seeds of one condition or over all conditions.

    repetitions: what there are several of, and how many, for sentences.
    """

    title: str
    conditions: tuple[float, ...]
    repetitions: str


@dataclasses.dataclass(frozen=True)
class Gathered:
    """The results that a report is made of.

    cells: (method, condition, seed) → result. used: condition → seeds of which every method has a result;
        where each condition is a question of its own, those of which all conditions have one too.
    missing: names of cells without a result of these settings, where some were begun beside them.
    """

    experiment: Experiment
    cells: Mapping[tuple[str, float, int], Result]
    used: Mapping[float, tuple[int, ...]]
    missing: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All that are used, under whatever condition."""
        return tuple(dict.fromkeys(seed for seeds in self.used.values() for seed in seeds))

    @property
    def comparisons(self) -> list[Comparison]:
        if not self.used:
            return []
        conditions, axis = tuple(self.used), self.experiment.axis
        if len(conditions) == 1 or not self.experiment.repeats:
            seeds = _count(len(self.seeds), "seed")
            return [Comparison(self.experiment.title(c), (c,), seeds) for c in conditions]
        title = f"{axis}s {_listed([f'{c:g}' for c in conditions])}"
        return [Comparison(title, conditions, _count(len(conditions), axis))]

    @property
    def groups(self) -> list[str]:
        """Those of which every result says something."""
        reading, used = self.experiment.reading, self.results()
        return [g for g in reading.groups if all(f"{reading.primary}/{g}" in r.measures for r in used)]

    def results(self) -> list[Result]:
        """All that are used."""
        return [r for (_, condition, seed), r in self.cells.items() if seed in self.used.get(condition, ())]

    def of(self, method: str, over: Comparison) -> list[Result]:
        return [self.cells[method, c, seed] for c in over.conditions for seed in self.used[c]]

    def number(self, over: Comparison) -> int:
        """R."""
        return len(over.conditions) if len(over.conditions) > 1 else len(self.used[over.conditions[0]])

    def stack(self, method: str, over: Comparison, measure: str) -> np.ndarray:
        """(R, N) in [0, 1]; NaN where a repetition did not ask about an image."""
        rows = [
            [self._row(self.cells[method, condition, seed], measure) for seed in self.used[condition]]
            for condition in over.conditions
        ]
        return np.stack(rows[0] if len(rows) == 1 else [np.mean(of_seeds, axis=0) for of_seeds in rows])

    def _row(self, result: Result, measure: str) -> np.ndarray:
        return self.experiment.row(result.about, measure, result.measures[measure])


def gather(grid: Grid, folder: pathlib.Path) -> Gathered:
    """Read the results. What lacks a method is left out for all of them, and what is missing is named.

    Raises UserError where the results that there are cannot be compared.
    """
    found, names = {}, {}
    lacking = collections.defaultdict(list)
    for cell in grid.cells():
        result = results.find(folder, cell)
        if result is None:
            lacking[_block(grid, cell.condition, cell.seed)].append(cell.name)
        else:
            found[cell.method, cell.condition, cell.seed] = result
            names[cell.name] = result.about
    grid.experiment.check(names)
    begun = {_block(grid, condition, seed) for _, condition, seed in found}
    used = {
        condition: tuple(seed for seed in grid.seeds if _block(grid, condition, seed) not in lacking)
        for condition in grid.experiment.conditions
    }
    return Gathered(
        experiment=grid.experiment,
        cells=found,
        used={condition: seeds for condition, seeds in used.items() if seeds},
        missing=tuple(name for block, of_block in lacking.items() if block in begun for name in of_block),
    )


def _block(grid: Grid, condition: float, seed: int) -> tuple[float | None, int]:
    """What is used as a whole or not at all."""
    return (condition if grid.experiment.repeats else None), seed


def rivals(grid: Grid) -> list[str]:
    """What a method has to beat: CLIP, at equal compute where the grid has that, and every control."""
    baselines = [name for name, method in grid.methods.items() if method.role == "baseline"]
    equal = [name for name in baselines if grid.methods[name].compute_of]
    return (equal or baselines) + [n for n, method in grid.methods.items() if method.role == "control"]


def claims(grid: Grid) -> list[str]:
    return [name for name, method in grid.methods.items() if method.role == "focus"]


def difference(data: Gathered, method: str, rival: str, over: Comparison, measure: str) -> Interval:
    """Of the shares of two methods, paired by repetition and image."""
    return statistics.interval(data.stack(method, over, measure) - data.stack(rival, over, measure))


def widest(grid: Grid, data: Gathered) -> float:
    """Half-width of the widest interval that the rule is about, of the first group."""
    reading = grid.experiment.reading
    widths = [
        difference(data, method, rival, over, f"{reading.primary}/{reading.decisive[0]}").half_width
        for over in data.comparisons
        for method in claims(grid)
        for rival in rivals(grid)
    ]
    return max(widths, default=math.inf)


def unbeaten(grid: Grid, data: Gathered, method: str, over: Comparison, group: str) -> list[str]:
    """The rivals that the method does not beat; none are left where it helps."""
    measure = f"{grid.experiment.reading.primary}/{group}"
    return [rival for rival in rivals(grid) if difference(data, method, rival, over, measure).low <= 0]


def verdicts(grid: Grid, data: Gathered) -> str:
    """The rule as a table of claims, conditions and groups; and what the grid cannot say."""
    if not data.used:
        return "No seed is complete yet: there is nothing to compare."
    reading = grid.experiment.reading
    rows, parts = [], []
    for over in data.comparisons:
        if data.number(over) == 1:
            parts.append(f"{_capital(over.title)}: {over.repetitions} has no interval and no verdict.")
            continue
        for method in claims(grid):
            left = [unbeaten(grid, data, method, over, group) for group in reading.decisive]
            rows.append([method, f"{over.title} ({over.repetitions})", *(_verdict(grid, n) for n in left)])
    if rows:
        parts += [
            f"Does it beat {_listed(rivals(grid))}? Yes if all 95 % intervals of the difference are above 0.",
            _table(["claim", "where", *(reading.groups[group].title for group in reading.decisive)], rows),
        ]
    if grid.purpose == "selection":
        parts.append(f"This grid is for choosing: its {reading.chosen_by} confirm nothing.")
    if not any(method.compute_of for method in grid.methods.values()):
        parts.append("CLIP at equal compute is not in this grid, so it cannot say that focus helps.")
    return "\n\n".join(parts)


def _verdict(grid: Grid, left: list[str]) -> str:
    if not left:
        return "**yes**"
    return "no, none of them" if left == rivals(grid) else f"no, not {_listed(left, 'or')}"


def write(grid: Grid, folder: pathlib.Path) -> list[pathlib.Path]:
    """report.md and report.png beside the results; the files."""
    data = gather(grid, folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.md"]
    write_text(paths[0], markdown(grid, data))
    (folder / "report.png").unlink(missing_ok=True)  # one of other results would mislead
    if data.used:
        rows = {over.title: _panels(grid, data, over) for over in data.comparisons}
        paths.append(picture.draw(folder / "report.png", rows))
    return paths


def markdown(grid: Grid, data: Gathered) -> str:
    parts = [f"# {grid.name}", *_head(grid, data), verdicts(grid, data)]
    for over in data.comparisons:
        parts.append(f"## {_capital(over.title)}")
        parts += [part for group in data.groups for part in _accuracies(grid, data, over, group)]
        parts += _differences(grid, data, over)
        parts += _looks(grid, data, over)
    return "\n\n".join(parts) + "\n"


def _head(grid: Grid, data: Gathered) -> list[str]:
    if not data.used:
        return ["No seed is complete."]
    used = data.results()
    codes = sorted({result.about["code"] for result in used})
    devices = sorted({result.about["device"] for result in used})
    hours = sum(sum(result.about["seconds"].values()) for result in used) / 3600
    seeds = "seed" if len(data.seeds) == 1 else "seeds"
    sentences = (
        f"For {grid.purpose}: {seeds} {_listed(list(map(str, data.seeds)))}, {len(used)} trainings, "
        f"{hours:.1f} hours on {_listed(devices)}. Made from the JSON files of this folder by "
        "`./launch.sh ablate --report`; no checkpoint but the last of each training was measured."
    )
    notes = [sentences]
    if len(codes) > 1:
        notes.append(f"The results come from {len(codes)} versions of the code: {_listed(codes)}.")
    if data.missing:
        whole = "seeds" if not grid.experiment.repeats else f"{grid.experiment.axis} and seed"
        notes.append(
            f"Left out with their {whole}, for want of {len(data.missing)}: {_listed(data.missing)}."
        )
    notes.append(grid.experiment.reading.note)
    return notes


def _accuracies(grid: Grid, data: Gathered, over: Comparison, group: str) -> list[str]:
    reading = grid.experiment.reading
    about = reading.groups[group]
    header = ["method", "steps", *reading.columns.values()]
    measures = [f"{measure}/{group}" for measure in reading.columns]
    rows = []
    for method in grid.methods:
        shares = [_plain(statistics.interval(data.stack(method, over, measure))) for measure in measures]
        rows.append([method, f"{data.of(method, over)[0].about['steps']:,}", *shares])
    used = [result.about for method in grid.methods for result in data.of(method, over)]
    for name, floor in grid.experiment.floors(used).items():
        rows.append([name, "–", *(f"{100 * floor[measure]:.1f}" for measure in measures)])
    return [
        f"### {_capital(about.title)} ({about.classes}, chance {100 / about.classes:.1f})",
        _table(header, rows),
    ]


def _differences(grid: Grid, data: Gathered, over: Comparison) -> list[str]:
    """Of each claim to every other method, whether the rule asks for it or not."""
    shown = _known(data, grid.experiment.reading.differences)
    rows = []
    for method in claims(grid):
        for rival in grid.methods:
            if rival != method:
                cells = [
                    _signed(difference(data, method, rival, over, measure)) for measure in shown.values()
                ]
                rows.append([method, rival, "yes" if rival in rivals(grid) else "no", *cells])
    paired = f"{grid.experiment.axis if len(over.conditions) > 1 else 'seed'} and image"
    return [
        f"### Differences in points, paired by {paired}; {grid.experiment.reading.where}",
        _table(["method", "minus", "in the rule", *shown], rows),
    ]


def _known(data: Gathered, measures: Mapping[str, str]) -> dict[str, str]:
    """Those of "MEASURE/GROUP" whose group every result has."""
    return {title: measure for title, measure in measures.items() if measure.split("/")[1] in data.groups}


def _looks(grid: Grid, data: Gathered, over: Comparison) -> list[str]:
    rows = []
    for method in grid.methods:
        found = data.of(method, over)
        shares = [
            f"{100 * np.mean([result.attention[reading]['inside'] for result in found]):.1f}"
            for reading in ("last layer", "rollout")
        ]
        area = 100 * np.mean([result.attention["last layer"]["area"] for result in found])
        ends = [result.alpha[-1][1] for result in found if result.alpha]
        rows.append([method, *shares, f"{area:.1f}", ", ".join(f"{end:.2f}" for end in ends) or "–"])
    header = [
        "method",
        "on the subject, last layer",
        "rollout",
        "its share of the area",
        "α at the end",
    ]
    return [f"### Where the attention lies, {grid.experiment.reading.where}", _table(header, rows)]


def _panels(grid: Grid, data: Gathered, over: Comparison) -> dict[str, Panel]:
    """The row of the picture for one comparison."""
    reading = grid.experiment.reading
    panels = {}
    for title, measure in _known(data, reading.pictured).items():
        of = {method: data.stack(method, over, measure) for method in grid.methods}
        panels[title] = _panel(of, 1 / reading.groups[measure.split("/")[1]].classes, "accuracy in %")
    title, measure = next(iter(reading.pictured.items()))
    # Of a grid with many claims, the differences are in the tables alone.
    for method in claims(grid) if len(claims(grid)) <= PICTURED_CLAIMS else ():
        apart = {
            other: data.stack(method, over, measure) - data.stack(other, over, measure)
            for other in grid.methods
            if other != method
        }
        panels[f"{method} minus …, {title}"] = _panel(apart, 0.0, "points")
    return panels


def _panel(values: Mapping[str, np.ndarray], line: float, unit: str) -> Panel:
    """values: name → (R, N)."""
    return Panel(
        names=list(values),
        intervals=[statistics.interval(of) for of in values.values()],
        seeds=[np.nanmean(of, axis=1).tolist() for of in values.values()],
        line=line,
        unit=unit,
    )


def _plain(interval: Interval) -> str:
    if math.isinf(interval.half_width):
        return f"{100 * interval.mean:.1f}"
    return f"{100 * interval.mean:.1f} ± {100 * interval.half_width:.1f}"


def _signed(interval: Interval) -> str:
    if math.isinf(interval.half_width):
        return f"{100 * interval.mean:+.1f} [one seed]"
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(names: Sequence[str], last: str = "and") -> str:
    return ", ".join(names[:-1]) + (f" {last} " if len(names) > 1 else "") + names[-1]


def _capital(title: str) -> str:
    return title[0].upper() + title[1:]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
