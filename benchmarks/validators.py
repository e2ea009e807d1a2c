"""Claim: the validators catch at least 95 % of false statements and refuse at most 1 % of true descriptions.

    python -m benchmarks.validators --mpii-csv=FILE [--images=3000] [--development]

Real joints of MPII; texts by `pose_prose.py`, which knows what is true from its own geometry. The thresholds
of `annotation/verdicts.py` were chosen on one half of the images (--development); the other half is measured.
Groups of two to four are made of single people, side by side. The geometry describer's own captions are no
test of what is caught, only of what is refused.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from annotation import records, validators
from annotation.sources import mpii
from benchmarks import pose_prose
from benchmarks.pose_prose import Statement, Writer

STATEMENTS = 7  # of one person in one text


def held_out(image_id: str) -> bool:
    return zlib.crc32(image_id.encode()) % 2 == 1


def singles(path: Path, development: bool = False) -> Iterator[records.ImageRecord]:
    """People of one half of the images. The file holds one person an image, so the count is complete."""
    for record in mpii.read_csv(path, collections.Counter()):
        if held_out(record.image_id) != development:
            yield dataclasses.replace(record, people_complete=True)


def groups(people: list[records.ImageRecord]) -> Iterator[records.ImageRecord]:
    """Images of two, three and four people, one beside the other."""
    size, at = 2, 0
    while at + size <= len(people):
        members = [record.people[0] for record in people[at : at + size]]
        for n, person in enumerate(members):
            beside = np.array([n * 1500 - np.nanmin(person.joints[:, 0]), 0])
            members[n] = dataclasses.replace(person, joints=person.joints + beside)
        yield dataclasses.replace(people[at], people=tuple(members))
        at += size
        size = 2 + (size - 1) % 3


@dataclasses.dataclass
class Tally:
    """Texts of one kind, how many of them were refused, and some that went wrong."""

    texts: int = 0
    refused: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)

    def add(self, refused: bool, should_be: bool, note: str) -> None:
        self.texts += 1
        self.refused += refused
        if refused != should_be:
            self.wrong.append(note)


def measure(people: list[records.ImageRecord]) -> tuple[dict[str, Tally], float]:
    """Kind of text → tally, and milliseconds of a check (of this process, whatever else runs)."""
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    seconds, checks = 0.0, 0

    def check(kind: str, sentences: list[str], record: records.ImageRecord, false: str = "") -> None:
        nonlocal seconds, checks
        text = " ".join(sentences)
        begin = time.process_time()
        reasons = validators.check(text, record)
        seconds, checks = seconds + time.process_time() - begin, checks + 1
        tallies[kind].add(bool(reasons), bool(false), f"{record.image_id}: {false or text} {reasons}")

    for size, images in (("one person", people), ("a group", list(groups(people)))):
        for record in images:
            writer = Writer(zlib.crc32(record.image_id.encode()))
            true = [_true(person) for person in record.people]
            told = [writer.sample(sorted(facts), STATEMENTS) for facts in true]
            sentences = writer.description(told, record.activity, len(record.people))
            check(f"true, {size}", sentences, record)
            wrong_count = len(record.people) + (1 if len(record.people) == 1 else writer.choice((-1, 1)))
            false = writer.count(wrong_count, record.activity)
            check(f"count, {size}", [false, *sentences[1:]], record, false)
            who = writer.choice(range(len(told)))
            for kind in ("left/right", "raised/lowered", "bent/straight", "above/below"):
                options = [
                    (statement, made[kind])
                    for statement in sorted(true[who])
                    if kind in (made := pose_prose.mutations(statement, true[who]))
                ]
                if options:
                    _check_false(check, f"{kind}, {size}", record, told, who, writer.choice(options), writer)
    return dict(tallies), seconds / checks * 1e3


def _true(person: records.Person) -> dict[Statement, bool]:
    return pose_prose.statements(person.joints, 200 * float(person.extra["Scale"]))


def _check_false(
    check, kind, record, told, who, mutation: tuple[Statement, Statement], writer: Writer
) -> None:
    """A description of everybody that is true but for one statement about person `who`."""
    original, false = mutation
    person = [statement for statement in told[who] if statement != original]
    about = [*told[:who], [*person[: STATEMENTS - 1], false], *told[who + 1 :]]
    check(kind, writer.description(about, record.activity, len(record.people)), record, str(false))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mpii-csv", type=Path, required=True)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--development", action="store_true", help="the half on which thresholds were chosen")
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="N texts of each kind that went wrong"
    )
    args = parser.parse_args()
    people = list(itertools.islice(singles(args.mpii_csv, args.development), args.images))
    tallies, milliseconds = measure(people)
    print(f"{len(people)} images of the {'development' if args.development else 'held-out'} half")
    print(f"{'text':28}{'n':>8}{'refused':>9}{'%':>8}")
    for kind, tally in sorted(tallies.items()):
        print(f"{kind:28}{tally.texts:8}{tally.refused:9}{100 * tally.refused / tally.texts:8.2f}")
        for note in tally.wrong[: args.show]:
            print("   ", note)
    print(f"{milliseconds:.2f} ms a text")


if __name__ == "__main__":
    main()
