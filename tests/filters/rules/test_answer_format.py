from __future__ import annotations

import pytest

FLAWS = [
    ("broken JSON", "Give me the pet as JSON.", '{"name": "Rex", "legs": 4,}'),
    ("broken JSON", "Give me the pet as JSON.", "{'name': 'Rex'}"),
    ("broken JSON", "Show a sample config.", 'Here:\n```json\n{"a": 1, "b": [1, 2}\n```'),
    ("broken JSON", "Show a sample config.", '```json\n{"a": 1\n```'),
    ("no JSON", "Return the result as a JSON object: Rex has four legs.", "Rex has four legs."),
    ("no JSON", "Gib das Ergebnis als JSON aus: Rex hat vier Beine.", "Rex hat vier Beine."),
    ("no JSON", "以JSON格式返回：雷克斯有四条腿。", "雷克斯有四条腿。"),
    ("no table", "Compare tea and coffee in a table.", "Tea has less caffeine than coffee."),
    ("no table", "Make a short table of three rivers.", "The Rhine, the Elbe and the Oder are rivers."),
    ("no table", "Stelle die Flüsse als Tabelle dar.", "Rhein, Elbe und Oder sind Flüsse."),
    ("no table", "Présente les fleuves dans un tableau.", "La Seine et la Loire sont des fleuves."),
    ("no table", "请用表格比较茶和咖啡。", "茶的咖啡因比咖啡少。"),
    ("no list", "Give the reasons as bullet points.", "It is cheap, and it is near."),
    ("no list", "Write a numbered list of the planets.", "Mercury, Venus, Earth and Mars are some."),
    ("no list", "Nenne die Gründe als Liste.", "Es ist billig, und es ist nah."),
    ("no list", "Donne les raisons sous forme de liste.", "C'est bon marché et c'est proche."),
]
FINE = [
    ("Give me the pet as JSON.", '{"name": "Rex", "legs": 4}'),
    ("Give me the pet as JSON.", 'Here it is:\n```json\n{"name": "Rex"}\n```\nDone.'),
    ("Give me the pets as JSON.", '{"name": "Rex"}\n{"name": "Tom"}'),
    ("Show a sample config.", '```json\n{"a": 1, ...}\n```'),
    ("Show a sample config.", '```json\n{\n  // the port\n  "port": 80\n}\n```'),
    ("Show the member.", '```json\n"ports": [80, 443]\n```'),
    ("Show the request.", '```json\nGET pets/_search\n{"size": 1}\n```'),
    ("Show a sample config.", "```js\n{a: 1,}\n```"),
    ("Write a Python function that returns JSON.", "def f():\n    return json.dumps({})"),
    ("How do I convert a list to JSON?", "Call the library that your language has for it."),
    ("Reply in plain text, not as JSON.", "Rex has four legs."),
    ("Compare tea and coffee in a table.", "| Drink | Caffeine |\n|---|---|\n| tea | 30 mg |"),
    ("Compare tea and coffee in a table.", "Drink\tCaffeine\ntea\t30 mg"),
    ("Compare tea and coffee in a table.", "╔════╦════╗\n║ tea ║ 30 ║\n║ coffee ║ 90 ║"),
    ("Compare tea and coffee in a table.", "Please provide the figures, and I will put them in order."),
    ("Three chairs cost as much as a table. What does one chair cost?", "Ten euros."),
    ("Create a table of contents for a book on tea.", "1. History\n2. Harvest"),
    ("Write a sentence about table tennis as a table metaphor.", "Life is a game played back and forth."),
    ("Give the reasons as bullet points.", "- cheap\n- near"),
    ("Give the reasons as bullet points.", "1) cheap 2) near"),
    ("Give the reasons as bullet points.", "Cheap\nNear\nPretty"),
    ("Give the reasons as bullet points.", "• cheap"),
    ("Give the reasons. Do not use bullet points.", "It is cheap, and it is near."),
    ("Give the reasons without bullet points.", "It is cheap, and it is near."),
    ("Reverse a linked list, and return it as a list.", "def f(head): ..."),
    ("List the planets.", "Mercury, Venus, Earth and Mars."),
    ("Tell me a story.", ""),
]


@pytest.mark.parametrize(("kind", "prompt", "answer"), FLAWS)
def test_an_answer_in_another_form_than_asked_for_is_found(judge, make_row, kind, prompt, answer):
    assert judge("format", make_row(prompt, answer)).reason == f"format: {kind}"


@pytest.mark.parametrize(("prompt", "answer"), FINE)
def test_the_form_that_was_asked_for_and_all_others_stay(judge, make_row, prompt, answer):
    assert judge("format", make_row(prompt, answer)) is None


def test_a_system_turn_asks_in_every_turn_and_a_user_turn_in_its_own(judge, make_row):
    turns = ("Rex has four legs.", '{"legs": 4}', "And a hen?", "A hen has two.")
    assert judge("format", make_row(*turns, system="Always answer in JSON.")).reason == "format: no JSON"
    assert judge("format", make_row(*turns)) is None
    assert judge("format", make_row("As JSON, please.", '{"legs": 4}', "Thanks!", "You are welcome.")) is None


def test_a_tool_call_has_no_form(judge, make_row):
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    messages = [
        {"role": "user", "content": "Give me the weather in a table."},
        {"role": "assistant", "content": "One moment.", "tool_calls": [call]},
    ]
    assert judge("format", make_row(messages=messages)) is None


def test_a_kind_can_be_left_out(judge, make_row):
    row = make_row("Compare tea and coffee in a table.", "Tea has less.")
    assert judge("format", row, kinds=["broken JSON"]) is None
