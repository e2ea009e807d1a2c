"""The tasks beside zero-shot classification, on the same frozen embeddings: retrieval and probes.

Which of them can run on the data that are there, their table, and their files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import probes, retrieval
from focusclip_jax.evaluation.columns import aligned, filled, interval, percent, pipes
from focusclip_jax.evaluation.zero_shot import Encoder
from focusclip_jax.files import write_text

RETRIEVAL = "retrieval"
PROBES = ("linear_probe", "knn")
TASKS = (RETRIEVAL, *PROBES)
FOLDER = "retrieval-and-probes"  # of their files, below those of zero-shot, which `report` reads
SPLITS = ("test", "validation", "val")  # that retrieval runs on: the first that a folder has

RETRIEVAL_HEADER = (
    *("retrieval", "queries → gallery"),
    *(f"R@{k} [95 %]" for k in retrieval.KS),
    "median rank",
)
RETRIEVAL_LEGEND = (
    "R@k, %: a right entry of the gallery is in the first k; median rank: of the first right one. Captions "
    "of the same text are one caption, and any of its images is right; any caption of an image is. Equal "
    "similarities count against the model. Intervals: bootstrap over images, the gallery as it is. Chance: a "
    "random order of the gallery."
)
PROBE_HEADER = (
    *("probe", "data", "classes", "train", "n", "chance", "constant"),
    *("accuracy [95 %]", "balanced", "chosen"),
)
PROBE_LEGEND = (
    "Top-1 in %, with Wilson's 95 % interval, on the test part (n images) after learning from the training "
    "part's frozen embeddings. linear_probe: logistic regression, its L2 penalty the one that is best on a "
    "fifth of the training part held out; knn: the vote of the 20 nearest by cosine, each weighing "
    "exp(cosine / 0.07) as in DINO. Constant always answers the test part's commonest class."
)

Result = retrieval.Result | probes.Result


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What of retrieval and the probes can run, and a sentence for each data set that is not there.

    packed: folders of shards and the split to retrieve in. probed: names of `probes.PARTS`.
    which: of `PROBES`, what to do with them.
    """

    packed: tuple[tuple[Path, str], ...]
    probed: tuple[str, ...]
    which: tuple[str, ...]
    data_dir: Path
    absent: tuple[str, ...]

    @classmethod
    def open(cls, names: Sequence[str], data_dir: Path) -> Frozen:
        """names: of `TASKS`, any number of them. Folders of shards are looked for directly in `data_dir`."""
        packed: tuple[tuple[Path, str], ...] = ()
        probed: tuple[str, ...] = ()
        absent: list[str] = []
        which = tuple(name for name in PROBES if name in names)
        if RETRIEVAL in names:
            packed = tuple(_packed(data_dir))
            absent += (
                []
                if packed
                else [
                    f"retrieval was not evaluated, since no folder in {data_dir} holds shards of a test or "
                    "validation split: pack one with ./launch.sh annotate pack."
                ]
            )
        if which:
            absences = {name: probes.absent(name, data_dir) for name in probes.PARTS}
            probed = tuple(name for name, sentence in absences.items() if not sentence)
            absent += filter(None, absences.values())
        return cls(packed, probed, which, data_dir, tuple(absent))

    def run(self, encoder: Encoder, step: int, batch_size: int) -> Iterator[Result]:
        """Row by row of the tables. Raises UserError where data are damaged or the model gives NaN."""
        for folder, split in self.packed:
            gallery = retrieval.load(folder, split)
            yield from retrieval.evaluate(encoder, gallery, folder.name, split, step, batch_size)
        for name in self.probed:
            yield from probes.evaluate(encoder, name, self.data_dir, self.which, step, batch_size)


def _packed(data_dir: Path) -> Iterator[tuple[Path, str]]:
    for folder in sorted(path for path in data_dir.glob("*") if path.is_dir()):
        split = next((split for split in SPLITS if any(folder.glob(f"*-{split}.tfrecord-*"))), None)
        if split:
            yield folder, split


def table(results: Sequence[Result]) -> str:
    """The results as aligned text of at most 110 columns, with what was read and what the columns mean."""
    blocks = []
    for header, rows, legend, notes in parts(results):
        blocks += ["\n".join(aligned([header, *rows])), "\n".join(filled([legend, *notes]))]
    return "\n\n".join(blocks)


def markdown(results: Sequence[Result], absent: Sequence[str] = ()) -> str:
    """The same as Markdown, and the probes class by class. absent: what was not evaluated, as sentences."""
    blocks = [["# Retrieval and probes"]]
    for header, rows, legend, notes in parts(results):
        blocks += [pipes([header, *rows]), [legend], [f"- {note}" for note in notes]]
    blocks.append([f"- {sentence}" for sentence in absent])
    for of in (result for result in results if isinstance(result, probes.Result)):
        blocks.append([f"## {of.task}, {of.data}"])
        classes = [(name, f"{row['n']:,}", percent(row["top1"])) for name, row in of.per_class.items()]
        blocks.append(pipes([("class", "n", "top-1"), *classes]))
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def write(results: Sequence[Result], stem: Path, absent: Sequence[str] = ()) -> list[Path]:
    """Write STEM.md and STEM.json, every field of every row, and return both paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("md", "json")]
    rows = {
        "retrieval": [dataclasses.asdict(of) for of in results if isinstance(of, retrieval.Result)],
        "probes": [dataclasses.asdict(of) for of in results if isinstance(of, probes.Result)],
        "absent": list(absent),
    }
    write_text(paths[0], markdown(results, absent))
    write_text(paths[1], json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return paths


def latest(workdir: Path) -> list[Result]:
    """Each row of a run at its last evaluated step, from all files of `write` in its `evaluation/`.

    Raises UserError naming a file that `write` did not write.
    """
    rows: dict[tuple[str, ...], Result] = {}
    for path in sorted((workdir / "evaluation" / FOLDER).glob("*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            results: list[Result] = [
                *map(_retrieved, content["retrieval"]),
                *map(_probed, content["probes"]),
            ]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}: not a result of retrieval or probes of this version") from None
        for result in results:
            row: tuple[str, ...]
            if isinstance(result, retrieval.Result):
                row = (RETRIEVAL, result.data, result.split, result.direction)
            else:
                row = (result.task, result.data)
            if row not in rows or result.step >= rows[row].step:
                rows[row] = result
    return list(rows.values())


def _retrieved(row: dict[str, Any]) -> retrieval.Result:
    recall = {int(k): _figure(figure) for k, figure in row["recall"].items()}
    return retrieval.Result(**row | {"recall": recall, "median_rank": _figure(row["median_rank"])})


def _figure(figure: dict[str, Any]) -> retrieval.Figure:
    return retrieval.Figure(**figure | {"interval": tuple(figure["interval"])})


def _probed(row: dict[str, Any]) -> probes.Result:
    tuples = {name: tuple(row[name]) for name in ("classes", "interval", "sources")}
    return probes.Result(**row | tuples | {"confusion": tuple(map(tuple, row["confusion"]))})


def parts(
    results: Sequence[Result],
) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]], str, list[str]]]:
    """Header, rows, legend and notes of each of the two tables that has rows."""
    retrieved = [result for result in results if isinstance(result, retrieval.Result)]
    probed = [result for result in results if isinstance(result, probes.Result)]
    if retrieved:
        notes = [f"{of.data}, split {of.split}: {of.source}" for of in retrieved]
        notes += [
            f"{of.data}, {of.direction}: 95 % interval of the median rank "
            f"{' to '.join(f'{bound:,.0f}' for bound in of.median_rank.interval)}."
            for of in retrieved
        ]
        rows = [row for result in retrieved for row in _retrieval_rows(result)]
        yield RETRIEVAL_HEADER, rows, RETRIEVAL_LEGEND, list(dict.fromkeys(notes))
    if probed:
        notes = [f"{of.data}: {' '.join(of.sources)}" for of in probed]
        notes += [
            f"{of.data}: fits of the linear probe that stopped before they had converged: {stopped}."
            for of in probed
            if (stopped := of.settings.get("fits_stopped_early"))
        ]
        notes += [
            f"{of.data}: the chosen penalty is the last of those tried, so another may do better."
            for of in probed
            if of.settings.get("penalty") in (probes.PENALTIES[0], probes.PENALTIES[-1])
        ]
        yield PROBE_HEADER, [_probe_row(of) for of in probed], PROBE_LEGEND, list(dict.fromkeys(notes))


def _retrieval_rows(of: retrieval.Result) -> list[tuple[str, ...]]:
    query, entry = of.direction.split(" → ")
    return [
        (
            of.data,
            f"{of.queries:,} {query}s → {of.gallery:,} {entry}s",
            *(f"{percent(figure.value)} {interval(figure.interval)}" for figure in of.recall.values()),
            f"{of.median_rank.value:,.0f}",
        ),
        (
            *("", "chance"),
            *(percent(figure.chance) for figure in of.recall.values()),
            f"{of.median_rank.chance:,.0f}",
        ),
    ]


def _probe_row(of: probes.Result) -> tuple[str, ...]:
    chosen = (
        f"L2 {of.settings['penalty']:.1e}" if "penalty" in of.settings else f"k {of.settings['neighbours']}"
    )
    return (
        *(of.task, of.data, str(len(of.classes)), f"{of.train:,}", f"{of.n:,}"),
        *(percent(of.chance), percent(of.constant), f"{percent(of.accuracy)} {interval(of.interval)}"),
        *(percent(of.balanced), chosen),
    )
