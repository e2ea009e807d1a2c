"""The flags that say which images are described, and the records they name."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from annotation import joins, records
from annotation.errors import UserError
from annotation.sources import formats, synthetic
from annotation.verbs.arguments import positive

FORMATS = f"""\
formats:
  figures:SEED        procedural people; the images are written into OUT/images
{formats.help_lines()}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", required=True, metavar="FORMAT:PATH", help="see the formats below")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs, to read their sizes or their names"
    )
    formats.add_arguments(parser)
    activity = parser.add_mutually_exclusive_group()
    activity.add_argument(
        "--activities",
        type=Path,
        metavar="CSV",
        help="columns image, activity (or action), and maybe category",
    )
    activity.add_argument("--activity", metavar="TEXT", help="what the people of all images do")
    parser.add_argument("--list", type=Path, metavar="FILE", help="keep only the images named, one per line")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")


def add_figures_arguments(parser: argparse.ArgumentParser) -> None:
    synthetic.add_arguments(parser.add_argument_group("parameters of figures"))


def read(
    args: argparse.Namespace, in_source: Counter[str], notes: Counter[str]
) -> Iterator[records.ImageRecord]:
    """The records of --source, as --list, --activities and --activity say; the caller obeys --limit.

    in_source, notes: count what was odd about the source itself, and what the other flags did to it.
    """
    source = _read(args, in_source)
    if args.list:
        source = joins.only_listed(source, joins.read_list(args.list), notes)
    if args.activities:
        source = joins.with_activities(source, joins.read_activities(args.activities), notes)
    if args.activity is not None:
        source = joins.with_one_activity(source, args.activity)
    return source


def say_what_was_noticed(in_source: Counter[str], notes: Counter[str]) -> None:
    for prefix, counts in (("in the source: ", in_source), ("", notes)):
        for phrase, number in counts.items():
            if number:
                print(f"  {prefix}{number} {phrase}", file=sys.stderr)


def _read(args: argparse.Namespace, notes: Counter[str]) -> Iterator[records.ImageRecord]:
    format_, _, rest = args.source.partition(":")
    names = ("figures", *formats.FORMATS)
    if format_ not in names or not rest:
        raise UserError(f"--source={args.source}: expected FORMAT:PATH with FORMAT one of {', '.join(names)}")
    if format_ == "figures":
        if args.part:
            raise UserError(f"--part={args.part}: figures are drawn by one machine; leave --part out")
        return synthetic.write_images(synthetic.parameters(args, rest), args.out / "images")
    if args.images and not args.images.is_dir():
        raise UserError(f"--images={args.images}: not a folder")
    return formats.read(format_, Path(rest), notes, args.images, args.joints, args.confidence)
