"""The results table as text, Markdown, LaTeX and JSON, runs side by side, and the paper's headline."""

import collections
import dataclasses
import json
import math
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.columns import WIDTH, aligned, filled, interval, percent, pipes
from focusclip_jax.evaluation.published import HEADLINE, PUBLISHED
from focusclip_jax.evaluation.statistics import wilson
from focusclip_jax.evaluation.tasks import TASKS
from focusclip_jax.evaluation.zero_shot import MEAN_AVERAGE_PRECISION, Result
from focusclip_jax.files import write_text

HEADER = ("task", "classes", "n", "k", "chance", "const.", "accuracy [95 %]", "balanced", "words", "paper")
FULL_HEADER = (
    *("task", "classes", "n", "k", "chance", "random", "constant", "accuracy [95 %]", "top-1", "balanced"),
    *("words", "paper: random", "paper: CLIP", "paper: FocusCLIP"),
)
LEGEND = (
    "All but n and k in %. Accuracy is top-k with Wilson's 95 % interval, or where k is mAP the mean average "
    "precision over the labels with a bootstrap interval over images; chance is k / classes (mAP: mean "
    "frequency of a label); constant (const.) always answers the k commonest labels; balanced is top-1, "
    "averaged over classes (chance 1 / classes). Seen classes are named in the training captions, unseen are "
    "not, mixed is both, unknown is where nobody looked. Words: how many of the prompts' words any training "
    "caption has. Paper: its CLIP→its FocusCLIP."
)
FULL_LEGEND = (
    f"{LEGEND} Random is one simulated run of random answers, as the paper's column is, and chance what such "
    "runs average to. Top-1: the most similar class is right, or where k is mAP one of the image's labels."
)


def table(results: Sequence[Result]) -> str:
    """The results as aligned text of at most 110 columns, with what was read and what the columns mean."""
    lines = aligned([HEADER, *map(_cells, results)])
    return "\n".join([*lines, "", *filled([LEGEND]), "", *filled(notes_on(results))])


def markdown(results: Sequence[Result], absent: Sequence[str] = ()) -> str:
    """All columns, the notes, and of each task every class and group.

    absent: a sentence for each task that was not evaluated.
    """
    parts = [
        ["# Zero-shot results"],
        pipes([FULL_HEADER, *map(full_cells, results)]),
        [FULL_LEGEND],
        [f"- {note}" for note in (*notes_on(results), *absent)],
        *(part for result in _whole(results).values() for part in _details(result)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def latex(results: Sequence[Result], absent: Sequence[str] = ()) -> str:
    """All columns as a `tabular` of the package booktabs; legend and notes are its comments."""
    columns = [*FULL_HEADER[:-3], "random", "CLIP", "FocusCLIP"]
    paper = len(columns) - 2
    comments = [FULL_LEGEND, *notes_on(results), *absent, r"In the preamble: \usepackage{booktabs}"]
    lines = [
        *(f"% {line}" for comment in comments for line in textwrap.wrap(comment, WIDTH)),
        rf"\begin{{tabular}}{{ll{'r' * (len(columns) - 2)}}}",
        r"\toprule",
        rf"{'& ' * (paper - 1)}\multicolumn{{3}}{{c}}{{paper}} \\",
        rf"\cmidrule(lr){{{paper}-{len(columns)}}}",
        _latex_row(columns),
        r"\midrule",
        *(_latex_row(full_cells(result)) for result in results),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def averages(accuracy: Mapping[str, float]) -> dict[str, float] | None:
    """The paper's mean over the headline's tasks of each kind; None where one of the tasks is missing.

    accuracy: by task name, in any unit.
    """
    if not accuracy.keys() >= {task for tasks in HEADLINE.values() for task in tasks}:
        return None
    return {kind: statistics.fmean(accuracy[task] for task in tasks) for kind, tasks in HEADLINE.items()}


def headline(accuracy: Mapping[str, float]) -> float | None:
    """Macro-average of the paper: the mean of `averages`."""
    of_kinds = averages(accuracy)
    return None if of_kinds is None else statistics.fmean(of_kinds.values())


def write(results: Sequence[Result], stem: Path, absent: Sequence[str] = ()) -> list[Path]:
    """Write STEM.md, STEM.tex and STEM.json, and return these. stem: `workdir/evaluation/NAME`."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("md", "tex", "json")]
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_text(paths[0], markdown(results, absent))
    write_text(paths[1], latex(results, absent))
    write_json(results, paths[2])
    return paths


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write `workdir/evaluation/NAME.json`: a list of rows, every field of `Result`."""
    rows = [dataclasses.asdict(result) for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> list[Result]:
    """Inverse of `write_json`; fields that came later may be absent.

    Raises `UserError` naming a file that is not such a list, and what its rows lack or have beside.
    """
    fields = dataclasses.fields(Result)
    required = {field.name for field in fields if field.default is field.default_factory}  # both are MISSING
    try:
        rows = [dict(row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError):
        raise UserError(f"{path}: not an evaluation result; expected a JSON list of rows") from None
    for row in rows:
        if lacking := sorted(required - row.keys()):
            raise UserError(f"{path}: not an evaluation result; a row lacks {', '.join(lacking)}")
        if unknown := sorted(row.keys() - {field.name for field in fields}):
            raise UserError(f"{path}: not an evaluation result of this version; it has {', '.join(unknown)}")
    return [Result(**{name: _tuples(value) for name, value in row.items()}) for row in rows]


def latest(workdir: Path) -> list[Result]:
    """Each row of a run at its last evaluated step, from all of `workdir/evaluation/*.json`."""
    rows: dict[tuple[str, ...], Result] = {}
    for path in sorted((workdir / "evaluation").glob("*.json")):
        for result in read_json(path):
            row = row_key(result)
            known = rows.get(row)
            if known is None or (result.step, result.n) >= (known.step, known.n):
                rows[row] = result
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
    configs = [read_object(workdir / "config.json") for workdir in workdirs]
    runs = [read_object(workdir / "run.json") for workdir in workdirs]
    results = [latest(workdir) for workdir in workdirs]

    parts = [
        pipes([("run", "folder", "step", "commit", "devices"), *map(_about, labels, workdirs, runs, results)])
    ]
    settings = _differing(configs)
    if settings:
        parts.append(pipes([("setting", *labels), *settings]))
    rows = ordered([(label, row) for label, of_run in zip(labels, results, strict=True) for row in of_run])
    if rows:
        parts.append(
            pipes([("run", *HEADER), *((label, question(row), *_cells(row)[1:]) for label, row in rows)])
        )
        parts.append(filled([LEGEND]))
    notes = [
        f"{workdir} has no {name}."
        for workdir, *found in zip(workdirs, configs, runs, results, strict=True)
        for name, content in zip(("config.json", "run.json", "evaluation/*.json"), found, strict=True)
        if not content
    ]
    notes += unlike(rows)
    return "\n\n".join("\n".join(part) for part in [*parts, filled(notes)] if part)


def ordered(rows: Sequence[tuple[str, Result]]) -> list[tuple[str, Result]]:
    """Rows of several runs with their labels: one question's rows together, in the order of `TASKS`."""
    order = list(dict.fromkeys(row_key(row) for _, row in rows))
    known = list(TASKS)
    order.sort(key=lambda row: known.index(row[0]) if row[0] in known else len(known))
    return sorted(rows, key=lambda pair: order.index(row_key(pair[1])))


def row_key(result: Result) -> tuple[str, ...]:
    """What makes two results the same row of a table."""
    return result.task, result.rows, result.prompt_set


def question(result: Result) -> str:
    """The task, and the prompts where they are not the paper's."""
    return result.task if result.prompt_set == "paper" else f"{result.task} ({result.prompt_set})"


def unlike(rows: Sequence[tuple[str, Result]]) -> list[str]:
    """A sentence for each row of the table whose runs differ in more than the model."""
    questions: dict[tuple[str, ...], dict[str, list]] = {}
    for _, row in rows:
        asked = {"images": row.n, "classes": row.classes, "prompts": row.prompts, "k": row.k}
        for name, value in asked.items():
            questions.setdefault(row_key(row), {}).setdefault(name, []).append(value)
    sentences = []
    for (task, part, _), of_runs in questions.items():
        different = [name for name, values in of_runs.items() if any(value != values[0] for value in values)]
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
    paper = result.published
    return (
        result.task,
        f"{len(result.classes)} {result.rows}",
        f"{result.n:,}",
        "mAP" if result.metric == MEAN_AVERAGE_PRECISION else str(result.k),
        percent(result.chance),
        percent(result.constant),
        f"{percent(result.accuracy)} {interval(result.interval)}",
        percent(result.balanced_top1),
        _whole_percent(result.heard_words),
        f"{percent(paper['clip'])}→{percent(paper['focusclip'])}" if paper else "-",
    )


def full_cells(result: Result) -> tuple[str, ...]:
    """The row below `FULL_HEADER`."""
    task, classes, n, k, chance, constant, accuracy, balanced, words, _ = _cells(result)
    random, top1 = percent(result.simulated_random), percent(result.top1)
    paper = (percent(result.published.get(column), 2) for column in ("random", "clip", "focusclip"))
    return (task, classes, n, k, chance, random, constant, accuracy, top1, balanced, words, *paper)


def _whole_percent(share: float | None) -> str:
    """Rounded down, so that 100 means all."""
    return "-" if share is None else str(math.floor(100 * share))


def _whole(results: Sequence[Result]) -> dict[str, Result]:
    """The row of each task over all its classes: its first."""
    whole: dict[str, Result] = {}
    for result in results:
        whole.setdefault(result.task, result)
    return whole


def notes_on(results: Sequence[Result]) -> list[str]:
    """What was read for each task and what the model mostly answered, and the headline where it is due."""
    whole = _whole(results)
    notes = [f"{task}: {result.data} {_commonest(result)}" for task, result in whole.items()]
    unsearched = [
        task for task, row in whole.items() if row.rows == "unknown" and row.heard_words is not None
    ]
    if unsearched:
        notes.append(
            f"The training captions were not searched for the class names of {', '.join(unsearched)}: start "
            "training with the same --workdir once more, which records it, to tell seen from unseen."
        )
    notes += dict.fromkeys(result.terms for result in whole.values() if result.terms)
    sets = sorted({result.prompt_set for result in results if result.prompt_set != "paper"})
    if sets:
        notes.append(f"Prompts: {', '.join(sets)}; the paper's figures are of its own single prompts.")
    due = [task for tasks in HEADLINE.values() for task in tasks]
    if not whole.keys() & set(due):
        return notes
    accuracy = {task: 100 * result.accuracy for task, result in whole.items() if result.complete}
    if headline(accuracy) is not None:
        return [*notes, _headline_note(accuracy)]
    lacking = [task for task in due if task not in whole or not whole[task].complete]
    return [*notes, f"No headline macro-average, since these are absent or incomplete: {', '.join(lacking)}."]


def _headline_note(accuracy: Mapping[str, float]) -> str:
    """accuracy: by task, %, of all tasks of the headline."""
    columns = {
        "here": accuracy,
        "paper's CLIP": {task: figures.clip for task, figures in PUBLISHED.items()},
        "paper's FocusCLIP": {task: figures.focusclip for task, figures in PUBLISHED.items()},
    }
    parts = []
    for name, of in columns.items():
        of_kinds = averages(of)
        assert of_kinds, f"{name} has all tasks of the headline"
        kinds = ", ".join(f"{kind} {value:.2f}" for kind, value in of_kinds.items())
        parts.append(f"{name} {headline(of):.2f} ({kinds})")
    return f"Headline macro-average over {', '.join(HEADLINE)}, %: {'; '.join(parts)}."


def _commonest(result: Result) -> str:
    """A model that answers one class whatever it sees is told by this before anything else."""
    name = max(result.predictions, key=result.predictions.__getitem__)
    share = result.predictions[name] / max(1, sum(result.predictions.values()))
    return f"Commonest answer: {name}, {percent(share)} %."


def _details(result: Result) -> Iterator[list[str]]:
    """What the table has no room for: one row of it, class by class and group by group."""
    yield [f"## {result.task}, {len(result.classes)} {result.rows} classes"]
    heard = ""
    if result.unheard_words:
        heard = f" Words in no training caption: {', '.join(result.unheard_words)}."
    yield [
        f"Prompts ({result.prompt_set}), such as “{result.prompts[0][0]}”.{heard} Answers is how often a "
        "class was the top prediction."
    ]
    header = ("n", *score_names(result))
    classes = [
        (name, *scores(result, result.per_class.get(name, {"n": 0})), f"{result.predictions[name]:,}")
        for name in result.classes
    ]
    yield pipes([("class", *header, "answers"), *classes])
    groups = [
        (group, value, *scores(result, of_value))
        for group, values in result.per_group.items()
        for value, of_value in values.items()
    ]
    if groups:
        yield pipes([("group", "value", *header), *groups])


def score_names(result: Result) -> tuple[str, ...]:
    """Headers of what `scores` gives after n."""
    if result.metric == MEAN_AVERAGE_PRECISION:
        return ("average precision",)
    return ("top-1 [95 %]",) if result.k == 1 else (f"top-{result.k} [95 %]", "top-1")


def scores(result: Result, of: Mapping[str, float | int]) -> tuple[str, ...]:
    """The cells of a class or group of a row: n and its scores, as `score_names` says."""
    n = int(of["n"])
    if result.metric == MEAN_AVERAGE_PRECISION:
        return f"{n:,}", percent(of.get("average_precision"))
    if n == 0:
        return "0", *("-" for _ in score_names(result))
    top_k = f"{percent(of['topk'])} {interval(wilson(round(of['topk'] * n), n))}"
    return (f"{n:,}", top_k) if result.k == 1 else (f"{n:,}", top_k, percent(of["top1"]))


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_text, cells)) + r" \\"


LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _latex_text(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def read_object(path: Path) -> dict[str, Any]:
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
