import dataclasses
import datetime
import json

import numpy as np
import pytest

from annotation import budget, journal, models, prompts, records
from annotation.describers import openai_chat
from annotation.describers.openai_chat import Settings
from annotation.errors import UserError

GOOD = "One person is shown. The whole body forms one calm shape in which every part follows from the others."


@pytest.fixture
def record():
    joints = np.array([[100.0 + n, 200.0 - n] for n in range(16)])
    return records.ImageRecord("a.jpg", (records.person(joints),), activity="rowing")


def response(content=GOOD, finish="stop", **fields):
    return {
        "id": "chatcmpl-1",
        "model": "gpt-x-2026",
        "system_fingerprint": "fp",
        "choices": [{"message": {"content": content}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 600, "completion_tokens": 100},
    } | fields


def outcome(record, answer, **settings):
    one = Settings("gpt-x", price=(1.0, 10.0), **settings)
    return openai_chat.outcome(one, openai_chat.body(one, record), answer, record, "req")


def test_an_accepted_answer_says_who_wrote_it_and_what_it_cost(record):
    fields = outcome(record, response(f"  {GOOD}\n"))
    assert fields["status"] == "ok"
    assert fields["captions"] == [records.Description("a.jpg", GOOD, "gpt-x/paper")]
    assert fields["answer"] == {
        "model": "gpt-x",
        "returned_model": "gpt-x-2026",
        "fingerprint": "fp",
        "id": "chatcmpl-1",
        "request_id": "req",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 600, "completion_tokens": 100, "reasoning_tokens": 0},
        "cost": (600 * 1 + 100 * 10) / 1e6,
        "sent": {"temperature": 0.5, "max_tokens": 512, "frequency_penalty": 1.0},
        "prompt": prompts.digest("paper"),
    }


def test_a_rejected_answer_is_kept_with_its_reasons_and_its_cost(record):
    fields = outcome(record, response("She rows across the lake with both hands."))
    assert fields["status"] == "rejected"
    assert any("gendered" in reason for reason in fields["reasons"])
    assert fields["captions"][0].text.startswith("She rows")
    assert fields["answer"]["cost"] > 0


REASONING = {
    "prompt_tokens": 600,
    "completion_tokens": 512,
    "completion_tokens_details": {"reasoning_tokens": 512},
}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            response("", "stop"),
            "an empty answer (finish_reason stop); raise --max-tokens if this happens often",
        ),
        (response(None, "content_filter"), "an empty answer (finish_reason content_filter)"),
        (response("One", "length"), "the answer was cut off at 512 tokens; raise --max-tokens"),
        (
            response("", "length", usage=REASONING),
            "cut off at 512 tokens, 512 of them spent on reasoning; pass --reasoning-effort=none or a larger",
        ),
    ],
)
def test_an_answer_without_a_caption_is_a_paid_failure(record, answer, error):
    fields = outcome(record, answer)
    assert fields["status"] == "failed"
    assert error in fields["error"]
    assert fields["answer"]["cost"] > 0
    assert "captions" not in fields


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"choices": {}}, {"choices": [{"message": None}]}])
def test_an_answer_that_cannot_be_read_may_have_been_paid(record, answer):
    assert outcome(record, answer) == {
        "status": "unknown",
        "error": "an answer without choices[0].message",
    }


def test_tokens_that_a_server_does_not_tell_are_estimated_and_said_to_be(record):
    usage = outcome(record, response(usage=None))["answer"]["usage"]
    assert usage["estimated"] is True
    assert 300 < usage["prompt_tokens"] < 1200
    assert 15 < usage["completion_tokens"] < 40


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -600, "completion_tokens": 100},
        {"prompt_tokens": 600, "completion_tokens": -1},
        {"prompt_tokens": 1e30, "completion_tokens": 100},
        {"prompt_tokens": 10**400, "completion_tokens": 100},
        {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
        {"prompt_tokens": "600", "completion_tokens": "100"},
        {"prompt_tokens": True, "completion_tokens": 100},
        {"prompt_tokens": 600.5, "completion_tokens": 100},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 600, "completion_tokens": 0},
        {"prompt_tokens": 600},
        "many",
        [600, 100],
    ],
    ids=str,
)
def test_a_count_of_tokens_that_no_request_has_costs_the_most_that_it_may(record, usage):
    """A reservation is the least that such an answer may count: spending must not look lower than it is."""
    answer = outcome(record, response(usage=usage))["answer"]
    prompt = "".join(m["content"] for m in openai_chat.body(Settings("gpt-x"), record)["messages"])
    reserved = budget.PromptTokens().at_most(prompt)
    assert answer["usage"]["prompt_tokens"] == reserved
    assert answer["usage"]["completion_tokens"] == 512
    assert answer["cost"] == (reserved + 512 * 10) / 1e6
    assert answer["usage"]["told"] == repr(usage)[:200]
    json.dumps(answer, allow_nan=False)


def test_whole_numbers_written_with_a_point_and_odd_details_are_counts(record):
    details = {"reasoning_tokens": "some"}
    usage = {"prompt_tokens": 600.0, "completion_tokens": 100, "completion_tokens_details": details}
    assert outcome(record, response(usage=usage))["answer"]["usage"] == {
        "prompt_tokens": 600,
        "completion_tokens": 100,
        "reasoning_tokens": 0,
    }


def test_a_price_that_is_not_known_leaves_the_cost_open(record):
    one = Settings("gpt-x")
    fields = openai_chat.outcome(one, openai_chat.body(one, record), response(), record)
    assert fields["answer"]["cost"] is None


def test_everything_that_shapes_the_answer_is_part_of_the_identity_and_the_price_is_not():
    one = Settings("a")
    others = [
        dataclasses.replace(one, model="b"),
        dataclasses.replace(one, base_url="http://localhost/v1"),
        dataclasses.replace(one, sampling={"max_tokens": 9}),
        dataclasses.replace(one, wording=1),
        dataclasses.replace(one, prompt="other"),
    ]
    keys = {journal.attempt_key(settings.describer(), "input") for settings in [one, *others]}
    assert len(keys) == 6
    assert dataclasses.replace(one, price=(1.0, 1.0)).describer() == one.describer()


def test_a_refused_parameter_is_renamed_or_left_out_and_nothing_else_is(record):
    one = Settings("a")
    assert list(openai_chat.body(one.without("max_tokens"), record)) == [
        *("model", "messages", "temperature", "max_completion_tokens", "frequency_penalty"),
    ]
    bare = one.without("temperature").without("frequency_penalty").without("max_tokens")
    assert bare.sampling == {"max_completion_tokens": 512}
    assert bare.max_tokens == 512
    assert bare.without("max_completion_tokens") is None
    assert one.without("top_p") is None
    assert one.without("messages") is None
    asked = dataclasses.replace(one, sampling=one.sampling | {"reasoning_effort": "none"})
    assert asked.without("reasoning_effort") is None


# ------------------------------------------------------------------------------------- facts of models

TODAY = datetime.date(2026, 11, 24)


@pytest.mark.parametrize("model", ["gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613", "gpt-4-0613", "gpt-4.1-nano"])
def test_retired_models_are_refused_with_alternatives(model):
    with pytest.raises(
        UserError, match=rf"--model={model}: OpenAI retired it on .* pass another --model"
    ) as e:
        models.refuse_retired(model, models.OPENAI, TODAY)
    assert ("annotate import-captions" in str(e.value)) == (model != "gpt-4.1-nano")


def test_models_that_end_later_are_announced_and_refused_from_that_day():
    assert models.refuse_retired("gpt-4o", models.OPENAI, TODAY) == "2027-01-14"
    assert models.refuse_retired("gpt-6-luna", models.OPENAI, TODAY) is None
    with pytest.raises(UserError):
        models.refuse_retired("gpt-4o", models.OPENAI, datetime.date(2027, 1, 14))


def test_nothing_is_said_of_other_services():
    assert models.refuse_retired("gpt-4-0613", "http://localhost:8000/v1", TODAY) is None
    assert models.price("gpt-4.1", "http://localhost:8000/v1") is None
    assert models.price("gpt-4.1", models.OPENAI) == (2.0, 8.0)
    assert models.price("gpt-nobody-knows", models.OPENAI) is None
