"""`annotate pack`: a journal and its images, written into shards."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from annotation import shards
from annotation.verbs.arguments import part, percent, positive


def add_parser(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "pack",
        help="write a journal and its images into shards",
        description="Write images, joints and descriptions of a journal into TFRecord shards with TFDS "
        "metadata. Several splits may share one OUT. Packing again what is packed already ends at once.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--journal",
        required=True,
        type=Path,
        metavar="DIR",
        help="OUT of `annotate describe`, whole or in parts",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="the photographs (default: JOURNAL/images)"
    )
    parser.add_argument("--split", required=True, metavar="NAME", help="train, validation, …")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the shards")
    parser.add_argument(
        "--dataset", metavar="NAME", help="name in the files (default: OUT's name, with underscores)"
    )
    parser.add_argument(
        "--size",
        default="256",
        help="short side in pixels, never enlarged (default 256), WIDTHxHEIGHT, or original",
    )
    parser.add_argument("--quality", type=percent, default=95, help="of JPEGs encoded here (default 95)")
    parser.add_argument(
        "--shards",
        type=positive,
        metavar="N",
        help=f"default: one per {shards.IMAGES_PER_SHARD} images",
    )
    parser.add_argument(
        "--part",
        type=part,
        metavar="I/N",
        help="write only the I-th of N shares of the shards, for array jobs on a shared OUT; the part that "
        "ends last completes the split",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave images without a file out, and count them"
    )


def run(args: argparse.Namespace) -> None:
    options = shards.Options(
        images=args.images or args.journal / "images",
        split=args.split,
        dataset=args.dataset or re.sub(r"\W", "_", args.out.resolve().name),
        size=shards.parse_size(args.size),
        quality=args.quality,
        shards=args.shards,
        allow_missing=args.allow_missing,
    )
    shards.pack(args.journal, args.out, options, lambda sentence: print(sentence, file=sys.stderr), args.part)
