from __future__ import annotations

import pytest

BOILERPLATE = {
    "identity": [
        "I am ChatGPT, a model that can help you.",
        "Hello! I'm Claude, an AI assistant made by Anthropic.",
        "My name is Bard and I am a chatbot.",
        "I was created by OpenAI to answer questions.",
        "As a language model developed by OpenAI, I cannot taste food.",
        "Ich bin ChatGPT und helfe gern.",
        "Ich wurde von OpenAI entwickelt.",
        "Je suis ChatGPT, à votre service.",
        "Soy un modelo entrenado por OpenAI.",
        "我是ChatGPT，很高兴认识你。",
        "我是由百度开发的语言模型。",
    ],
    "cutoff": [
        "The mayor is Anna Berg, as of my last update in 2021.",
        "My knowledge cutoff is September 2021, so check the news.",
        "As of my knowledge cutoff, three albums were out.",
        "My training data only goes up to 2022.",
        "I don't have access to real-time data, but prices were near ten euros.",
        "I cannot browse the internet, so I cannot open the link.",
        "Mein Wissensstand endet im Jahr 2021.",
        "Depuis ma dernière mise à jour, il y a eu des élections.",
        "Según mi última actualización, son doce.",
        "截至我的知识更新时间，共有三个版本。",
        "我的训练数据截止到2021年。",
    ],
    "provider": ["Sure, OpenAI and I can write you a poem about ducks.", "A ChatGPT poem: the duck swims."],
}
NONE = [
    ("Who painted it?", "I am Claude Monet's greatest admirer, so: Monet."),
    ("What is your sign?", "I'm a Gemini, born in June."),
    ("Play a painter.", "My name is Claude, and I live in Giverny."),
    ("What made you late?", "My last update to the parser took all night."),
    ("Who builds phones?", "Google and Apple do."),
    ("What is ChatGPT?", "ChatGPT is a chat service by OpenAI."),
    ("Compare Claude and GPT-4.", "Both are language models; OpenAI makes one of them."),
    ("How do I cite a bot?", 'Some write "I am ChatGPT" in the preface; name the service and the date.'),
    ("Write a greeting.", "```\nprint('I am ChatGPT')\n```"),
    ("Name a startup.", "OpenAI is one."),
    ("Why was she cross?", "I was made by hand, said the doll."),
    ("Wer bist du?", "Ich bin ein Assistent und helfe bei Fragen."),
    ("你是谁？", "我是一个乐于助人的助手。"),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in BOILERPLATE.items() for text in texts])
def test_boilerplate_is_found_in_many_languages(judge, make_row, kind, text):
    assert judge("boilerplate", make_row("Tell me something about ducks.", text)).reason == f"boilerplate: {kind}"


@pytest.mark.parametrize(("prompt", "text"), NONE)
def test_people_stars_quotations_and_talk_of_models_are_none(judge, make_row, prompt, text):
    assert judge("boilerplate", make_row(prompt, text)) is None


def test_a_wrong_name_counts_even_where_it_is_asked_for(judge, make_row):
    assert judge("boilerplate", make_row("Who are you?", "I am ChatGPT.")).reason == "boilerplate: identity"


def test_it_is_found_where_refusal_does_not_look(judge, make_row):
    text = "It has 12 floors. It opened in 1911. It was painted twice. As of my last update, it stands empty."
    row = make_row("Tell me about the tower.", text)
    assert judge("refusal", row) is None
    assert judge("boilerplate", row).detail == "As of my last update"


def test_a_kind_can_be_left_out(judge, make_row):
    row = make_row("A poem, please.", "ChatGPT sings.")
    assert judge("boilerplate", row, kinds=["identity", "cutoff"]) is None


def test_nobody_in_real_role_play_is_a_product(shared_rows, judge):
    assert [row.id for row in shared_rows("alpaca/roleplay_instruct.json")[:600] if judge("boilerplate", row)] == []
