"""`annotate`: from keypoints and activities to pose descriptions, and from those to shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from annotation.errors import UserError, reader_is_gone
from annotation.verbs import batch, check_dataset, describe, export, import_captions, pack, stats, view

VERBS = (check_dataset, describe, batch, import_captions, export, pack, stats, view)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except (UserError, OSError) as error:  # an OSError names its file: a full disk, a folder closed to us
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return 141  # as a shell says it of a program that SIGPIPE ended
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="annotate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
