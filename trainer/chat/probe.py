"""What a chat template does around the words it is given, found out by trying it with words of our own.

Reading the template would mean understanding Jinja programs; rendering a few two-line conversations tells the
same with certainty: what it writes behind a turn, which token ends one, what it adds that no message contains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.chat.render import Renderer, RenderError, dict_arguments, text_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER, _ANSWER = "quince system words", "quince question words", "quince answer words"
_USER2, _ANSWER2, _CITY = "second question words", "second answer words", "quincetown"

_S: dict[str, Any] = {"role": "system", "content": _SYSTEM}
_U: dict[str, Any] = {"role": "user", "content": _USER}
_A: dict[str, Any] = {"role": "assistant", "content": _ANSWER}
_U2: dict[str, Any] = {"role": "user", "content": _USER2}
_A2: dict[str, Any] = {"role": "assistant", "content": _ANSWER2}
_TOOL_USE = "Weather of a city."
_CALL = {"type": "function", "id": "call00001", "function": {"name": "get_weather", "arguments": {"city": _CITY}}}
_T: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": _TOOL_USE,
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city."}}},
    },
}

# Arguments by which model families switch their reasoning, and thereby the `<think>` that a prompt hands out.
_SWITCHES = [("enable_thinking", False), ("enable_thinking", True), ("thinking", False), ("thinking", True)]
_ROLE_WORDS = frozenset({"system", "user", "human", "assistant", "model", "instruction", "inst"})


class AddedTokens:
    """The tokens that a tokenizer finds as whole strings before it splits anything else."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        added = tokenizer.added_tokens_decoder
        self.texts: dict[int, str] = {id_: token.content for id_, token in added.items()}
        self.special: frozenset[int] = frozenset(
            {id_ for id_, token in added.items() if token.special} | set(tokenizer.all_special_ids)
        )
        for id_ in self.special - self.texts.keys():
            self.texts[id_] = str(tokenizer.convert_ids_to_tokens(id_))
        self.ids = {text: id_ for id_, text in self.texts.items()}
        self.pattern = _any_of(self.texts.values())
        self.special_pattern = _any_of(self.texts[id_] for id_ in self.special)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    ordered = sorted((text for text in texts if text), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) if ordered else r"(?!)")


@dataclass(frozen=True)
class TemplateFacts:
    """What probing found.

    `args`: the template arguments in use, the policy's own plus, where only so the prompt is how an answer
    begins, a switch of the template's. `other_args`: further sets to try for a single turn. `tail`: what stands
    behind the last answer of a conversation, None if unknown; `shared_tail`: the part of it that also stands
    there when a turn follows. `header`: what a prompt has behind its messages, None if unknown. `stops` and
    `stop_texts`: ids and texts of the stop tokens.
    `injected`: text that no message contained, without and with a system message; `system_block`: how a
    conversation without a system message begins before the first user turn, where text is injected.
    `shows_tools`: whether the tools that are passed to the template reach the text.
    """

    args: dict[str, Any]
    other_args: list[dict[str, Any]]
    tail: str | None
    shared_tail: str
    header: str | None
    stops: frozenset[int]
    stop_texts: tuple[str, ...]
    injected: dict[bool, str]
    system_block: str
    shows_tools: bool


def probe(renderer: Renderer, added: AddedTokens, more_stops: Sequence[int]) -> TemplateFacts:
    """Try the template out. Sets how the renderer hands over content: as text, as parts, or as it is."""
    plain = _try(renderer, [_U, _A])
    if plain is None or _ANSWER not in plain:
        renderer.parts = True
        plain = _try(renderer, [_U, _A])
        renderer.parts = plain is not None and _ANSWER in plain
    renderer.joins_parts = not renderer.parts and _try(renderer, [_in_parts(_U), _in_parts(_A)]) != plain
    choices = [renderer.args, *_switched(renderer)]
    args = next((choice for choice in choices if _begins_with_prompt(renderer, choice)), renderer.args)
    answered = _try(renderer, [_U, _A], args=args)
    tail = answered.rpartition(_ANSWER)[2] if answered and _ANSWER in answered else None
    between = _between(_try(renderer, [_U, _A, _U2, _A2], args=args), _ANSWER, _USER2)
    shared = _common_start(tail or "", between) if between is not None else tail or ""
    stops = _stops(renderer, added, more_stops, tail, shared, args)
    before = {
        False: _before(_try(renderer, [_U], args=args), [_USER]),
        True: _before(_try(renderer, [_S, _U], args=args), [_SYSTEM, _USER]),
    }
    asked, prompt = _try(renderer, [_U], args=args), _try(renderer, [_U], args=args, prompt=True)
    user_header = (between or "")[len(shared) :]
    injected = {key: _own_words(text.removesuffix(user_header), added) for key, text in before.items()}
    block = before[False].removesuffix(user_header) if injected[False] and before[False].endswith(user_header) else ""
    return TemplateFacts(
        args=dict(args),
        other_args=[choice for choice in choices if choice != args],
        tail=tail,
        shared_tail=shared,
        header=prompt[len(asked) :] if prompt and asked and prompt.startswith(asked) else None,
        stops=stops,
        stop_texts=tuple(added.texts[id_] for id_ in stops if id_ in added.texts),
        injected=injected,
        system_block=block,
        shows_tools=_TOOL_USE in (_try(renderer, [_U], args=args, tools=[_TOOL]) or ""),
    )


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _switched(renderer: Renderer) -> list[dict[str, Any]]:
    """The renderer's arguments with each switch that the template mentions and the user did not set."""
    source = renderer.template(False)
    return [
        {**renderer.args, name: value}
        for name, value in _SWITCHES
        if name not in renderer.args and re.search(rf"\b{name}\b", source)
    ]


def _begins_with_prompt(renderer: Renderer, args: dict[str, Any]) -> bool:
    prompt = _try(renderer, [_U], args=args, prompt=True)
    answered = _try(renderer, [_U, _A], args=args)
    return prompt is not None and answered is not None and answered.startswith(prompt)


def _stops(
    renderer: Renderer, added: AddedTokens, more: Sequence[int], tail: str | None, shared: str, args: dict[str, Any]
) -> frozenset[int]:
    """The generation config's and the tokenizer's stop tokens, and the template's where those do not end a turn.

    A known stop token that ends every turn is enough (Cohere2 writes `<|END_RESPONSE|>` before it, and a model
    must learn to write both). Where it ends only the last turn (Phi-3) or none, the token right behind the turn
    is what stops a model in the middle of a chat.
    """
    eos = renderer.tokenizer.eos_token_id
    stops = set(more) | ({eos} if eos is not None else set())

    def known_in(text: str) -> bool:
        return any(added.texts.get(id_, "\0") in text for id_ in stops)

    if tail is not None and not known_in(shared) and (behind := added.pattern.match(tail.lstrip())):
        stops.add(added.ids[behind.group()])
    called = _tool_tail(renderer, args)
    # Some templates end a turn that calls a tool by another token: gpt-oss by <|call|>.
    if called is not None and not known_in(called):
        last = max(added.pattern.findall(called), key=called.rfind, default="")
        if last and called.rstrip().endswith(last):
            stops.add(added.ids[last])
    return frozenset(stops)


def _tool_tail(renderer: Renderer, args: dict[str, Any]) -> str | None:
    for convert in (dict_arguments, text_arguments):
        text = _try(renderer, [_U, convert(_T)], args=args, tools=[_TOOL])
        if text is not None and _CITY in text:
            return text.rpartition(_CITY)[2]
    return None


def _try(
    renderer: Renderer,
    messages: list[dict[str, Any]],
    *,
    args: dict[str, Any] | None = None,
    tools: list[Any] | None = None,
    prompt: bool = False,
) -> str | None:
    try:
        return renderer.render(messages, tools, generation_prompt=prompt, args=args)
    except RenderError:
        return None


def _common_start(a: str, b: str) -> str:
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:length]


def _between(text: str | None, left: str, right: str) -> str | None:
    if text is None or left not in text:
        return None
    inner, found, _ = text.partition(left)[2].partition(right)
    return inner if found else None


def _before(text: str | None, words: list[str]) -> str:
    """All of `text` up to the last of `words`, without the words; empty where one is missing."""
    if text is None or any(word not in text for word in words):
        return ""
    head = text[: text.index(words[-1])]
    for word in words:
        head = head.replace(word, "")
    return head


def _own_words(text: str, added: AddedTokens) -> str:
    """What remains of `text` without tokens, tags and role names; empty below three words."""
    bare = re.sub(r"<[^<>\s]*>|\[/?INST\]", " ", added.pattern.sub(" ", text))
    words = [word for word in re.findall(r"\w+", bare) if word.lower() not in _ROLE_WORDS]
    return " ".join(bare.split()) if len(words) >= 3 else ""
