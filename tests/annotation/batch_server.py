"""A real HTTP server that speaks OpenAI's files and batches on this machine, and their bad habits."""

from __future__ import annotations

import email.parser
import email.policy
import json
import random
import re
import threading
import urllib.parse
from collections import Counter, defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import llm_server


def completion(request, text=None, finish="stop", model=None):
    """A line of an output file: the caption, or `text`."""
    user = json.loads(request["body"]["messages"][1]["content"])
    message = {"role": "assistant", "content": llm_server.answer(user) if text is None else text}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model or request["body"]["model"] + "-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 700, "completion_tokens": 200, "total_tokens": 900},
    }
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": None}


def refusal(request, status=400, message="Bad request", **error):
    """A line of an error file: the service refused the request."""
    body = {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | error
    }
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": None}


def expiry(request):
    error = {"code": "batch_expired", "message": "This request could not be executed in time."}
    return {"id": "batch_req_1", "custom_id": request["custom_id"], "response": None, "error": error}


def everything(requests):
    """How a batch ends by default: every request answered, in another order."""
    lines = [completion(request) for request in requests]
    random.Random(0).shuffle(lines)
    return {"status": "completed", "output": lines}


class BatchServer:
    """Settings may be changed while it runs.

    end: requests → {"status", "output", "errors": lines as JSON values or raw bytes, further fields of the
    batch}; a batch without "status" is still in progress. Asked when a batch is looked at, until it ended.
    faults: kind of call → faults for the next of them: an HTTP status, "quota", "cut" (the connection breaks
    before anything is done), "late cut" (after it was done), "half" (of a file), "page" (not JSON).
    hook: called with the kind before and "after KIND" after it is done, still unanswered.
    Kinds: "upload", "create", "list", "look", "file", "content".
    """

    def __init__(self, end=everything):
        self.end = end
        self.faults = defaultdict(deque)
        self.hook = lambda kind: None
        self.files, self.names, self.batches = {}, {}, {}
        self.counts = Counter()
        self.heads = []

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._server.server_close()

    def requests(self, batch):
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def store(self, data, name="", kind="file"):
        id_ = f"{kind}-{len(self.files)}"
        self.files[id_], self.names[id_] = data, name
        return id_

    # ------------------------------------------------------------------------------------------ calls

    def upload(self, fields):
        return {"id": self.store(fields["file"], fields["filename"]), "object": "file"}

    def create(self, asked):
        if asked["input_file_id"] not in self.files or asked["endpoint"] != "/v1/chat/completions":
            return None
        id_ = f"batch_{len(self.batches)}"
        self.batches[id_] = {
            "id": id_,
            "object": "batch",
            "status": "in_progress",
            "created_at": 2_000_000_000 + len(self.batches),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        } | asked
        return self.batches[id_]

    def list(self, query):
        ids = list(reversed(self.batches))
        ids = ids[ids.index(query["after"][0]) + 1 :] if "after" in query else ids
        page = [self.batches[id_] for id_ in ids[:2]]  # a short page, whatever was asked
        return {"object": "list", "data": page, "has_more": len(ids) > 2}

    def look(self, id_):
        batch = self.batches.get(id_)
        if batch and batch["status"] == "in_progress":
            requests = self.requests(batch)
            ended = dict(self.end(requests))
            if "status" in ended:
                output, errors = ended.pop("output", []), ended.pop("errors", [])
                batch["output_file_id"] = self.store(_lines(output)) if output else None
                batch["error_file_id"] = self.store(_lines(errors)) if errors else None
                done = sum(isinstance(line, dict) for line in output)
                batch["request_counts"] = {"total": len(requests), "completed": done, "failed": len(errors)}
                batch.update(ended)
        return batch


def _lines(values):
    return b"".join(
        value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n" for value in values
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: BatchServer

    def log_message(self, *args):
        pass

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/files":
            self._call("upload", lambda: self.service.upload(_form(self.headers["Content-Type"], data)))
        else:
            self._call("create", lambda: self.service.create(json.loads(data)))

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/v1/batches":
            self._call("list", lambda: self.service.list(urllib.parse.parse_qs(url.query)))
        elif match := re.fullmatch("/v1/batches/(.*)", url.path):
            self._call("look", lambda: self.service.look(match[1]))
        elif match := re.fullmatch("/v1/files/(.*)/content", url.path):
            self._call("content", lambda: self.service.files.get(match[1]))
        elif match := re.fullmatch("/v1/files/(.*)", url.path):
            data = self.service.files.get(match[1])
            self._call("file", lambda: data and {"id": match[1], "bytes": len(data)})
        else:
            self._json(404, {"error": {"message": "No such page"}})

    def _call(self, kind, act):
        self.service.counts[kind] += 1
        self.service.heads.append(bytes(self.headers))
        self.service.hook(kind)
        fault = self.service.faults[kind].popleft() if self.service.faults[kind] else None
        if fault == "cut":
            return self._cut()
        if fault == "quota":
            return self._json(429, {"error": {"message": "Exceeded", "code": "insufficient_quota"}})
        if fault == "page":
            return self._write(200, b"<html>Welcome</html>", "text/html")
        if isinstance(fault, int):
            key = self.headers["Authorization"]
            return self._json(fault, {"error": {"message": f"Fault for {key}"}})
        answer = act()
        self.service.hook(f"after {kind}")
        if fault == "late cut":
            return self._cut()
        if answer is None:
            return self._json(404, {"error": {"message": "No such thing"}})
        if isinstance(answer, bytes):
            return self._write(200, answer, "application/jsonl", half=fault == "half")
        return self._json(200, answer)

    def _json(self, status, value):
        self._write(status, json.dumps(value).encode(), "application/json")

    def _write(self, status, body, type_, half=False):
        try:
            self.send_response(status)
            self.send_header("Content-Type", type_)
            self.send_header("Content-Length", str(len(body)))
            if status in (301, 302, 307, 308):
                self.send_header("Location", "http://127.0.0.1:9/v1")
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if half else body)
        except OSError:  # the client was killed
            self.close_connection = True
        if half:
            self._cut()

    def _cut(self):
        self.close_connection = True


def _form(content_type, data):
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + data
    )
    fields = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        fields[name] = part.get_payload(decode=True)
        if part.get_filename():
            fields["filename"] = part.get_filename()
    assert fields["purpose"] == b"batch"
    return fields
