"""`annotate export`: a journal's captions as a data set to share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from annotation import publish
from annotation.sources import captions

FORMATS = {"released": ("released",), "parquet": ("parquet",), "both": ("released", "parquet")}


def add_parser(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "export",
        help="write captions as a data set to share",
        description="Write a journal's captions in the layout of the released MPII Pose Descriptions, as "
        "Parquet, and with a data card. Photographs are not part of it. Several splits may share one OUT; "
        "nothing is overwritten. `annotate import-captions` reads it back.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--journal",
        required=True,
        type=Path,
        metavar="DIR",
        help="OUT of describe, whole or in parts, or of import-captions",
    )
    parser.add_argument("--split", required=True, choices=captions.SPLITS)
    parser.add_argument(
        "--format",
        default="both",
        choices=FORMATS,
        help="released: MODEL/SPLIT.json; parquet: one file per split (default both)",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the data set")


def run(args: argparse.Namespace) -> None:
    entry = publish.export(args.journal, args.out, args.split, FORMATS[args.format], _say)
    _say(f"{args.out}: {args.split}, {entry['images']} images")
    for model, of in entry["models"].items():
        words = of["words"]
        _say(f"  {of['captions']} captions of {model}, {words['least']} to {words['most']} words")
    _say(f"read {args.out / publish.CARD} before you share it: it is for you to complete")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
