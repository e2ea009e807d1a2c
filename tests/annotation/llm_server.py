"""A real HTTP server that speaks OpenAI's chat completions on this machine, and all its bad habits.

    with LLMServer(latency=0.05, fault_rate=0.3) as server:
        … --base-url={server.base_url}

It keeps the bytes of what it received and counts what it charged for. As a program (`python llm_server.py
--latency=0.05`) it prints its base URL and serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import threading
import time
from collections import Counter, deque

# What the service charges for although the client may get nothing usable.
PAID_FAULTS = ("hang", "cut", "gone", "malformed", "empty", "length", "gendered")
FREE_FAULTS = ("429", "429-after", "500")
FAULTS = PAID_FAULTS + FREE_FAULTS

FILLER = (
    "The whole body forms one calm and balanced shape in which every part follows from its neighbours. "
    "What the arms do is answered by the legs, and the trunk links the two without strain. Weight and "
    "support stay close together, so the posture could be held for a while. Nothing about it suggests "
    "haste; the joints seem relaxed, and the outline is easy to read at a glance. Seen as a composition, "
    "the limbs spread from the centre like spokes, each with a clear direction and a clear end. Small "
    "differences between both sides keep it from looking stiff."
)


def answer(user: dict) -> str:
    """A caption that says nothing wrong about any pose."""
    count = user["count"]
    return f"{'One person is' if count == 1 else f'{count} people are'} shown. {FILLER}"


class LLMServer:
    """Settings may be changed while it runs.

    faults: names for the next requests, one each ("" for none); then `fault_rate` of them fail by one of
    `fault_kinds`. refuse: parameters answered with 400. requests_per_minute, tokens_per_minute: enforced
    by a bucket that holds `burst` of a minute, and told in x-ratelimit headers unless `silent`.
    """

    def __init__(self, latency=0.0, fault_rate=0.0, fault_kinds=FAULTS, seed=0, keep=True, **settings):
        self.latency, self.fault_rate, self.fault_kinds, self.keep = latency, fault_rate, fault_kinds, keep
        self.faults: deque[str] = deque()
        self.refuse: tuple[str, ...] = ()
        self.requests_per_minute = self.tokens_per_minute = None
        self.headers: dict[str, str] = {}
        self.silent = False
        self.answer = answer
        self.usage = True
        self.__dict__.update(settings)
        self.received: list[tuple[float, bytes, bytes]] = []  # time, head, body
        self.charged: dict[str, float] = {}  # X-Client-Request-Id → tokens
        self.counts: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self._random = random.Random(seed)
        self._writers = set()
        self._levels: dict[str, tuple[float, float]] = {}

    # ------------------------------------------------------------------------------- life in a thread

    def __enter__(self) -> LLMServer:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self.start())
            ready.set()
            self._loop.run_forever()

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *exc) -> None:
        async def close() -> None:
            self._server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    # ------------------------------------------------------------------------------------------- HTTP

    async def _connection(self, reader, writer) -> None:
        self._writers.add(writer)
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def vanish(self) -> None:
        """As if the network were gone: all connections break and no new one is taken. From its own thread."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _request(self, reader, writer) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        if self.keep:
            self.received.append((time.monotonic(), head, body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._reply(head, body, writer)
        finally:
            self.in_flight -= 1

    def _fault(self) -> str:
        if self.faults:
            return self.faults.popleft()
        if self._random.random() < self.fault_rate:
            return self._random.choice(self.fault_kinds)
        return ""

    async def _reply(self, head: bytes, raw: bytes, writer) -> bool:
        self.counts["requests"] += 1
        body = json.loads(raw)
        for parameter in self.refuse:
            if parameter in body:
                message = f"Unsupported parameter: '{parameter}' is not supported with this model."
                return await self._error(writer, 400, message, "unsupported_parameter", param=parameter)
        prompt = sum(len(message["content"]) for message in body["messages"]) // 3
        text = self.answer(json.loads(body["messages"][1]["content"]))
        completion = len(text) // 4
        if not self._allowed(prompt + completion):
            self.counts["above the limit"] += 1
            return await self._error(writer, 429, "Rate limit reached", "rate_limit_exceeded")
        fault = self._fault()
        self.counts[fault or "ok"] += 1
        if fault in ("429", "429-after"):
            headers = {"retry-after-ms": "20"} if fault == "429-after" else {}
            return await self._error(writer, 429, "Rate limit reached", "rate_limit_exceeded", headers)
        if fault in _ERRORS:
            key = head.lower().split(b"authorization: bearer ")[-1].split(b"\r\n")[0].decode()
            status, message, code, headers = _ERRORS[fault]
            return await self._error(writer, status, message.format(key=key), code, headers)

        await asyncio.sleep(self.latency)
        self.charged[request_id(head)] = prompt + completion
        if fault == "hang":
            await asyncio.sleep(600)
        if fault == "gone":
            return False
        if fault == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
            await writer.drain()
            return False
        if fault == "malformed":
            return await self._write(writer, 200, b'{"id": "x", "choices": [{"message"')
        content, finish = {"empty": ("", "stop"), "length": (text[:50], "length")}.get(fault, (text, "stop"))
        if fault == "gendered":
            content = f"The woman lifts her arm. {content}"
        completed = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"] + "-2026-01-01",
            "system_fingerprint": "fp_1",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
            ],
        }
        if self.usage:
            tokens = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
            completed["usage"] = tokens
        return await self._write(writer, 200, json.dumps(completed).encode(), self._limit_headers())

    def _limit_headers(self) -> dict[str, str]:
        limits = {"requests": self.requests_per_minute, "tokens": self.tokens_per_minute}
        told = {f"x-ratelimit-limit-{name}": str(n) for name, n in limits.items() if n and not self.silent}
        return {"x-request-id": "req_1"} | told | self.headers

    def _allowed(self, tokens: float) -> bool:
        """A bucket per limit that fills evenly over the minute and holds `burst` of one."""
        now = time.monotonic()
        wanted = {"requests": (self.requests_per_minute, 1), "tokens": (self.tokens_per_minute, tokens)}
        levels = {}
        for name, (limit, amount) in wanted.items():
            if limit is None:
                continue
            size = limit * 0.02 + 2 * amount
            level, since = self._levels.get(name, (size, now))
            level = min(size, level + (now - since) * limit / 60)
            if level < amount:
                return False
            levels[name] = (level - amount, now)
        self._levels.update(levels)
        return True

    async def _error(self, writer, status, message, code, headers=None, param=None) -> bool:
        error = {"message": message, "type": code, "param": param, "code": code}
        return await self._write(writer, status, json.dumps({"error": error}).encode(), headers or {})

    async def _write(self, writer, status, body, headers=None) -> bool:
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return True


_ERRORS = {
    "500": (500, "The server had an error", "server_error", {}),
    "401": (401, "Incorrect API key provided: {key}", "invalid_api_key", {}),
    "403": (403, "Not allowed for {key}", "forbidden", {}),
    "400": (400, "This request makes no sense, {key}", "invalid_request_error", {}),
    "insufficient_quota": (429, "You exceeded your current quota", "insufficient_quota", {}),
    "model_not_found": (404, "The model does not exist", "model_not_found", {}),
    "redirect": (307, "Elsewhere", "moved", {"location": "http://127.0.0.1:9/v1"}),
    "429-long": (429, "Come back tomorrow", "rate_limit_exceeded", {"retry-after": "86400"}),
}


def request_id(head: bytes) -> str:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"x-client-request-id:"):
            return line.split(b":")[1].strip().decode()
    return f"unnamed {random.random()}"


async def _main(latency: float) -> None:
    server = LLMServer(latency=latency, keep=False)
    await server.start()
    print(server.base_url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.05)
    asyncio.run(_main(parser.parse_args().latency))
