"""Does every charge stay known? 10,000 images, 30 % of all requests fail, 20 kill -9.

    python benchmarks/captions_faults.py [--images=10000] [--kills=20] [--faults=0.3]

`annotate describe` runs against a local server that answers 429 with and without retry-after and 500, hangs,
cuts connections, sends malformed JSON, empty and cut-off answers and captions that a validator refuses. It is
killed, started again, and run until nothing is left; then the journal is compared with what the server
charged for, request by request.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "annotation")]

from llm_server import LLMServer  # noqa: E402

from annotation import journal  # noqa: E402
from annotation.sources.mpii import CSV_JOINTS  # noqa: E402

CONCURRENCY = 64


def write_source(path: pathlib.Path, count: int) -> None:
    names = [f"{joint}_{axis}" for joint in CSV_JOINTS for axis in "XY"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["NAME", *names, "Activity", "Category"])
        for n in range(count):
            writer.writerow(
                [f"{n:05d}.jpg", *(50 + (37 * n + 11 * k) % 600 for k in range(32)), "rowing", "sports"]
            )


def megabytes(process: subprocess.Popen) -> float:
    """Resident memory."""
    pages = pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(command: list[str], server: LLMServer, goal: int | None) -> list[tuple[int, float]]:
    """Run until it ends, or kill it when the server has given `goal` answers. (answers, MB) over time."""
    memory = []
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"OPENAI_API_KEY": "sk-0123456789abcdef"}
    ) as process:
        while process.poll() is None:
            if goal is not None and server.counts["ok"] >= goal:
                process.send_signal(signal.SIGKILL)
                break
            memory.append((server.counts["ok"], megabytes(process)))
            time.sleep(0.02 if goal is not None else 0.5)
    return memory


def check(out: pathlib.Path, server: LLMServer, count: int) -> None:
    statuses, accepted, answered = Counter(), Counter(), set()
    for row in journal.read_rows(out):
        statuses[row["status"]] += 1
        accepted[row["input"]] += row["status"] == journal.OK
        if "answer" in row:
            answered.add(row["attempt"])
    unknown = set(journal.read_ledger(out).unanswered)
    charged = set(server.charged)
    print(f"server: {dict(server.counts)}")
    print(f"journal rows: {dict(statuses)}")
    print(f"images with exactly one accepted caption: {sum(n == 1 for n in accepted.values())} of {count}")
    print(
        f"charged {len(charged)} = answered in the journal {len(answered)} + unknown and charged "
        f"{len(charged & unknown)}; unknown and not charged {len(unknown - charged)}; "
        f"charged and not in the journal {len(charged - answered - unknown)}"
    )
    assert set(accepted.values()) == {1}
    assert len(accepted) == count
    assert answered <= charged <= answered | unknown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faults", type=float, default=0.3)
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, LLMServer(0.05, args.faults, keep=False) as server:
        out, source = pathlib.Path(folder) / "out", pathlib.Path(folder) / "source.csv"
        write_source(source, args.images)
        command = [
            sys.executable,
            "-m",
            "annotation",
            "describe",
            f"--source=mpii-csv:{source}",
            f"--out={out}",
        ]
        command += ["--describer=openai", "--model=test", f"--base-url={server.base_url}", "--price=1,1"]
        command += ["--timeout=2", "--attempts=20", f"--concurrency={CONCURRENCY}"]
        step, unknown_at_once = args.images // 2 // (args.kills + 1), []
        for _ in range(args.kills):
            before = set(journal.read_ledger(out).unanswered) if out.exists() else set()
            said = {row["attempt"] for row in journal.read_rows(out) if row["status"] == journal.UNKNOWN}
            run(command, server, server.counts["ok"] + step)
            told = {
                row["attempt"] for row in journal.read_rows(out) if row["status"] == journal.UNKNOWN
            } - said
            unknown_at_once.append(len(set(journal.read_ledger(out).unanswered) - before - told))
        memory = run(command, server, None)
        while len(journal.read_ledger(out).done) < args.images:
            run(command, server, None)
        most = max(unknown_at_once, default=0)
        print(f"{time.monotonic() - start:.0f} s; left unknown by one kill: at most {most}")
        check(out, server, args.images)
        size = (out / journal.JOURNAL).stat().st_size
        rows = sum(1 for _ in journal.read_rows(out))
        print(f"journal: {size} bytes, {size / rows:.0f} a row, {size / args.images:.0f} an image")
        busy = [megabytes_ for answers, megabytes_ in memory if answers > memory[0][0]]
        tenth = max(1, len(busy) // 10)
        parts = [statistics.mean(busy[k * tenth : (k + 1) * tenth]) for k in range(10)]
        print(
            "memory of the last run in tenths of its time, MB:",
            json.dumps([round(part, 1) for part in parts]),
        )


if __name__ == "__main__":
    main()
