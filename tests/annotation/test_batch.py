"""`annotate batch` against a real HTTP server that implements files and batches."""

import hashlib
import json
import re
import signal
import threading
import time

import pytest
from batch_server import BatchServer, completion, everything, expiry, refusal
from llm_server import LLMServer

from annotation import __main__ as cli
from annotation import budget, files, journal
from annotation.describers import batch_service, openai_batch, openai_chat

KEY = "sk-test-0123456789"


@pytest.fixture(autouse=True)
def _key_and_haste(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(batch_service, "PAUSES", (0.01, 0.01, 0.01))


@pytest.fixture
def images(mpii_csv):
    """A source of `count` images with one person each."""

    def make(count):
        rows = (
            {"NAME": f"secret-name-{n:04d}.jpg", "l wrist_Y": n, "Activity": "rowing"} for n in range(count)
        )
        return f"mpii-csv:{mpii_csv(*rows)}"

    return make


def submit_command(server, source, out, *flags, model="test"):
    fixed = [f"--source={source}", f"--base-url={server.base_url}", f"--out={out}", f"--model={model}"]
    return ["batch", "submit", *fixed, *flags]


def submit(*args, **options):
    return cli.main(submit_command(*args, **options))


def collect(out, *flags):
    return cli.main(["batch", "collect", f"--out={out}", "--poll=0.05", *flags])


def rows(out, *statuses):
    return [row for row in journal.read_rows(out) if not statuses or row["status"] in statuses]


def ledger(out):
    return journal.read_ledger(out)


def error(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def part_lines(out, number=1):
    return openai_batch.path(out, f"part-{number:05d}").read_bytes().splitlines()


def wrist(request):
    """What tells one image of `images` from another in a request."""
    return json.loads(request["body"]["messages"][1]["content"])["people"][0]["kpts"][15][1]


# ------------------------------------------------------------------------------------ what is written


def test_each_image_gets_its_own_caption_whatever_the_order_of_the_answers(tmp_path, images, capsys):
    def end(requests):
        lines = everything(requests)["output"]
        for request, line in zip(
            requests, sorted(lines, key=lambda line: ids.index(line["custom_id"])), strict=True
        ):
            line["response"]["body"]["choices"][0]["message"]["content"] += f" Level {'i' * wrist(request)}."
        return {"status": "completed", "output": lines}

    with BatchServer(end) as server:
        assert submit(server, images(20), tmp_path, "--price=1,2") == 0
        ids = [json.loads(line)["custom_id"] for line in part_lines(tmp_path)]
        assert collect(tmp_path) == 0
        answered = [json.loads(line)["custom_id"] for line in server.files["file-1"].splitlines()]
    assert sorted(answered) == sorted(ids)
    assert answered != ids
    captions = journal.captions_by_input(tmp_path)
    records = list(journal.read_records(tmp_path))
    assert len(records) == 20
    for record in records:
        (caption,) = captions[journal.input_hash(record)]
        assert caption.text.endswith(f" Level {'i' * round(record.people[0].joints[15][1])}.")
        assert caption.source == "test/paper"
        assert caption.image_id == record.image_id
    answer = rows(tmp_path, "ok")[0]["answer"]
    assert answer["cost"] == (700 + 2 * 200) / 1e6
    assert (answer["returned_model"], answer["request_id"]) == ("test-2026-01-01", "req_1")
    assert answer["sent"] == openai_chat.SAMPLING
    said = capsys.readouterr().err
    assert "20 accepted, 0 rejected, 0 failed, 0 unknown; 14000 prompt and 4000 answer tokens" in said
    assert f"annotate pack --journal={tmp_path}" in said


def test_the_files_hold_what_the_services_read_and_nothing_of_the_images(tmp_path, images, capsys):
    out = tmp_path / "out"
    with BatchServer() as server:
        assert submit(server, images(5), out) == 0
        assert collect(out) == 0
        (uploaded, *_), (name, *_) = server.files.values(), server.names.values()
        batch = server.batches["batch_0"]
        sent = b"".join(server.heads) + json.dumps(server.batches).encode() + uploaded + name.encode()
    lines = [json.loads(line) for line in uploaded.splitlines()]
    attempts = {row["attempt"] for row in rows(out, "intent")}
    assert {line["custom_id"] for line in lines} == attempts
    for line, record in zip(lines, journal.read_records(out), strict=True):
        assert set(line) == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        settings = openai_chat.Settings("test", base_url=server.base_url)
        assert line["body"] == openai_chat.body(settings, record)
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    assert batch["metadata"] == {"part": "part-00001", "sha256": hashlib.sha256(uploaded).hexdigest()}
    for secret in ("secret-name", ".jpg", "mpii.csv", str(tmp_path)):
        assert secret.encode() not in sent
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    printed = capsys.readouterr().err
    assert f"sending joints and activities (no pixels, names or paths) to {server.base_url}" in printed


@pytest.mark.parametrize("limits", [{"most_requests": 4}, {"most_bytes": 10_000}])
def test_requests_are_split_at_the_limits_of_the_service(tmp_path, images, limits, monkeypatch):
    write = openai_batch.write
    monkeypatch.setattr(openai_batch, "write", lambda *args: write(*args, **limits))
    with BatchServer() as server:
        assert submit(server, images(10), tmp_path) == 0
        parts = list(server.files.values())
        assert len(server.batches) == len(parts) == 3
        assert collect(tmp_path) == 0
    for data in parts:
        assert len(data.splitlines()) <= limits.get("most_requests", 10)
        assert len(data) <= limits.get("most_bytes", 1e9)
    assert len(rows(tmp_path, "ok")) == len({row["key"] for row in rows(tmp_path, "ok")}) == 10


def test_each_model_and_each_caption_has_files_of_its_own(tmp_path, images):
    with BatchServer() as server:
        assert submit(server, images(3), tmp_path, "--model=other", "--captions=2") == 0
        models = [{r["body"]["model"] for r in server.requests(batch)} for batch in server.batches.values()]
        assert models == [{"test"}, {"test"}, {"other"}, {"other"}]
        assert collect(tmp_path) == 0
    for captions in journal.captions_by_input(tmp_path).values():
        assert sorted(c.source for c in captions) == ["other/paper"] * 2 + ["test/paper"] * 2


def test_a_dry_run_writes_and_sends_nothing(tmp_path, images, capsys):
    with BatchServer() as server:
        assert submit(server, images(3), tmp_path, "--dry-run", "--price=1,1") == 0
        assert not server.counts
    assert not rows(tmp_path)
    assert not openai_batch.read_parts(tmp_path)
    assert "test: 3 requests, about" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- money


def test_what_is_out_or_accepted_is_not_bought_again_by_batch_or_one_by_one(tmp_path, images, capsys):
    def describe(server, count):
        flags = [f"--source={images(count)}", f"--base-url={server.base_url}", "--model=test"]
        return cli.main(["describe", "--describer=openai", *flags, f"--out={tmp_path}"])

    with BatchServer() as batches, LLMServer() as chat:
        chat.base_url, real = batches.base_url, chat.base_url
        assert submit(batches, images(4), tmp_path) == 0
        assert submit(batches, images(4), tmp_path) == 0
        assert len(batches.batches) == 1
        assert "4 requests are out in batches" in capsys.readouterr().err
        assert describe(batches, 4) == 0  # would fail: this server has no chat completions
        assert collect(tmp_path) == 0
        assert describe(batches, 4) == 0
        assert submit(batches, images(5), tmp_path) == 0
        assert [len(batches.requests(batch)) for batch in batches.batches.values()] == [4, 1]
        chat.base_url = real
        assert describe(chat, 5) == 0  # another base URL is another service
        assert chat.counts["ok"] == 5


def test_a_batch_costs_half_and_is_reserved_until_it_is_answered(tmp_path, images, monkeypatch, capsys):
    monkeypatch.setattr("annotation.models.price", lambda model, base_url: (2.0, 8.0))
    with BatchServer() as server:
        assert submit(server, images(3), tmp_path) == 0
        reserved = [row["reserved"] for row in rows(tmp_path, "intent")]
        for one in reserved:
            assert one["batch"] == "part-00001"
            assert one["cost"] == (one["prompt_tokens"] * 1.0 + 512 * 4.0) / 1e6
        assert budget.committed(ledger(tmp_path), {}) == pytest.approx(sum(one["cost"] for one in reserved))
        assert collect(tmp_path) == 0
    assert [row["answer"]["cost"] for row in rows(tmp_path, "ok")] == [(700 + 4 * 200) / 1e6] * 3
    assert budget.committed(ledger(tmp_path), {}) == pytest.approx(3 * (700 + 4 * 200) / 1e6)


def test_max_cost_bounds_what_is_out_and_more_follows_when_less_was_spent(tmp_path, images, capsys):
    source, sizes = images(12), []
    with BatchServer() as server:
        while len(rows(tmp_path, "ok")) < 12:
            assert submit(server, source, tmp_path, "--price=1,1", "--max-cost=0.0145") == 0
            assert budget.committed(ledger(tmp_path), {}) <= 0.0145
            said = capsys.readouterr().err
            sizes.append(len(rows(tmp_path, "intent")))
            assert ("since --max-cost is reserved" in said) == (sizes[-1] < 12)
            assert collect(tmp_path) == 0
    assert len(sizes) > 2
    assert sizes == sorted(set(sizes))


def test_max_cost_needs_a_price(tmp_path, images, capsys):
    with BatchServer() as server:
        assert submit(server, images(1), tmp_path, "--max-cost=1") == 2
    assert error(capsys) == "error: --max-cost: the price of test is not known; give --price=IN,OUT"


def test_retired_models_and_no_model_are_refused_before_anything_is_written(tmp_path, images, capsys):
    flags = [f"--source={images(1)}", f"--out={tmp_path / 'out'}"]
    assert cli.main(["batch", "submit", *flags, "--model=gpt-4-0613"]) == 2
    assert "OpenAI retired it on" in error(capsys)
    assert cli.main(["batch", "submit", *flags]) == 2
    assert error(capsys) == "error: batch submit: no --model given"
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------- how batches can end


def test_a_batch_on_its_way_is_left_alone_and_waited_for_on_request(tmp_path, images, capsys):
    looks = []

    def end(requests):
        looks.append(1)
        return everything(requests) if len(looks) > 3 else {}

    with BatchServer(end) as server:
        assert submit(server, images(3), tmp_path) == 0
        assert collect(tmp_path) == 0
        assert not rows(tmp_path, "ok", "failed")
        assert "1 batches are out" in capsys.readouterr().err
        server.faults["look"].extend([500] * 5)  # an hour of trouble does not end the waiting
        assert collect(tmp_path, "--wait") == 0
    said = capsys.readouterr().err
    assert len(rows(tmp_path, "ok")) == 3
    assert said.count("is in_progress") == 1
    assert "HTTP 500" in said


def test_waiting_leaves_the_journal_to_others(tmp_path, images):
    with BatchServer(lambda requests: everything(requests) if free.is_set() else {}) as server:
        free = threading.Event()
        assert submit(server, images(2), tmp_path) == 0
        waiting = threading.Thread(target=collect, args=(tmp_path, "--wait"))
        waiting.start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with files.exclusive(tmp_path):
                    time.sleep(0.2)  # now it finds us here, and waits on
                    break
            except files.Busy:
                time.sleep(0.01)
        free.set()
        waiting.join(20)
        assert not waiting.is_alive()
    assert len(rows(tmp_path, "ok")) == 2


def test_the_second_file_with_errors_is_read_and_its_requests_are_asked_again(tmp_path, images, capsys):
    def end(requests):
        good, bad = requests[:3], requests[3:]
        errors = [refusal(bad[0], 429, "Slow down"), refusal(bad[1], 500, "Oops")]
        return {"status": "completed", "output": list(map(completion, good)), "errors": errors}

    with BatchServer(end) as server:
        assert submit(server, images(5), tmp_path, "--price=1,1") == 0
        assert collect(tmp_path) == 0
        assert {row["error"] for row in rows(tmp_path, "failed")} == {"HTTP 429: Slow down", "HTTP 500: Oops"}
        assert not ledger(tmp_path).unanswered
        assert "1 × HTTP 429: Slow down" in capsys.readouterr().err
        server.end = everything
        assert submit(server, images(5), tmp_path, "--price=1,1") == 0
        assert len(server.requests(server.batches["batch_1"])) == 2
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "ok")) == 5


def test_completed_without_an_output_file_when_every_request_was_refused(tmp_path, images):
    with BatchServer(lambda rs: {"status": "completed", "errors": [refusal(r) for r in rs]}) as server:
        assert submit(server, images(3), tmp_path) == 0
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "failed")) == 3
    assert not openai_batch.waiting(tmp_path)


def test_what_an_expired_batch_answered_is_kept_and_the_rest_is_asked_again(tmp_path, images, capsys):
    def end(requests):
        # one is listed as expired, two are not mentioned at all
        output, errors = list(map(completion, requests[:4])), [expiry(requests[4])]
        return {"status": "expired", "output": output, "errors": errors}

    with BatchServer(end) as server:
        assert submit(server, images(7), tmp_path, "--price=1,1") == 0
        assert collect(tmp_path) == 0
        assert len(rows(tmp_path, "ok")) == 4
        assert sorted(row["error"] for row in rows(tmp_path, "failed")) == [
            "batch_expired: This request could not be executed in time.",
            "no answer came; the batch ended as expired",
            "no answer came; the batch ended as expired",
        ]
        assert not ledger(tmp_path).unanswered
        server.end = everything
        assert submit(server, images(7), tmp_path, "--price=1,1") == 0
        assert len(server.requests(server.batches["batch_1"])) == 3
        assert collect(tmp_path) == 0
    assert len({row["key"] for row in rows(tmp_path, "ok")}) == len(rows(tmp_path, "ok")) == 7


def test_a_batch_that_the_service_refuses_as_a_whole_says_why(tmp_path, images, capsys):
    message = "Enqueued token limit reached"
    errors = {"data": [{"code": "token_limit_exceeded", "message": message}]}
    # "errors" of the batch itself, not a file of them
    with BatchServer(lambda rs: {"status": "failed"}) as server:
        assert submit(server, images(2), tmp_path) == 0
        server.look("batch_0")["errors"] = errors
        assert collect(tmp_path) == 0
    reason = f"no answer came; the batch ended as failed ({message})"
    assert {row["error"] for row in rows(tmp_path, "failed")} == {reason}
    assert f"part-00001: 2 requests: {reason}" in capsys.readouterr().err


def test_answers_that_were_paid_and_did_not_come_stay_reserved(tmp_path, images, capsys):
    def end(requests):
        return {"status": "completed", "output": list(map(completion, requests[:3]))}

    with BatchServer(end) as server:
        assert submit(server, images(6), tmp_path, "--price=1,1") == 0
        server.look("batch_0")["request_counts"]["completed"] = 5
        assert collect(tmp_path) == 0
    assert [len(rows(tmp_path, s)) for s in ("ok", "unknown", "failed")] == [3, 2, 1]
    assert len(ledger(tmp_path).unanswered) == 2
    assert "2 of them may have been paid" in capsys.readouterr().err
    assert not openai_batch.waiting(tmp_path)


def test_refused_empty_cut_off_and_gendered_answers_are_told_apart(tmp_path, images):
    def end(requests):
        cut = completion(requests[1], "One person", finish="length")
        lines = [completion(requests[0], ""), cut, completion(requests[2], "She raises her arm.")]
        return {"status": "completed", "output": [*lines, completion(requests[3])]}

    source = images(4)
    with BatchServer(end) as server:
        assert submit(server, source, tmp_path) == 0
        assert collect(tmp_path) == 0
        assert [len(rows(tmp_path, s)) for s in ("failed", "rejected", "ok")] == [2, 1, 1]
        assert rows(tmp_path, "rejected")[0]["reasons"]
        assert submit(server, source, tmp_path, "--attempts=1") == 0
        assert len(server.batches) == 1  # three answers were paid and may not be bought again
        server.end = everything
        assert submit(server, source, tmp_path, "--attempts=2") == 0
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "ok")) == 4


def test_a_parameter_that_the_model_refuses_is_left_out_of_the_next_batch(tmp_path, images, capsys):
    def end(requests):
        if "temperature" in requests[0]["body"]:
            said = {"message": "Unsupported value", "param": "temperature"}
            return {"status": "completed", "errors": [refusal(r, **said) for r in requests]}
        return everything(requests)

    with BatchServer(end) as server:
        assert submit(server, images(2), tmp_path) == 0
        assert "tells whether test takes temperature" in capsys.readouterr().err
        assert collect(tmp_path) == 0
        assert submit(server, images(2), tmp_path) == 0
        assert "tells whether" not in capsys.readouterr().err
        assert collect(tmp_path) == 0
    assert set(rows(tmp_path, "ok")[0]["answer"]["sent"]) == {"max_tokens", "frequency_penalty"}
    assert len(rows(tmp_path, "ok")) == 2


def test_hostile_lines_spoil_nothing_and_are_counted(tmp_path, images, capsys):
    deep = b"[" * 100_000
    junk = [
        b"\n",
        b"{",
        b"\xff\xfe\n",
        deep + b"\n",
        b"[1, 2]\n",
        b'{"custom_id": ["a"], "response": {}}\n',
        b'{"custom_id": null, "response": {}}\n',
        b'{"response": {"status_code": 200}}\n',
    ]

    def end(requests):
        first, second, third, fourth, *rest = requests
        strange = [
            {"custom_id": "../../../etc/passwd", "response": {"status_code": 200, "body": {}}},
            {"custom_id": "0" * 32, "response": {"status_code": 200}},
            {"custom_id": first["custom_id"], "response": {"status_code": 200, "body": "text"}},
            {"custom_id": second["custom_id"], "response": "x", "error": "y"},
            {"custom_id": third["custom_id"], "response": {"status_code": [1], "body": {"error": ["m"]}}},
            completion(fourth),
            completion(fourth, "One person is here twice."),
        ]
        lines = junk[:1] + strange + [completion(r) for r in rest] + junk[2:] + junk[1:2]
        return {"status": "completed", "output": lines, "request_counts": {"completed": "many"}}

    with BatchServer(end) as server:
        assert submit(server, images(8), tmp_path, "--price=1,1") == 0
        assert collect(tmp_path) == 0
        whole = (tmp_path / journal.JOURNAL).read_bytes()
        assert collect(tmp_path) == 0
    assert (tmp_path / journal.JOURNAL).read_bytes() == whole
    assert [len(rows(tmp_path, s)) for s in ("ok", "unknown", "failed")] == [5, 1, 2]
    assert not any("twice" in row["captions"][0]["text"] for row in rows(tmp_path, "ok"))
    said = capsys.readouterr().err
    assert "1 answers to requests that had one" in said
    assert "2 answers to requests that were not made from here, passed over" in said
    assert "7 lines that are no answer, passed over" in said


def test_an_unreadable_line_leaves_one_request_perhaps_paid(tmp_path, images):
    def end(requests):
        broken = json.dumps(completion(requests[0])).encode()[:-40] + b"\n"
        return {"status": "completed", "output": [broken, *map(completion, requests[1:4])]}

    with BatchServer(end) as server:
        assert submit(server, images(6), tmp_path, "--price=1,1") == 0
        assert collect(tmp_path) == 0
    assert [len(rows(tmp_path, s)) for s in ("ok", "unknown", "failed")] == [3, 1, 2]
    assert len(ledger(tmp_path).unanswered) == 1


def test_answers_find_their_images_though_records_were_replaced_since(tmp_path, images):
    with BatchServer() as server:
        assert submit(server, images(6), tmp_path) == 0
        cli.main(["describe", f"--source={images(2)}", "--describer=geometry", f"--out={tmp_path}"])
        assert collect(tmp_path) == 0
    answered = [row for row in rows(tmp_path, "ok") if row["describer"] == "openai"]
    assert len(answered) == 6


# ------------------------------------------------------------------------------- a service in trouble


def test_trouble_on_the_way_neither_loses_nor_doubles_a_batch(tmp_path, images):
    with BatchServer() as server:
        server.faults["upload"].extend([500, "cut"])
        server.faults["create"].extend([500, "late cut"])
        server.faults["list"].extend(["cut"])
        server.faults["look"].extend(["cut", 503])
        server.faults["file"].extend([502])
        server.faults["content"].extend([500, "cut", "half"])
        assert submit(server, images(5), tmp_path) == 0
        assert len(server.batches) == 1
        assert collect(tmp_path) == 0
        assert not any(server.faults.values())
    assert len(rows(tmp_path, "ok")) == 5


def test_a_file_that_ends_early_without_a_sign_is_fetched_again(tmp_path, images):
    with BatchServer() as server:
        assert submit(server, images(5), tmp_path) == 0
        server.look("batch_0")
        whole = server.files["file-1"]

        def shorten(kind):
            if kind == "content":
                server.files["file-1"] = whole[:-9] if server.counts["content"] < 3 else whole

        server.hook = shorten
        assert collect(tmp_path) == 0
    assert server.counts["content"] == 3
    assert len(rows(tmp_path, "ok")) == 5


def test_a_batch_among_many_others_is_found_again(tmp_path, images, capsys):
    with BatchServer() as server:
        server.faults["create"].extend(["late cut"])
        server.faults["list"].extend([401])
        source = images(2)
        assert submit(server, source, tmp_path) == 2
        for _ in range(7):  # of somebody else, on several pages
            server.create({"input_file_id": server.store(b""), "endpoint": "/v1/chat/completions"})
        assert submit(server, source, tmp_path) == 0
        assert [part.batch for part in openai_batch.read_parts(tmp_path)] == ["batch_0"]
        assert collect(tmp_path) == 0
        assert len(server.batches) == 8
    assert len(rows(tmp_path, "ok")) == 2


@pytest.mark.parametrize(
    ("kind", "faults", "sentence"),
    [
        ("upload", [401], "refuses the key in OPENAI_API_KEY; export a valid one and run again"),
        ("upload", [404], "a server without a batch API is served by submit --files-only"),
        ("upload", ["page"], "upload of a file: the answer is not a JSON object; is --base-url right?"),
        ("upload", [307], "upload of a file: HTTP 307: Fault for Bearer [key]"),
        (
            "upload",
            [500] * 9,
            "upload of a file: HTTP 500: Fault for Bearer [key]; run the same command again",
        ),
        ("create", ["quota"], "the account's quota is used up; add credit or raise its limit"),
        ("create", [400], "creation of a batch: HTTP 400: Fault for Bearer [key]"),
        ("create", [429] * 9, "creation of a batch: HTTP 429"),
    ],
)
def test_what_no_try_mends_is_one_sentence_and_the_next_run_goes_on(
    tmp_path, images, capsys, kind, faults, sentence
):
    source = images(3)
    with BatchServer() as server:
        server.faults[kind].extend(faults)
        assert submit(server, source, tmp_path) == 2
        said = error(capsys)
        assert sentence in said
        assert KEY not in said
        server.faults.clear()
        assert submit(server, source, tmp_path) == 0
        assert len(server.batches) == 1
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "intent")) == len(rows(tmp_path, "ok")) == 3


def test_a_service_that_is_away_is_one_sentence(tmp_path, images, capsys):
    with BatchServer() as server:
        assert submit(server, images(1), tmp_path) == 0
    assert collect(tmp_path) == 2
    assert re.search(r"batch batch_0: ConnectError.*run the same command again", error(capsys))


def test_a_key_that_the_service_repeats_is_written_nowhere(tmp_path, images):
    def end(requests):
        return {"status": "completed", "output": [completion(r, f"{KEY} {KEY}") for r in requests]}

    with BatchServer(end) as server:
        assert submit(server, images(2), tmp_path) == 0
        assert collect(tmp_path) == 0
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert b"[key]" in written


def test_a_batch_that_its_service_no_longer_knows_is_given_up_only_on_request(tmp_path, images, capsys):
    source = images(2)
    with BatchServer() as server:
        assert submit(server, source, tmp_path, "--price=1,1") == 0
        known = dict(server.batches)
        server.batches.clear()
        assert collect(tmp_path) == 0
        assert "does not know the batch batch_0" in capsys.readouterr().err
        assert len(openai_batch.waiting(tmp_path)) == 2
        server.batches.update(known)
        assert collect(tmp_path, "--give-up") == 0
        assert len(openai_batch.waiting(tmp_path)) == 2
        server.batches.clear()
        assert collect(tmp_path, "--give-up") == 0
        assert not openai_batch.waiting(tmp_path)
        assert len(ledger(tmp_path).unanswered) == 2  # it may have been paid
        server.batches.update(known)
        assert submit(server, source, tmp_path, "--price=1,1") == 0
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "ok")) == 2


# ------------------------------------------------------------------------------------- files by hand


def by_vllm(requests):
    """Lines as `vllm run-batch` writes them."""
    lines = []
    for request in requests:
        line = completion(request)
        line |= {"id": "vllm-1"}
        line["response"] |= {"request_id": "vllm-batch-1"}
        lines.append(line)
    return lines


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_files_are_written_and_answers_read_without_any_service(tmp_path, images, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    write = openai_batch.write
    monkeypatch.setattr(openai_batch, "write", lambda *args: write(*args, most_requests=4))
    out, source = tmp_path / "out", images(10)
    flags = [f"--source={source}", f"--out={out}", "--model=local", "--base-url=http://localhost:1/v1"]
    assert cli.main(["batch", "submit", *flags, "--files-only"]) == 0
    said = capsys.readouterr().err
    assert f"{out / 'batches' / 'part-00003.jsonl'}: 2 requests" in said
    assert "sending nothing" in said
    assert "vllm run-batch -i FILE" in said
    one, two, three = ([json.loads(line) for line in part_lines(out, n)] for n in (1, 2, 3))
    failed = {"custom_id": one[0]["custom_id"], "error": {"message": "too long", "type": "BadRequestError"}}
    failed["response"] = {"status_code": 400, "request_id": "vllm-batch-1", "body": None}
    nested = failed | {"custom_id": one[1]["custom_id"], "error": {"error": failed["error"]}}
    results = write_lines(tmp_path / "a.jsonl", [failed, nested, *by_vllm(one[2:])])
    more = write_lines(tmp_path / "b.jsonl", by_vllm(three[:1]))
    assert collect(out, f"--results={results}", f"--results={more}") == 0
    assert len(rows(out, "ok")) == 3
    assert sorted(row["error"] for row in rows(out, "failed")) == [
        "HTTP 400: too long",
        "HTTP 400: too long",
        "no answer in the results",
    ]
    assert len(openai_batch.waiting(out)) == len(two)
    assert "part-00002" in capsys.readouterr().err
    whole = (out / journal.JOURNAL).read_bytes()
    assert collect(out, f"--results={results}") == 2
    assert (out / journal.JOURNAL).read_bytes() == whole
    assert collect(out, f"--results={write_lines(more, by_vllm(two))}") == 0
    assert cli.main(["batch", "submit", *flags, "--files-only"]) == 0
    again = [json.loads(line) for n in (4,) for line in part_lines(out, n)]
    assert collect(out, f"--results={write_lines(more, by_vllm(again))}") == 0
    assert len({row["key"] for row in rows(out, "ok")}) == len(rows(out, "ok")) == 10


def test_files_that_nobody_answers_can_be_given_up(tmp_path, images):
    flags = [
        f"--source={images(2)}",
        f"--out={tmp_path}",
        "--model=local",
        "--base-url=http://localhost:1/v1",
    ]
    assert cli.main(["batch", "submit", *flags, "--files-only"]) == 0
    assert collect(tmp_path) == 0
    assert len(openai_batch.waiting(tmp_path)) == 2
    assert collect(tmp_path, "--give-up") == 0
    assert not openai_batch.waiting(tmp_path)


@pytest.mark.parametrize("text", ["", "not JSON\n", "{}\n", "requests"])
def test_a_file_that_holds_no_answers_is_refused(tmp_path, images, capsys, text):
    out = tmp_path / "out"
    flags = [f"--source={images(2)}", f"--out={out}", "--model=local", "--base-url=http://localhost:1/v1"]
    assert cli.main(["batch", "submit", *flags, "--files-only"]) == 0
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\n".join(part_lines(out)) if text == "requests" else text.encode())
    assert collect(out, f"--results={path}") == 2
    assert f"--results={path}: answers no request that waits in {out}; expected lines" in error(capsys)
    assert len(openai_batch.waiting(out)) == 2
    assert collect(out, f"--results={tmp_path / 'none'}") == 2
    assert error(capsys) == f"error: --results={tmp_path / 'none'}: not a file"


def test_a_folder_without_batches_and_a_damaged_register_are_one_sentence(tmp_path, capsys):
    assert collect(tmp_path) == 2
    assert "holds no batch" in error(capsys)
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "batches.jsonl").write_text('{"part": "part-00001"}\n')
    assert collect(tmp_path) == 2
    assert "a part's rows do not say all about it" in error(capsys)
    (tmp_path / "batches" / "batches.jsonl").write_text("[]\n")
    assert collect(tmp_path) == 2
    assert "batches.jsonl: line 1: not a row about a part" in error(capsys)


# ---------------------------------------------------------------------------------------------- kills


@pytest.fixture
def run_killed(run_module):
    """Run `annotate` in a process of its own and kill -9 it when `server` is called for `kind`."""

    def run(server, kind, command):
        process = run_module("annotation", *command, wait=False)

        def kill(called):
            if called == kind:
                server.hook = lambda kind: None
                process.send_signal(signal.SIGKILL)
                process.wait()

        server.hook = kill
        process.communicate(timeout=60)
        server.hook = lambda kind: None
        assert process.returncode == -signal.SIGKILL, "ended before it was killed"

    return run


@pytest.mark.parametrize("kind", ["upload", "after upload", "create", "after create"])
def test_killed_while_submitting(tmp_path, images, run_killed, kind):
    source = images(6)
    with BatchServer() as server:
        run_killed(server, kind, submit_command(server, source, tmp_path))
        assert submit(server, source, tmp_path) == 0
        assert len(server.batches) == 1
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "ok")) == len(rows(tmp_path, "intent")) == 6


def test_killed_while_collecting_and_again(tmp_path, images, run_killed):
    source = images(6)
    command = ["batch", "collect", f"--out={tmp_path}"]
    with BatchServer() as server:
        assert submit(server, source, tmp_path) == 0
        for kind in ("look", "content", "after content"):
            run_killed(server, kind, command)
        assert collect(tmp_path) == 0
    assert len(rows(tmp_path, "ok")) == 6


def kill_when(process, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()


def test_killed_in_the_middle_of_writing_and_of_taking_over(tmp_path, images, run_module):
    source, count = images(600), 600
    path = tmp_path / journal.JOURNAL

    def size():
        return path.stat().st_size if path.exists() else 0

    with BatchServer() as server:
        command = submit_command(server, source, tmp_path, "--price=1,1")
        kill_when(run_module("annotation", *command, wait=False), lambda: size() > 100_000)
        announced = len(rows(tmp_path, "intent"))
        assert 100 < announced < count
        assert not server.batches
        assert submit(server, source, tmp_path, "--price=1,1") == 0
        assert len(rows(tmp_path, "failed")) == announced
        assert [len(server.requests(batch)) for batch in server.batches.values()] == [count]
        whole = size()
        collecting = ["batch", "collect", f"--out={tmp_path}"]
        kill_when(run_module("annotation", *collecting, wait=False), lambda: size() > whole + 100_000)
        assert 0 < len(rows(tmp_path, "ok")) < count
        with open(path, "ab") as file:
            file.write(b'{"key": "a torn')
        assert collect(tmp_path) == 0
        whole = path.read_bytes()
        assert collect(tmp_path) == 0
        assert path.read_bytes() == whole
    accepted = rows(tmp_path, "ok")
    assert len(accepted) == len({row["key"] for row in accepted}) == count
    assert not ledger(tmp_path).unanswered


def test_a_torn_row_of_the_register_is_written_again(tmp_path, images):
    source = images(2)
    with BatchServer() as server:
        assert submit(server, source, tmp_path) == 0
        register = tmp_path / "batches" / "batches.jsonl"
        register.write_bytes(register.read_bytes()[:-5])  # the row with the batch's id
        assert openai_batch.read_parts(tmp_path)[0].batch is None
        assert submit(server, source, tmp_path) == 0
        assert openai_batch.read_parts(tmp_path)[0].batch == "batch_0"
        assert len(server.batches) == 1
