"""Each shape of a row becomes the conversation that a person reads in it."""

import json

import pytest

from trainer.conversation import canonical_json, content_hash
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Record, Reject

U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def one(read, row: dict, **options) -> Record:
    (only,) = read("a.jsonl", json.dumps(row, ensure_ascii=False), **options)
    assert isinstance(only, Record), only
    return only


def messages(read, row: dict, **options) -> list[dict]:
    return json.loads(one(read, row, **options).messages)


def test_record_holds_canonical_json_and_its_hash(read):
    record = one(read, {"prompt": "größer?", "completion": "ja", "tools": [{"type": "function", "function": {}}]})
    assert record.messages == '[{"content":"größer?","role":"user"},{"content":"ja","role":"assistant"}]'
    assert record.tools == '[{"function":{},"type":"function"}]'
    assert record.content_hash == content_hash(record.messages, record.tools)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "Do", "input": "this", "output": "a"}, "Do\n\nthis"),
        ({"instruction": " Do ", "input": "", "output": "a"}, " Do "),
        ({"instruction": "Do", "input": None, "response": "a"}, "Do"),
        ({"instruction": "Do", "output": "a"}, "Do"),
        ({"instruction": "", "input": "this", "output": "a"}, "this"),
        ({"instruction": "Do", "context": "that", "response": "a"}, "Do\n\nthat"),
    ],
)
def test_alpaca_prompt_is_instruction_blank_line_input(read, row, prompt):
    assert messages(read, row) == [{"role": "user", "content": prompt}, A]


def test_alpaca_system_and_history_come_first(read):
    row = {"instruction": "q", "input": "", "output": "a", "system": "be", "history": [["q1", "a1"], ["q2", "a2"]]}
    talk = [(m["role"], m["content"]) for m in messages(read, row)]
    assert talk == [
        ("system", "be"), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2"),
        ("user", "q"), ("assistant", "a"),
    ]  # fmt: skip


def test_leftover_columns_are_metadata(read):
    row = {"instruction": "q", "input": "", "output": "a", "category": "brainstorm", "lang": "de", "id": 7, "n": [None]}
    assert one(read, row).meta == {"category": "brainstorm", "lang": "de", "id": 7, "n": [None]}


@pytest.mark.parametrize(
    ("given", "role"),
    [("human", "user"), ("user", "user"), ("system", "system"), ("gpt", "assistant"), ("bing", "assistant"),
     ("bard", "assistant"), ("chatgpt", "assistant"), ("assistant", "assistant"), ("observation", "tool"),
     ("tool", "tool"), ("GPT", "assistant"), ("prompter", "user"), ("developer", "developer")],
)  # fmt: skip
def test_sharegpt_roles(read, given, role):
    row = {"conversations": [{"from": given, "value": "x"}, {"from": "gpt", "value": "a"}]}
    assert messages(read, row) == [{"role": role, "content": "x"}, A]


@pytest.mark.parametrize(
    "value", ['{"name": "f", "arguments": {"x": 1}}', '[{"name": "f", "arguments": "{\\"x\\": 1}"}]']
)
def test_sharegpt_function_call_is_a_tool_call(read, value):
    row = {
        "conversation": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": value},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": '[{"name": "f", "parameters": {}}]',
    }
    record = one(read, row)
    assert json.loads(record.messages) == [
        U,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "1"},
        A,
    ]
    assert json.loads(record.tools) == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert record.meta == {}


@pytest.mark.parametrize("tools", ["", "[]", [], None])
def test_no_tools_is_none(read, tools):
    record = one(
        read, {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": tools}
    )
    assert record.tools is None
    assert record.meta == {}


def test_messages_keep_what_templates_read(read):
    row = {
        "messages": [
            {"role": "developer", "content": "d"},
            {"role": "user", "content": "q", "name": "Ann"},
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [{**CALL, "id": "c1"}]},
            {"role": "tool", "content": "1", "tool_call_id": "c1"},
            {"role": "assistant", "content": "a", "tool_calls": None, "audio": None},
        ]
    }
    expected = json.loads(json.dumps(row["messages"]))
    expected[2]["content"] = ""
    expected[4] = A
    assert messages(read, row) == expected


@pytest.mark.parametrize(
    "turn",
    [
        {"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"content": "", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
        {"content": "", "tool_calls": [{"name": "f", "parameters": {"x": 1}}]},
        {"content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}},
        {"content": [{"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'}]},
    ],
    ids=["arguments as text", "flat", "parameters", "legacy", "content part"],
)
def test_tool_calls_in_any_form_are_one_form(read, turn):
    assert messages(read, {"messages": [U, {"role": "assistant", **turn}]})[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL],
    }


def test_what_stands_beside_a_call_or_a_schema_is_kept(read):
    flat = {"id": "c1", "name": "f", "arguments": {"x": 1}}
    search = {"type": "web_search", "name": "look"}
    turn = {
        "role": "function_call",
        "content": '{"name": "f", "arguments": {"x": 1}}',
        "tool_calls": [flat],
        "id": "t1",
    }
    record = one(read, {"messages": [U, turn], "tools": [search, {"type": "function", "name": "f"}]})
    assert json.loads(record.messages)[1] == {
        "role": "assistant",
        "content": "",
        "id": "t1",
        "tool_calls": [CALL, {**CALL, "id": "c1"}],
    }
    assert json.loads(record.tools) == [search, {"type": "function", "function": {"name": "f"}}]


def test_content_parts_are_joined_as_they_stand(read):
    parts = [
        {"type": "reasoning", "value": "hm"},
        {"type": "text", "text": " one"},
        {"type": "text", "value": "two "},
        "three",
    ]
    row = {"messages": [U, {"role": "assistant", "content": parts}]}
    assert messages(read, row)[1] == {"role": "assistant", "content": " onetwo three", "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"train": False}, {"train": False}),
        ({"weight": 0}, {"train": False}),
        ({"loss_weight": 0.0}, {"train": False}),
        ({"train": True}, {}),
        ({"weight": 1}, {}),
        ({"loss_weight": 1.0}, {}),
        ({"weight": 0.5}, {"weight": 0.5}),
        ({"train": True, "weight": 0}, {"train": False}),
    ],
)
def test_turns_of_weight_zero_are_not_trained(read, flags, expected):
    assert messages(read, {"messages": [U, {**A, **flags}]}) == [U, {**A, **expected}]


def test_weights_of_turns_that_are_never_trained_leave_no_trace(read):
    assert messages(read, {"messages": [{**U, "loss_weight": 0.0}, {**A, "loss_weight": 1.0}]}) == [U, A]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"question": "q", "answer": "a"},
        {"prompt": [U], "completion": [A]},
        {"prompt": [U], "completion": A},
        {"question": "q", "answer": [{"from": "gpt", "value": "a"}]},
    ],
)
def test_prompt_completion(opened, read, row):
    assert opened("a.jsonl", json.dumps(row)).format == "prompt-completion"
    assert messages(read, row) == [U, A]


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_system_column_goes_in_front_unless_a_system_turn_is_there(read, column):
    system = {"role": "system", "content": "be"}
    assert messages(read, {column: "be", "question": "q", "response": "a"}) == [system, U, A]
    assert messages(read, {column: "", "question": "q", "response": "a"}) == [U, A]
    both = one(read, {column: "other", "messages": [system, U, A]})
    assert json.loads(both.messages) == [system, U, A]
    assert both.meta == {column: "other"}


def test_mapping_takes_the_named_columns_and_leaves_the_rest(opened, read):
    row = {"ask": "q", "say": "a", "role_play": "be", "system": "not this", "instruction": "nor this", "output": "x"}
    options = {"mapping": {"prompt": "ask", "response": "say", "system": "role_play"}}
    assert opened("a.jsonl", json.dumps(row), **options).format == "mapped"
    record = one(read, row, **options)
    assert json.loads(record.messages) == [{"role": "system", "content": "be"}, U, A]
    assert record.meta == {"system": "not this", "instruction": "nor this", "output": "x"}


def test_mapping_reaches_the_chosen_side_of_preference_pairs(read):
    row = {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {}}
    record = one(read, row, mapping={"prompt": "conversations", "response": "chosen"})
    assert json.loads(record.messages) == [U, A]


def test_mapping_to_a_column_that_no_row_has_is_bad_input(read):
    with pytest.raises(BadInput, match=r"no column 'anwser'.*`ask`, `answer`"):
        read("a.jsonl", '{"ask": "q", "answer": "a"}', mapping={"prompt": "ask", "response": "anwser"})


def test_mapping_to_a_column_that_one_row_lacks_rejects_that_row(read):
    lines = '{"ask": "q", "say": "a"}\n{"ask": "q"}'
    rows = read("a.jsonl", lines, mapping={"prompt": "ask", "response": "say"})
    assert rows[1] == Reject(1, "no column `say`; this row has `ask`", '{"ask": "q"}')


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"mapping": {"prompt": "ask"}}, "names no 'response' column"),
        ({"mapping": {"prompt": "a", "response": "b", "history": "c"}}, "has no 'history'"),
        ({"format": "alpcaa"}, "no format 'alpcaa'"),
        ({"format": "alpaca", "mapping": {"prompt": "a", "response": "b"}}, "exclude each other"),
    ],
)
def test_wrong_options_are_usage_problems(read, options, what):
    with pytest.raises(UsageProblem, match=what):
        read("a.jsonl", '{"ask": "q"}', **options)


def test_format_is_told_by_most_of_the_first_rows_not_by_the_first(opened):
    alpaca, messages_row = {"instruction": "q", "output": "a"}, {"messages": [U, A]}
    lines = ["not JSON", "[1]", messages_row, *[alpaca] * 5]
    source = opened("a.jsonl", "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    assert source.format == "alpaca"
    reasons = [r.reason for r in source.rows() if isinstance(r, Reject)]
    assert reasons[2] == "no column `instruction`; this row has `messages`"
    assert len(reasons) == 3


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"instruction": "q", "output": "a"}, "alpaca"),
        ({"prompt": "q", "completion": "a"}, "prompt-completion"),
        ({"conversations": [U, A]}, "sharegpt"),
        ({"messages": [U, A]}, "messages"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"instruction": "q", "instances": [{"output": "a"}]}, "nested"),
    ],
)
@pytest.mark.parametrize("nothing", [None, ""])
def test_columns_without_a_value_say_nothing_of_the_format(opened, row, format, nothing):
    names = ["messages", "conversations", "instances"] + ["instruction", "prompt", "chosen"] * (nothing is None)
    source = opened("a.jsonl", json.dumps(dict.fromkeys(names, nothing) | row))
    assert source.format == format
    (record,) = source.rows()
    assert json.loads(record.messages) == [U, A]


def test_format_can_be_forced(opened):
    row = json.dumps({"messages": [U, A], "question": "q2", "answer": "a2"})
    assert opened("a.jsonl", row).format == "messages"
    forced = opened("a.jsonl", row, format="prompt-completion")
    (record,) = forced.rows()
    assert json.loads(record.messages)[0]["content"] == "q2"
    assert record.meta == {"messages": [U, A]}


@pytest.mark.parametrize(
    ("row", "meta"),
    [
        ({"meta": {"id": 1, "category": "x"}}, {"id": 1, "category": "x"}),
        ({"meta": {"id": 1}, "lang": "en"}, {"id": 1, "lang": "en"}),
        ({"meta": {"id": 1}, "id": 2}, {"meta": {"id": 1}, "id": 2}),
        ({"meta": "words"}, {"meta": "words"}),
        ({"meta": None}, {}),
        ({"meta": {"meta": {"meta": 1}}}, {"meta": {"meta": 1}}),
    ],
)
def test_a_meta_column_is_laid_out_flat_unless_names_collide(read, row, meta):
    assert one(read, {"messages": [U, A], **row}).meta == meta


def test_text_is_never_changed(read):
    text = " \t\ufeff\u200bﬁ e\u0301 é \u0000 \x1b[0m <|im_end|> [/INST] \r\n 🏳️‍🌈 \u202e "
    assert messages(read, {"instruction": text, "input": text, "output": text}) == [
        {"role": "user", "content": f"{text}\n\n{text}"},
        {"role": "assistant", "content": text},
    ]
    assert one(read, {"messages": [{**U, "content": text}, A]}).messages == canonical_json([{**U, "content": text}, A])
