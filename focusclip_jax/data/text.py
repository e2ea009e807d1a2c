"""Tokenizers: trained on the captions, or a published vocabulary; and every caption's ids, ready to batch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import heapq
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import google_crc32c
import numpy as np
import tokenizers
import tqdm
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from focusclip_jax.data.augment import mirror_text
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError
from focusclip_jax.files import creating, write_text
from focusclip_jax.weights.hub import Files, open_files

PAD, START, END = "<pad>", "<start>", "<end>"
PAD_NAMES = (PAD, "[PAD]", "<|pad|>")  # how published tokenizers spell it
MOST_TRAINED_ON = 200_000  # captions; about half a minute, and their words are those of many more


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

        Ids 0, 1, 2 are `PAD`, `START`, `END`. A small corpus may yield fewer than vocab_size entries. Of more
        than `MOST_TRAINED_ON` different captions those of the smallest hashes are taken, in whatever order.
        """
        captions = sorted(_sample(captions, MOST_TRAINED_ON))
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


def _sample(texts: Iterable[str], most: int) -> set[str]:
    """The different texts; where there are more than `most`, those of the smallest hashes."""
    kept: dict[str, int] = {}
    limit = 1 << 64  # hashes from here on are not among the smallest

    for text in texts:
        if text in kept:
            continue
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        if key >= limit:
            continue
        kept[text] = key
        if len(kept) > 2 * most:
            kept = dict(heapq.nsmallest(most, kept.items(), key=lambda item: item[1]))
            limit = max(kept.values()) + 1
    if len(kept) <= most:
        return set(kept)
    return {text for text, _ in heapq.nsmallest(most, kept.items(), key=lambda item: item[1])}


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
    ids: uint16, or int32 for a large vocabulary; all sequences one after the other.
    context: the longest length allowed. at_limit: how many captions are that long, so that their ends may
        have been cut off. folder: where the arrays are mapped from, so that the processes of a machine share
        one copy; None where they are in memory.
    """

    first: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    context: int
    pad_id: int
    at_limit: int
    folder: pathlib.Path | None = None

    @classmethod
    def build(
        cls, shards: Shards, tokenizer: Tokenizer, context: int, cache_dir: str | os.PathLike | None = None
    ) -> TokenTable:
        """Tokenise every caption of `shards`, or take what an earlier call left in `cache_dir`."""
        if cache_dir is None:
            with tempfile.TemporaryDirectory() as temporary:
                _write(pathlib.Path(temporary), shards, tokenizer, context)
                return cls._read(pathlib.Path(temporary), in_memory=True)
        folder = pathlib.Path(cache_dir) / _cache_name(shards, tokenizer, context)
        if not folder.exists():
            try:
                with creating(folder) as temporary_folder:
                    _write(temporary_folder, shards, tokenizer, context)
            except OSError:
                if not folder.exists():  # else another process was faster
                    raise
        _verify(folder)
        return cls._read(folder)

    @classmethod
    def _read(cls, folder: pathlib.Path, in_memory: bool = False) -> TokenTable:
        about = json.loads((folder / _ABOUT).read_text().partition("\n")[0])
        arrays = {name: _array(folder / name, about["dtypes"][name], in_memory) for name in _ARRAYS}
        fields: dict[str, Any] = arrays | {name: about[name] for name in ("context", "pad_id", "at_limit")}
        return cls(**fields, folder=None if in_memory else folder)

    def __reduce__(self):
        """A mapped table is sent to another process as the name of its folder."""
        if self.folder is not None:
            return TokenTable._read, (self.folder,)
        return TokenTable, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Captions of each record, (N,), of the smallest type that holds them."""
        largest = max((int(np.diff(part).max()) for part in _pieces(self.first)), default=0)
        counts = np.empty(len(self.first) - 1, np.min_scalar_type(largest))
        for at, part in zip(range(0, len(counts), _PIECE), _pieces(self.first), strict=True):
            counts[at : at + _PIECE] = np.diff(part)
        return counts

    def lengths(self, sequences: np.ndarray) -> np.ndarray:
        """Ids in each sequence, int64, in the shape of `sequences`."""
        return np.asarray(self.offsets[sequences + 1] - self.offsets[sequences])

    def tokens(self, sequence: int) -> np.ndarray:
        """Ids (length,) of one sequence."""
        return np.asarray(self.ids[self.offsets[sequence] : self.offsets[sequence + 1]])


_TABLE_VERSION = 2  # raise it when `mirror_text` or the layout changes: it is part of the cache's name
_CHUNK = 8192  # captions per call of the tokenizer: at most these are in memory as texts
_PIECE = 1 << 20
_ARRAYS = ("first", "offsets", "ids")  # each a file of its elements, little-endian
_ABOUT = "about.json"  # their types and checksums; written last


def _cache_name(shards: Shards, tokenizer: Tokenizer, context: int) -> str:
    key = f"{_TABLE_VERSION} {tokenizer.hash} {shards.fingerprint()} {context}"
    return f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def _pieces(starts: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of an array of starts, each reaching to the first of the next: work on all would copy it."""
    return (starts[at : at + _PIECE + 1] for at in range(0, len(starts) - 1, _PIECE))


def _write(folder: pathlib.Path, shards: Shards, tokenizer: Tokenizer, context: int) -> None:
    """Tokenise all captions into the files of a table, a chunk at a time."""
    ids_type = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<i4")
    at_limit = captions = tokens = 0
    checksums = {name: google_crc32c.Checksum() for name in _ARRAYS}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(open(folder / name, "wb")) for name in _ARRAYS}

        def add(name: str, values: np.ndarray) -> None:
            data = values.tobytes()
            files[name].write(data)
            checksums[name].update(data)

        add("first", np.zeros(1, "<i8"))
        add("offsets", np.zeros(1, "<i8"))
        for counts, texts in _chunks(shards):
            encoded = tokenizer.encode([t for text in texts for t in (text, mirror_text(text))], context)
            lengths = np.array([len(ids) for ids in encoded], "<i8")
            add("first", captions + np.cumsum(counts, dtype="<i8"))
            add("offsets", tokens + np.cumsum(lengths, dtype="<i8"))
            add("ids", np.concatenate([np.zeros(0, ids_type), *encoded]).astype(ids_type))
            captions += len(texts)
            tokens += int(lengths.sum())
            at_limit += int((lengths[::2] == context).sum())
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    about = {
        "context": context,
        "pad_id": tokenizer.pad_id,
        "at_limit": at_limit,
        "dtypes": {"first": "<i8", "offsets": "<i8", "ids": ids_type.str},
        "checksums": {name: checksum.digest().hex() for name, checksum in checksums.items()},
    }
    text = json.dumps(about, sort_keys=True)
    write_text(folder / _ABOUT, f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n")


def _chunks(shards: Shards) -> Iterator[tuple[list[int], list[str]]]:
    """How many captions each of the next records has, and these captions: about `_CHUNK` at a time."""
    counts: list[int] = []
    texts: list[str] = []
    with tqdm.tqdm(
        total=len(shards), desc="tokenising captions", unit=" images", delay=2, leave=False
    ) as bar:
        for _, captions in shards.texts():
            counts.append(len(captions))
            texts += captions
            if len(texts) >= _CHUNK or len(counts) >= _CHUNK:
                yield counts, texts
                bar.update(len(counts))
                counts, texts = [], []
        if counts:
            yield counts, texts


def _array(path: pathlib.Path, dtype: str, in_memory: bool) -> np.ndarray:
    if in_memory or not path.stat().st_size:  # what is empty cannot be mapped
        return np.fromfile(path, dtype)
    return np.memmap(path, dtype, "r")


def _verify(folder: pathlib.Path) -> None:
    """Raise UserError where a file is not as it was written. Reads all of them once."""
    try:
        text, _, rest = (folder / _ABOUT).read_text().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != rest.strip():
            raise ValueError(f"{_ABOUT} is damaged")
        for name, expected in json.loads(text)["checksums"].items():
            checksum = google_crc32c.Checksum()
            with open(folder / name, "rb") as file:
                while data := file.read(16 << 20):
                    checksum.update(data)
            if checksum.digest().hex() != expected:
                raise ValueError(f"the bytes of {name} are not those that were written")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a token cache ({error}); delete it to have it rebuilt") from None
