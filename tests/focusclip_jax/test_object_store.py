"""Shards in a bucket, over the wire: the services' own protocols, latency, faults and refusals."""

import functools
import os
import pathlib
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from bucket_server import FINE, KEY, SECRET, gcs_environment, s3_environment, serving

from focusclip_jax import config as configs
from focusclip_jax import workdir as workdirs
from focusclip_jax.data import bucket as buckets
from focusclip_jax.data.loader import LoaderSettings, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.run import check_inputs

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

obstore = pytest.importorskip("obstore", reason="the package obstore (extra `bucket`) is not here")


@pytest.fixture
def folder(pack, row):
    rng = np.random.default_rng(0)
    rows = [
        row(
            image_id=f"{i}.jpg",
            image=rng.integers(0, 256, (40, 40, 3), np.uint8),
            captions=(f"The left arm of person {i} is bent.",),
        )
        for i in range(24)
    ]
    return pack(rows, shards=3)


@pytest.fixture(params=["s3", "gs"])
def served(request, folder, tmp_path, monkeypatch):
    """The folder as a bucket of each service; a listing comes in pages of four names.

    The variables of its environment are given to the library directly. Set in this process they may crash it:
    a variable more moves the C environment, in which libjpeg looks for JPEGMEM at each picture, and for some
    0.1 s after a test threads of the loader still decode what they were asked to keep ready.
    """
    with serving(folder.parent, page=4) as bucket:
        key_file = tmp_path / "key"
        key_file.mkdir()
        variables = {"s3": s3_environment(bucket), "gs": gcs_environment(bucket, key_file)}[request.param]
        options = {
            "config": {name: value for name, value in variables.items() if name != "AWS_ALLOW_HTTP"},
            "client_options": {"allow_http": True},
        }
        monkeypatch.setattr(obstore.store, "from_url", functools.partial(obstore.store.from_url, **options))
        monkeypatch.setitem(buckets.RETRY["backoff"], "init_backoff", buckets.datetime.timedelta(0, 0, 1000))
        bucket.address, bucket.environment = f"{request.param}://photos/shards", variables
        yield bucket


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.image_id, a.image, a.captions) == (b.image_id, b.image, b.captions)


def test_a_bucket_gives_the_examples_fingerprint_and_batches_of_the_folder(served, folder):
    here, there = Shards.open(folder), Shards.open(f"{served.address}/")
    assert there.fingerprint() == here.fingerprint()
    order = np.random.default_rng(1).permutation(24)
    same([there.read(i) for i in order], [here.read(i) for i in order])
    same(list(there), list(here))
    same(list(pickle.loads(pickle.dumps(there)).read_each(order)), list(here.read_each(order)))
    tokenizer = Tokenizer.train([e.captions[0] for e in here], 300)
    settings = LoaderSettings(8, (32, 32), text_lengths=(64,), flip=0.5, threads=2)
    streams = [train_batches(s, TokenTable.build(s, tokenizer, 64), settings) for s in (here, there)]
    for _ in range(4):
        one, other = (next(stream) for stream in streams)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    for stream in streams:
        stream.close()


def test_address_and_key_are_taken_from_the_environment(served, folder):
    program = (
        "import sys; from focusclip_jax.data.shards import Shards;"
        "print(Shards.open(sys.argv[1]).fingerprint())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, served.address],
        cwd=REPOSITORY,
        env={**os.environ, **served.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == Shards.open(folder).fingerprint(), done.stderr
    signed = served.address.startswith("s3")
    assert all(KEY in given if signed else not given for given in served.authorised)


def test_the_start_is_one_listing_and_one_request_an_index_and_a_record_is_one_request(served):
    shards = Shards.open(served.address)
    assert sum(what == "?" for what, _ in served.requested) == 2  # two pages
    names = sorted(what for what, _ in served.requested if what != "?")
    assert names == [f"shards/toy-train.index-{k:05d}-of-00003.npz" for k in range(3)]
    served.requested.clear()
    shards.fingerprint()
    assert served.requested == []
    length = len(shards.read(9).image)
    ((name, asked),) = served.requested
    assert name == "shards/toy-train.tfrecord-00001-of-00003"
    first, last = map(int, asked.removeprefix("bytes=").split("-"))
    assert length < last - first + 1 < length + 1000
    served.requested.clear()
    assert len(list(shards)) == 24
    assert len(served.requested) == 3


def test_the_records_of_a_batch_are_asked_for_at_one_time(served):
    shards = Shards.open(served.address)
    served.latency, served.at_once = 0.1, 0
    assert [e.image_id for e in shards.read_each(range(24))] == [f"{i}.jpg" for i in range(24)]
    assert served.at_once > 12


def test_a_pattern_takes_just_what_it_matches(served):
    shards = Shards.open(f"{served.address}/*-train.tfrecord-0000[12]-*")
    assert [e.image_id for e in shards] == [f"{i}.jpg" for i in range(8, 24)]
    assert shards.where(9) == f"{served.address}/toy-train.tfrecord-00002-of-00003 record 1"
    with pytest.raises(UserError, match="matches it as a pattern"):
        Shards.open(f"{served.address}/*-test.*")


@pytest.mark.parametrize("fault", [503, 500, 429, None])
def test_what_passes_is_tried_again(served, folder, fault):
    """Every request fails at first: by an answer that says so, or a connection that breaks off half-way."""
    failures = 1 if fault is None else 2
    served.fault = lambda n: fault if n < failures else FINE
    same(list(Shards.open(served.address)), list(Shards.open(folder)))


def test_what_does_not_pass_is_one_sentence_that_names_the_object(served, monkeypatch):
    monkeypatch.setitem(buckets.RETRY, "max_retries", 3)
    shards = Shards.open(served.address)
    served.requested.clear()
    served.fault = lambda n: 503
    with pytest.raises(UserError) as caught:
        shards.read(3)
    said = str(caught.value)
    assert said.startswith(f"{served.address}/toy-train.tfrecord-00000-of-00003: cannot be read (")
    assert "503 Service Unavailable" in said
    assert "\n" not in said
    assert len(served.requested) == 4


def test_a_refusal_is_not_tried_again_and_never_shows_a_key(served, monkeypatch):
    served.fault = lambda n: 403
    with pytest.raises(UserError, match=r"access is refused .*docs/scale.md") as caught:
        Shards.open(served.address)
    assert len(served.requested) == 1
    said = str(caught.value)
    assert "\n" not in said
    assert not any(secret in said for secret in (KEY, SECRET, "Signature", "Authorization"))


def test_what_is_not_there_is_named(served, folder):
    with pytest.raises(UserError, match="shards/nowhere: holds no shards"):
        Shards.open(f"{served.address}/nowhere")
    shards = Shards.open(served.address)
    (folder / "toy-train.tfrecord-00002-of-00003").unlink()
    with pytest.raises(UserError, match="tfrecord-00002-of-00003: not there"):
        shards.read(20)
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00002-of-00003 is missing \(1 of 3 are\)"):
        Shards.open(served.address)


def test_a_flipped_bit_and_a_missing_index_are_named(served, folder):
    path = folder / "toy-train.tfrecord-00001-of-00003"
    data = bytearray(path.read_bytes())
    data[500] ^= 4
    path.write_bytes(data)
    shards = Shards.open(served.address)
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00001-of-00003 record 0: damaged"):
        shards.read(8)
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00001-of-00003 record 0: damaged"):
        list(shards)
    (folder / "toy-train.index-00001-of-00003.npz").unlink()
    with pytest.raises(UserError, match=r"index-00001-of-00003.npz: not there; in a bucket a shard needs"):
        Shards.open(served.address)


def test_many_threads_read_one_bucket(served, folder):
    shards, here = Shards.open(served.address), list(Shards.open(folder))
    wrong = []

    def work(seed):
        order = np.random.default_rng(seed).permutation(24)
        wrong.extend(
            i for i, e in zip(order, shards.read_each(order), strict=True) if e.image != here[i].image
        )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UserError, match=r"s3://photos/x: .*pip install 'obstore>=0.12.1,<0.13'"):
        Shards.open("s3://photos/x")


def test_an_address_of_another_kind_is_refused():
    for address in ("https://host/shards", "az://container/shards", "file:///shards"):
        with pytest.raises(UserError, match="expected a folder on a file system, gs://BUCKET/FOLDER or s3"):
            Shards.open(address)


def test_what_cannot_lie_in_a_bucket_is_refused_and_makes_no_folder(tmp_path, monkeypatch):
    """pathlib takes gs://photos/run for a folder named "gs:"."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--workdir=gs://photos/run: expected a folder"):
        workdirs.create(pathlib.Path("gs://photos/run"))
    config = configs.default()
    config.evaluation.data_dir = "s3://photos"
    with pytest.raises(UserError, match=r"data_dir=s3://photos: expected a folder"):
        check_inputs(config)
    assert list(tmp_path.iterdir()) == []
