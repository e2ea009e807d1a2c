"""`annotate view`: what was described or packed, as pages in a browser."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from pathlib import Path

from annotation.errors import UserError
from annotation.verbs.arguments import positive


def add_parser(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "view",
        help="look at a journal or shards in a browser",
        description="Serve pages over a journal or shards to the browser of this machine: photo, skeleton, "
        "ellipses, heatmap, captions and where they come from. With --export, write a sample to files.",
    )
    parser.set_defaults(run=run)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--journal", type=Path, metavar="DIR", help="OUT of `annotate describe`, whole or in parts"
    )
    what.add_argument("--shards", type=Path, metavar="DIR", help="OUT of `annotate pack`")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs of the journal (default: JOURNAL/images)"
    )
    parser.add_argument("--port", type=_port, default=8000, help="default 8000; 0 takes a free one")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="default 127.0.0.1, this machine alone. Any other lets everybody who reaches it read everything",
    )
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="write static pages here instead of serving"
    )
    parser.add_argument(
        "--count", type=positive, default=50, metavar="N", help="images to export, evenly spread (default 50)"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> None:
    source = _source(args)
    if source.strangers:
        print(
            f"{args.journal}: {source.strangers} rows of the journal belong to images that its records.jsonl "
            "does not hold as they were described; they are not shown",
            file=sys.stderr,
        )
    if args.export:
        from annotation.viewer.export import export

        count = export(source, args.export, args.count)
        print(f"{args.export / 'index.html'}: {count} of {len(source)} images", file=sys.stderr)
    else:
        _serve(source, args.host, args.port)


def _source(args: argparse.Namespace):
    if args.shards:
        from annotation.viewer.shards import ShardFolder

        if args.images:
            raise UserError("--images goes with --journal; shards hold their images")
        return ShardFolder(args.shards)
    from annotation.viewer.journals import JournalFolder

    if args.images and not args.images.is_dir():
        raise UserError(f"--images={args.images}: not a folder")
    return JournalFolder(args.journal, args.images or args.journal / "images")


def _serve(source, host: str, port: int) -> None:
    """Serve until Ctrl-C."""
    from annotation.viewer import verdicts
    from annotation.viewer.catalogue import Catalogue
    from annotation.viewer.server import Server, Viewer

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no process and no folder behind
    with Server(host, port) as server, contextlib.closing(Catalogue(source)) as catalogue:
        server.viewer = Viewer(source, catalogue)
        name = f"[{host}]" if ":" in host else host
        print(f"{len(source):,} images at http://{name}:{server.server_port}/ (Ctrl-C ends)", file=sys.stderr)
        with verdicts.in_background(source, catalogue.path), contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
