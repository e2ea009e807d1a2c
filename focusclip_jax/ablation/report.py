"""What the results of a grid say: tables, a picture and the verdict of the rule. Nothing is trained.

The rule (docs/focus.md): a method with the role "focus" helps, at one correlation and for one group of
activities, if in independent scenes it beats CLIP at equal compute and every control of the grid: the lower
bound of each paired difference lies above 0.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from focusclip_jax.ablation import picture, results, statistics
from focusclip_jax.ablation.grid import GROUPS, Grid
from focusclip_jax.ablation.picture import Panel
from focusclip_jax.ablation.results import Result
from focusclip_jax.ablation.statistics import Interval
from focusclip_jax.files import write_text

PRIMARY = "independent"
ACCURACIES = {
    "independent": "independent scene",
    "matching": "scene as in training",
    "right on both backgrounds": "right on both backgrounds",
    "same answer on another background": "same answer on another background",
    "right on both subjects": "right on both subjects",
}

PICTURED = {
    "trained, independent": "independent/trained",
    "trained, scene as in training": "matching/trained",
    "held-out, independent": "independent/held-out",
}


@dataclasses.dataclass(frozen=True)
class Gathered:
    """The results that a report is made of: those of seeds that every method and correlation has.

    cells: (method, correlation, seed) → result. seeds: used. missing: names of cells without a result of
        these settings among the seeds that were begun.
    """

    cells: Mapping[tuple[str, float, int], Result]
    seeds: tuple[int, ...]
    missing: tuple[str, ...]

    def stack(self, method: str, correlation: float, measure: str) -> np.ndarray:
        """(S, N) bool."""
        return np.stack([self.cells[method, correlation, seed].measures[measure] for seed in self.seeds])

    def of(self, method: str, correlation: float) -> list[Result]:
        return [self.cells[method, correlation, seed] for seed in self.seeds]


def gather(grid: Grid, folder: pathlib.Path) -> Gathered:
    """Read the results. Seeds that lack a cell are left out whole, and what they lack is named."""
    found, lacking = {}, collections.defaultdict(list)
    for cell in grid.cells():
        result = results.find(folder, cell)
        if result is None:
            lacking[cell.seed].append(cell.name)
        else:
            found[cell.method, cell.correlation, cell.seed] = result
    begun = {seed for _, _, seed in found}
    return Gathered(
        cells=found,
        seeds=tuple(seed for seed in grid.seeds if seed not in lacking),
        missing=tuple(name for seed in grid.seeds if seed in begun for name in lacking[seed]),
    )


def rivals(grid: Grid) -> list[str]:
    """What a method has to beat: CLIP, at equal compute where the grid has that, and every control."""
    baselines = [name for name, method in grid.methods.items() if method.role == "baseline"]
    equal = [name for name in baselines if grid.methods[name].compute_of]
    return (equal or baselines) + [n for n, method in grid.methods.items() if method.role == "control"]


def claims(grid: Grid) -> list[str]:
    return [name for name, method in grid.methods.items() if method.role == "focus"]


def difference(data: Gathered, method: str, rival: str, correlation: float, measure: str) -> Interval:
    """Of the shares of two methods, paired by seed and image."""
    first, second = (data.stack(name, correlation, measure).astype(np.int8) for name in (method, rival))
    return statistics.interval(first - second)


def widest(grid: Grid, data: Gathered) -> float:
    """Half-width of the widest interval that the rule is about, on trained activities."""
    if not data.seeds:
        return math.inf
    return max(
        difference(data, method, rival, correlation, f"{PRIMARY}/trained").half_width
        for correlation in grid.correlations
        for method in claims(grid)
        for rival in rivals(grid)
    )


def helps(grid: Grid, data: Gathered, method: str, correlation: float, group: str) -> bool:
    return all(
        difference(data, method, rival, correlation, f"{PRIMARY}/{group}").low > 0 for rival in rivals(grid)
    )


def verdicts(grid: Grid, data: Gathered) -> str:
    """One sentence for each method with a claim, correlation and group; and what none of them is."""
    if not data.seeds:
        return "No seed is complete yet: there is nothing to compare."
    lines = []
    for correlation in grid.correlations:
        for method in claims(grid):
            for group in GROUPS:
                beaten = "beats" if helps(grid, data, method, correlation, group) else "does not beat"
                lines.append(
                    f"- {method}, background correlation {correlation:g}, {group} activities: {beaten} "
                    f"{_listed(rivals(grid))} ({len(data.seeds)} seeds, lower bounds of 95 % intervals)."
                )
    if grid.purpose == "selection":
        lines.append("- This grid is for choosing: its seeds and drawing styles confirm nothing.")
    if not any(method.compute_of for method in grid.methods.values()):
        lines.append("- CLIP at equal compute is not in this grid, so it cannot say that focus helps.")
    return "\n".join(lines)


def write(grid: Grid, folder: pathlib.Path) -> list[pathlib.Path]:
    """report.md and report.png beside the results; the files."""
    data = gather(grid, folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.md"]
    write_text(paths[0], markdown(grid, data))
    (folder / "report.png").unlink(missing_ok=True)  # one of other results would mislead
    if data.seeds:
        rows = {f"background correlation {c:g}": _panels(grid, data, c) for c in grid.correlations}
        paths.append(picture.draw(folder / "report.png", rows))
    return paths


def markdown(grid: Grid, data: Gathered) -> str:
    parts = [f"# {grid.name}", *_head(grid, data), verdicts(grid, data)]
    for correlation in grid.correlations if data.seeds else ():
        parts.append(f"## Background correlation {correlation:g}")
        parts += [part for group in GROUPS for part in _accuracies(grid, data, correlation, group)]
        parts += _differences(grid, data, correlation)
        parts += _looks(grid, data, correlation)
    return "\n\n".join(parts) + "\n"


def _head(grid: Grid, data: Gathered) -> list[str]:
    if not data.seeds:
        return ["No seed is complete."]
    used = [result for key, result in data.cells.items() if key[2] in data.seeds]
    codes = sorted({result.about["code"] for result in used})
    devices = sorted({result.about["device"] for result in used})
    hours = sum(sum(result.about["seconds"].values()) for result in used) / 3600
    sentences = (
        f"For {grid.purpose}: seeds {_listed(list(map(str, data.seeds)))}, {len(used)} trainings, "
        f"{hours:.1f} hours on {_listed(devices)}. Made from the JSON files of this folder by "
        "`./launch.sh ablate --report`; no checkpoint but the last of each training was measured."
    )
    notes = [sentences]
    if len(codes) > 1:
        notes.append(f"The results come from {len(codes)} versions of the code: {_listed(codes)}.")
    if data.missing:
        notes.append(f"Left out with their seeds, for want of {len(data.missing)}: {_listed(data.missing)}.")
    notes.append(
        "All shares in %, with 95 % intervals over seeds and images. Independent scenes say nothing about "
        "the activity; in the others the scene is correlated with it as in training. The subject is the part "
        "of the image where the true heatmap is at least 0.5."
    )
    return notes


def _accuracies(grid: Grid, data: Gathered, correlation: float, group: str) -> list[str]:
    chance = 100 / len(GROUPS[group].classes)
    header = ["method", "steps", *ACCURACIES.values()]
    rows = [
        [
            method,
            f"{data.of(method, correlation)[0].about['steps']:,}",
            *(
                _plain(statistics.interval(data.stack(method, correlation, f"{measure}/{group}")))
                for measure in ACCURACIES
            ),
        ]
        for method in grid.methods
    ]
    return [
        f"### {group.capitalize()} activities ({len(GROUPS[group].classes)}, chance {chance:.1f})",
        _table(header, rows),
    ]


def _differences(grid: Grid, data: Gathered, correlation: float) -> list[str]:
    """Of each claim to every other method, whether the rule asks for it or not."""
    rows = []
    for method in claims(grid):
        for rival in grid.methods:
            if rival != method:
                cells = [
                    _signed(difference(data, method, rival, correlation, measure))
                    for measure in (f"{PRIMARY}/trained", f"{PRIMARY}/held-out", "matching/trained")
                ]
                rows.append([method, rival, "yes" if rival in rivals(grid) else "no", *cells])
    header = ["method", "minus", "in the rule", "trained", "held-out", "trained, scene as in training"]
    return ["### Differences in points, paired by seed and image; independent scenes", _table(header, rows)]


def _looks(grid: Grid, data: Gathered, correlation: float) -> list[str]:
    rows = []
    for method in grid.methods:
        found = data.of(method, correlation)
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
    return ["### Where the attention lies, independent scenes", _table(header, rows)]


def _panels(grid: Grid, data: Gathered, correlation: float) -> dict[str, Panel]:
    """The row of the picture for one correlation."""
    panels = {}
    for title, measure in PICTURED.items():
        of = {method: data.stack(method, correlation, measure) for method in grid.methods}
        chance = 1 / len(GROUPS[measure.split("/")[1]].classes)
        panels[title] = _panel(of, chance, "accuracy in %")
    for method in claims(grid):
        apart = {
            other: data.stack(method, correlation, f"{PRIMARY}/trained").astype(np.int8)
            - data.stack(other, correlation, f"{PRIMARY}/trained")
            for other in grid.methods
            if other != method
        }
        panels[f"{method} minus …, trained, independent"] = _panel(apart, 0.0, "points")
    return panels


def _panel(values: Mapping[str, np.ndarray], line: float, unit: str) -> Panel:
    """values: name → (S, N)."""
    return Panel(
        names=list(values),
        intervals=[statistics.interval(of) for of in values.values()],
        seeds=[of.mean(axis=1).tolist() for of in values.values()],
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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
