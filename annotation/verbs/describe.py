"""`annotate describe`: the people of every image of a source, described into a journal."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from annotation import describe, files, joins, journal, records
from annotation.errors import UserError
from annotation.sources import formats, synthetic
from annotation.verbs import asking
from annotation.verbs.arguments import part, positive

EPILOG = f"""\
formats:
  figures:SEED        procedural people; the images are written into OUT/images
{formats.help_lines()}

OUT then holds records.jsonl (the images, with every field of the source) and journal.jsonl (the
descriptions). Run the same command again to finish one that was stopped.

--describer=openai asks any server that speaks OpenAI's chat completions. It gets the joints and the
activity, never a pixel, an image's name or a path. The key comes from OPENAI_API_KEY alone.

examples:
  annotate describe --source=figures:0 --figures-count=2000 --describer=geometry --out=runs/figures
  annotate describe --source=coco-dict:poses.json --images=photos --activities=activities.csv \\
      --list=train.txt --describer=geometry --out=runs/photos
  annotate describe --source=coco:people.json --describer=openai --model=gpt-6-luna \\
      --reasoning-effort=none --max-cost=5 --dry-run --out=runs/people
  annotate describe --source=coco:people.json --describer=openai --model=local --price=0,0 \\
      --base-url=http://localhost:8000/v1 --out=runs/people
"""


def add_parser(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "describe",
        help="write descriptions of people's poses into a journal",
        description="Describe the people of every image of a source.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
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
    parser.add_argument(
        "--describer",
        required=True,
        choices=["geometry", "openai"],
        help="geometry: offline, from the joints; openai: a language model behind OpenAI's API",
    )
    parser.add_argument(
        "--detail",
        choices=["full", "short"],
        help="of geometry: a paragraph (default) or one sentence",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument(
        "--part",
        type=part,
        metavar="I/N",
        help="only the I-th of N shares of the images, in a journal of its own in OUT/part-I-of-N, for array "
        "jobs; the other verbs read OUT when all parts are there",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the journal lives")
    asking.add_model_arguments(parser.add_argument_group("a language model (openai)"))
    asking.add_sending_arguments(parser.add_argument_group("how it is asked (openai)"))
    synthetic.add_arguments(parser.add_argument_group("parameters of figures"))


def run(args: argparse.Namespace) -> None:
    settings = asking.settings(args) if args.describer == "openai" else []
    read: Counter[str] = Counter()  # about the source as far as it was read, whatever --list keeps of it
    notes: Counter[str] = Counter()
    out = args.part.folder(args.out) if args.part else args.out
    with files.exclusive(out):
        count = describe.write_records(_source(args, read, notes), out, args.limit, notes, args.part)
        print(f"{out}: {count} images", file=sys.stderr)
        try:
            if args.describer == "openai":
                asking.ask(args, settings, out, notes)
            else:
                _describe_offline(args.detail or "full", out, count, notes)
        finally:
            for prefix, counts in (("in the source: ", read), ("", notes)):
                for phrase, number in counts.items():
                    if number:
                        print(f"  {prefix}{number} {phrase}", file=sys.stderr)


def _describe_offline(detail: str, out: Path, count: int, notes: Counter[str]) -> None:
    from annotation.describers import geometry

    describer = journal.Describer("geometry", geometry.VERSION, {"detail": detail})
    describe.describe_records(out, describer, lambda record: geometry.describe(record, detail), count, notes)


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
