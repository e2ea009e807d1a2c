"""Captions per second of `annotate describe` with a language model, beside what the bare client can do.

    python benchmarks/captions.py [--captions=3000] [--concurrency=64] [--latency=0.05]

Both talk to the same local server in a process of its own. The bare client builds, sends and parses the
same requests and keeps nothing; ours plans, limits, budgets, journals with an fsync before every send, and
validates. The two take turns, since other work on the machine would favour one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import openai

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from annotation import journal, records  # noqa: E402
from annotation.describers import openai_chat, openai_run  # noqa: E402


@contextlib.contextmanager
def server(latency: float):
    """The base URL of a server that answers every request after `latency` seconds."""
    command = [sys.executable, ROOT / "tests" / "annotation" / "llm_server.py", f"--latency={latency}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.kill()


def make_records(count: int) -> list[records.ImageRecord]:
    joints = np.random.default_rng(0).uniform(0, 700, (count, 16, 2))
    return [
        records.ImageRecord(f"{n:05d}.jpg", (records.person(joints[n]),), activity="yoga", category="sports")
        for n in range(count)
    ]


def bare(settings: openai_chat.Settings, images: list[records.ImageRecord], concurrency: int) -> None:
    """The client alone: no journal, no validators, no limits."""

    async def run() -> None:
        waiting = iter(images)
        async with openai.AsyncOpenAI(api_key="none", base_url=settings.base_url) as client:

            async def work() -> None:
                for record in waiting:
                    answer = await client.chat.completions.create(**openai_chat.body(settings, record))
                    assert answer.choices[0].message.content

            await asyncio.gather(*[work() for _ in range(concurrency)])

    asyncio.run(run())


def ours(settings: openai_chat.Settings, images: list[records.ImageRecord], concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder, journal.open_journal(pathlib.Path(folder)) as opened:
        plans = openai_run.plan([settings], images, opened.ledger)
        options = openai_run.Options(concurrency=concurrency, max_cost=100.0)
        openai_run.run(plans, lambda: images, opened, options, Counter(), print)
        assert opened.ledger.counts["ok"] == len(images), opened.ledger.counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    images = make_records(args.captions)
    found: dict[str, list[tuple[float, float]]] = {"bare client": [], "describe": []}
    with server(args.latency) as base_url:
        settings = openai_chat.Settings("test", base_url=base_url, price=(1.0, 1.0))
        for _ in range(args.rounds):
            for name, function in (("bare client", bare), ("describe", ours)):
                wall, cpu = time.perf_counter(), time.process_time()
                function(settings, images, args.concurrency)
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    milliseconds = 1000 * args.latency
    print(f"{args.captions} captions, {args.concurrency} in flight, {milliseconds:.0f} ms, median of rounds")
    for name, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        rates = ", ".join(f"{args.captions / wall:.0f}" for wall, _ in times)
        each = 1000 * cpu / args.captions
        print(f"{name:12} {args.captions / wall:6.0f} captions/s ({rates}), {each:.2f} ms of CPU each")


if __name__ == "__main__":
    main()
