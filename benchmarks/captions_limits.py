"""How much of a service's limit per minute is used, and whether it is ever passed.

    python benchmarks/captions_limits.py [--requests=3000] [--tokens=1200000] [--seconds=80]

A local server enforces one limit at a time by a bucket that fills evenly, holds 2 % of a minute, and answers
429 to what is above. It tells the limit in its headers, and that is all our side knows of it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "annotation")]

from llm_server import LLMServer  # noqa: E402

from annotation import journal  # noqa: E402
from annotation.describers import openai_chat, openai_run  # noqa: E402
from benchmarks.captions import make_records  # noqa: E402


def measure(name: str, limit: int, seconds: float) -> None:
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
    print(f"{limit} {name} per minute: {100 * used / limit:.1f} % used in the last minute, {above} above")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=1_200_000)
    parser.add_argument("--seconds", type=float, default=80)
    args = parser.parse_args()
    measure("requests", args.requests, args.seconds)
    measure("tokens", args.tokens, args.seconds)


if __name__ == "__main__":
    main()
