"""`annotate describe --describer=openai` against a real HTTP server."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import llm_server
import pytest
from llm_server import LLMServer

from annotation import __main__ as cli
from annotation import journal
from annotation.describers import openai_chat, openai_run

KEY = "sk-test-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def images(mpii_csv):
    """A source of `count` images with one person each."""

    def make(count):
        rows = (
            {"NAME": f"secret-name-{n:04d}.jpg", "l wrist_Y": n, "Activity": "rowing"} for n in range(count)
        )
        return f"mpii-csv:{mpii_csv(*rows)}"

    return make


def command(server, source, out, *flags, model="test"):
    fixed = [f"--source={source}", "--describer=openai", f"--base-url={server.base_url}", f"--out={out}"]
    models = [f"--model={model}"] if model else []
    return ["describe", *fixed, *models, *flags]


def describe(*args, **options):
    return cli.main(command(*args, **options))


def rows(out, *statuses):
    return [row for row in journal.read_rows(out) if not statuses or row["status"] in statuses]


def error(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


# ------------------------------------------------------------------------------------ what is written


def test_every_image_gets_one_caption_with_its_provenance(tmp_path, images, capsys):
    with LLMServer() as server:
        assert describe(server, images(20), tmp_path, "--price=1,2", model="gpt-x") == 0
        assert server.counts == {"requests": 20, "ok": 20}
    captions = journal.captions_by_input(tmp_path)
    found = [captions[journal.input_hash(record)] for record in journal.read_records(tmp_path)]
    assert [[c.source for c in cs] for cs in found] == [["gpt-x/paper"]] * 20
    answer = rows(tmp_path, "ok")[0]["answer"]
    usage = answer["usage"]
    assert answer["returned_model"] == "gpt-x-2026-01-01"
    assert (answer["fingerprint"], answer["request_id"], answer["finish_reason"]) == ("fp_1", "req_1", "stop")
    assert answer["sent"] == openai_chat.SAMPLING
    assert answer["cost"] == (usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6
    said = capsys.readouterr().err
    assert "20 accepted, 0 rejected, 0 failed, 0 unknown" in said
    spent = sum(row["answer"]["cost"] for row in rows(tmp_path, "ok"))
    assert f"${spent:.4f} spent, $0.0000 more" in said


def test_a_second_run_buys_nothing_and_new_models_and_captions_only_what_is_new(tmp_path, images):
    source = images(6)
    with LLMServer() as server:
        assert describe(server, source, tmp_path) == 0
        whole = (tmp_path / journal.JOURNAL).read_bytes()
        assert describe(server, source, tmp_path) == 0
        assert (tmp_path / journal.JOURNAL).read_bytes() == whole
        assert server.counts["requests"] == 6
        assert describe(server, source, tmp_path, "--model=other", "--captions=2") == 0
        assert server.counts["requests"] == 6 + 6 + 6 + 6
    for captions in journal.captions_by_input(tmp_path).values():
        assert sorted(c.source for c in captions) == [
            "other/paper",
            "other/paper",
            "test/paper",
            "test/paper",
        ]


def test_an_intent_is_on_disk_before_each_request_is_sent(tmp_path, images):
    missing = []

    def answer(user):
        announced = (tmp_path / journal.JOURNAL).read_text()
        newest = llm_server.request_id(server.received[-1][1])
        missing.extend([newest] if f'"intent", "attempt": "{newest}"' not in announced else [])
        return llm_server.answer(user)

    with LLMServer(answer=answer) as server:
        assert describe(server, images(10), tmp_path) == 0
        assert len(server.received) == 10
    assert not missing


def test_nothing_of_the_image_or_its_name_leaves_and_the_key_appears_nowhere(tmp_path, images, capsys):
    source = images(8)
    with LLMServer() as server:
        server.faults.extend(["400", "500", "403"])
        assert describe(server, source, tmp_path / "out") == 2
        assert describe(server, source, tmp_path / "out") == 0
        sent = b"".join(head + body for _, head, body in server.received)
        host = server.base_url
    assert KEY.encode() in sent
    for secret in ("secret-name", ".jpg", "mpii.csv", str(tmp_path)):
        assert secret.encode() not in sent
    fields = {tuple(json.loads(body)) for _, _, body in server.received}
    assert fields == {("model", "messages", "temperature", "max_tokens", "frequency_penalty")}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    printed = "".join(capsys.readouterr())
    assert KEY.encode() not in written
    assert KEY not in printed
    assert "[key]" in printed
    assert f"sending joints and activities (no pixels, names or paths) to {host}" in printed


def test_a_server_without_keys_works_without_one(tmp_path, images, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with LLMServer(usage=False) as server:
        assert describe(server, images(2), tmp_path, "--price=0,0", "--max-cost=0") == 0
    assert rows(tmp_path, "ok")[0]["answer"]["usage"]["estimated"] is True


# ---------------------------------------------------------------------------------------------- faults


def test_whatever_goes_wrong_each_image_ends_with_one_caption_and_every_charge_is_known(tmp_path, images):
    faults = ["429", "429-after", "500", "hang", "cut", "gone", "malformed", "empty", "length", "gendered"]
    with LLMServer() as server:
        server.faults.extend(["", *faults])
        assert describe(server, images(12), tmp_path, "--timeout=1", "--price=1,1", "--attempts=5") == 0
        assert all(server.counts[fault] == 1 for fault in faults)
        charged = set(server.charged)
    accepted = rows(tmp_path, "ok")
    assert len(accepted) == len({row["key"] for row in accepted}) == 12
    assert {row["error"].split(":")[0] for row in rows(tmp_path, "unknown")} == {
        "SocketTimeoutError",
        "ClientPayloadError",
        "ServerDisconnectedError",
        "an answer that is not JSON",
    }
    assert len(rows(tmp_path, "unknown")) == 4
    assert rows(tmp_path, "rejected")[0]["reasons"]
    assert rows(tmp_path, "rejected")[0]["captions"][0]["text"].startswith("The woman")
    paid = {row["attempt"] for row in rows(tmp_path) if "answer" in row or row["status"] == "unknown"}
    assert paid == charged
    ledger = journal.read_ledger(tmp_path)
    assert len(ledger.unanswered) == 4
    assert ledger.counts == {"ok": 12, "rejected": 1, "failed": 5}


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-Echo: " + KEY.encode(),
        "reset",
    ],
)
def test_whatever_comes_after_a_request_was_sent_it_may_have_been_paid(tmp_path, images, raw):
    with LLMServer() as server:
        lost = []

        async def reply(head, body, writer):
            if len(lost) == 2:
                del server._reply
                return await server._reply(head, body, writer)
            lost.append(llm_server.request_id(head))
            if raw == "reset":
                at_once = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                writer.transport.abort()
            else:
                writer.write(raw)
            return False

        server._reply = reply
        assert describe(server, images(3), tmp_path) == 0
    unknown = rows(tmp_path, "unknown")
    assert [row["attempt"] for row in unknown] == lost
    assert all("\n" not in row["error"] and len(row["error"]) <= 300 for row in unknown)
    assert KEY not in (tmp_path / journal.JOURNAL).read_text()
    assert len(rows(tmp_path, "ok")) == 3


def test_more_than_a_hundred_requests_are_out_at_once(tmp_path, images):
    with LLMServer(latency=2.0) as server:
        assert describe(server, images(131), tmp_path, "--concurrency=130") == 0
        assert 100 < server.most_in_flight <= 130


def test_proxies_of_the_environment_are_used_but_for_what_no_proxy_names(
    tmp_path, images, capsys, monkeypatch
):
    source = images(3)
    with LLMServer() as server:
        far = "--base-url=http://service.invalid/v1"
        monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
        assert describe(server, source, tmp_path / "far", far) == 0
        assert server.received[0][1].startswith(b"POST http://service.invalid/v1/chat/completions ")
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
        assert describe(server, source, tmp_path / "socks", far) == 2
        assert "names a SOCKS proxy for service.invalid, and only HTTP proxies can be used" in error(capsys)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert describe(server, source, tmp_path / "near") == 0
        assert server.counts == {"requests": 6, "ok": 6}


def test_an_image_that_is_refused_again_and_again_is_given_up_and_can_be_asked_again(
    tmp_path, images, capsys
):
    source = images(1)
    with LLMServer(answer=lambda user: "She raises her arm.") as server:
        assert describe(server, source, tmp_path, "--attempts=2") == 0
        assert server.counts["requests"] == 2
        assert "1 images given up after 2 answers (--attempts)" in capsys.readouterr().err
        assert describe(server, source, tmp_path, "--attempts=2") == 0
        assert server.counts["requests"] == 2
        assert describe(server, source, tmp_path, "--attempts=3") == 0
        assert server.counts["requests"] == 3
    assert journal.captions_by_input(tmp_path) == {}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("insufficient_quota", "quota is used up; add credit or raise its limit with the service, then run"),
        ("model_not_found", "has no model 'test' (The model does not exist); pass another --model"),
        ("401", "refuses the key in OPENAI_API_KEY; export a valid one and run again"),
        ("403", "forbids this request (Not allowed for [key]); check what the key in OPENAI_API_KEY may do"),
        ("redirect", "redirects to 'http://127.0.0.1:9/v1'; pass that as --base-url if you trust it"),
        ("429-long", "asks to wait 86400 s; run the same command again after that"),
    ],
)
def test_what_no_waiting_mends_ends_the_run_at_once(tmp_path, images, capsys, fault, sentence):
    with LLMServer() as server:
        server.faults.extend([""] * 5 + [fault] * 60)
        server.latency = 0.02
        assert describe(server, images(60), tmp_path, "--concurrency=4") == 2
        assert server.counts["requests"] <= 5 + 4
    assert sentence in error(capsys)
    assert len(rows(tmp_path, "ok")) == 5
    assert not journal.read_ledger(tmp_path).unanswered


def test_a_network_that_is_not_there_is_one_sentence(tmp_path, images, capsys, monkeypatch):
    monkeypatch.setattr(openai_run, "_FIRST_PATIENCE", 0.4)
    with LLMServer() as server:
        pass
    assert describe(server, images(3), tmp_path) == 2
    assert "cannot be reached (ClientConnectorError: " in error(capsys)
    assert not journal.read_ledger(tmp_path).unanswered


def test_a_network_lost_on_the_way_keeps_what_was_answered(tmp_path, images, capsys, monkeypatch):
    monkeypatch.setattr(openai_run, "_NETWORK_PATIENCE", 0.4)

    def answer(user):
        if len(server.charged) >= 20:
            server.vanish()
        return llm_server.answer(user)

    with LLMServer(latency=0.05, answer=answer) as server:
        assert describe(server, images(40), tmp_path, "--concurrency=4") == 2
        assert "cannot be reached (ClientConnectorError: " in error(capsys)
        charged, answered, unknown = accounts(tmp_path, server)
    assert len(rows(tmp_path, "ok")) >= 16
    assert answered <= charged <= answered | unknown
    assert len(unknown) <= 4


def test_parameters_that_a_model_refuses_are_found_once_and_recorded(tmp_path, images, capsys):
    source = images(10)
    with LLMServer(refuse=("max_tokens", "temperature", "frequency_penalty")) as server:
        assert describe(server, source, tmp_path, "--limit=5") == 0
        assert server.counts["requests"] == 5 + 3
        said = capsys.readouterr().err
        assert "test does not take max_tokens (Unsupported parameter: 'max_tokens'" in said
        assert "sent as max_completion_tokens" in said
        assert "left out, so the model's own default holds" in said
        assert describe(server, source, tmp_path) == 0
        assert server.counts["requests"] == 10 + 3
        assert "test does not take temperature" in capsys.readouterr().err
    for row in rows(tmp_path, "ok"):
        assert row["answer"]["sent"] == {"max_completion_tokens": 512}
        assert "temperature" not in row["params"]
    assert len({row["key"] for row in rows(tmp_path, "ok")}) == 10


def test_a_parameter_that_was_taken_before_and_is_refused_now_ends_the_run(tmp_path, images, capsys):
    source = images(8)
    with LLMServer() as server:
        assert describe(server, source, tmp_path, "--limit=4") == 0
        server.refuse = ("temperature",)
        assert describe(server, source, tmp_path) == 2
        assert "refuses temperature now and took it before" in error(capsys)
        assert server.counts["requests"] == 5


def test_a_parameter_that_was_asked_for_is_never_dropped(tmp_path, images, capsys):
    with LLMServer(refuse=("reasoning_effort",)) as server:
        assert describe(server, images(9), tmp_path, "--reasoning-effort=none") == 2
        assert "Unsupported parameter: 'reasoning_effort'" in error(capsys)
        assert server.counts["requests"] == 3


# ----------------------------------------------------------------------------------------------- money


def test_a_dry_run_says_what_it_would_take_and_sends_nothing(tmp_path, images, capsys):
    source = images(10)
    with LLMServer() as server:
        assert describe(server, source, tmp_path, "--limit=4", "--price=1,2") == 0
        capsys.readouterr()
        assert describe(server, source, tmp_path, "--dry-run", "--price=1,2") == 0
        assert describe(server, source, tmp_path, "--dry-run", "--price=1,2", model="other") == 0
        assert server.counts["requests"] == 4
        said = capsys.readouterr().err
        assert "test: 6 requests, about" in said
        assert "other: 10 requests, about" in said
        assert "if every answer had 512 tokens" in said
        assert (
            f"a real run sends joints and activities (no pixels, names or paths) to {server.base_url}" in said
        )
        assert describe(server, source, tmp_path, "--dry-run") == 0
        assert "its price is not known, --price=IN,OUT tells the cost" in capsys.readouterr().err


def test_a_dry_run_needs_no_key(tmp_path, images, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    asked = [
        "describe",
        f"--source={images(3)}",
        "--describer=openai",
        "--model=gpt-6-luna",
        f"--out={tmp_path}",
    ]
    assert cli.main([*asked, "--dry-run"]) == 0
    assert "3 requests, about" in capsys.readouterr().err
    assert cli.main(asked) == 2
    assert "OPENAI_API_KEY is not set" in error(capsys)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_max_cost_is_never_passed_over_all_runs_and_nearly_used(tmp_path, images, capsys, concurrency):
    source = images(60)
    flags = ("--price=100,100", "--max-cost=2", f"--concurrency={concurrency}")
    with LLMServer(latency=0.01) as server:
        server.faults.extend(["", "cut", "", "length"])
        for _ in range(2):
            assert describe(server, source, tmp_path, *flags) == 2
            assert "--max-cost=2 is reached: $" in error(capsys)
        charged = sum(server.charged.values()) * 100 / 1e6
        largest = max(server.charged.values()) * 100 / 1e6
    assert charged <= 2
    unknown = journal.read_ledger(tmp_path).usage[server.base_url, "test"].reserved_cost
    assert charged + unknown > 2 - 3 * largest


def test_quick_answers_do_not_pass_the_limits_that_a_service_tells(tmp_path, images, capsys):
    with LLMServer(requests_per_minute=1200) as server:
        start = time.monotonic()
        assert describe(server, images(80), tmp_path) == 0
        seconds = time.monotonic() - start
        assert server.counts["above the limit"] == 0
        assert "allows 1200 requests per minute" in capsys.readouterr().err
        span = server.received[-1][0] - server.received[0][0]
    assert 80 / (1200 / 60) * 0.8 < span < seconds


def test_an_absurd_count_of_tokens_is_said_once_and_never_lowers_what_was_spent(tmp_path, images, capsys):
    counts = [{"prompt_tokens": -(10**9), "completion_tokens": 5}, {"prompt_tokens": 1e30}, "free"]

    with LLMServer() as server:
        write = server._write

        async def lie(writer, status, body, headers=None):
            answer = json.loads(body) | {"usage": counts[server.counts["ok"] % 3]}
            return await write(writer, status, json.dumps(answer).encode(), headers)

        server._write = lie
        assert describe(server, images(30), tmp_path, "--price=100,100", "--max-cost=2") == 2
        said = capsys.readouterr().err
    assert said.count("answers with an impossible count of tokens") == 1
    assert "--max-cost=2 is reached" in said
    ledger = journal.read_ledger(tmp_path)
    reserved = [row["reserved"]["cost"] for row in rows(tmp_path, "intent")]
    cost = ledger.usage[server.base_url, "test"].cost
    assert cost == pytest.approx(sum(reserved))
    assert 1 < cost <= 2


# --------------------------------------------------------------------------------- kills and full disks


def start(server, source, out, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "annotation", *command(server, source, out, *flags)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def accounts(out, server):
    """What the server charged for, and what the journal knows of: answered, and perhaps paid."""
    answered = {row["attempt"] for row in rows(out) if "answer" in row}
    return set(server.charged), answered, set(journal.read_ledger(out).unanswered)


def test_killed_again_and_again_nothing_accepted_is_bought_again_and_no_charge_is_lost(tmp_path, images):
    count, kills, concurrency = 120, 2, 16  # benchmarks/captions_faults.py: 10,000 images and 20 kills
    flags = ("--timeout=1", "--attempts=12", f"--concurrency={concurrency}", "--price=1,1")
    source, unanswered = images(count), 0
    with LLMServer(latency=0.02, fault_rate=0.3, seed=1) as server:
        for _kill in range(kills):
            with start(server, source, tmp_path, *flags) as process:
                goal = server.counts["ok"] + 30
                wait_for(lambda goal=goal: server.counts["ok"] >= goal, process)
                process.send_signal(signal.SIGKILL)
            silent = {r["attempt"] for r in rows(tmp_path, "intent")}
            silent -= {r["attempt"] for r in rows(tmp_path, "ok", "rejected", "failed", "unknown")}
            assert len(silent) - unanswered <= concurrency
            unanswered = len(silent)
        for _ in range(5):
            with start(server, source, tmp_path, *flags) as process:
                _, said = process.communicate()
                assert process.returncode == 0, said
            if len(rows(tmp_path, "ok")) == count:
                break
        time.sleep(0.1)
        charged, answered, unknown = accounts(tmp_path, server)
    accepted = rows(tmp_path, "ok")
    assert len(accepted) == len({row["input"] for row in accepted}) == count
    assert len(journal.captions_by_input(tmp_path)) == count
    assert answered <= charged <= answered | unknown
    assert not answered & unknown
    assert len(charged) == len(answered) + len(charged & unknown)


def test_ctrl_c_waits_for_the_answers_that_are_out(tmp_path, images):
    with LLMServer(latency=0.3) as server:
        with start(server, images(200), tmp_path, "--concurrency=8") as process:
            wait_for(lambda: server.counts["requests"] >= 12, process)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "stopping: waiting for" in said
        charged, answered, unknown = accounts(tmp_path, server)
    assert charged == answered
    assert not unknown
    assert f"{len(rows(tmp_path, 'ok'))} captions accepted" in said


def test_a_full_disk_is_one_sentence_and_loses_no_answer(tmp_path, images):
    """A limit on the size of files stands for a full disk: the write is cut in the middle in the same way."""
    limit = 60_000
    program = (
        "import resource, signal, sys; from annotation import __main__, journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "keep = journal.Journal.keep_spare\n"
        f"journal.Journal.keep_spare = lambda self, size: keep(self, min(size, {limit} // 2))\n"
        "unlink = journal.Path.unlink\n"
        "def freed(path, *args, **kwargs):\n"
        "    if path.name.endswith('.spare') and path.exists():\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))\n"
        "    unlink(path, *args, **kwargs)\n"
        "journal.Path.unlink = freed\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, 10**9))\n"
        "sys.exit(__main__.main(sys.argv[1:]))\n"
    )
    with LLMServer(latency=0.05) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, *command(server, images(60), tmp_path, "--concurrency=8")],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "journal.jsonl" in done.stderr.strip().splitlines()[-1]
        assert done.stderr.strip().splitlines()[-1].startswith("error: [Errno")
        charged, answered, _ = accounts(tmp_path, server)
    assert charged == answered
    assert len(rows(tmp_path, "ok")) > 5


def test_two_runs_on_one_journal_are_refused(tmp_path, images, capsys):
    source = images(50)
    with LLMServer(latency=0.2) as server, start(server, source, tmp_path, "--concurrency=2") as process:
        wait_for(lambda: server.counts["requests"] >= 2, process)
        assert describe(server, source, tmp_path) == 2
        assert "another run is writing here; wait for it to end" in error(capsys)
        process.send_signal(signal.SIGKILL)


# ------------------------------------------------------------------------------------- trust boundaries


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--max-cost=1"], "--max-cost: the price of test is not known; give --price=IN,OUT"),
        (["--price=1,2", "--model=other"], "--price: is of one model; describe with one --model at a time"),
        (["--base-url=localhost:8000"], "expected http(s)://HOST/PATH, such as http://localhost:8000/v1"),
        (["--base-url=http://me:pw@host/v1"], "--base-url: expected no user, password, query or fragment"),
        (
            ["--base-url=https://api.openai.com/v1", "--model=gpt-4-0613"],
            "OpenAI retired it on 2026-10-23; import",
        ),
        (["--tokens-per-minute=100"], "100 tokens per minute: one request takes up to"),
    ],
)
def test_mistakes_end_with_one_sentence_before_anything_is_sent(tmp_path, images, capsys, flags, sentence):
    with LLMServer() as server:
        assert describe(server, images(2), tmp_path, *flags) == 2
        assert server.counts["requests"] == 0
    assert sentence in error(capsys)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("", "OPENAI_API_KEY is not set; export it"),
        ("sk-\u00e9", "OPENAI_API_KEY holds characters that no key has"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused_before_anything_is_sent(
    tmp_path, images, capsys, monkeypatch, key, sentence
):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with LLMServer() as server:
        flags = ["--base-url=https://api.openai.com/v1"]
        assert describe(server, images(2), tmp_path, *flags, model="gpt-6-luna") == 2
    assert sentence in error(capsys)


def test_a_model_has_to_be_named(tmp_path, images, capsys):
    with LLMServer() as server:
        assert describe(server, images(2), tmp_path, model=None) == 2
    assert "--describer=openai: no --model given" in error(capsys)


@pytest.mark.parametrize(
    "flag", ["--price=1", "--price=a,b", "--max-cost=-1", "--concurrency=0", "--prompt=9"]
)
def test_flags_that_make_no_sense_are_refused(tmp_path, images, flag):
    with LLMServer() as server, pytest.raises(SystemExit):
        describe(server, images(1), tmp_path, flag)


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": "hi"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
        b'{"choices": [{"message": {"content": ["a"]}}], "usage": {"prompt_tokens": -5}}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"choices": [{"message": {"content": "One"}}], "usage": {"prompt_tokens": 1e999}}',
    ],
)
def test_an_answer_of_another_shape_is_kept_as_what_it_is(tmp_path, images, answer):
    with LLMServer() as server:

        async def reply(head, raw, writer):
            return await server._write(writer, 200, answer)

        server._reply = reply
        assert describe(server, images(1), tmp_path, "--attempts=1") == 0
    intent, outcome = rows(tmp_path)
    assert intent["status"] == "intent"
    assert outcome["status"] in ("unknown", "failed", "rejected")
    assert journal.captions_by_input(tmp_path) == {}
