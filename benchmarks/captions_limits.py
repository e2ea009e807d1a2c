"""How much of a service's limit per minute is used, and whether it is ever passed.

    python -m benchmarks.captions_limits [--requests=3000] [--tokens=1200000] [--seconds=80]

A local server enforces one limit at a time by a bucket that fills evenly, holds 2 % of a minute, and answers
429 to what is above. It tells the limit in its headers, and that is all our side knows of it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections import Counter

from tqdm import tqdm

from annotation import journal
from annotation.describers import openai_chat, openai_run
from benchmarks import machine
from benchmarks.captions import make_records

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "annotation"))
from llm_server import LLMServer


def measure(name: str, limit: int, seconds: float) -> tuple[str, ...]:
    """A row of the table."""
    tokens = 810 if name == "tokens" else 1  # of one request to this server
    images = make_records(round(limit / tokens * seconds / 60))
    with (
        LLMServer(0.05, **{f"{name}_per_minute": limit}) as server,
        tempfile.TemporaryDirectory() as folder,
        journal.open_journal(pathlib.Path(folder)) as opened,
    ):
        settings = openai_chat.Settings("test", base_url=server.base_url)
        plans = openai_run.plan([settings], images, opened.ledger)
        openai_run.run(plans, lambda: images, opened, openai_run.Options(), Counter(), lambda _: None)
        times = [time for time, _, _ in server.received]
        amounts = list(server.charged.values()) if name == "tokens" else [1.0] * len(times)
    start = times[-1] - 60
    used = sum(amount for time, amount in zip(times, amounts, strict=True) if time > start)
    above = server.counts["above the limit"]
    return f"{limit:,} {name}", f"{100 * used / limit:.1f} %", f"{above}", f"{len(times):,}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=1_200_000)
    parser.add_argument("--seconds", type=float, default=80)
    args = parser.parse_args()
    ran_on = machine.describe()
    rows = [
        measure(name, limit, args.seconds)
        for name, limit in tqdm([("requests", args.requests), ("tokens", args.tokens)], desc="limits")
    ]
    print(ran_on)
    print(machine.table(("per minute", "used in the last minute", "above", "requests sent"), rows))


if __name__ == "__main__":
    main()
