import socket
import time

import pytest
from hub_server import COMMIT, OTHER_COMMIT, listen_to, serving

from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.weights import hub as hubs
from focusclip_jax.weights.hub import open_files

FILES = {
    "config.json": b"{}",
    "vocab.txt": b"a\nb\n",
    "model.safetensors": bytes(range(256)) * 4096,
    "pytorch_model.bin": b"a pickle",
    "model.onnx": b"another format",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in is where the library looks, and its cache is a new folder."""
    with serving(dict(FILES)) as hub:
        listen_to(hub.url, monkeypatch, tmp_path / "cache")
        yield hub


def test_a_folder_is_read_where_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    files = open_files(str(tmp_path))
    assert (files.commit, files.names) == (None, {"config.json", "pytorch_model.bin"})
    assert files.path("config.json") == tmp_path / "config.json"


@pytest.mark.parametrize("revision", ["", "@main", "@v1", "@refs/pr/3", f"@{COMMIT}"])
def test_every_revision_is_resolved_to_one_commit(hub, revision):
    files = open_files(f"owner/clip{revision}")
    assert (files.source, files.commit, str(files)) == ("owner/clip", COMMIT, f"owner/clip@{COMMIT}")
    assert files.path("model.safetensors").read_bytes() == FILES["model.safetensors"]
    resolved = [path for _, path in hub.requested if "/resolve/" in path]
    assert resolved
    assert all(COMMIT in path for path in resolved)


def test_only_what_is_asked_for_is_downloaded_and_only_once(hub):
    files = open_files("owner/clip")
    for _ in range(2):
        assert files.path("config.json").read_bytes() == b"{}"
    assert open_files("owner/clip").path("config.json").read_bytes() == b"{}"
    assert hub.downloads() == ["config.json"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.onnx"])
def test_pickles_and_other_formats_are_never_downloaded(hub, name):
    with pytest.raises(UserError, match=rf"{name} is never read, only .safetensors, .json, .txt files"):
        open_files("owner/clip").path(name)
    assert hub.downloads() == []


def test_a_file_that_is_not_there_is_named(hub):
    with pytest.raises(UserError, match=rf"owner/clip@{COMMIT}: it has no file tokenizer.json"):
        open_files("owner/clip").path("tokenizer.json")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("owner/clip@v2", r"owner/clip: it has no commit, tag or branch v2$"),
        ("owner/none", r"owner/none: no such folder, and the Hugging Face hub has no public repository"),
        ("owner/gated", r"owner/gated: its authors ask for consent: give it on .*/owner/gated, then log in"),
        ("owner/broken", r"owner/broken: .* cannot be asked \(.*500"),
        ("weights", r"weights: no such folder, and no id owner/name@revision"),
        ("a/b/c", r"a/b/c: no such folder, and no id owner/name@revision"),
        ("https://huggingface.co/owner/clip", r"no such folder, and no id owner/name@revision"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(hub, source, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        open_files(source)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_answer_comes_at_once_and_a_known_commit_is_found(
    hub, tmp_path, monkeypatch, capsys
):
    files = open_files("owner/clip@v1")
    for name in ("config.json", "model.safetensors"):
        files.path(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen_to(f"http://127.0.0.1:{free.getsockname()[1]}", monkeypatch, tmp_path / "cache")
    start = time.monotonic()
    for source in ("owner/clip", "owner/clip@v1", f"owner/clip@{OTHER_COMMIT}"):
        with pytest.raises(UserError, match=r"owner/clip: .* cannot be asked \("):
            open_files(source)
    offline = open_files(f"owner/clip@{COMMIT}")
    assert time.monotonic() - start < 5
    assert (
        "owner/clip: the hub cannot be asked; what was downloaded of this commit" in capsys.readouterr().out
    )
    assert (offline.commit, offline.names) == (COMMIT, {"config.json", "model.safetensors"})
    assert offline.path("model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_hub_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(hubs, "TIMEOUT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        listen_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch, tmp_path / "cache")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"owner/clip: .* cannot be asked \(.*timed out"):
            open_files("owner/clip")
        assert time.monotonic() - start < 5


def test_a_tokenizer_comes_from_a_pinned_commit(hub):
    hub.files["tokenizer.json"] = Tokenizer.train(["a person is running"], 300).to_json().encode()
    hub.files["vocab.json"] = b"{}"
    loaded = Tokenizer.load("owner/clip@v1")
    assert loaded.hash == Tokenizer.train(["a person is running"], 300).hash
    assert hub.downloads() == ["tokenizer.json"]
