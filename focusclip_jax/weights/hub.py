"""The files of a published model: of a folder here, or of a Hugging Face repository at one commit."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterator

import huggingface_hub
from huggingface_hub import constants

from focusclip_jax.errors import UserError

# Whatever else a repository holds, pickles above all, stays there.
READABLE = (".safetensors", ".json", ".txt")
TIMEOUT = 10  # seconds for the first question; left alone, the library tries for half a minute
_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@(\S+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class Files:
    """Files that are here once their path is asked for.

    source: the folder, or the repository "owner/name". commit: of the repository, in full.
    folder: where the files lie; None where each is still to be downloaded.
    """

    source: str
    commit: str | None
    names: frozenset[str]
    folder: pathlib.Path | None

    def __str__(self) -> str:
        return f"{self.source}@{self.commit}" if self.commit else self.source

    def path(self, name: str) -> pathlib.Path:
        """The file on this machine; one of the hub is downloaded once, into the hub's cache.

        Raises UserError where there is no such file, or it is of a kind that is never read.
        """
        if not name.endswith(READABLE):
            raise UserError(f"{self}: {name} is never read, only {', '.join(READABLE)} files are")
        if name not in self.names:
            raise UserError(f"{self}: it has no file {name}")
        if self.folder is not None:
            return self.folder / name
        with _one_sentence(self.source, self.commit):
            api = huggingface_hub.HfApi()
            return pathlib.Path(api.hf_hub_download(self.source, name, revision=self.commit))


def open_files(source: str) -> Files:
    """The files at a folder, or at an id "owner/name@revision" of the hub.

    revision: a commit, tag or branch; without one, the newest commit. Whichever it is, everything comes from
    the commit that it names now. Without a network, a full commit finds what was downloaded before.
    Raises UserError, soon, where there is neither such a folder nor such a repository that can be read.
    """
    folder = pathlib.Path(source)
    if folder.is_dir():
        return Files(source, None, _names(folder), folder)
    match = _ID.fullmatch(source)
    if match is None:
        raise UserError(f"{source}: no such folder, and no id owner/name@revision of the Hugging Face hub")
    repository, revision = match.groups()
    try:
        with _one_sentence(repository, revision):
            info = huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=TIMEOUT)
    except UserError:
        cached = revision and _COMMIT.fullmatch(revision) and _cached(repository, revision)
        if not cached:
            raise
        print(f"{repository}: the hub cannot be asked; what was downloaded of this commit before is used")
        return Files(repository, revision, _names(cached), cached)
    return Files(repository, info.sha, frozenset(file.rfilename for file in info.siblings or ()), None)


def _names(folder: pathlib.Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir() if path.is_file())


def _cached(repository: str, commit: str) -> pathlib.Path | None:
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=repository, repo_type="model")
    folder = pathlib.Path(constants.HF_HUB_CACHE, name, "snapshots", commit)
    return folder if folder.is_dir() else None


@contextlib.contextmanager
def _one_sentence(repository: str, revision: str | None) -> Iterator[None]:
    """What the library says on several lines, as a UserError."""
    from huggingface_hub import errors  # a third of a second that only a download should cost

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{repository}: its authors ask for consent: give it on {constants.ENDPOINT}/{repository}, then "
            "log in with .venv/bin/hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repository}: it has no commit, tag or branch {revision}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{repository}: no such folder, and the Hugging Face hub has no public repository of this name"
        ) from None
    except Exception as error:  # httpx, OSError and more, by version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{repository}: no such folder, and the Hugging Face hub cannot be asked ({reason})"
        ) from None
