"""Makes tokenizers.json: the ids that transformers gives to TEXTS with the vocabularies of CLIP and BERT.

    python tests/focusclip_jax/golden/make_tokenizer_golden.py ../shared/data/text

Needs `pip install transformers`, and a folder with OpenAI's merges and BERT's vocabulary. Only ids are kept.
"""

import gzip
import json
import pathlib
import sys

from transformers import BertTokenizer, CLIPTokenizer

CONTEXT = 77

TEXTS = (
    "",
    " ",
    "a",
    "A photo of a person riding a bike.",
    "a photo of a  cat   on\ta mat\n",
    "HELLO World, hello WORLD!",
    "It's the climber's left arm; they've bent it, she'd say, I'm sure we'll see.",
    "The person's right knee is bent (about 90°) -- isn't it?",
    "don't can't won't shan't y'all",
    "1234567890 3.14159 1,000,000 2nd 3rd",
    "half-turned, side-on, knee-deep",
    "e-mail: someone@example.com, see https://example.com/a?b=c&d=e#f",
    "!?.,;:'\"()[]{}<>/\\|@#$%^&*-_=+`~",
    "...!!!???",
    "Tom &amp; Jerry &lt;3 &quot;cheese&quot; &#39;now&#39;",
    "café naïve façade Zürich Ångström",
    "cafe\u0301 decomposed",
    "ﬁne ligatures and ½ cups, x² + y³",
    "straße GROẞ İstanbul",
    "Ελληνικά Русский עברית العربية हिन्दी ไทย",
    "日本語のテキスト 中文文本 한국어 텍스트",
    "emoji 😀👍🏽👩‍👩‍👧 and ☃",
    "\u00a0non\u00a0breaking\u2003em\u3000ideographic\u200bzero width",
    "soft\u00adhyphen and \ufeffmark",
    "tab\tand\r\nlines\x0band\x0cfeeds",
    "control\x00\x01\x1f characters",
    "“curly” ‘quotes’ – dashes — … ellipsis",
    "€100 £20 ¥3000 ₹50",
    "<|startoftext|> inside <|endoftext|> a text",
    "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "<start_of_text> <end_of_text>",
    "word" * 30,
    "a" * 200,
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "xqzjk vvvv qqqq zzyzx",
    "One person is doing push-ups. Both arms are bent; the torso is level; the legs are stretched back.",
    "The left elbow is bent at a right angle and the left hand is in front of the chest. " * 8,
    "one " * 74 + "two three",
    "one " * 75 + "two three",
    "playing_violin riding_a_horse looking_through_a_microscope",
    "\U0001f1e9\U0001f1ea flags \U0001f1eb\U0001f1f7",
    "mixed МИКС 混合 mix",
)


def clip(merges_file: pathlib.Path) -> CLIPTokenizer:
    """From OpenAI's file, as transformers' own conversion script makes it."""
    lines = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)


def bert(vocabulary: pathlib.Path) -> BertTokenizer:
    tokens = vocabulary.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=True)


def main(folder: pathlib.Path) -> None:
    makers = {
        "clip": clip(folder / "bpe_simple_vocab_16e6.txt.gz"),
        "bert": bert(folder / "bert-base-uncased-vocab.txt"),
    }
    golden = {"context": CONTEXT, "texts": TEXTS}
    for name, tokenizer in makers.items():
        golden[name] = [tokenizer(text, truncation=True, max_length=CONTEXT)["input_ids"] for text in TEXTS]
    path = pathlib.Path(__file__).with_name("tokenizers.json")
    path.write_text(json.dumps(golden, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
