from __future__ import annotations

import pytest

from filters.rules.cut_off import break_off

BROKEN = {
    "open code fence": [
        "Use a loop:\n```python\nfor i in range(3):\n    print(i",
        "First:\n```sh\nls\n```\nthen:\n```sh\ncd /tmp",
        "~~~\nplain block that never ends",
    ],
    "open bracket": [
        '{"name": "Ada", "born": 1815, "fields": ["maths", "comp',
        "The device has several parts (a lens, a mirror and",
        "def area(r):\n    return (3.14 *",
        "主要元素有三种（例如氢、氧和",
    ],
    "open table row": ["| Fruit | Colour |\n|---|---|\n| Apple | red |\n| Ban"],
    "empty list item": [
        "Here are the steps to follow:\n1. Boil the water.\n2. Add the tea.\n3.",
        "Pack these for the trip:\n- a warm coat\n- two pairs of boots\n-",
    ],
    "mid-sentence": [
        "Its memory serves as a reminder of the importance of",
        "The town lies on the coast and",
        "Bring some flour, sugar, eggs,",
        "Die Stadt liegt an der Küste und",
        "La ville se trouve sur la côte et",
        "La ciudad está en la costa y se conoce por",
        "The word was once written as photo-",
        "Each day ninety percent is left, so after three days 162 × 0.9 =",
        "乐队里常见的乐器有钢琴、鼓、",
        "提高生活质量有很多方法。例如：\n1. 学习：多读书。\n2. 工作：",
    ],
    "no full stop": [
        "Paris is the capital of France. It has many museums and tourists vis",
        "Sure! A glacier is a slow river of i",
        "The first plan failed for lack of money.\n\nThe second one, which was put forward in spring, never reac",
        "1. Wash the apples well.\n2. Cut them into quarters.\n3. Cook them with a little su",
        "The water cycle describes how water moves between the sea and the air when it evap",
        "梅西帮助球队取得了多次胜利。他还带领阿根廷获得了美洲杯亚军，并在202",
    ],
}
WHOLE = [
    # short answers need no full stop
    "Paris",
    "42",
    "Yes",
    "The capital of France is Paris",
    "Blue, red and green",
    "made of wood",
    "Something to be proud of",
    "7:30 p.m",
    "巴黎",
    "法国的首都是巴黎",
    # ends that are not a full stop
    "Well done!",
    'She said, "Come in."',
    "He came (late).",
    "See https://example.org/a-page",
    "Write to help@example.org",
    "好的，我明白了。",
    "他说：“请进。”",
    "これは例です。",
    "Let's show our love for trees 🌳🌲",
    "Plant one today! They give us air and shade. #treelove #nature",
    "Thank you for your letter. I look forward to our meeting. Yours sincerely, Dr. Jane Holt",
    '"The best way out is always through the middle of the thing." - Anna Writer',
    "To be continued...",
    # lists, verse, tables, data, code
    "- apples\n- pears\n- a bag of flour",
    "1. Wash the apples\n2. Cut them\n3. Cook them slowly",
    "The moon is up\nThe night is long\nI hear the water\nIt sings its song",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    '{"name": "Ada", "tags": ["x", "y"]}',
    "```python\nprint('hi')\n```",
    "Run ```git status``` first",
    "x = [i for i in range(10)]\nprint(x)",
    "def area(r):\n    return 3.14 * r ** 2",
    "SELECT name FROM users WHERE age > 30",
    "12 * 3 = 36\n36 + 4 = 40\n#### 40",
    "Each box holds 12 eggs. Three boxes hold 12 * 3 = <<12*3=36>>36 eggs",
    "Dear Mr Lee,\n\nThank you for the book.\n\nBest wishes,\nAnna",
    "A smile :)",
    "",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in BROKEN.items() for text in texts])
def test_an_answer_that_breaks_off_is_found(kind, text):
    assert break_off(text) == kind


@pytest.mark.parametrize("text", WHOLE)
def test_a_whole_answer_is_left_alone(text):
    assert break_off(text) is None


def test_any_assistant_turn_counts_and_no_user_turn_does(judge, make_row):
    assert (
        judge("cut-off", make_row("Tell me about the", "Gladly.", "Go on and", "The town lies on the coast and"))
        is not None
    )
    assert judge("cut-off", make_row("Tell me about the", "Gladly.")) is None


def test_the_surest_sign_of_a_row_names_the_reason(judge, make_row):
    careless = "It rains a lot there. People carry umbrellas all year"
    finding = judge("cut-off", make_row("a", careless, "b", "```\nopen"))
    assert finding.reason == "cut-off: open code fence"


def test_what_leads_up_to_a_tool_call_is_no_cut(judge, make_row):
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
    messages = [
        {"role": "user", "content": "Weather in Bonn?"},
        {"role": "assistant", "content": "Let me look that up for you:", "tool_calls": [call]},
        {"role": "tool", "content": '{"t": 21'},
        {"role": "assistant", "content": "It has 21 degrees."},
    ]
    assert judge("cut-off", make_row(messages=messages)) is None
    del messages[1]["tool_calls"]
    assert judge("cut-off", make_row(messages=messages)).reason == "cut-off: mid-sentence"


def test_a_kind_can_be_left_out(judge, make_row):
    row = make_row("a", "It rains a lot there. People carry umbrellas all year")
    assert judge("cut-off", row).reason == "cut-off: no full stop"
    assert judge("cut-off", row, kinds=["open code fence", "mid-sentence"]) is None


def test_real_answers_that_break_off_are_found(shared_rows):
    found = [
        row.turns("response")[0][-30:]
        for row in shared_rows("alpaca/alpaca_en.json")
        if break_off(row.turns("response")[0])
    ]
    for ending in ("the importance of", "to come out of his house.\n\n10.", "While Bitcoin", "it may need to be re"):
        assert any(text.endswith(ending) for text in found), ending
    # Read one by one: one of them (".. that finally boiled over") is whole and only lacks its full stop.
    assert len(found) <= 8


@pytest.mark.parametrize(
    "name", ["alpaca/codegen_instruct.json", "prompt_completion/gsm8k_train.jsonl", "alpaca/roleplay_instruct.json"]
)
def test_real_code_sums_and_letters_are_left_alone(shared_rows, name):
    assert [row.id for row in shared_rows(name)[:2000] if break_off(row.turns("response")[0])] == []
