"""Rows from the cache are those that would have been made, and nothing stale is ever among them."""

from __future__ import annotations

import copy
import json
import shutil

import pytest

from trainer.chat import MaskPolicy, cache
from trainer.chat.cache import TokenCache, row_key
from trainer.chat.chat_format import chat_format
from trainer.chat.mask import tokenise_many

from .test_many import ROWS


def run(tokenizer, folder, rows=ROWS, policy=None, **more):
    return list(tokenise_many(tokenizer, rows, policy, cache=TokenCache(folder), **more))


def files(folder):
    return sorted(folder.rglob("*.arrow"))


@pytest.fixture
def rendered(monkeypatch):
    """The conversations that were really worked out, not taken from the cache."""
    from trainer.chat import mask

    seen = []

    class Counting(mask.Conversation):
        def __init__(self, *args, **kwargs):
            seen.append(args[1])
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(mask, "Conversation", Counting)
    return seen


@pytest.mark.parametrize("policy", [None, MaskPolicy(turns="last"), MaskPolicy(turns="full")])
def test_a_second_run_works_nothing_out_and_gives_the_same(tokenizer, tmp_path, rendered, policy):
    fresh = list(tokenise_many(tokenizer, ROWS, policy))
    rendered.clear()
    assert run(tokenizer, tmp_path, policy=policy) == fresh
    assert len(rendered) == len(ROWS)
    rendered.clear()
    assert run(tokenizer, tmp_path, policy=policy) == fresh
    assert [messages[0]["content"] for messages in rendered] == ["a\ud800"]  # no text to be found by
    assert len(files(tmp_path)) == 1


def test_versions_share_rows_in_any_order(smollm2, tmp_path, rendered):
    run(smollm2, tmp_path, ROWS[:3])
    rendered.clear()
    assert run(smollm2, tmp_path, ROWS[2::-1] + ROWS[6:7]) == list(tokenise_many(smollm2, ROWS[2::-1] + ROWS[6:7]))
    assert [messages[0]["content"] for messages in rendered[:1]] == ["none"]


def test_a_row_that_comes_twice_is_kept_once(smollm2, tmp_path):
    run(smollm2, tmp_path, [ROWS[0]] * 5, batch_size=1)
    (shelf,) = [TokenCache(tmp_path).shelf(chat_format(smollm2))]
    assert shelf.get(row_key(*ROWS[0])) is not None
    assert len(shelf) == 1


def test_whatever_decides_how_a_row_is_tokenised_has_a_shelf_of_its_own(load, tmp_path, monkeypatch):
    smollm2 = load("smollm2")
    shelves = []

    def shelf(tokenizer=smollm2, policy=None):
        shelves.append(TokenCache(tmp_path).shelf(chat_format(tokenizer, policy)).path)

    shelf()
    shelf(policy=MaskPolicy(turns="last"))
    shelf(policy=MaskPolicy(stop_ids=(0,)))
    shelf(policy=MaskPolicy(template_args=(("enable_thinking", True),)))
    other = copy.deepcopy(smollm2)
    other.chat_template += "\n"
    shelf(other)
    added = copy.deepcopy(smollm2)
    added.add_tokens(["quince"])
    shelf(added)
    eos = copy.deepcopy(smollm2)
    eos.eos_token = "<|endoftext|>"
    shelf(eos)
    smollm2.split_special_tokens = True  # of a tokenizer that was in use
    shelf()
    smollm2.split_special_tokens = False
    monkeypatch.setattr(cache, "version", lambda name: "another")
    shelf()
    assert len(set(shelves)) == len(shelves)


def test_the_day_counts_only_where_the_template_asks_for_it(load, tmp_path):
    smollm2 = load("smollm2")
    dated = copy.deepcopy(smollm2)
    dated.chat_template = "{{ strftime_now('%Y') }}" + dated.chat_template

    def path(tokenizer, date):
        return TokenCache(tmp_path).shelf(chat_format(tokenizer, MaskPolicy(date=date))).path

    assert path(smollm2, "2024-01-01") == path(smollm2, "2025-01-01")
    assert path(dated, "2024-01-01") != path(dated, "2025-01-01")


def test_the_order_of_arguments_counts(qwen3, tmp_path):
    def row(arguments):
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}], None]

    run(qwen3, tmp_path, [row({"a": 1, "b": 2})])
    (done,) = run(qwen3, tmp_path, [row({"b": 2, "a": 1})])
    assert '{"b": 2, "a": 1}' in done.examples[0].text


def test_a_file_that_was_cut_short_is_passed_over(smollm2, tmp_path):
    fresh = run(smollm2, tmp_path)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-50])
    (file.parent / ".half.part").write_bytes(b"")
    assert run(smollm2, tmp_path) == fresh
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("flipped", [1, 200])
def test_a_row_whose_bytes_were_damaged_is_worked_out_again(smollm2, tmp_path, rendered, flipped):
    fresh = run(smollm2, tmp_path, ROWS[:3])
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    at = whole.index(b"\x28\xb5\x2f\xfd") + 12  # behind the head of a frame of zstandard
    file.write_bytes(whole[:at] + bytes(byte ^ 0x11 for byte in whole[at : at + flipped]) + whole[at + flipped :])
    rendered.clear()
    assert run(smollm2, tmp_path, ROWS[:3]) == fresh
    assert len(rendered) >= 1


def test_what_was_done_before_a_stop_is_kept(smollm2, tmp_path, rendered):
    many = tokenise_many(smollm2, [ROWS[0], *ROWS[4:]] * 10, cache=TokenCache(tmp_path), batch_size=1)
    next(many)
    many.close()
    rendered.clear()
    run(smollm2, tmp_path, [ROWS[0]])
    assert rendered == []


def test_a_folder_that_outgrows_its_limit_gives_up_what_was_unused_for_longest(smollm2, qwen3, tmp_path):
    import os

    for policy in (None, MaskPolicy(turns="last"), MaskPolicy(turns="full")):
        run(smollm2, tmp_path, policy=policy)
    first, *_ = paths = [
        TokenCache(tmp_path).shelf(chat_format(smollm2, MaskPolicy(turns=t))).path for t in ("all", "last", "full")
    ]
    for age, path in enumerate(paths):
        os.utime(path, (1000 - age, 1000 - age))
    sizes = [sum(file.stat().st_size for file in files(path)) for path in paths]
    cache_ = TokenCache(tmp_path, limit=sum(sizes) - 1)
    cache_.shelf(chat_format(smollm2, MaskPolicy(turns="full")))
    assert [path.exists() for path in paths] == [True, False, True], "the oldest that is not asked for goes"
    assert first.exists()
    assert paths[2].stat().st_mtime > 1e9, "it counts as used from now on"


def test_a_shelf_says_what_it_is_and_may_be_deleted(smollm2, tmp_path):
    fresh = run(smollm2, tmp_path)
    (shelf,) = tmp_path.iterdir()
    about = json.loads((shelf / "about.json").read_text())
    assert about["tokenizer"] == smollm2.name_or_path
    assert "last" not in about["policy"]
    shutil.rmtree(shelf)
    assert run(smollm2, tmp_path) == fresh


def test_a_slow_tokenizer_is_not_cached(load, tmp_path):
    class Slow(type(load("smollm2"))):
        is_fast = False

    slow = copy.deepcopy(load("smollm2"))
    slow.__class__ = Slow
    assert len(run(slow, tmp_path)) == len(ROWS)
    assert not tmp_path.exists() or not list(tmp_path.iterdir())
