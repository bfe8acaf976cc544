from __future__ import annotations

import json

from trainer.chat import ISSUES, MaskPolicy, audit, configured_stops, tokenise


def row(id_, *messages, tools=None):
    named = [{"role": role, "content": content} for role, content in messages]
    return (id_, json.dumps(named), json.dumps(tools) if tools else None)


ROWS = [
    row(10, ("system", "s"), ("user", "Hi"), ("assistant", "Hello.")),
    row(11, ("user", "Hi"), ("assistant", "")),
    row(12, ("system", "s"), ("user", "Hi")),
    row(13, ("user", None)),
]


def test_counts_are_rows_by_kind_with_their_ids(smollm2):
    result = audit(ROWS, smollm2)
    assert result.rows == 4
    assert result.issues["zero-trained"] == [12]
    assert result.issues["injected-system"] == [11]
    assert result.issues["empty-turn"] == [11]
    assert result.issues["template-error"] == [13]
    assert list(result.counts) == [kind for kind in ISSUES if kind in result.counts]
    single = [tokenise(smollm2, json.loads(messages)).examples for _, messages, _ in ROWS]
    lengths = [len(example.input_ids) for examples in single for example in examples]
    assert (result.tokens, result.longest, result.examples) == (sum(lengths), max(lengths), 3)
    assert result.trained == sum(sum(example.trained) for examples in single for example in examples)


def test_a_row_counts_once_however_many_of_its_turns_have_an_issue(qwen3):
    many = [("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", ""), ("user", "c"), ("assistant", "")]
    result = audit([row(1, *many)], qwen3)
    assert result.counts == {"expanded": 1, "empty-turn": 1}
    assert (result.rows, result.examples) == (1, 3)


def test_a_limit_tells_what_it_would_cut_and_whether_that_is_trained(smollm2):
    done = tokenise(smollm2, json.loads(ROWS[0][1])).examples[0]
    last = max(i for i, trained in enumerate(done.trained) if trained)
    assert audit(ROWS[:1], smollm2, max_length=len(done.input_ids)).counts == {}
    assert audit(ROWS[:1], smollm2, max_length=last + 1).counts == {"truncated": 1}
    assert audit(ROWS[:1], smollm2, max_length=last).counts == {"truncated": 1, "response-lost": 1}


def test_as_dict_bounds_the_ids_and_keeps_the_counts(smollm2):
    result = audit([row(i, ("user", "Hi"), ("assistant", "x")) for i in range(5)], smollm2, MaskPolicy())
    assert result.as_dict(ids=2)["issues"] == {"injected-system": 5}
    assert result.as_dict(ids=2)["issue_rows"] == {"injected-system": [0, 1]}


def test_stops_come_from_the_generation_config_of_a_folder(tmp_path, smollm2):
    assert configured_stops(str(tmp_path)) == ()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert configured_stops(str(tmp_path)) == (2, 7)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert configured_stops(str(tmp_path)) == (2,)
    (tmp_path / "generation_config.json").write_text("{broken")
    assert configured_stops(str(tmp_path)) == ()
