"""`annotate describe`: the people of every image of a source, described into a journal."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from annotation import describe, files, journal
from annotation.errors import UserError
from annotation.verbs import asking, source
from annotation.verbs.arguments import part

EPILOG = f"""\
{source.FORMATS}
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
    source.add_arguments(parser)
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
    parser.add_argument(
        "--part",
        type=part,
        metavar="I/N",
        help="only the I-th of N shares of the images, in a journal of its own in OUT/part-I-of-N, for array "
        "jobs; the other verbs read OUT when all parts are there. --max-cost, --concurrency and the limits "
        "per minute hold for each part: N parts may spend N times as much",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the journal lives")
    asking.add_model_arguments(parser.add_argument_group("a language model (openai)"))
    sending = parser.add_argument_group("how it is asked (openai)")
    asking.add_spending_arguments(sending)
    asking.add_sending_arguments(sending)
    source.add_figures_arguments(parser)


def run(args: argparse.Namespace) -> None:
    _refuse_flags_of_the_other_describer(args)
    settings = asking.settings(args) if args.describer == "openai" else []
    read: Counter[str] = Counter()  # about the source as far as it was read, whatever --list keeps of it
    notes: Counter[str] = Counter()
    out = args.part.folder(args.out) if args.part else args.out
    with files.exclusive(out):
        count = describe.write_records(source.read(args, read, notes), out, args.limit, notes, args.part)
        print(f"{out}: {count} images", file=sys.stderr)
        try:
            if args.describer == "openai":
                asking.ask(args, settings, out, notes)
            else:
                _describe_offline(args.detail or "full", out, count, notes)
        finally:
            source.say_what_was_noticed(read, notes)


def _refuse_flags_of_the_other_describer(args: argparse.Namespace) -> None:
    """A --dry-run that runs, or a --max-cost that limits nothing, would surprise."""
    offline = args.describer == "geometry"
    given = (
        {"model": args.model, "dry-run": args.dry_run, "max-cost": args.max_cost is not None}
        if offline
        else {"detail": args.detail}
    )
    for flag, is_given in given.items():
        if is_given:
            raise UserError(f"--{flag}: is for --describer={'openai' if offline else 'geometry'} only")


def _describe_offline(detail: str, out: Path, count: int, notes: Counter[str]) -> None:
    from annotation.describers import geometry

    describer = journal.Describer("geometry", geometry.VERSION, {"detail": detail})
    describe.describe_records(out, describer, lambda record: geometry.describe(record, detail), count, notes)
