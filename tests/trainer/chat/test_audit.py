from __future__ import annotations

import json

from trainer.chat import ISSUES, MaskPolicy, audit, configured_stops, differing_rows, tokenise


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
    found = {kind: list(keys) for kind, keys in result.issues.items()}
    assert (
        found.items()
        >= {
            "zero-trained": [12],
            "injected-system": [11],
            "empty-turn": [11],
            "template-error": [13],
        }.items()
    )
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
    assert audit(ROWS[:1], smollm2, limit=len(done.input_ids)).counts == {}
    harmless = audit(ROWS[:1], smollm2, limit=last + 1)
    assert harmless.counts == {"truncated": 1}
    assert (harmless.lost_tokens, harmless.lost_trained) == (len(done.input_ids) - last - 1, 0)
    dropped = audit(ROWS[:1], smollm2, limit=last)
    assert dropped.counts == {"truncated": 1, "response-lost": 1}
    assert (dropped.over, dropped.lost_examples, dropped.lost_turns) == (1, 1, 1)
    assert (dropped.lost_tokens, dropped.lost_trained) == (dropped.tokens, dropped.trained)
    cut = audit(ROWS[:1], smollm2, limit=last, how="keep-start")
    assert (cut.lost_examples, cut.lost_trained, cut.lost_tokens) == (0, 1, len(done.input_ids) - last)


def test_every_length_is_in_one_class_of_the_histogram_and_the_limit_ends_one(smollm2):
    rows = [row(i, ("system", "s"), ("user", "word " * 3**i), ("assistant", "x")) for i in range(7)]
    lengths = sorted(audit(rows, smollm2).lengths)
    for limit in (None, 1, 10, 37, 100, 5000):
        result = audit(rows, smollm2, limit=limit)
        classes = result.histogram()
        assert [low for low, _, _ in classes] == [1, *(high + 1 for _, high, _ in classes[:-1])]
        assert [count for _, _, count in classes] == [sum(a <= n <= b for n in lengths) for a, b, _ in classes]
        assert sum(count for _, _, count in classes) == 7
        assert limit is None or limit in {high for _, high, _ in classes}
    assert audit([], smollm2, limit=10).histogram() == []


def test_waste_counts_what_is_trained_after_the_limit(smollm2):
    rows = [row(i, ("system", "s"), ("user", "word " * n), ("assistant", "x")) for i, n in enumerate((9, 9, 9, 200))]
    assert audit(rows, smollm2, limit=100).waste()["padded"] == 0
    assert audit(rows, smollm2, limit=1000).waste()["padded"] > 0.5


def test_the_verdict_counts_rows_to_look_at_and_leaves_out_what_templates_do_by_nature(smollm2):
    clean = [row(1, ("system", "s"), ("user", "Hi"), ("assistant", "x")), row(2, ("user", "Hi"), ("assistant", "x"))]
    good = audit(clean, smollm2, limit=100)
    assert good.counts == {"injected-system": 1}
    assert good.verdict().startswith("clean: every trained turn ends with a stop token")
    bad = audit([*clean, *ROWS[1:], row(14, ("user", "Hi"), ("assistant", ""))], smollm2, limit=100)
    assert bad.suspect == 4
    assert bad.verdict() == "4 rows need a look: 1 template-error, 1 zero-trained, 2 empty-turn"
    assert audit([], smollm2).verdict() == "there are no rows"
    assert "every token is trained" in audit(clean, smollm2, MaskPolicy(turns="full")).verdict()


def test_as_dict_names_every_row_behind_a_count(smollm2):
    result = audit([row(i, ("user", "Hi"), ("assistant", "x")) for i in range(50)], smollm2, MaskPolicy())
    data = json.loads(json.dumps(result.as_dict()))
    assert data["issues"] == {"injected-system": 50}
    assert data["issue_rows"] == {"injected-system": list(range(50))}
    assert data["waste"]["padded"] == 0


def test_rows_whose_issues_differ_between_two_tokenizers_are_told(smollm2, qwen3):
    rows = [
        row(3, ("system", "s"), ("user", "Hi"), ("assistant", "x")),
        row(5, ("user", "Hi"), ("assistant", "x")),
        row(8, ("system", "s"), ("user", "Hi"), ("assistant", ""), ("user", "a"), ("assistant", "b")),
    ]
    one, other = audit(rows, smollm2), audit(rows, qwen3)
    assert differing_rows(one, other) == [5, 8]  # SmolLM2 injects a system text; Qwen3 expands
    assert differing_rows(one, one) == []


def test_stops_come_from_the_generation_config_of_a_folder(tmp_path, smollm2):
    assert configured_stops(str(tmp_path)) == ()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert configured_stops(str(tmp_path)) == (2, 7)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert configured_stops(str(tmp_path)) == (2,)
    (tmp_path / "generation_config.json").write_text("{broken")
    assert configured_stops(str(tmp_path)) == ()
