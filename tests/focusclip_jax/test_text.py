import gzip
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from focusclip_jax.data import text
from focusclip_jax.data.augment import mirror_text
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError

CAPTIONS = [
    f"A {who} is {doing}. The {side} {limb} is {state}."
    for who in ("person", "climber")
    for doing in ("running", "rock climbing", "sitting down")
    for side in ("left", "right")
    for limb in ("arm", "knee")
    for state in ("bent", "stretched out sideways")
]


@pytest.fixture(scope="module")
def trained():
    return Tokenizer.train(CAPTIONS, 400)


def test_a_trained_tokenizer_marks_start_and_end_and_pads_with_zero(trained):
    assert trained.pad_id == 0
    for ids in trained.encode(CAPTIONS, 64):
        assert ids.dtype == np.int32
        assert (ids[0], ids[-1]) == (1, 2)
        assert (ids[1:-1] > 2).all()
        assert ids.max() < trained.vocab_size <= 400


def test_case_does_not_matter_and_no_text_is_unknown(trained):
    upper, lower, strange = trained.encode(["THE LEFT arm", "the left arm", "the ☃ arm"], 64)
    np.testing.assert_array_equal(upper, lower)
    assert len(strange) > len(lower)
    assert not np.array_equal(*trained.encode(["☃", "☄"], 64))


def test_a_text_cut_short_keeps_its_end_token(trained):
    whole, cut = trained.encode(CAPTIONS[:1], 64)[0], trained.encode(CAPTIONS[:1], 6)[0]
    assert len(whole) > 6
    assert len(cut) == 6
    np.testing.assert_array_equal(cut[:5], whole[:5])
    assert cut[-1] == whole[-1]


def python(code, stdin="", **environment):
    """Standard output of a Python program that may import the project."""
    root = pathlib.Path(text.__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, check=True).stdout


def test_training_twice_gives_the_same_tokenizer_even_in_another_process_and_order(trained):
    code = (
        "import sys; from focusclip_jax.data.text import Tokenizer; "
        "print(Tokenizer.train(sys.stdin.read().split('\\n'), 400).hash)"
    )
    for threads in ("1", "4"):
        other = python(code, "\n".join(CAPTIONS[::-1]), RAYON_NUM_THREADS=threads)
        assert other.strip() == trained.hash


def test_training_without_captions_is_refused():
    with pytest.raises(UserError, match="no captions"):
        Tokenizer.train([], 400)


def test_saving_and_loading_keeps_ids_and_hash(trained, tmp_path):
    trained.encode(CAPTIONS, 7)  # the context of an earlier call must not be saved
    trained.save(tmp_path / "new" / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "new" / "tokenizer.json")
    assert (loaded.hash, loaded.vocab_size, loaded.pad_id) == (trained.hash, trained.vocab_size, 0)
    for a, b in zip(loaded.encode(CAPTIONS, 64), trained.encode(CAPTIONS, 64), strict=True):
        np.testing.assert_array_equal(a, b)
    assert os.listdir(tmp_path / "new") == ["tokenizer.json"]


def test_another_corpus_has_another_hash(trained):
    assert Tokenizer.train([*CAPTIONS, "zebra zebra zebra"], 400).hash != trained.hash


def test_a_tokenizer_json_that_pads_and_truncates_is_not_allowed_to(trained, tmp_path):
    import tokenizers

    trained.save(tmp_path / "plain.json")
    inner = tokenizers.Tokenizer.from_file(str(tmp_path / "plain.json"))
    inner.enable_padding(length=50)
    inner.enable_truncation(5)
    inner.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    np.testing.assert_array_equal(loaded.encode(CAPTIONS[:1], 64)[0], trained.encode(CAPTIONS[:1], 64)[0])
    assert loaded.hash == trained.hash


def test_clip_merges_give_the_ids_of_clip(shared_data):
    clip = Tokenizer.load(shared_data / "text" / "bpe_simple_vocab_16e6.txt.gz")
    photo, hello, cut = clip.encode(["A photo of a  cat", "hello world!", "a photo of a cat"], 7)
    np.testing.assert_array_equal(photo, [49406, 320, 1125, 539, 320, 2368, 49407])
    np.testing.assert_array_equal(hello, [49406, 3306, 1002, 256, 49407])
    np.testing.assert_array_equal(cut, photo)
    assert clip.encode(["a photo of a cat"], 4)[0].tolist() == [49406, 320, 1125, 49407]
    assert clip.vocab_size == 49408


GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "tokenizers.json").read_text())


def assert_golden(tokenizer, name):
    """Against the ids of transformers (golden/make_tokenizer_golden.py)."""
    got = tokenizer.encode(GOLDEN["texts"], GOLDEN["context"])
    for text_, ids, expected in zip(GOLDEN["texts"], got, GOLDEN[name], strict=True):
        assert ids.tolist() == expected, text_


def test_texts_of_all_kinds_get_the_ids_of_transformers(shared_data):
    assert_golden(Tokenizer.load(shared_data / "text" / "bpe_simple_vocab_16e6.txt.gz"), "clip")
    assert_golden(Tokenizer.load(shared_data / "text" / "bert-base-uncased-vocab.txt"), "bert")


def hugging_face_clip(merges_file, vocabulary):
    """CLIP's tokenizer.json as transformers 5.24 writes it: other parts than ours, the same ids."""
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {"id": 49406, "content": "<|startoftext|>", **special},
            {"id": 49407, "content": "<|endoftext|>", **special},
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": r"<\|startoftext\|>|<\|endoftext\|>|" + words},
                    "behavior": "Removed",
                    "invert": True,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": ["<|endoftext|>", 49407],
            "cls": ["<|startoftext|>", 49406],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [line.split() for line in merges_file],
        },
    }


def test_a_folder_of_hugging_face_gives_the_ids_of_clip_in_its_new_and_its_old_form(shared_data, tmp_path):
    source = shared_data / "text" / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    bytes_ = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, bytes_), *(chr(256 + n) for n in range(256 - len(bytes_)))]
    tokens = [*letters, *(a + "</w>" for a in letters), *(m.replace(" ", "") for m in merges)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    assert_golden(Tokenizer.load(tmp_path), "clip")
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer; expected tokenizer.json, or vocab.json and merges"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(hugging_face_clip(merges, vocabulary)))
    assert_golden(Tokenizer.load(tmp_path), "clip")


def test_a_vocabulary_without_clips_start_and_end_is_not_taken_for_clips(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(UserError, match=r"merges.txt: not a tokenizer .*lacks <\|startoftext\|>, <\|endof"):
        Tokenizer.load(tmp_path)


def test_a_bert_vocabulary_gives_the_ids_of_bert(shared_data):
    bert = Tokenizer.load(shared_data / "text" / "bert-base-uncased-vocab.txt")
    hello, unaffable, accents = bert.encode(["Hello world", "unaffable", "Café"], 512)
    np.testing.assert_array_equal(hello, [101, 7592, 2088, 102])
    np.testing.assert_array_equal(unaffable, [101, 14477, 20961, 3468, 102])
    np.testing.assert_array_equal(accents, [101, 7668, 102])
    assert (bert.vocab_size, bert.pad_id) == (30522, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", b"{}"), ("vocab.txt", b"just\nwords\n"), ("merges.txt.gz", b"not gzip")],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: not a tokenizer .* expected tokenizer.json"):
        Tokenizer.load(tmp_path / name)


def test_a_missing_file_is_not_looked_up_on_a_hub():
    with pytest.raises(UserError, match=r"vocab.txt: no such tokenizer file"):
        Tokenizer.load("nowhere/vocab.txt")


def test_a_hub_that_cannot_be_reached_is_one_sentence():
    code = (
        "from focusclip_jax.data.text import Tokenizer; from focusclip_jax.errors import UserError\n"
        "try: Tokenizer.load('nobody/nothing')\n"
        "except UserError as error: print(error)"
    )
    said = python(code, HF_HUB_OFFLINE="1")
    assert said.count("\n") == 1
    assert "nobody/nothing: no such folder, and the Hugging Face hub cannot be asked" in said


@pytest.fixture
def shards(pack, row):
    rows = [
        row(image_id=f"{i}.jpg", captions=tuple(CAPTIONS[(3 * i + c) % len(CAPTIONS)] for c in range(i % 3)))
        for i in range(7)
    ]
    return Shards.open(pack(rows))


def test_the_table_holds_every_caption_and_its_mirrored_wording(shards, trained):
    table = TokenTable.build(shards, trained, 64)
    assert table.counts.tolist() == [0, 1, 2, 0, 1, 2, 0]
    for i in range(len(shards)):
        for c, caption in enumerate(shards.read(i).captions):
            sequence = 2 * (table.first[i] + c)
            plain, mirrored = trained.encode([caption, mirror_text(caption)], 64)
            np.testing.assert_array_equal(table.tokens(sequence), plain)
            np.testing.assert_array_equal(table.tokens(sequence + 1), mirrored)
            assert table.lengths(np.array([sequence, sequence + 1])).tolist() == [len(plain), len(mirrored)]
            assert not np.array_equal(plain, mirrored)


def test_captions_that_reach_the_context_are_counted(shards, trained):
    assert TokenTable.build(shards, trained, 64).at_limit == 0
    short = TokenTable.build(shards, trained, 8)
    assert short.at_limit == short.counts.sum() == 6


def test_the_cache_is_used_for_the_same_shards_tokenizer_and_context_only(
    shards, trained, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    table = TokenTable.build(shards, trained, 64, cache)
    with monkeypatch.context() as patch:
        for name in ("read", "texts", "__iter__"):
            patch.setattr(Shards, name, lambda *_: pytest.fail("read a record although the ids are cached"))
        again = TokenTable.build(shards, trained, 64, cache)
    for name in ("first", "offsets", "ids"):
        np.testing.assert_array_equal(getattr(table, name), getattr(again, name))
    other = Tokenizer.train(CAPTIONS[:5], 300)
    assert TokenTable.build(shards, other, 64, cache).ids.size != table.ids.size
    assert TokenTable.build(shards, trained, 9, cache).ids.size < table.ids.size
    assert len(os.listdir(cache)) == 3


@pytest.mark.parametrize("name", ["first", "offsets", "ids", "about.json"])
@pytest.mark.parametrize("damage", ["cut off", "flipped bit", "gone"])
def test_a_damaged_cache_is_named(shards, trained, tmp_path, name, damage):
    TokenTable.build(shards, trained, 64, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    path = folder / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-5] if damage == "cut off" else data[:20] + bytes([data[20] ^ 4]) + data[21:])
    with pytest.raises(UserError, match=rf"{folder.name}: not a token cache"):
        TokenTable.build(shards, trained, 64, tmp_path / "cache")


def test_a_table_that_was_begun_and_never_finished_is_made_anew(shards, trained, tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(text, "mirror_text", stop)
        with pytest.raises(KeyboardInterrupt):
            TokenTable.build(shards, trained, 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert TokenTable.build(shards, trained, 64, tmp_path / "cache").counts.sum() == 6


def test_many_captions_are_encoded_in_order(monkeypatch, shards, trained):
    whole = TokenTable.build(shards, trained, 64)
    monkeypatch.setattr(text, "_CHUNK", 2)
    monkeypatch.setattr(text, "_PIECE", 3)
    pieces = TokenTable.build(shards, trained, 64)
    for name in ("first", "offsets", "ids", "counts"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_a_cached_table_is_mapped_and_another_process_gets_its_name(shards, trained, tmp_path):
    table, whole = (TokenTable.build(shards, trained, 64, cache) for cache in (tmp_path / "cache", None))
    assert isinstance(table.ids, np.memmap)
    sent = pickle.dumps(table)
    assert len(sent) < 500
    for copy in (pickle.loads(sent), pickle.loads(pickle.dumps(whole))):
        np.testing.assert_array_equal(copy.ids, whole.ids)
        assert (copy.context, copy.pad_id, copy.at_limit) == (64, 0, 0)


def test_of_very_many_captions_a_part_is_trained_on_that_no_order_changes(monkeypatch):
    monkeypatch.setattr(text, "MOST_TRAINED_ON", 10)
    captions = [*CAPTIONS, *(f"{c} Again." for c in CAPTIONS)]
    chosen = text._sample(captions, 10)
    assert len(chosen) == 10
    assert chosen == text._sample(captions[::-1] * 2, 10)
    assert Tokenizer.train(captions, 400).hash == Tokenizer.train(chosen, 400).hash
    assert text._sample(CAPTIONS * 2, len(CAPTIONS)) == set(CAPTIONS)
