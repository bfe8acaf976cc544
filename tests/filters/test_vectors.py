from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from filters.vectors import VectorCache, join, read_vectors, text_key, text_keys, write_vectors

NAN = np.full((1, 2), np.nan, np.float32)


def test_a_job_s_file_gives_back_what_was_written_also_when_all_is_unreadable(tmp_path):
    vectors = np.array([[0.6, 0.8], [np.nan, np.nan], [1, 0]], np.float32)
    write_vectors(tmp_path / "a.parquet", ["k1", "k2", "k3"], vectors)
    keys, found = read_vectors(tmp_path / "a.parquet")
    assert keys == ["k1", "k2", "k3"]
    assert np.array_equal(found, vectors, equal_nan=True)
    write_vectors(tmp_path / "b.parquet", ["k4"], NAN)
    assert np.isnan(read_vectors(tmp_path / "b.parquet")[1]).all()
    join([tmp_path / "b.parquet", tmp_path / "a.parquet"], tmp_path / "c.parquet")
    keys, found = read_vectors(tmp_path / "c.parquet")
    assert keys == ["k4", "k1", "k2", "k3"]
    assert np.array_equal(found[1:], vectors, equal_nan=True)


def test_the_cache_takes_over_parts_and_is_there_after_a_restart(tmp_path):
    texts = [f"text {i}" for i in range(50)]
    random = np.random.default_rng(0)
    vectors = random.normal(size=(50, 8)).astype(np.float32)
    vectors[7] = np.nan
    for part, rows in enumerate((slice(0, 20), slice(10, 50))):  # they overlap: a killed job may have said it twice
        write_vectors(tmp_path / f"{part}.parquet", [text_key(t) for t in texts[rows]], vectors[rows])
    cache = VectorCache(tmp_path / "cache")
    asked = [texts[49], "another", texts[7], texts[0]]
    assert cache.missing(text_keys(asked)).tolist() == [True] * 4
    cache.take([tmp_path / "0.parquet"])
    cache.take([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    for opened in (cache, VectorCache(tmp_path / "cache")):
        assert opened.missing(text_keys(asked)).tolist() == [False, True, False, False]
        assert np.array_equal(opened.look_up(text_keys(texts)), vectors, equal_nan=True)
        with pytest.raises(KeyError):
            opened.look_up(text_keys(asked))


def test_a_file_of_unreadable_texts_alone_does_not_spoil_the_others(tmp_path):
    write_vectors(tmp_path / "0.parquet", [text_key("一")], NAN)
    write_vectors(tmp_path / "1.parquet", [text_key("a")], np.array([[0.6, 0.8]], np.float32))
    cache = VectorCache(tmp_path / "cache")
    for part in ("0", "1"):
        cache.take([tmp_path / f"{part}.parquet"])
    found = VectorCache(tmp_path / "cache").look_up(text_keys(["a", "一"]))
    assert np.array_equal(found, [[np.float32(0.6), np.float32(0.8)], [np.nan, np.nan]], equal_nan=True)
    assert cache.look_up(text_keys([])).shape[0] == 0


def test_only_what_is_asked_for_is_read(tmp_path):
    texts = [f"text {i}" for i in range(20_000)]
    keys = text_keys(texts)
    write_vectors(tmp_path / "0.parquet", [text_key(t) for t in texts], np.ones((20_000, 64), np.float32))
    VectorCache(tmp_path / "cache").take([tmp_path / "0.parquet"])
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    cache = VectorCache(tmp_path / "cache")
    found = cache.look_up(keys[:10])
    arrow, (_, peak) = pa.total_allocated_bytes() - before, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.shape == (10, 64)
    assert peak + arrow < 500_000  # the file has 5 MB


@pytest.mark.parametrize("left", [0, 7, 600])
def test_a_file_that_was_cut_short_goes_and_the_others_stay(tmp_path, left):
    for part, text in enumerate(("a", "b")):
        write_vectors(tmp_path / f"{part}.parquet", [text_key(text)], np.ones((1, 384), dtype=np.float32))
        VectorCache(tmp_path / "cache").take([tmp_path / f"{part}.parquet"])
    first, second = sorted((tmp_path / "cache").glob("*.arrow"))
    first.write_bytes(first.read_bytes()[:left])
    for _ in range(2):
        assert VectorCache(tmp_path / "cache").missing(text_keys(["a", "b"])).sum() == 1
    assert list((tmp_path / "cache").glob("*.arrow")) == [second]
