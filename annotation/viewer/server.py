"""The viewer's pages over HTTP, to this machine's browser alone unless the user says otherwise.

Nothing that a browser asks for names a file: addresses hold the numbers of images. Only GET is answered, and
only under a name that this server has, because a page elsewhere may have its own name point here (DNS
rebinding) and then read what it likes.
"""

from __future__ import annotations

import dataclasses
import http.server
import ipaddress
import re
import socket
import sys
import urllib.parse
from http import HTTPStatus

from annotation.errors import UserError
from annotation.viewer import drawing, photos, views
from annotation.viewer.catalogue import Catalogue, Filters
from pages.document import Document

MAX_TEXT = 200  # characters of one filter
_NUMBER = re.compile(r"[0-9]{1,9}")


class Server(http.server.ThreadingHTTPServer):
    """A server that holds its port from the start, and serves once it has a `viewer`."""

    daemon_threads = True
    viewer: Viewer

    def __init__(self, host: str, port: int):
        """port 0 takes a free one. Raises UserError where the address cannot be had."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.names = frozenset({"localhost", host.lower()})
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UserError(
                f"cannot serve at {host}, port {port} ({error}); choose others with --host and --port"
            ) from None

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # a browser that went away
            super().handle_error(request, client_address)


class Viewer:
    """The answer to each address, whoever asks."""

    def __init__(self, source, catalogue: Catalogue):
        self._source = source
        self._catalogue = catalogue

    def index(self, filters: Filters, page: int) -> Document:
        found = self._catalogue.find(filters)
        numbers = found[page * views.PER_PAGE :][: views.PER_PAGE]
        images = [views.shown(self._source, number) for number in numbers]
        checked, count = self._catalogue.checked(), self._catalogue.count
        return views.list_page(
            self._source.name,
            list(zip(images, self._catalogue.objected(numbers), strict=True)),
            len(found),
            page,
            _links(filters),
            views.filter_form(filters, self._catalogue.choices),
            f"the validators have seen {checked:,} of {count:,} images" if checked < count else "",
        )

    def record(self, filters: Filters, number: int) -> Document:
        before, after = self._catalogue.neighbours(filters, number)
        return views.record_page(
            views.shown(self._source, number), _links(filters), before, after, "/" + _query(filters)
        )

    def photo(self, number: int, longest: int) -> bytes:
        return photos.jpeg(self._source.photo(self._source.read(number)), longest)

    def heatmap(self, number: int) -> bytes:
        return drawing.heatmap_png(views.shown(self._source, number).record, views.HEATMAP)

    def __len__(self) -> int:
        return self._catalogue.count


def _links(filters: Filters) -> views.Links:
    return views.Links(
        index=lambda page: "/" + _query(filters, page=page + 1),
        record=lambda number: f"/record/{number}{_query(filters)}",
        thumb=lambda number: f"/thumb/{number}",
        photo=lambda number: f"/photo/{number}",
        heatmap=lambda number: f"/heatmap/{number}",
    )


def _query(filters: Filters, **more: int) -> str:
    """The filters that are set, as the end of an address."""
    values = {name: value for name, value in dataclasses.asdict(filters).items() if value} | more
    return "?" + urllib.parse.urlencode(values, errors="replace") if values else ""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "annotate-view", ""
    timeout = 60  # seconds that a silent connection may hold a thread

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        keep, self.close_connection = self.close_connection, True  # whatever else was sent is not read
        if self.command != "GET":
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is answered here.")
        elif not self._known_host(self.headers.get("Host", "")):
            self._say(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This server is not known under that name. Open it as localhost or by its address; "
                "for another name start it with --host=NAME.",
            )
        else:
            self.close_connection = keep
            return True
        return False

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query, errors="replace"))
        filters = Filters(**{f.name: query.get(f.name, "")[:MAX_TEXT] for f in dataclasses.fields(Filters)})
        kind, _, rest = address.path.lstrip("/").partition("/")
        number = int(rest) if _NUMBER.fullmatch(rest) else None
        try:
            if address.path == "/":
                page = query.get("page", "1")
                self._send_page(
                    HTTPStatus.OK,
                    self.server.viewer.index(
                        filters, max(1, int(page)) - 1 if _NUMBER.fullmatch(page) else 0
                    ),
                )
            elif number is None or number >= len(self.server.viewer):
                self._say(HTTPStatus.NOT_FOUND, "There is no such page.")
            elif kind == "record":
                self._send_page(HTTPStatus.OK, self.server.viewer.record(filters, number))
            elif kind in ("thumb", "photo"):
                longest = views.THUMB if kind == "thumb" else views.LARGE
                self._send(HTTPStatus.OK, "image/jpeg", self.server.viewer.photo(number, longest))
            elif kind == "heatmap":
                self._send(HTTPStatus.OK, "image/png", self.server.viewer.heatmap(number))
            else:
                self._say(HTTPStatus.NOT_FOUND, "There is no such page.")
        except photos.NoPhoto as error:
            self._say(HTTPStatus.NOT_FOUND, str(error))
        except (UserError, FileNotFoundError) as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _known_host(self, host: str) -> bool:
        """An address in numbers cannot be rebound; of names only ours count. The port may be a tunnel's."""
        name = re.sub(r":\d*$", "", host.strip().lower())
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name in self.server.names
        return True

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        self._send_page(status, views.message_page(status.phrase, sentence))

    def _send_page(self, status: HTTPStatus, page: Document) -> None:
        policy = f"{page.policy}; frame-ancestors 'none'"
        self._send(
            status, "text/html; charset=utf-8", page.html.encode(), {"Content-Security-Policy": policy}
        )

    def _send(
        self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": "default-src 'none'",
            "Cache-Control": "no-store",  # the same address shows another image after a restart
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if self.close_connection:
            fixed["Connection"] = "close"
        for name, value in (fixed | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not news."""
