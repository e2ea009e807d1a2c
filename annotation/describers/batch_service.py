"""OpenAI's files and batches: upload, create, look, download. Whatever fails is one sentence."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import openai

from annotation import files, models
from annotation.describers import openai_batch, openai_run
from annotation.describers.openai_batch import Part
from annotation.errors import UserError

# What a batch ends as; its files are complete then.
ENDED = ("completed", "failed", "expired", "cancelled")

# Seconds before the second, third and fourth try.
PAUSES = (1.0, 2.0, 4.0)

_T = TypeVar("_T")


class Unreachable(UserError):
    """The service is busy or away; later it may answer."""


class Gone(UserError):
    """The service does not know what was asked for."""


class Service:
    """One service and the key for it. Every method raises UserError where it does not do as asked."""

    def __init__(self, base_url: str):
        self.host = models.host(base_url)
        self._key = openai_run.key(base_url)
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=base_url,
            max_retries=0,  # a batch must not be made twice; `_again` repeats what may be repeated
            timeout=httpx2.Timeout(600.0, connect=10.0),
            # The host that was named gets the joints, no other.
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def upload(self, path: Path) -> str:
        """Returns the file's id."""

        def send() -> Any:
            with open(path, "rb") as file:
                named = (path.name, file, "application/jsonl")
                return self._client.files.with_raw_response.create(file=named, purpose="batch")

        return self._id(self._again("upload of a file", send), "upload of a file")

    def create(self, part: Part, file: str, look_first: bool) -> str:
        """Make the batch of a part whose uploaded file has the id `file`, and return its own id.

        Where it may exist already, it is looked for.
        """
        what = "creation of a batch"
        look = look_first

        def make() -> str:
            nonlocal look
            if look and (found := self._find(part)):
                return found
            look = True  # whatever went wrong, the service may have made it
            with self._sentences(what):
                made = self._client.batches.with_raw_response.create(
                    input_file_id=file,
                    endpoint=openai_batch.ENDPOINT,
                    completion_window="24h",
                    metadata={"part": part.name, "sha256": part.sha256},
                )
            return self._id(self._object(made, what), what)

        return self._trying(make)

    def look(self, batch: str) -> dict[str, Any]:
        """What the service says of a batch: status, output_file_id, error_file_id, request_counts, errors."""
        what = f"batch {batch}"
        return self._again(what, lambda: self._client.batches.with_raw_response.retrieve(batch))

    def download(self, file: str, path: Path) -> None:
        """Write a file's lines to `path`, unless they are there. It is complete or absent."""
        if path.exists():
            return
        what = f"file {file}"
        size = self._again(what, lambda: self._client.files.with_raw_response.retrieve(file)).get("bytes")

        def fetch() -> None:
            with self._sentences(what), tempfile.TemporaryFile(dir=path.parent) as whole:
                with self._client.files.with_streaming_response.content(file) as answer:
                    for chunk in answer.iter_bytes():
                        whole.write(chunk)
                if isinstance(size, int) and size != whole.tell():
                    raise Unreachable(f"{self.host}: {what}: {whole.tell()} of {size} bytes came")
                whole.seek(0)
                with files.replacing(path) as kept:
                    for line in whole:
                        kept.write(self._without_key(line.decode(errors="replace")))

        self._trying(fetch)

    def _find(self, part: Part) -> str | None:
        """The id of the part's batch, if the service has one. A batch is not older than its part."""
        oldest = datetime.datetime.fromisoformat(part.created).timestamp() - 24 * 3600  # clocks differ
        after: str | openai.Omit = openai.omit
        while True:
            what = "list of batches"
            listing = functools.partial(self._client.batches.with_raw_response.list, limit=100, after=after)
            page = self._again(what, listing)
            data = page.get("data")
            batches = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
            for batch in batches:
                metadata = batch.get("metadata")
                named = isinstance(metadata, dict) and metadata.get("sha256") == part.sha256
                if named or batch.get("input_file_id") == part.file:
                    return self._id(batch, what)
            if not batches or not page.get("has_more"):
                return None
            made = batches[-1].get("created_at")
            if isinstance(made, int) and made < oldest:
                return None
            after = self._id(batches[-1], what)

    def _again(self, what: str, ask: Callable[[], Any]) -> dict[str, Any]:
        """The JSON that `ask` gets; for what may be repeated without harm."""

        def act() -> dict[str, Any]:
            with self._sentences(what):
                answer = ask()
            return self._object(answer, what)

        return self._trying(act)

    def _trying(self, act: Callable[[], _T]) -> _T:
        for pause in PAUSES:
            try:
                return act()
            except Unreachable:
                time.sleep(pause)
        return act()

    def _object(self, answer: Any, what: str) -> dict[str, Any]:
        try:
            found = json.loads(self._without_key(answer.text))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.host}: {what}: the answer is not a JSON object; is --base-url right?")
        return found

    def _id(self, found: dict[str, Any], what: str) -> str:
        if not isinstance(found.get("id"), str) or not found["id"]:
            raise UserError(f"{self.host}: {what}: the answer has no id")
        return found["id"]

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) >= openai_run.SHORTEST_SECRET else text

    @contextlib.contextmanager
    def _sentences(self, what: str) -> Iterator[None]:
        """What the client raises, as a sentence without the key."""
        try:
            yield
        except openai.APIStatusError as error:
            status = error.status_code
            message = self._without_key(openai_run.said_by(error))
            if status == 401:
                raise UserError(
                    f"{self.host} refuses the key in OPENAI_API_KEY; export a valid one and run again"
                ) from None
            if "insufficient_quota" in (error.code, error.type):
                raise UserError(
                    f"{self.host}: the account's quota is used up; add credit or raise its limit with the "
                    "service, then run the same command again"
                ) from None
            if status == 404:
                raise Gone(f"{self.host} does not know the {what} ({message})") from None
            later = status in (408, 409, 429) or status >= 500
            sentence = f"{self.host}: {what}: HTTP {status}: {message}"
            if later:
                raise Unreachable(f"{sentence}; run the same command again to go on") from None
            raise UserError(sentence) from None
        except (openai.APIConnectionError, httpx2.TransportError) as error:
            cause = error.__cause__ or error
            said = self._without_key(f"{type(cause).__name__}: {cause}".rstrip(": "))
            raise Unreachable(f"{self.host}: {what}: {said}; run the same command again to go on") from None
