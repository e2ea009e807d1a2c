"""`annotate stats`: the quality report of one or more journals."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from annotation import files
from annotation.errors import UserError

EPILOG = """\
Each journal is a split, called as its directory. Agreement is the share of claims about arms and legs that
the joints confirm, among those that they decide. Refused are captions to which validators object today;
answers that they refused when the model was asked are counted below the table.

example:
  annotate stats --journal=runs/released/train --journal=runs/released/val --out=runs/quality
"""
STATS = "stats.json"


def add_parser(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "stats",
        help="report the quality of descriptions",
        description="Report length, readability, diversity, repetition, similarity and agreement with the "
        "joints, per split and who wrote the captions: a table, and in OUT stats.json and pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--journal",
        required=True,
        type=Path,
        action="append",
        metavar="DIR",
        help="OUT of `annotate describe`, whole or in parts, or of `annotate import-captions`; may be given "
        "several times",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where stats.json and the pictures go")


def run(args: argparse.Namespace) -> None:
    from annotation.quality import plots, report  # scipy and matplotlib take a second

    if len({path.resolve() for path in args.journal}) < len(args.journal):
        raise UserError("--journal: the same directory is given twice")
    groups = report.measure(args.journal)
    summary = report.summary(groups)
    if not any(group["captions"] for group in summary["groups"]):
        raise UserError(f"{args.journal[0]}: holds no caption; nothing to report")
    print(table(summary["groups"]))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        with files.replacing(args.out / STATS) as file:
            json.dump(summary, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        for path in (args.out / STATS, *plots.write(groups, summary, args.out)):
            print(path, file=sys.stderr)


_COLUMNS = {
    "split": lambda row: row["split"],
    "source": lambda row: row["source"],
    "captions": lambda row: f"{row['captions']:,}",
    "words": lambda row: _range(row["words"]),
    "mean": lambda row: _figure(row["words"]["mean"], 1),
    "std": lambda row: _figure(row["words"]["std"], 1),
    "sentences": lambda row: _figure(row["sentences"]["mean"], 1),
    "grade": lambda row: _figure(row["flesch_kincaid_grade"]["mean"], 1),
    "MTLD": lambda row: _figure(row["mtld"]["mean"], 1),
    "rep. 3": lambda row: _figure(row["repeated_ngrams"]["3"], 3),
    "style": lambda row: _figure(row["style_similarity"], 3),
    "coherence": lambda row: _figure(row["sentence_coherence"], 3),
    "agreement": lambda row: _percent(row["claims"]["agreement"]),
    "left": lambda row: _percent(row["left_and_right"]["left_share"]),
    "gendered": lambda row: f"{row['gendered_words']['captions']:,}",
    "refused": lambda row: f"{row['captions_refused_today']:,}",
}


def table(rows: list[dict[str, Any]]) -> str:
    """One line per split and source, and below it why captions and answers were refused."""
    cells = [list(_COLUMNS), *([column(row) for column in _COLUMNS.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    for row in rows:
        who = f"{row['split']}, {row['source']}"
        for said, counts in (
            ("captions that validators object to today", row["refused_today"]),
            ("answers refused when asked", row["rejected_when_asked"]),
            ("answers without a caption", row["answers_without_caption"]),
        ):
            if counts:
                listed = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
                lines.append(f"{who}: {said}: {listed}")
    return "\n".join(lines)


def _range(spread: dict[str, float | None]) -> str:
    return "–" if spread["min"] is None else f"{spread['min']:.0f}–{spread['max']:.0f}"


def _figure(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
