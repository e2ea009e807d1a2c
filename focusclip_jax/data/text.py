"""Tokenizers: trained on the captions, or a published vocabulary; and every caption's ids, ready to batch."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tokenizers
import tqdm
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from focusclip_jax.data.augment import mirror_text
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError
from focusclip_jax.files import replacing, write_text
from focusclip_jax.weights.hub import Files, open_files

PAD, START, END = "<pad>", "<start>", "<end>"
PAD_NAMES = (PAD, "[PAD]", "<|pad|>")  # how published tokenizers spell it


class Tokenizer:
    """Text to ids, with a start and an end token where the vocabulary has them."""

    def __init__(self, inner: tokenizers.Tokenizer):
        # A published tokenizer.json may ask for padding and truncation of its own.
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int) -> Tokenizer:
        """Byte-level BPE over lower-cased captions: no text is ever unknown. Deterministic.

        Ids 0, 1, 2 are `PAD`, `START`, `END`. A small corpus may yield fewer than vocab_size entries.
        """
        captions = sorted(set(captions))
        if not captions:
            raise UserError("cannot train a tokenizer: the shards hold no captions")
        inner = tokenizers.Tokenizer(models.BPE())
        inner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, START, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(captions, trainer)
        inner.post_processor = between(inner, START, END)
        return cls(inner)

    @classmethod
    def load(cls, source: str | os.PathLike) -> Tokenizer:
        """A published tokenizer.

        source: `tokenizer.json`; BERT's `vocab.txt` (WordPiece, lower-cased); OpenAI CLIP's
        `bpe_simple_vocab_16e6.txt.gz`; or a folder or hub id `owner/name@revision` with `tokenizer.json`, or
        with CLIP's `vocab.json` and `merges.txt`. CLIP's ids are those of Hugging Face's tokenizer in all
        three forms: HTML entities in a text are not decoded.
        Raises UserError where there is none of these.
        """
        path = pathlib.Path(source)
        name = os.fspath(source)
        if path.is_file():
            return cls._read(path)
        if names_a_file(name) and not path.is_dir():
            raise UserError(f"{name}: no such tokenizer file")
        return cls.of(open_files(name))

    @classmethod
    def of(cls, files: Files) -> Tokenizer:
        """The tokenizer among the files of a published model."""
        if "tokenizer.json" in files.names:
            return cls._read(files.path("tokenizer.json"))
        if {"vocab.json", "merges.txt"} <= files.names:
            return cls._read(files.path("merges.txt"), files.path("vocab.json"))
        raise UserError(f"{files}: no tokenizer; expected tokenizer.json, or vocab.json and merges.txt")

    @classmethod
    def _read(cls, path: pathlib.Path, vocabulary: pathlib.Path | None = None) -> Tokenizer:
        """vocabulary: the ids, where `path` holds only the merges."""
        try:
            if vocabulary is not None:
                ids = json.loads(vocabulary.read_text(encoding="utf-8"))
                return cls(_clip(_merges(path.read_text(encoding="utf-8")), ids))
            if path.suffix == ".json":
                return cls(tokenizers.Tokenizer.from_file(os.fspath(path)))
            if path.suffix == ".gz":
                return cls(_openai_clip(gzip.decompress(path.read_bytes()).decode()))
            return cls(_bert(path.read_text(encoding="utf-8")))
        except Exception as error:  # `tokenizers` raises bare Exception
            raise UserError(
                f"{path}: not a tokenizer ({error}); expected tokenizer.json, BERT's vocab.txt "
                "or CLIP's bpe_simple_vocab_16e6.txt.gz or vocab.json and merges.txt"
            ) from None

    def save(self, path: str | os.PathLike) -> None:
        """Write `tokenizer.json`, which `load` and other libraries read."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return self._inner.to_str()

    def encode(self, texts: Sequence[str], context: int) -> list[np.ndarray]:
        """Ids int32 (length,) of each text, at most `context` long; a text cut short keeps its end token."""
        self._inner.enable_truncation(context)
        encoded = self._inner.encode_batch_fast(list(texts))
        self._inner.no_truncation()
        return [np.array(e.ids, np.int32) for e in encoded]

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding table needs."""
        return max(self._inner.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def pad_id(self) -> int:
        """The padding token's id; 0 where the vocabulary has none, as in OpenAI's CLIP (lengths mask it)."""
        ids = (self._inner.token_to_id(name) for name in PAD_NAMES)
        return next((i for i in ids if i is not None), 0)

    @property
    def end_id(self) -> int | None:
        """The id that ends every text; None where texts end as they are."""
        ids = self._inner.encode("").ids
        return ids[-1] if ids else None

    @property
    def hash(self) -> str:
        """Hex digest of all that decides the ids."""
        content = json.dumps(json.loads(self.to_json()), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def names_a_file(source: str) -> bool:
    """Whether `Tokenizer.load` takes this for a file, there or not, rather than for a hub id."""
    return source.startswith((".", "/", "~")) or source.endswith((".json", ".txt", ".gz"))


def between(inner: tokenizers.Tokenizer, start: str, end: str) -> processors.TemplateProcessing:
    """Puts every text between two of the tokenizer's tokens."""
    special = [(name, inner.token_to_id(name)) for name in (start, end)]
    return processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=special)


def _bert(vocabulary: str) -> tokenizers.Tokenizer:
    ids = {token: i for i, token in enumerate(vocabulary.rstrip("\n").split("\n"))}
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if token not in ids]
    if missing:
        raise ValueError(f"its lines lack {', '.join(missing)}")
    inner = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens([t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in ids])
    inner.post_processor = between(inner, "[CLS]", "[SEP]")
    return inner


CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
_CLIP_MERGES = 49152 - 256 - 2  # the file holds more than CLIP uses
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _openai_clip(merges_file: str) -> tokenizers.Tokenizer:
    merges = _merges(merges_file)[:_CLIP_MERGES]
    if len(merges) != _CLIP_MERGES:
        raise ValueError(f"expected {_CLIP_MERGES} merges")
    letters = _clip_alphabet()
    tokens = [*letters, *(c + "</w>" for c in letters), *map("".join, merges), CLIP_START, CLIP_END]
    return _clip(merges, {token: i for i, token in enumerate(tokens)})


def _merges(file: str) -> list[tuple[str, str]]:
    lines = file.split("\n")[1:]  # the first line is a version
    merges = [line.split() for line in lines if line]
    if any(len(pair) != 2 for pair in merges):
        raise ValueError("expected merges of two parts each")
    return [(first, second) for first, second in merges]


def _clip(merges: list[tuple[str, str]], ids: dict[str, int]) -> tokenizers.Tokenizer:
    missing = [token for token in (CLIP_START, CLIP_END) if token not in ids]
    if missing:
        raise ValueError(f"its vocabulary lacks {', '.join(missing)}")
    inner = tokenizers.Tokenizer(models.BPE(ids, merges, end_of_word_suffix="</w>", unk_token=CLIP_END))
    inner.normalizer = clip_normalizer()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.add_special_tokens([CLIP_START, CLIP_END])
    inner.post_processor = between(inner, CLIP_START, CLIP_END)
    return inner


def clip_normalizer() -> normalizers.Normalizer:
    one_space = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    return normalizers.Sequence([normalizers.NFC(), one_space, normalizers.Lowercase()])


def _clip_alphabet() -> list[str]:
    """One printable character per byte, in the order of CLIP's ids: printable bytes first, as themselves."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(printable)
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(others)]


@dataclasses.dataclass(frozen=True, eq=False)
class TokenTable:
    """The ids of every caption and of its mirrored wording: lengths are known without reading records.

    They are made once at start-up rather than packed into the shards: a tokenizer trained on the
    captions does not exist when the shards are written.

    first: int64 (N + 1,); record i owns captions first[i] to first[i + 1].
    offsets: int64 (2K + 1,) into ids; sequence 2k is caption k, sequence 2k + 1 the same mirrored.
    ids: int32, all sequences one after the other. context: the longest length allowed.
    """

    first: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    context: int
    pad_id: int

    @classmethod
    def build(
        cls, shards: Shards, tokenizer: Tokenizer, context: int, cache_dir: str | os.PathLike | None = None
    ) -> TokenTable:
        """Tokenise every caption of `shards`, or take what an earlier call left in `cache_dir`."""
        path = cache_dir and pathlib.Path(cache_dir) / _cache_name(shards, tokenizer, context)
        if path and path.exists():
            return cls(**_load(path), context=context, pad_id=tokenizer.pad_id)
        texts, counts = [], []
        for i in _progress(range(len(shards)), "reading captions"):
            captions = shards.read(i).captions
            counts.append(len(captions))
            for caption in captions:
                texts += [caption, mirror_text(caption)]
        arrays = {"first": _starts(counts), **_encode_all(texts, tokenizer, context)}
        if path:
            _save(path, arrays)
        return cls(**arrays, context=context, pad_id=tokenizer.pad_id)

    @property
    def counts(self) -> np.ndarray:
        """Captions of each record, int64 (N,)."""
        return np.diff(self.first)

    @property
    def at_limit(self) -> int:
        """How many captions are `context` ids long, so that their ends may have been cut off."""
        return int((self.lengths(np.arange(0, len(self.offsets) - 1, 2)) == self.context).sum())

    def lengths(self, sequences: np.ndarray) -> np.ndarray:
        """Ids in each sequence, int64, in the shape of `sequences`."""
        return self.offsets[sequences + 1] - self.offsets[sequences]

    def tokens(self, sequence: int) -> np.ndarray:
        """Ids int32 (length,) of one sequence."""
        return self.ids[self.offsets[sequence] : self.offsets[sequence + 1]]


_TABLE_VERSION = 1  # raise it when `mirror_text` or the layout changes: it is part of the cache's name
_CHUNK = 4096  # texts per call of the tokenizer, so that the progress bar moves


def _cache_name(shards: Shards, tokenizer: Tokenizer, context: int) -> str:
    key = f"{_TABLE_VERSION} {tokenizer.hash} {shards.fingerprint()} {context}"
    return f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _encode_all(texts: list[str], tokenizer: Tokenizer, context: int) -> dict[str, np.ndarray]:
    encoded = []
    for start in _progress(range(0, len(texts), _CHUNK), "tokenising"):
        encoded += tokenizer.encode(texts[start : start + _CHUNK], context)
    ids = np.concatenate(encoded) if encoded else np.zeros(0, np.int32)
    return {"offsets": _starts([len(e) for e in encoded]), "ids": ids}


def _starts(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _progress(items: range, what: str):
    return tqdm.tqdm(items, desc=what, delay=2, leave=False)


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as cached:
            return {name: cached[name] for name in ("first", "offsets", "ids")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a token cache ({error}); delete it to have it rebuilt") from None


def _save(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)
