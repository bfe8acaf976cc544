from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.fences import fences
from filters.rules.code_fence import fence_flaws

FLAWS = {
    "open": [
        "Run this:\n```sh\nls -l",
        "1. First:\n   ```sh\n   ls\n   ```\n2. Then:\n   ```sh\n   cd /tmp\n   and that is all.",
        "~~~\nA block of tildes\n```\nis not closed by backticks",
        "````\nfour marks\n```\nare not closed by three",
    ],
    "glued": ["Use it so:\n```python\nprint('hi')```\nThat prints hi."],
    "nested": ["```python\nx = 1\nThe next file:\n```python\ny = 2\n```"],
}
FINE = [
    "",
    "No code at all.",
    "Say ```git status``` in a line of its own:\n```git status```\nand go on.",
    "```python\nprint('hi')\n```",
    "```\na\n```\n\nand\n\n~~~text\nb\n~~~",
    "- A list:\n  ```js\n  f()\n  ```",
    "- ```sh\n  ls\n  ```",
    "````markdown\n```python\nx = 1\n```\n````",
    "```markdown\nWrite it so: ```python\nand so on.\n```",
    "```python\ntext = '''```'''\n```",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FLAWS.items() for text in texts])
def test_fences_that_do_not_fit_are_found(kind, text):
    assert [found for found, _ in fence_flaws(text)] == [kind]


@pytest.mark.parametrize("text", FINE)
def test_fences_that_fit_are_left_alone(text):
    assert fence_flaws(text) == []


def test_a_block_has_its_language_and_its_text():
    found = fences("a\n```Python title=x\nprint(1)\n\n  2\n```\nb\n~~~\nc")
    assert [(f.language, f.body, f.closed) for f in found] == [("python", "print(1)\n\n  2", True), ("", "c", False)]


@given(st.lists(st.text(st.characters(exclude_characters="`~\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=20)))
def test_whatever_is_fenced_comes_back(bodies):
    text = "".join(f"prose\n```x\n{body}\n```\n" for body in bodies)
    assert [f.body for f in fences(text)] == bodies
    assert fence_flaws(text) == []


def test_the_answer_falls_and_not_the_prompt(judge, make_row):
    assert judge("code-fence", make_row("```\nopen", "Fine.")) is None
    assert judge("code-fence", make_row("a", "b", "c", "```\nopen")).reason == "code fence: open"
    assert judge("code-fence", make_row("a", "```\nopen"), kinds=["glued"]) is None
