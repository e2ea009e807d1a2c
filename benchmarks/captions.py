"""Captions per second of `annotate describe` with a language model, beside what the bare client can do.

    python -m benchmarks.captions [--captions=3000] [--concurrency=64] [--latency=0.05] [--rounds=3]

All talk to the same local server in a process of its own. The bare client builds, sends and parses the
same requests and keeps nothing, over aiohttp as ours does and over httpx2, its default; ours plans, limits,
budgets, journals with an fsync before every send, and validates. They take turns, since other work on the
machine would favour one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import openai
from tqdm import tqdm

from annotation import journal, records
from annotation.describers import openai_chat, openai_run
from benchmarks import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]


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


def bare(
    transport: type, settings: openai_chat.Settings, images: list[records.ImageRecord], concurrency: int
) -> None:
    """The client alone: no journal, no validators, no limits."""

    async def run() -> None:
        waiting = iter(images)
        async with openai.AsyncOpenAI(
            api_key="none", base_url=settings.base_url, http_client=transport()
        ) as client:

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
    ran_on = machine.describe()
    images = make_records(args.captions)
    functions = {
        "bare client": functools.partial(bare, openai.DefaultAioHttpClient),
        "describe": ours,
        "bare client, httpx2": functools.partial(bare, openai.DefaultAsyncHttpxClient),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    with server(args.latency) as base_url:
        settings = openai_chat.Settings("test", base_url=base_url, price=(1.0, 1.0))
        with tqdm([*functions.items()] * args.rounds, desc="rounds") as rounds:
            for name, function in rounds:
                wall, cpu = time.perf_counter(), time.process_time()
                function(settings, images, args.concurrency)
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(ran_on)
    milliseconds = 1000 * args.latency
    print(f"{args.captions} captions, {args.concurrency} in flight, {milliseconds:.0f} ms, medians of rounds")
    rows = []
    for name, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        rates = ", ".join(f"{args.captions / seconds:.0f}" for seconds, _ in times)
        rows.append((name, f"{args.captions / wall:.0f}", rates, f"{1000 * cpu / args.captions:.2f}"))
    print(machine.table(("", "captions/s", "in each round", "ms of processor each"), rows))


if __name__ == "__main__":
    main()
