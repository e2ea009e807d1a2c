"""Does every charge stay known? 10,000 images, 30 % of all requests fail, 20 kill -9.

    python -m benchmarks.captions_faults [--images=10000] [--kills=20] [--faults=0.3]

`annotate describe` runs against a local server that answers 429 with and without retry-after and 500, hangs,
cuts connections, sends malformed JSON, empty and cut-off answers and captions that a validator refuses. It is
killed, started again, and run until nothing is left; then the journal is compared with what the server
charged for, request by request.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

from tqdm import tqdm

from annotation import journal
from annotation.sources.mpii import CSV_JOINTS
from benchmarks import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "annotation"))
from llm_server import FAULTS, LLMServer  # noqa: E402

CONCURRENCY = 64
KINDS = ("ok", *FAULTS)


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


def run(command: list[str], server: LLMServer, goal: int | None, bar: tqdm) -> list[tuple[int, float]]:
    """Run until it ends, or kill it when the server has given `goal` answers. (answers, MB) over time."""
    memory = []
    environment = os.environ | {"OPENAI_API_KEY": "sk-0123456789abcdef"}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said) as process,
    ):
        while process.poll() is None:
            if goal is not None and server.counts["ok"] >= goal:
                process.send_signal(signal.SIGKILL)
                break
            memory.append((server.counts["ok"], megabytes(process)))
            bar.update(server.counts["ok"] - bar.n)
            time.sleep(0.02 if goal is not None else 0.5)
        if process.wait() not in (0, -signal.SIGKILL):
            said.seek(0)
            sys.exit(said.read()[-2000:])
    return memory


def unanswered(out: pathlib.Path) -> set[str]:
    """Attempts that were announced and left without any row about what became of them."""
    announced, told = set(), set()
    for row in journal.read_rows(out):
        (announced if row["status"] == journal.INTENT else told).add(row["attempt"])
    return announced - told


def check(out: pathlib.Path, server: LLMServer, count: int) -> list[tuple[str, str]]:
    """The accounts of the journal against those of the server, as rows of the table."""
    statuses, accepted, answered = Counter(), Counter(), set()
    for row in journal.read_rows(out):
        statuses[row["status"]] += 1
        accepted[row["input"]] += row["status"] == journal.OK
        if "answer" in row:
            answered.add(row["attempt"])
    unknown, charged = set(journal.read_ledger(out).unanswered), set(server.charged)
    assert set(accepted.values()) == {1}
    assert len(accepted) == count
    assert answered <= charged <= answered | unknown
    size, rows = (out / journal.JOURNAL).stat().st_size, sum(statuses.values())
    return [
        ("requests", f"{server.counts['requests']:,}"),
        *(
            (f"  answered with {kind}", f"{n:,}")
            for kind, n in sorted(server.counts.items())
            if kind in KINDS
        ),
        (
            "images with exactly one accepted caption",
            f"{sum(n == 1 for n in accepted.values()):,} of {count:,}",
        ),
        ("charged by the server", f"{len(charged):,}"),
        ("  and answered in the journal", f"{len(charged & answered):,}"),
        ("  and unknown in the journal", f"{len(charged & unknown):,}"),
        ("  and not in the journal", f"{len(charged - answered - unknown):,}"),
        ("unknown and not charged", f"{len(unknown - charged):,}"),
        *((f"rows {status}", f"{n:,}") for status, n in sorted(statuses.items())),
        ("bytes of the journal", f"{size:,}"),
        ("bytes a row", f"{size / rows:.0f}"),
    ]


def memory_in_tenths(memory: list[tuple[int, float]]) -> str:
    """MB in each tenth of the time that answers came."""
    busy = [megabytes_ for answers, megabytes_ in memory if answers > memory[0][0]]
    edges = [len(busy) * k // 10 for k in range(11)]
    tenths = [busy[low:high] for low, high in itertools.pairwise(edges) if low < high]
    return " ".join(f"{statistics.mean(tenth):.0f}" for tenth in tenths)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faults", type=float, default=0.3)
    args = parser.parse_args()
    ran_on, start = machine.describe(), time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        LLMServer(0.05, args.faults, keep=False) as server,
        tqdm(total=args.images, unit=" answers", desc="describe") as bar,
    ):
        out, source = pathlib.Path(folder) / "out", pathlib.Path(folder) / "source.csv"
        write_source(source, args.images)
        command = [sys.executable, "-m", "annotation", "describe", f"--source=mpii-csv:{source}"]
        command += [f"--out={out}", "--describer=openai", "--model=test", f"--base-url={server.base_url}"]
        command += ["--price=1,1", "--timeout=2", "--attempts=20", f"--concurrency={CONCURRENCY}"]
        step, left, known = args.images // 2 // (args.kills + 1), [0], set()
        for kill in range(args.kills):
            run(command, server, server.counts["ok"] + step, bar)
            bar.set_postfix_str(f"killed {kill + 1} times")
            left.append(len((now := unanswered(out)) - known))
            known = now
        memory = run(command, server, None, bar)
        while (there := len(journal.read_ledger(out).done)) < args.images:
            run(command, server, None, bar)
            if len(journal.read_ledger(out).done) == there:
                sys.exit(f"{args.images - there} images got no caption in a whole run")
        rows = check(out, server, args.images)
    bar.close()
    print(ran_on)
    print(f"{args.images:,} images, {args.kills} kills, {100 * args.faults:.0f} % of requests fail")
    rows += [
        (f"left unknown by one kill, of {CONCURRENCY} in flight, at most", f"{max(left)}"),
        ("MB of memory in tenths of the last run", memory_in_tenths(memory)),
        ("seconds", f"{time.monotonic() - start:.0f}"),
    ]
    print(machine.table(("", ""), rows))


if __name__ == "__main__":
    main()
