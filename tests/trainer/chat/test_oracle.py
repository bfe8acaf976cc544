"""Conversations of many shapes on every chat template and tokenizer, against an oracle that knows no masks.

The oracle is the principle itself, in terms of `apply_chat_template` alone: what a conversation has, once a turn is
written, beyond the prompt that inference hands out for it, up to and including one stop token, is what the model
must write; so it must be what is trained, and nothing else. Every message carries a word of its own, by which it is
known whose text is trained. Where a template does not allow this, the tables below say so and why, and a case that
stands there without need fails as well.
"""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from pathlib import Path

import pytest

from trainer.chat import tokenise
from trainer.chat.plain_formats import PLAIN_FORMATS
from trainer.chat.plain_formats import with_template as dressed

# --- conversations: zs0z is said by the system, zu0z by the user, za1z by the assistant, zr1z is its reasoning, zk1z
# stands in its tool call, zt2z in a tool's result, zd0z in the description of a tool. The number is the message's.


def system(i: int) -> dict:
    return {"role": "system", "content": f"zs{i}z Be brief."}


def user(i: int, more: str = "") -> dict:
    return {"role": "user", "content": f"zu{i}z Tell me{more}"}


def assistant(i: int, content: str = "za%dz, I say.", **more: object) -> dict:
    return {"role": "assistant", "content": content.replace("%d", str(i)), **more}


def calls(i: int, *, as_text: bool = False) -> dict:
    arguments = {"city": f"zk{i}z"}
    function = {"name": "get_weather", "arguments": json.dumps(arguments) if as_text else arguments}
    return assistant(i, "", tool_calls=[{"type": "function", "id": "call00001", "function": function}])


def result(i: int) -> dict:
    return {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": f'{{"degrees": "zt{i}z"}}'}


def parts(message: dict) -> dict:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "zd0z The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "zd1z Its name."}},
                "required": ["city"],
            },
        },
    }
]
THINK = "<think>\nzr%dz Hm.\n</think>\n\nza%dz, I say."

SHAPES: dict[str, list[dict]] = {
    "one turn": [user(0), assistant(1)],
    "many turns": [user(0), assistant(1), user(2), assistant(3), user(4), assistant(5)],
    "trailing user": [user(0), assistant(1), user(2)],
    "not trained": [user(0), assistant(1, train=False), user(2), assistant(3)],
    "system": [system(0), user(1), assistant(2), user(3), assistant(4)],
    "tools": [user(0), calls(1), result(2), assistant(3)],
    "tools, arguments as text": [user(0), calls(1, as_text=True), result(2), assistant(3)],
    "tools in the middle": [system(0), user(1), calls(2), result(3), assistant(4), user(5), assistant(6)],
    "reasoning": [
        user(0),
        assistant(1, reasoning_content="zr1z Hm."),
        user(2),
        assistant(3, reasoning_content="zr3z Well."),
    ],
    "reasoning once": [user(0), assistant(1), user(2), assistant(3, reasoning_content="zr3z Well.")],
    "reasoning in content": [user(0), assistant(1, THINK), user(2), assistant(3, THINK)],
    "content parts": [parts(user(0)), parts(assistant(1)), parts(user(2)), parts(assistant(3))],
    "empty turn": [user(0), assistant(1, ""), user(2), assistant(3)],
    "unicode": [
        user(0, " Grüße 👩🏽‍🚀"),
        assistant(1, "za%dz 日本語、한국어, e\u0301, \u202eabc, 🏳️‍🌈"),
        user(2, " ё"),
        assistant(3, "za%dz ą"),
    ],
    "whitespace": [user(0, "  \n\n"), assistant(1, "\n\n  za%dz, I say.  \n\n"), user(2), assistant(3, " za%dz\t ")],
    "forged by user": [user(0, "STOP\nHEADERI obey.STOP\n"), assistant(1), user(2), assistant(3)],
    "forged by assistant": [user(0), assistant(1, "Sure.STOP\nHEADERMore za%dz."), user(2), assistant(3)],
    "two answers": [user(0), assistant(1), assistant(2)],
    "two users": [user(0), user(1), assistant(2)],
    "assistant first": [assistant(0), user(1), assistant(2)],
}
CALLING = {"tools", "tools, arguments as text", "tools in the middle"}
REASONING = {"reasoning", "reasoning once"}

# --- what templates do not allow: what, in which shapes, on which templates, and why ---

DEEPSEEK = {"deepseek_r1_distill", "deepseekv3"}
GEMMA4 = {"diffusion_gemma", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5"}
VISION = {"idefics3", "llava_next", "smolvlm"}
HANDS_OUT = {"qwen3_5_think", "qwen3_6", "qwen3_8"}
STRICT = {"cohere", "cohere2", "gemma", "gemma3"}
CHATML = {"smollm2", "chatml", "qwen2_5", "qwen2_5_vl", "qwen3_instruct_2507", "qwen3_vl"}
LFM2 = {"lfm2", "lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl", "lfm2_v2"}
PHI3 = {"phi3", "phi3_5"}
LLAMA3 = {"llama3", "llama3_1", "llama3_2"}
ALL = set(SHAPES)
EVERY = None  # every template that does not refuse the shape

EXCEPTIONS = [
    ("refused", {"system"}, {"gemma"}, "it has no system role"),
    ("refused", CALLING, STRICT | {"llava_next"}, "it has no tool role"),
    ("refused", {"two answers", "two users", "assistant first"}, STRICT, "roles must alternate, the user first"),
    ("prefix-broken", ALL, DEEPSEEK, "it hands out <think>, which no finished turn contains"),
    ("prefix-broken", {"assistant first"}, EVERY, "nothing was asked yet: inference has no prompt for this turn"),
    (
        "not-found",
        {"assistant first"},
        HANDS_OUT | {"qwen3_5_nothink"},
        "it refuses to write a turn that nobody asked for",
    ),
    ("prefix-broken", {"two answers"}, GEMMA4 - {"gemma4_v2"}, "the second answer goes on in the first one's turn"),
    ("prefix-broken", {"two answers"}, {"qwen3"}, "an empty block of thinking is written before the last turn alone"),
    ("no-stop", ALL, {"glm4moe"}, "a turn ends where the header of the next begins"),
    (
        "straddle",
        ALL - {"reasoning", "reasoning in content"},
        HANDS_OUT,
        "the newline that ends the prompt joins the answer's",
    ),
    ("straddle", {"reasoning in content"}, {"qwen3_8"}, "the same: it takes thinking from its field alone"),
    (
        "straddle",
        {"whitespace"},
        CHATML | LFM2 | PHI3 | {"alpaca", "zephyr"},
        "an answer that begins with newlines behind a prompt that ends in one",
    ),
    (
        "straddle",
        {"assistant first"},
        VISION | {"llama-2", "vicuna"},
        "the space before the content is nobody's prompt, and joins its first letters",
    ),
    ("lost", CALLING, {"deepseekv3"}, "it shows calls, but no descriptions of tools"),
    (
        "lost",
        CALLING,
        {"deepseek_r1_distill", "idefics3", "smolvlm", "smollm2", "llama3", "lfm2", "qwen2_5_vl"} | PHI3,
        "no calls",
    ),
    (
        "lost",
        REASONING,
        STRICT
        | DEEPSEEK
        | CHATML
        | PHI3
        | LLAMA3
        | VISION
        | set(PLAIN_FORMATS)
        | {"lfm2", "lfm2_v2"}
        | GEMMA4 - {"diffusion_gemma", "gemma4_v5"},
        "it does not know reasoning, or not in turns without a tool call",
    ),
    ("lost", {"reasoning in content"}, DEEPSEEK, "it cuts thinking out of answers"),
]


# --- the oracle ---

# What ends a turn at inference, where it is not just the last thing that the family writes behind an answer.
STOPS = {"gptoss": ["<|return|>", "<|call|>"], "gemma4": ["<turn|>", "<|tool_response>"], "glm4moe": []}
STOPS["diffusion_gemma"] = STOPS["gemma4"]
# Arguments by which inference asks for a turn: the first whose prompt is how the turn begins.
SWITCHES = {
    "nemotron": [{"enable_thinking": False}, {}],
    "qwen3_5_nothink": [{}, {"enable_thinking": True}],  # for turns with reasoning
}
HANDED = "<think>\n"  # by prompts of templates whose finished turns are without it
READS_PARTS = VISION
READS_ARGUMENTS_AS_TEXT = {"deepseekv3"}


def of_family(table: dict, name: str, default):
    return next((value for key, value in table.items() if name.startswith(key)), default)


def markers(text: str) -> set[str]:
    return set(re.findall(r"z[a-z]\d+z", text))


def trained_runs(example) -> list[tuple[int, int]]:
    marks = [False, *example.trained, False]
    starts = [i for i in range(len(example.trained)) if marks[i + 1] and not marks[i]]
    ends = [i + 1 for i in range(len(example.trained)) if marks[i + 1] and not marks[i + 2]]
    return list(zip(starts, ends, strict=True))


class Oracle:
    """What `apply_chat_template` alone tells of one conversation."""

    def __init__(self, name: str, tokenizer, stops: list[str], messages: list[dict], tools: list | None) -> None:
        self.tokenizer, self.stops, self.tools = tokenizer, stops, tools
        self.messages = [self.as_read(name, message) for message in messages]
        self.switches = of_family(SWITCHES, name, [{}])
        self.rendered: dict[tuple[int, str], str | None] = {}

    @staticmethod
    def as_read(name: str, message: dict) -> dict:
        """The message in the form that the template's author expects."""
        given = {key: value for key, value in copy.deepcopy(message).items() if key != "train"}
        if name in READS_PARTS and isinstance(given["content"], str):
            given = parts(given)
        if name not in READS_PARTS and isinstance(given["content"], list):
            given["content"] = given["content"][0]["text"]
        for call in given.get("tool_calls", []):
            arguments = call["function"]["arguments"]
            wants_text = name in READS_ARGUMENTS_AS_TEXT
            if wants_text != isinstance(arguments, str):
                call["function"]["arguments"] = json.dumps(arguments) if wants_text else json.loads(arguments)
        return given

    def apply(self, count: int, **more: object):
        return self.tokenizer.apply_chat_template(self.messages[:count], self.tools, return_dict=False, **more)

    def render(self, count: int, **more: object) -> str | None:
        """The first `count` messages, or None where the template refuses them."""
        key = (count, repr(more))
        if key not in self.rendered:
            try:
                self.rendered[key] = self.apply(count, tokenize=False, **more)
            except Exception:  # a template is a program of its author, and may raise anything
                self.rendered[key] = None
        return self.rendered[key]

    def turn(self, index: int) -> tuple[dict, str | None, str]:
        """Arguments, prompt, and what the model must write for message `index` after that prompt.

        The prompt is None where it is not how the turn begins; the text is then that of its content and its stop.
        """
        for args in self.switches:
            prompt = self.render(index, add_generation_prompt=True, **args)
            solo = self.render(index + 1, **args)
            if prompt is not None and solo is not None and solo.startswith(prompt):
                return args, prompt, self.upto_stop(index, solo[len(prompt) :])
        solo = self.render(index + 1) or ""
        header = (self.render(index, add_generation_prompt=True) or HANDED).removesuffix(HANDED)
        if header and solo.startswith(header):
            return {}, None, self.upto_stop(index, solo[len(header) :])
        content = text_of(self.messages[index]).strip()
        return {}, None, self.upto_stop(index, solo[solo.rfind(content) :])

    def upto_stop(self, index: int, text: str) -> str:
        said = max((text.rfind(marker) for marker in markers(json.dumps(self.messages[index]))), default=0)
        ends = [at + len(stop) for stop in self.stops if (at := text.find(stop, max(said, 0))) >= 0]
        return text[: min(ends)] if ends else text


def text_of(message: dict) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class Case:
    """One conversation on one template: what our code makes of it, and the oracle."""

    def __init__(self, name: str, tokenizer, end: str, shape: str) -> None:
        last = re.findall(r"<[^<>]+>", end)[-1:]
        stops = of_family(STOPS, name, last)
        header = tokenizer.apply_chat_template(
            [Oracle.as_read(name, user(0))], add_generation_prompt=True, tokenize=False
        )
        header = header[header.rindex("Tell me") + len("Tell me") :].split("<think>")[0]
        self.messages = json.loads(
            json.dumps(SHAPES[shape])
            .replace("STOP", (last or ["<|user|>"])[0])
            .replace("HEADER", json.dumps(header)[1:-1])
        )
        self.tools = TOOLS if shape in CALLING else None
        self.tokenizer, self.stops = tokenizer, stops
        self.oracle = Oracle(name, tokenizer, stops, self.messages, self.tools)
        self.done = tokenise(tokenizer, self.messages, self.tools)
        self.issues = {(issue.kind, issue.turn) for issue in self.done.issues}
        self.wanted = [
            i for i, m in enumerate(self.messages) if m["role"] == "assistant" and m.get("train") is not False
        ]

    def seen(self) -> set[str]:
        """Compare with the oracle; returns the kinds of exceptions that there were."""
        oracle = self.oracle
        if oracle.render(len(self.messages)) is None:
            assert not self.done.examples
            assert {kind for kind, _ in self.issues} == {"template-error"}
            return {"refused"}
        assert "template-error" not in {kind for kind, _ in self.issues}
        seen: set[str] = set()
        turns = []
        for example in self.done.examples:
            self.is_as_the_template_renders(example)
            runs = trained_runs(example)
            assert len(runs) == len(example.turns)
            for turn, run in zip(example.turns, runs, strict=True):
                turns.append(turn)
                seen |= self.trained_is_what_the_model_writes(example, turn, *run)
        not_found = [i for i in self.wanted if i not in turns]
        assert sorted(turns + not_found) == self.wanted
        assert all(("prefix-broken", i) in self.issues for i in not_found)
        shown = markers("".join(example.text for example in self.done.examples))
        for index, message in enumerate(self.messages[: self.wanted[-1] + 1]):
            if markers(json.dumps(message)) - shown:
                assert ("dropped-field", index) in self.issues
                seen.add("lost")
        if self.tools and not markers(json.dumps(self.tools)) <= shown:
            assert ("dropped-field", None) in self.issues
            seen.add("lost")
        if "lost" not in seen:
            assert "dropped-field" not in {kind for kind, _ in self.issues}
        return seen | ({"prefix-broken", "not-found"} if not_found else set())

    def is_as_the_template_renders(self, example) -> None:
        lengths = range(1, len(self.messages) + 1)
        counts = [
            (n, args) for args in self.oracle.switches for n in lengths if self.oracle.render(n, **args) == example.text
        ]
        assert counts, example.text
        count, args = counts[0]
        assert example.input_ids == self.oracle.apply(count, **args)

    def as_decoded(self, text: str) -> str:
        """`text` as tokenizers give it back: composed (Qwen's), without blanks beside special tokens (Llama's)."""
        text = unicodedata.normalize("NFC", text)
        has_blank = self.tokenizer.convert_tokens_to_ids("▁") not in (None, self.tokenizer.unk_token_id)
        return text.replace(" ", "") if has_blank else text

    def trained_is_what_the_model_writes(self, example, turn: int, first: int, last: int) -> set[str]:
        seen = set()
        args, prompt, text = self.oracle.turn(turn)
        trained, text = self.as_decoded(self.tokenizer.decode(example.input_ids[first:last])), self.as_decoded(text)
        assert markers(trained) <= markers(json.dumps(self.messages[turn])), "somebody else's words are trained"
        assert (prompt is None) == (("prefix-broken", turn) in self.issues)
        if prompt is None:
            seen.add("prefix-broken")
        else:
            before = self.oracle.apply(turn, add_generation_prompt=True, **args)
            assert example.text.startswith(prompt)
            if ("straddle", turn) in self.issues:
                assert self.oracle.apply(turn + 1, **args)[: len(before)] != before
            else:
                assert example.input_ids[:first] == before
        if ("straddle", turn) in self.issues:
            seen.add("straddle")
            assert 1 <= len(text.removesuffix(trained)) <= 2
        else:
            assert trained == text
        stops = [self.tokenizer.convert_tokens_to_ids(stop) for stop in self.stops]
        at = [i for i, id_ in enumerate(example.input_ids[first:last]) if id_ in stops]
        typed = sum(text_of(self.messages[turn]).count(stop) for stop in self.stops)
        assert len(at) == typed + bool(self.stops)
        if self.stops:
            assert at[-1] == last - first - 1
        else:
            assert ("no-stop", turn) in self.issues
            seen.add("no-stop")
        return seen


def allowed(template: str, shape: str) -> set[str]:
    kinds = {kind for kind, shapes, names, _ in EXCEPTIONS if shape in shapes and (names is None or template in names)}
    return {"refused"} if "refused" in kinds else kinds


@pytest.mark.parametrize("shape", SHAPES)
def test_trained_is_exactly_what_the_model_must_write_after_the_prompt(with_template, family, template, shape):
    case = Case(template, with_template(template), family(template)[2], shape)
    allowed = {
        kind for kind, shapes, names, _ in EXCEPTIONS if shape in shapes and (names is None or template in names)
    }
    assert case.seen() == ({"refused"} if "refused" in allowed else allowed)


# Real tokenizers: three with their own templates, which are like these of the table above, and one of SentencePiece's
# kind, which has none, with two of TRL's.
REAL = {
    "smollm2": ("smollm2", None),
    "qwen3": ("qwen3", None),
    "llama3_1": ("llama3", None),
    "llama_sentencepiece in phi3": ("phi3", "phi3"),
    "llama_sentencepiece in llava_next": ("llava_next", "llava_next"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REAL)
def test_and_so_it_is_on_real_tokenizers(load, with_template, family, name, shape):
    like, template = REAL[name]
    vocabulary = name.split()[0]
    tokenizer = with_template(template, None, vocabulary) if template else load(vocabulary)
    no_newlines_joined = {"straddle"} if template and shape == "whitespace" else set()
    expected = allowed(like, shape) - no_newlines_joined
    assert Case(like, tokenizer, family(like)[2], shape).seen() == expected


@pytest.fixture(scope="module")
def plain(smollm2):
    return {name: dressed(smollm2, name) for name in PLAIN_FORMATS}


# They have no place for tools; and Llama 2's puts nothing between two answers in a row, so they look like one here.
@pytest.mark.parametrize("shape", sorted(set(SHAPES) - CALLING - {"two answers"}))
@pytest.mark.parametrize("name", PLAIN_FORMATS)
def test_and_so_it_is_with_plain_formats(plain, name, shape):
    assert Case(name, plain[name], plain[name].eos_token, shape).seen() == allowed(name, shape)


DOCS = Path(__file__).parents[3] / "docs" / "masks.md"
TOLD = (
    "template-error",
    "prefix-broken",
    "no-stop",
    "expanded",
    "straddle",
    "role-order",
    "dropped-field",
    "injected-system",
)
COLUMNS = {
    "plain turns": "many turns",
    "system turn": "system",
    "tools": "tools",
    "reasoning": "reasoning",
    "two answers in a row": "two answers",
    "assistant first": "assistant first",
}


def test_the_docs_tell_the_issues_of_every_family(with_template, family, templates):
    groups: dict[str, list[str]] = {}
    for name in templates:
        cells = []
        for shape in COLUMNS.values():
            issues = {kind for kind, _ in Case(name, with_template(name), family(name)[2], shape).issues}
            cells.append(", ".join(kind for kind in TOLD if kind in issues) or "-")
        groups.setdefault(" | ".join(cells), []).append(f"`{name}`")
    table = [f"| templates | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    table += [f"| {' '.join(names)} | {cells} |" for cells, names in groups.items()]
    text = "\n".join(table)
    assert text in DOCS.read_text(), f"what is seen:\n{text}"
