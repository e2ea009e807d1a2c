"""Reading shards where they lie: in a folder, or in a bucket (gs://BUCKET/FOLDER, s3://BUCKET/FOLDER).

Both kinds of place answer the same three calls: `sizes`, `read` and `map`. Both may be shared between threads
and pickled. Credentials, region and endpoint of a bucket are what the library (obstore) finds in the
environment. They are no settings of ours, so that they can get into no config, log or message.
"""

from __future__ import annotations

import collections
import datetime
import mmap
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from focusclip_jax.errors import UserError

A = TypeVar("A")
B = TypeVar("B")

NEEDED = "obstore>=0.12.1,<0.13"  # the extra `bucket` of pyproject.toml
SCHEMES = ("gs://", "s3://")

# Requests of a process at one time. At 60 ms each, these are 2,000 a second.
AT_ONCE = 128
# Of one request, after an answer of 5xx or 429, a time-out or a broken connection: in all about a minute.
RETRY: Any = {
    "max_retries": 10,
    "backoff": {
        "init_backoff": datetime.timedelta(milliseconds=100),
        "max_backoff": datetime.timedelta(seconds=15),
        "base": 2,
    },
    "retry_timeout": datetime.timedelta(minutes=3),
}
# A mapped file keeps a descriptor open, of which a process commonly has 1,024.
MOST_MAPPED = 512


def is_bucket(path: str) -> bool:
    """Whether `path` lies in a bucket. Raises UserError for an address of any other kind."""
    if path.startswith(SCHEMES):
        return True
    if re.match(r"[a-zA-Z][\w+.-]*://", path):
        raise UserError(
            f"{path}: expected a folder on a file system, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER"
        )
    return False


def place(path: str) -> Folder | Bucket:
    """The folder or the part of a bucket that `path` names."""
    return Bucket(path) if is_bucket(path) else Folder(path)


class Folder:
    """Files of a folder, mapped when they are first read."""

    def __init__(self, path: str):
        self._path = path
        self._maps: dict[str, mmap.mmap] = {}

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by its name."""
        try:
            with os.scandir(self._path or ".") as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read ({error.strerror}); expected a folder") from None

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a file, fewer where it is shorter."""
        mapped = self._maps.get(name)
        if mapped is None:
            with open(os.path.join(self._path, name), "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[name] = mapped
            if len(self._maps) > MOST_MAPPED:  # another thread that still reads it keeps it until then
                self._maps.pop(next(iter(self._maps)), None)
        return mapped[start:end]

    def map(self, function: Callable[[A], B], items: Iterable[A], ahead: int = AT_ONCE) -> Iterator[B]:
        """Results in order. Nothing is gained by reading a mapped file ahead."""
        return map(function, items)

    def __reduce__(self):
        return Folder, (self._path,)


class Bucket:
    """Objects of a bucket directly below an address such as gs://BUCKET/FOLDER."""

    def __init__(self, url: str):
        try:
            import obstore
        except ImportError:
            raise UserError(
                f"{url}: reading from a bucket takes one package more; install it by "
                f"`{sys.executable} -m pip install '{NEEDED}'`"
            ) from None
        self._url = url.rstrip("/")
        self._library: Any = obstore
        try:
            self._store = obstore.store.from_url(self._url, retry_config=RETRY)
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise UserError(f"{url}: cannot be opened ({_first_line(error)})") from None
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def sizes(self) -> dict[str, int]:
        """Bytes of each object, by its name below the address."""
        attempt = 0
        while True:
            try:
                found = self._library.list_with_delimiter(self._store)["objects"]
                return {entry["path"]: entry["size"] for entry in found}
            except (self._library.exceptions.BaseError, OSError) as error:
                attempt += 1
                # The library tries again where a part of an object breaks off, but not where a listing does.
                if "body error" not in str(error) or attempt > RETRY["max_retries"]:
                    raise self._sentence(error, self._url) from None
            time.sleep(min(0.1 * 2**attempt, 15))

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of an object, fewer where it is shorter.

        Raises UserError naming the object where it is not there, may not be read, or `RETRY` did not help.
        """
        try:
            return bytes(self._library.get_range(self._store, name, start=start, end=end))
        except (self._library.exceptions.BaseError, OSError) as error:
            raise self._sentence(error, f"{self._url}/{name}") from None

    def map(self, function: Callable[[A], B], items: Iterable[A], ahead: int = AT_ONCE) -> Iterator[B]:
        """Results in order, `ahead` of them asked for at one time."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket")
            pool = self._pool
        waiting: collections.deque = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _sentence(self, error: Exception, where: str) -> UserError:
        said = _first_line(error)
        if isinstance(error, FileNotFoundError):
            return UserError(f"{where}: not there")
        if re.search(r"\b(401 Unauthorized|403 Forbidden)", said):
            return UserError(
                f"{where}: access is refused ({said}); credentials are taken from the environment, "
                "docs/scale.md says which"
            )
        return UserError(f"{where}: cannot be read ({said})")

    def __reduce__(self):
        return Bucket, (self._url,)


def _first_line(error: Exception) -> str:
    """What the library says without its many lines of detail, and without the answer of the service.

    In some answers the service repeats the request, the name of the key among it.
    """
    return re.split(r"\n|: <|<\?xml", str(error).strip())[0][:300]
