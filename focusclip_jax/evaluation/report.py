"""The results table, its JSON, runs side by side, and the paper's headline average."""

import collections
import dataclasses
import json
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.tasks import TASKS
from focusclip_jax.evaluation.zero_shot import Result
from focusclip_jax.files import write_text

# The paper averages within each kind of task first, then over the kinds, so that four age sets count as
# much as one activity set.
HEADLINE = {
    "activity": ("stanford40",),
    "age": ("emotic_age", "lagenda_body", "lagenda_face", "utkface_age"),
    "emotion": ("emotic_emotion", "fer2013"),
}

HEADER = ("task", "classes", "n", "k", "chance", "constant", "accuracy [95 %]", "balanced")
WIDTH = 110
LEGEND = (
    "Accuracy is top-k with Wilson's 95 % interval; chance is k / classes; constant always answers the k "
    "commonest labels; balanced is top-1, averaged over classes (chance 1 / classes). Seen classes are named "
    "in the training captions, unseen ones are not; mixed is both; of an imported model it is unknown."
)


def table(results: Sequence[Result]) -> str:
    """The results as aligned text of at most 110 columns, with what was read and what the columns mean."""
    lines = _aligned([HEADER, *map(_cells, results)])
    return "\n".join([*lines, "", *_filled([LEGEND, *_notes(results)])])


def markdown(results: Sequence[Result]) -> str:
    """The same table and notes as Markdown."""
    lines = _pipes([HEADER, *map(_cells, results)])
    return "\n".join([*lines, "", LEGEND, "", *(f"- {note}" for note in _notes(results))])


def headline(accuracy: Mapping[str, float]) -> float | None:
    """Macro-average of the paper: mean over kinds of the mean over that kind's tasks; None if one is missing.

    accuracy: by task name, in any unit.
    """
    if not accuracy.keys() >= {task for tasks in HEADLINE.values() for task in tasks}:
        return None
    return statistics.fmean(statistics.fmean(accuracy[task] for task in tasks) for tasks in HEADLINE.values())


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write `workdir/evaluation/NAME.json`: a list of rows, every field of `Result`."""
    rows = [dataclasses.asdict(result) for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> list[Result]:
    """Inverse of `write_json`. Raises `UserError` naming a file that is not such a list."""
    try:
        return [
            Result(**{name: _tuples(value) for name, value in row.items()})
            for row in json.loads(path.read_text())
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not an evaluation result ({error})") from None


def latest(workdir: Path) -> list[Result]:
    """Each row of a run at its last evaluated step, from all of `workdir/evaluation/*.json`."""
    rows = {}
    for path in sorted((workdir / "evaluation").glob("*.json")):
        for result in read_json(path):
            known = rows.get((result.task, result.rows))
            if known is None or (result.step, result.n) >= (known.step, known.n):
                rows[result.task, result.rows] = result
    return list(rows.values())


def compare(workdirs: Sequence[Path]) -> str:
    """Runs side by side, as Markdown that reads well in a terminal: runs, settings that differ, results.

    What a run lacks, and where two runs did not answer the same question, is said in a sentence below.
    Raises `UserError` for a folder that does not exist or a damaged file.
    """
    for workdir in workdirs:
        if not workdir.is_dir():
            raise UserError(f"{workdir}: no such folder; expected the workdir of a run")
    labels = [str(i + 1) for i in range(len(workdirs))]
    configs = [_read_object(workdir / "config.json") for workdir in workdirs]
    runs = [_read_object(workdir / "run.json") for workdir in workdirs]
    results = [latest(workdir) for workdir in workdirs]

    parts = [
        _pipes(
            [("run", "folder", "step", "commit", "devices"), *map(_about, labels, workdirs, runs, results)]
        )
    ]
    settings = _differing(configs)
    if settings:
        parts.append(_pipes([("setting", *labels), *settings]))
    rows = [(label, row) for label, of_run in zip(labels, results, strict=True) for row in of_run]
    order = list(dict.fromkeys((row.task, row.rows) for _, row in rows))
    known = list(TASKS)  # as the results table of a run lists them
    order.sort(key=lambda row: known.index(row[0]) if row[0] in known else len(known))
    rows.sort(key=lambda pair: order.index((pair[1].task, pair[1].rows)))
    if rows:
        parts.append(_pipes([("run", *HEADER), *((label, *_cells(row)) for label, row in rows)]))
        parts.append(_filled([LEGEND]))
    notes = [
        f"{workdir} has no {name}."
        for workdir, *found in zip(workdirs, configs, runs, results, strict=True)
        for name, content in zip(("config.json", "run.json", "evaluation/*.json"), found, strict=True)
        if not content
    ]
    notes += _unlike(rows)
    return "\n\n".join("\n".join(part) for part in [*parts, _filled(notes)] if part)


def _unlike(rows: Sequence[tuple[str, Result]]) -> list[str]:
    """A sentence for each row of the table whose runs differ in more than the model."""
    questions: dict[tuple[str, str], dict[str, list]] = {}
    for _, row in rows:
        asked = {"images": row.n, "classes": row.classes, "prompts": row.prompts, "k": row.k}
        for name, value in asked.items():
            questions.setdefault((row.task, row.rows), {}).setdefault(name, []).append(value)
    sentences = []
    for (task, part), asked in questions.items():
        different = [name for name, values in asked.items() if any(value != values[0] for value in values)]
        if different:
            sentences.append(
                f"{task} ({part}): the runs differ in {', '.join(different)}, so do not compare them."
            )
    return sentences


def _about(label: str, workdir: Path, run: dict[str, Any], results: Sequence[Result]) -> tuple[str, ...]:
    steps = ", ".join(f"{step:,}" for step in sorted({result.step for result in results}))
    commit = (run.get("commit") or "unknown")[:10] + (" + changes" if run.get("dirty") else "")
    devices = collections.Counter(run.get("devices", ()))
    return (
        label,
        str(workdir),
        steps or "-",
        commit,
        ", ".join(f"{n} × {name}" for name, n in devices.items()) or "-",
    )


def _differing(configs: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Settings that are not the same in all configs that exist: name and each run's value."""
    flat = [dict(_leaves(config)) for config in configs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    rows = [
        (name, *(json.dumps(settings[name]) if name in settings else "-" for settings in flat))
        for name in names
    ]
    return [
        row
        for row in rows
        if len({value for value, settings in zip(row[1:], flat, strict=True) if settings}) > 1
    ]


def _leaves(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _cells(result: Result) -> tuple[str, ...]:
    low, high = result.interval
    return (
        result.task,
        f"{len(result.classes)} {result.rows}",
        f"{result.n:,}",
        str(result.k),
        _percent(result.chance),
        _percent(result.constant),
        f"{_percent(result.accuracy)} [{100 * low:.1f}, {100 * high:.1f}]",
        _percent(result.balanced_top1),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _notes(results: Sequence[Result]) -> list[str]:
    """What was read for each task, and the headline where it is due."""
    whole = {}
    for result in results:
        whole.setdefault(result.task, result)  # the first row of a task is the one over all its images
    notes = [f"{task}: {result.data}" for task, result in whole.items()]
    due = [task for tasks in HEADLINE.values() for task in tasks]
    if not whole.keys() & set(due):
        return notes
    average = headline({task: result.accuracy for task, result in whole.items() if result.complete})
    if average is not None:
        return [*notes, f"Headline macro-average over activity, age and emotion: {_percent(average)}."]
    lacking = [task for task in due if task not in whole or not whole[task].complete]
    return [*notes, f"No headline macro-average, since these are absent or incomplete: {', '.join(lacking)}."]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell: the first two to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = [str.ljust, str.ljust] + [str.rjust] * (len(widths) - 2)
    return [
        "  ".join(p(cell, w) for p, cell, w in zip(pad, row, widths, strict=True)).rstrip() for row in rows
    ]


def _filled(paragraphs: Sequence[str]) -> list[str]:
    return [textwrap.fill(paragraph, WIDTH, break_long_words=False) for paragraph in paragraphs]


def _pipes(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, padded so that it also reads as text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, {} where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not readable; expected a JSON object")
    return content


def _tuples(value: Any) -> Any:
    """JSON lists back to the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
