"""`annotate import-captions`: released captions taken over into journals that the other verbs read."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from annotation import describe, files, journal, publish, records
from annotation.errors import UserError
from annotation.sources import captions

EPILOG = """\
FOLDER is a copy of the released data set (https://huggingface.co/datasets/saifkhichi96/mpii-human-pose-captions)
or of what `annotate export` wrote: MODEL/train.json and MODEL/val.json, in any number of models.
The release holds no validation captions by gpt-4; no other model's are put in their place.

example:
  annotate import-captions --from=mpii-human-pose-captions --out=runs/released
  annotate pack --journal=runs/released/train --images=mpii/images --split=train --out=data/mpii
"""


def add_parser(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "import-captions",
        help="take over released captions",
        description="Take over captions from files in the layout of the released MPII Pose Descriptions, "
        "each split into a journal of its own, OUT/train and OUT/val. Run again, it adds what is new.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--from", required=True, type=Path, metavar="FOLDER", dest="folder", help="see below")
    parser.add_argument(
        "--models",
        type=lambda text: text.split(","),
        metavar="NAME,…",
        help="only these, by the path of their folder (default: all)",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the journals live")


def run(args: argparse.Namespace) -> None:
    found = {split: captions.files_of(args.folder, split, args.models) for split in captions.SPLITS}
    models = sorted({model for of_split in found.values() for model in of_split})
    _refuse_absent(args, models)
    provenance = publish.read_provenance(args.folder)
    for split, of_split in found.items():
        others = captions.files_of(args.folder, split)
        for model in models:
            if model not in of_split and (others or (model, split) == ("gpt-4-0613", "val")):
                print(f"{model}: no {split}.json; no other model's takes its place", file=sys.stderr)
        if of_split:
            known = provenance.get(split, {}).get("models", {})
            writers = {model: known[model]["written_by"] for model in of_split if model in known}
            _import(of_split, writers, args.out / split)


def _refuse_absent(args: argparse.Namespace, models: list[str]) -> None:
    for name in args.models or ():
        if captions.MODEL_OF_FOLDER.get(name, name) not in models:
            there = {model for split in captions.SPLITS for model in captions.files_of(args.folder, split)}
            raise UserError(
                f"--models={','.join(args.models)}: {args.folder} holds no captions of {name!r}; it holds "
                f"those of {', '.join(sorted(there)) or 'nobody'}"
            )
    if not models:
        raise UserError(f"{args.folder}: no file MODEL/train.json, MODEL/val.json or MODEL/test.json")


def _import(of_split: dict[str, Path], writers: dict[str, list[Any]], out: Path) -> None:
    """Write one split's journal. writers: what the folder says about who wrote a model's captions."""
    notes: Counter[str] = Counter()
    described = captions.read_split(of_split, notes)
    with files.exclusive(out):
        count = describe.write_records((one.record for one in described), out, None, notes)
        with journal.open_journal(out) as open_journal:
            for one in described:
                input_ = journal.input_hash(one.record)
                for model, texts in one.captions.items():
                    describer = _describer(model, texts)
                    if journal.attempt_key(describer, input_) in open_journal.done:
                        continue
                    open_journal.append(
                        describer,
                        input_,
                        one.record.image_id,
                        [records.Description(one.record.image_id, text, model) for text in texts],
                    )
        publish.keep_writers(out, writers)
    print(f"{out}: {count} images", file=sys.stderr)
    for model in of_split:
        total = sum(len(one.captions.get(model, ())) for one in described)
        print(f"  {total} captions of {model}", file=sys.stderr)
    for phrase, number in notes.items():
        print(f"  {number} {phrase}", file=sys.stderr)


def _describer(model: str, texts: list[str]) -> journal.Describer:
    """Captions that were corrected since the last import are another version, which replaces the former."""
    version = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    return journal.Describer("imported", version, {"model": model})
