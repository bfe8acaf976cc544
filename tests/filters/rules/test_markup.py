from __future__ import annotations

import pytest

LEAKED = [
    ("chat marker", "Paris.<|im_end|>\n<|im_start|>user"),
    ("chat marker", "Paris.</s>"),
    ("chat marker", "[/INST] Paris is the capital."),
    ("chat marker", "### Response:\nParis is the capital."),
    ("chat marker", "<｜end▁of▁sentence｜>Paris"),
    ("chat marker", "Paris<end_of_turn>"),
    ("chat marker", "<<SYS>> Be brief. <</SYS>> Paris"),
    ("HTML tag", "<p>Paris is the capital.</p>"),
    ("HTML tag", "Paris<br/>is the capital."),
    ("HTML tag", 'See <a href="https://example.org">this page</a>.'),
    ("HTML tag", '<div class="answer"><span style="font-size:14px">Paris</span></div>'),
    ("HTML entity", "Bread&nbsp;&amp;&nbsp;butter"),
    ("HTML entity", "&quot;Paris&quot;, he said"),
    ("HTML entity", "caf&#233;"),
]
CLEAN = [
    ("What is the capital?", "Paris."),
    ("Bold in a web page?", "Use <b>text</b> or <strong>text</strong>."),
    ("Write an HTML page.", "<html><body><p>Hi</p></body></html>"),
    ("What does <|im_end|> mean?", "<|im_end|> closes a turn in ChatML."),
    ("How do I start?", "Put this in the file:\n```html\n<p>Hello &amp; welcome</p>\n```"),
    ("How do I write a break?", "Write `<br>` where the line ends."),
    ("Write a program in C++.", "#include <iostream>\nint main() {\n  std::vector<int> a;\n  return 0;\n}"),
    ("Compare a and b.", "If a < b and b > c, then <a, b> is a pair."),
    ("Make a table.", "| a | b |\n|---|---|\n| one<br>two | three |"),
    ("Clean this up: <p>Hi</p>", "<p>Hello</p>"),
    ("AT&T?", "AT&T; a company. R&D costs money."),
    ("Headings?", "## Summary\n\n### Results\nAll good."),
    ("Heart?", "I <3 you. <grin>"),
    ("Wie geht das?", "Drücke <Strg> und dann <Enter>."),
]


@pytest.mark.parametrize(("kind", "answer"), LEAKED)
def test_leaked_markup_is_found(judge, make_row, kind, answer):
    assert judge("markup", make_row("What is the capital?", answer)).reason == f"markup: {kind}"


@pytest.mark.parametrize(("prompt", "answer"), CLEAN)
def test_markup_that_belongs_there_is_left_alone(judge, make_row, prompt, answer):
    assert judge("markup", make_row(prompt, answer)) is None


def test_prompts_are_looked_at_only_on_demand(judge, make_row):
    row = make_row("Hello [/INST] there", "Hi.")
    assert judge("markup", row) is None
    assert judge("markup", row, on="prompt").reason == "markup: chat marker"


@pytest.mark.parametrize(
    "name", ["alpaca/codegen_instruct.json", "alpaca/alpaca_zh.json", "prompt_completion/gsm8k_train.jsonl"]
)
def test_real_code_and_sums_hold_no_leaks(shared_rows, judge, name):
    assert [row.id for row in shared_rows(name)[:2000] if judge("markup", row)] == []


def test_the_one_leak_in_real_answers_is_found(shared_rows, judge):
    found = [row.turns("response")[0] for row in shared_rows("alpaca/alpaca_en.json") if judge("markup", row)]
    assert [text[:11] for text in found] == ["### Output:"]
