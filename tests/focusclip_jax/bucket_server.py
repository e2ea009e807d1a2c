"""A bucket on this machine: of the HTTP of S3 and Google Cloud Storage what reading takes, and faults."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import pathlib
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from xml.sax.saxutils import escape

KEY = "AKIAOFTHETESTS"
SECRET = "secret/of+the/tests"

# What a request gets instead of its answer: a status, or None for a connection that breaks off in the middle.
Fault = int | None
FINE = 200


@dataclasses.dataclass
class Bucket:
    """The files below `folder` as the objects of the bucket "photos".

    fault: from how many requests there were before for this object and end, to what happens to it.
    latency: seconds before each answer. page: most names in one answer to a listing.
    requested: (object, Range) of every request; a listing has "?" for its object.
    """

    folder: pathlib.Path
    url: str = ""
    fault: Callable[[int], Fault] = lambda n: FINE
    latency: float = 0.0
    page: int = 1000
    requested: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    authorised: set[str] = dataclasses.field(default_factory=set)
    at_once: int = 0  # most requests that were being answered at one time


@contextlib.contextmanager
def serving(folder: pathlib.Path, **settings):
    """Yields the `Bucket`; it stops when the block ends."""
    bucket = Bucket(folder, **settings)
    seen: Counter = Counter()
    lock = threading.Lock()
    running = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as by the services
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def do_GET(self):
            nonlocal running
            address = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(address.query))
            name = urllib.parse.unquote(address.path).removeprefix("/photos").strip("/")
            what = "?" if "list-type" in query else name, self.headers.get("Range", "")
            asked = what[0], what[1].rpartition("-")[2]  # what goes on where it broke off has the same end
            with lock:
                nth = seen[asked]
                seen[asked] += 1
                bucket.requested.append(what)
                bucket.authorised.add(self.headers.get("Authorization", ""))
                running += 1
                bucket.at_once = max(bucket.at_once, running)
            time.sleep(bucket.latency)
            try:
                self.answer(name, query, bucket.fault(nth))
            finally:
                with lock:
                    running -= 1

        def answer(self, name, query, fault):
            if fault != FINE and fault is not None:
                code = {403: "AccessDenied", 503: "SlowDown"}.get(fault, "InternalError")
                self.reply(fault, {}, f"<Error><Code>{code}</Code></Error>".encode())
            elif "list-type" in query:
                self.reply(200, {"Content-Type": "application/xml"}, self.listing(query), fault is None)
            elif not (bucket.folder / name).is_file():
                self.reply(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self.send_part(bucket.folder / name, fault is None)

        def send_part(self, path, broken):
            size = path.stat().st_size
            asked = self.headers.get("Range", "")
            start, end = 0, size
            if asked:
                first, last = asked.removeprefix("bytes=").split("-")
                start, end = int(first), min(int(last or size) + 1, size)
            headers = {"ETag": '"1"', "Last-Modified": "Fri, 27 Nov 2026 00:00:00 GMT"}
            if asked:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            with open(path, "rb") as file:
                file.seek(start)
                self.reply(206 if asked else 200, headers, file.read(end - start), broken)

        def listing(self, query):
            prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
            names = sorted(
                path.relative_to(bucket.folder).as_posix()
                for path in bucket.folder.rglob("*")
                if path.is_file()
            )
            names = [name for name in names if name.startswith(prefix) and name > after]
            if query.get("delimiter"):
                names = [name for name in names if "/" not in name[len(prefix) :]]
            shown, more = names[: bucket.page], len(names) > bucket.page
            rows = "".join(
                f"<Contents><Key>{escape(name)}</Key><Size>{(bucket.folder / name).stat().st_size}</Size>"
                '<ETag>"1"</ETag><LastModified>2026-11-27T00:00:00.000Z</LastModified></Contents>'
                for name in shown
            )
            token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
            head = f"<Name>photos</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
            return f"<ListBucketResult>{head}{rows}{token}</ListBucketResult>".encode()

        def reply(self, status, headers, body, broken=False):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if broken else body)
            self.wfile.flush()
            if broken:
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    bucket.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def s3_environment(bucket: Bucket) -> dict[str, str]:
    """The variables by which a user names credentials and a service that speaks S3."""
    return {
        "AWS_ENDPOINT_URL": bucket.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def gcs_environment(bucket: Bucket, folder: pathlib.Path) -> dict[str, str]:
    """The same for Google Cloud Storage: an emulator is named in the key file of a service account."""
    path = folder / "service_account.json"
    key = {"gcs_base_url": bucket.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    path.write_text(json.dumps({**key, "private_key_id": ""}))
    return {"GOOGLE_SERVICE_ACCOUNT": str(path)}
