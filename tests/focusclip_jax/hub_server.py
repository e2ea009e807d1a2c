"""A small Hugging Face hub on this machine: enough of its HTTP for one repository, and a log of requests."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import json
import pathlib
import threading

from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@dataclasses.dataclass
class Hub:
    """files: of the repository "owner/clip" at COMMIT, its newest, and at the tag v1 and pull request 3.

    requested: (method, path) of every request. url: where it listens.
    """

    files: dict[str, bytes]
    url: str = ""
    requested: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def downloads(self) -> list[str]:
        return [
            path.rsplit("/", 1)[1] for method, path in self.requested if method == "GET" and "/cdn/" in path
        ]


@contextlib.contextmanager
def serving(files: dict[str, bytes]):
    """Yields the `Hub`; it stops when the block ends."""
    hub = Hub(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(send=False)

        def do_GET(self):
            self.answer(send=True)

        def answer(self, send):
            path = self.path.split("?")[0]
            hub.requested.append((self.command, path))
            match path.strip("/").replace("%2F", "/").split("/"):
                case ["api", "models", "owner", "gated", *_]:
                    self.reply(403, {"X-Error-Code": "GatedRepo"}, b"", send)
                case ["api", "models", "owner", "broken", *_]:
                    self.reply(500, {}, b"", send)
                case ["api", "models", "owner", "clip"]:
                    self.describe(send)
                case ["api", "models", "owner", "clip", "revision", *revision]:
                    if "/".join(revision) in (COMMIT, "main", "v1", "refs/pr/3"):
                        self.describe(send)
                    else:
                        self.reply(404, {"X-Error-Code": "RevisionNotFound"}, b"", send)
                case ["owner", "clip", "resolve", revision, name] if revision == COMMIT and name in files:
                    # The true one sends large files from another host, with the address signed.
                    there = hub.url.replace("127.0.0.1", "localhost")
                    headers = {
                        "Location": f"{there}/cdn/{name}",
                        "X-Repo-Commit": COMMIT,
                        "X-Linked-ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"',
                        "X-Linked-Size": str(len(files[name])),
                    }
                    self.reply(302, headers, b"", send)
                case ["cdn", name] if name in files:
                    headers = {"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"'}
                    self.reply(200, headers, files[name], send)
                case _:
                    self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"", send)

        def describe(self, send):
            siblings = [{"rfilename": name} for name in files]
            body = json.dumps({"id": "owner/clip", "sha": COMMIT, "siblings": siblings}).encode()
            self.reply(200, {"Content-Type": "application/json"}, body, send)

        def reply(self, status, headers, body, send):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if send:
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listen_to(url: str, monkeypatch, cache: pathlib.Path) -> None:
    """What the environment variables HF_ENDPOINT and HF_HUB_CACHE do before the library is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
