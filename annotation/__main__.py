"""`annotate`: from keypoints and activities to pose descriptions, and from those to shards."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from annotation import describe, files, joins, journal, records, shards
from annotation.errors import UserError
from annotation.sources import coco, mpii, synthetic

FORMATS = ("figures", "mpii-mat", "mpii-json", "mpii-csv", "coco", "coco-dict")

DESCRIBE_EPILOG = f"""\
formats:
  figures:SEED        procedural people; the images are written into OUT/images
  mpii-mat:FILE       MPII's official .mat                      activities included
  mpii-json:FILE      mmpose's list of people                   no activities
  mpii-csv:FILE       the CSV that circulates                   activities included
  coco:FILE           COCO-17 ground truth, or results with confidences (below {coco.CONFIDENCE}: missing)
  coco-dict:FILE      {{image: 17 x [x, y]}}, estimates without confidence

OUT then holds records.jsonl (the images, with every field of the source) and journal.jsonl (the
descriptions). Run the same command again to finish one that was stopped.

examples:
  annotate describe --source=figures:0 --figures-count=2000 --describer=geometry --out=runs/figures
  annotate describe --source=coco-dict:poses.json --images=photos --activities=activities.csv \\
      --list=train.txt --describer=geometry --out=runs/photos
"""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (
        UserError,
        OSError,
    ) as error:  # an OSError names its file: a full disk, a folder that is closed to us
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="annotate", description=__doc__, formatter_class=raw)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    describe_ = verbs.add_parser(
        "describe",
        help="write descriptions of people's poses into a journal",
        description="Describe the people of every image of a source.",
        epilog=DESCRIBE_EPILOG,
        formatter_class=raw,
    )
    describe_.set_defaults(run=_describe)
    describe_.add_argument("--source", required=True, metavar="FORMAT:PATH", help="see the formats below")
    describe_.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs, to read their sizes (coco-dict)"
    )
    activity = describe_.add_mutually_exclusive_group()
    activity.add_argument(
        "--activities",
        type=Path,
        metavar="CSV",
        help="columns image, activity (or action), and maybe category",
    )
    activity.add_argument("--activity", metavar="TEXT", help="what the people of all images do")
    describe_.add_argument(
        "--list", type=Path, metavar="FILE", help="keep only the images named, one per line"
    )
    describe_.add_argument(
        "--describer", required=True, choices=["geometry"], help="geometry: offline, from the joints"
    )
    describe_.add_argument(
        "--detail", default="full", choices=["full", "short"], help="a paragraph (default) or one sentence"
    )
    describe_.add_argument("--limit", type=_positive, metavar="N", help="only the first N images")
    describe_.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the journal lives")
    synthetic.add_arguments(describe_.add_argument_group("parameters of figures"))

    pack = verbs.add_parser(
        "pack",
        help="write a journal and its images into shards",
        description="Write images, joints and descriptions of a journal into TFRecord shards with TFDS "
        "metadata. Several splits may share one OUT. Packing again what is packed already ends at once.",
    )
    pack.set_defaults(run=_pack)
    pack.add_argument("--journal", required=True, type=Path, metavar="DIR", help="OUT of `annotate describe`")
    pack.add_argument("--images", type=Path, metavar="DIR", help="the photographs (default: JOURNAL/images)")
    pack.add_argument("--split", required=True, metavar="NAME", help="train, validation, …")
    pack.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the shards")
    pack.add_argument(
        "--dataset", metavar="NAME", help="name in the files (default: OUT's name, with underscores)"
    )
    pack.add_argument(
        "--size",
        default="256",
        help="short side in pixels, never enlarged (default 256), WIDTHxHEIGHT, or original",
    )
    pack.add_argument("--quality", type=_quality, default=95, help="of JPEGs encoded here (default 95)")
    pack.add_argument(
        "--shards",
        type=_positive,
        metavar="N",
        help=f"default: one per {shards.IMAGES_PER_SHARD} images",
    )
    pack.add_argument(
        "--allow-missing", action="store_true", help="leave images without a file out, and count them"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100")
    return int(text)


def _describe(args: argparse.Namespace) -> None:
    from annotation.describers import geometry

    read: Counter[str] = Counter()  # about the source as far as it was read, whatever --list keeps of it
    notes: Counter[str] = Counter()
    describer = journal.Describer("geometry", geometry.VERSION, {"detail": args.detail})
    with files.exclusive(args.out):
        count = describe.write_records(_source(args, read, notes), args.out, args.limit, notes)
        describe.describe_records(
            args.out, describer, lambda record: geometry.describe(record, args.detail), count, notes
        )
    print(f"{args.out}: {count} images", file=sys.stderr)
    for prefix, counts in (("in the source: ", read), ("", notes)):
        for phrase, number in counts.items():
            if number:
                print(f"  {prefix}{number} {phrase}", file=sys.stderr)


def _source(
    args: argparse.Namespace, read: Counter[str], notes: Counter[str]
) -> Iterator[records.ImageRecord]:
    """The records of --source, as --list, --activities and --activity say."""
    source = _read(args, read)
    if args.list:
        source = joins.only_listed(source, joins.read_list(args.list), notes)
    if args.activities:
        source = joins.with_activities(source, joins.read_activities(args.activities), notes)
    if args.activity is not None:
        source = joins.with_one_activity(source, args.activity)
    return source


def _read(args: argparse.Namespace, notes: Counter[str]) -> Iterator[records.ImageRecord]:
    format_, _, rest = args.source.partition(":")
    if format_ not in FORMATS or not rest:
        raise UserError(
            f"--source={args.source}: expected FORMAT:PATH with FORMAT one of {', '.join(FORMATS)}"
        )
    if format_ == "figures":
        return synthetic.write_images(synthetic.parameters(args, rest), args.out / "images")
    path = Path(rest)
    if not path.is_file():
        raise UserError(f"--source={args.source}: {path} is not a file")
    if args.images and not args.images.is_dir():
        raise UserError(f"--images={args.images}: not a folder")
    if format_ == "coco-dict":
        return coco.read_dict(path, notes, args.images)
    readers = {
        "mpii-mat": mpii.read_mat,
        "mpii-json": mpii.read_json,
        "mpii-csv": mpii.read_csv,
        "coco": coco.read,
    }
    return readers[format_](path, notes)


def _pack(args: argparse.Namespace) -> None:
    options = shards.Options(
        images=args.images or args.journal / "images",
        split=args.split,
        dataset=args.dataset or re.sub(r"\W", "_", args.out.resolve().name),
        size=shards.parse_size(args.size),
        quality=args.quality,
        shards=args.shards,
        allow_missing=args.allow_missing,
    )
    shards.pack(args.journal, args.out, options, lambda sentence: print(sentence, file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
