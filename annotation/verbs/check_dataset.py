"""`annotate check-dataset`: which data sets are here, and how to get what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from annotation import check_dataset
from annotation.check_dataset import DataSet, Finding
from annotation.errors import UserError


def add_parser(verbs: argparse._SubParsersAction) -> None:
    names = ", ".join(data_set.name for data_set in check_dataset.DATA_SETS)
    parser = verbs.add_parser(
        "check-dataset",
        help="say which data sets are here, and how to get the others",
        description="Say of each data set what is present, what is missing, how to get it and under which "
        "terms. Ends with an error where something present is damaged or not as published, or where a data "
        f"set that you name is absent. Data sets: {names}.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder with one folder per data set (default: data)",
    )


def run(args: argparse.Namespace) -> None:
    data_sets = check_dataset.chosen(args.names)
    if not args.data_dir.is_dir():
        raise UserError(f"--data-dir={args.data_dir}: not a folder")
    findings = [
        (data_set, check_dataset.check(data_set, args.data_dir))
        for data_set in tqdm(data_sets, desc="check", leave=False)
    ]
    print(_table(findings))
    for data_set, found in findings:
        print("\n" + _details(data_set, found, args.data_dir))
    wrong = [finding.wrong for _, found in findings for finding in found if finding.wrong]
    absent = [
        f"{data_set.name}: nothing of it is in {args.data_dir / data_set.folder}"
        for data_set, found in findings
        if args.names and not any(finding.present for finding in found)
    ]
    if wrong or absent:
        raise UserError("\n       ".join(wrong + absent))


def _table(findings: list[tuple[DataSet, list[Finding]]]) -> str:
    lines = [f"{'data set':<14} {'state':<11} parts"]
    for data_set, found in findings:
        present = sum(finding.present for finding in found)
        lines.append(f"{data_set.name:<14} {_state(found):<11} {present} of {len(found)}")
    return "\n".join(lines)


def _state(found: list[Finding]) -> str:
    if any(finding.wrong for finding in found):
        return "DAMAGED"
    if all(finding.complete for finding in found):
        return "complete"
    return "in part" if any(finding.present for finding in found) else "absent"


def _details(data_set: DataSet, found: list[Finding], data_dir: Path) -> str:
    lines = [f"{data_set.name}: {data_set.used_for}", f"  in {data_dir / data_set.folder}"]
    for finding in found:
        mark = "!" if finding.wrong else "+" if finding.present else "-"
        lines.append(f"  {mark} {finding.text}")
        if finding.wrong:
            lines.append(f"    {finding.wrong}")
    lines += [f"  get    {data_set.get}", f"  terms  {data_set.terms}"]
    return "\n".join([*lines, f"  note   {data_set.notes}"] if data_set.notes else lines)
