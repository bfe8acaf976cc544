from __future__ import annotations

import pytest

DECLINES = [
    "I'm sorry, but I can't help with that.",
    "I am sorry, but I cannot provide medical advice.",
    "I apologize, but I am unable to generate that content.",
    "Unfortunately, I can't assist you with this request.",
    "I cannot fulfill this request. Cooking involves knives.",
    "I must decline this request.",
    "Hello! I'm sorry, but I'm not able to access the internet.",
    "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "Leider kann ich diese Frage nicht beantworten.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Lo siento, pero no puedo ayudar con esa solicitud.",
    "Mi dispiace, ma non posso aiutarti con questo.",
    "Desculpe, mas não posso ajudar com isso.",
    "很抱歉，我无法回答这个问题。",
    "申し訳ありませんが、そのご質問にはお答えできません。",
    "К сожалению, я не могу помочь с этим.",
]
AS_AN_AI = [
    "As an AI language model, I don't have feelings.",
    "I'm sorry, but as an AI I cannot see pictures.",
    "I am just an AI and have no opinion.",
    "Good question. As a large language model, I have never been to Rome.",
    "Als KI-Sprachmodell habe ich keine Meinung.",
    "En tant qu'IA, je n'ai pas d'opinion.",
    "Como modelo de lenguaje, no tengo opiniones.",
    "作为一个人工智能语言模型，我没有感情。",
    "AI言語モデルとして、私には感情がありません。",
    "Как языковая модель, я не имею мнения.",
]
NO_REFUSAL = [
    ("Can you come on Friday?", "I'm sorry, but I can't make it on Friday."),
    ("Write to Ana that I will miss her party.", "Dear Ana, I'm sorry, but I can't come to your party."),
    ("Decline this offer politely.", "I'm sorry, but I cannot provide the goods at that price."),
    ("What do assistants say when they refuse?", "They open with “I'm sorry, but I can't help with that.”"),
    ("How do filters work?", 'Many look for "As an AI language model, I" at the start of an answer.'),
    ("What is this statement for?", "It tells the reader what to expect of it as an AI language model."),
    ("Who are you?", "As an AI language model, I answer questions."),
    ("Tell me about yourself.", "I am just an AI, but a helpful one."),
    ("How should a chatbot turn down a request?", "I'm sorry, but I can't help with that is the usual phrase."),
    (
        "Is it safe to swim there?",
        "No. The current is strong. I am not able to provide an exact figure, but two people drown a year.",
    ),
    ("Why did he laugh?", "I cannot help thinking that he was nervous."),
    ("Wie geht es weiter?", "Leider kann man das nicht sagen; die Akten sind verloren."),
    ("天气怎么样？", "很抱歉让你久等了，今天是晴天。"),
    (
        "Explain AI.",
        "Artificial intelligence is the study of machines that learn. As an AI improves, it needs fewer examples.",
    ),
    ("Why was the payment refused?", "The card had expired."),
]


@pytest.mark.parametrize(("kind", "text"), [("declines", t) for t in DECLINES] + [("as an AI", t) for t in AS_AN_AI])
def test_a_refusal_is_found_in_many_languages(judge, make_row, kind, text):
    assert judge("refusal", make_row("Recommend a film.", text)).reason == f"refusal: {kind}"


@pytest.mark.parametrize(("prompt", "text"), NO_REFUSAL)
def test_a_text_about_refusals_is_none(judge, make_row, prompt, text):
    assert judge("refusal", make_row(prompt, text)) is None


def test_every_assistant_turn_is_looked_at(judge, make_row):
    row = make_row("Name a film.", "Metropolis.", "And a book?", "As an AI, I do not read books.")
    assert judge("refusal", row).reason == "refusal: as an AI"


def test_rows_with_tools_may_say_what_no_tool_can_do(judge, make_row):
    turns = ("Order a pizza.", "I'm sorry, but I can't help with that. I can convert currencies.")
    assert judge("refusal", make_row(*turns)) is not None
    assert judge("refusal", make_row(*turns, tools=[{"name": "convert"}])) is None


@pytest.mark.timeout(10)
def test_runs_of_signs_do_not_send_the_patterns_backtracking(judge, make_row):
    assert judge("refusal", make_row("a", ("a" + "," * 60) * 8)) is None


def test_real_boilerplate_is_found_and_nothing_else(shared_rows, judge):
    found = [row for row in shared_rows("alpaca/alpaca_en.json") if judge("refusal", row)]
    assert len(found) >= 18
    assert all("as an AI" in row.turns("response")[0] or "As an AI" in row.turns("response")[0] for row in found)


@pytest.mark.parametrize("name", ["alpaca/codegen_instruct.json", "alpaca/roleplay_instruct.json"])
def test_real_code_and_role_play_do_not_refuse(shared_rows, judge, name):
    assert [row.id for row in shared_rows(name) if judge("refusal", row)] == []
