"""Which tokens are trained: those, and only those, that the model must write at inference.

For each assistant turn the conversation is rendered as inference hands it over (`prompt`) and as it stands when
the turn has just been written (`solo`). What `solo` has beyond `prompt`, up to and including the first stop
token behind the turn's content, is what the model writes. Where that text is also how the whole conversation
begins, the turn is trained inside the whole; else it becomes an example of its own. docs/masks.md tells more.
"""

from __future__ import annotations

import datetime
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trainer.chat.checks import conversation_issues, has_special
from trainer.chat.encode import encode, encode_with_offsets
from trainer.chat.example import Issue, MaskPolicy, Tokenised, TrainingExample
from trainer.chat.probe import AddedTokens, TemplateFacts, probe
from trainer.chat.render import Conversation, Renderer, RenderError
from trainer.chat.roles import token_roles
from trainer.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    policy: MaskPolicy | None = None,
) -> Tokenised:
    """The training examples of one conversation, and what a person should know about them.

    An assistant message with `"train": false` is not trained. Raises ModelUnavailable where the tokenizer has no
    chat template; a conversation that the template refuses gives no example and the issue `template-error`.
    """
    policy = policy or MaskPolicy()
    chat = _chat(tokenizer, policy)
    issues: list[Issue] = []
    try:
        conversation = Conversation(chat.renderer, messages, tools, chat.facts.args)
        turns = [_locate(chat, conversation, index, issues) for index in _wanted(messages, policy)]
        hosts = _hosts(conversation, [turn for turn in turns if turn], issues)
        full = policy.turns == "full"
        examples = [_example(chat, conversation, host, issues, full=full) for host in hosts]
    except RenderError as error:
        return Tokenised([], [Issue("template-error", None, error.what)])
    issues += conversation_issues(conversation, chat.facts, chat.added)
    issues += _example_issues(chat, examples)
    return Tokenised(examples, issues)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    policy: MaskPolicy | None = None,
) -> list[int]:
    """The ids that inference hands to the model for it to answer `messages`, by the renderer that training uses.

    Raises RenderError (bad input) where the chat template refuses the conversation.
    """
    chat = _chat(tokenizer, policy or MaskPolicy())
    conversation = Conversation(chat.renderer, messages, tools, chat.facts.args, prompt=True)
    return encode(tokenizer, conversation.whole)


def stop_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: object = None, policy: MaskPolicy | None = None
) -> frozenset[int]:
    """The ids that end a turn: the generation config's, the tokenizer's eos, and the template's own.

    `generation_config` is a transformers GenerationConfig or None.
    """
    eos = getattr(generation_config, "eos_token_id", None)
    configured = frozenset([eos] if isinstance(eos, int) else eos or [])
    return _chat(tokenizer, policy or MaskPolicy()).facts.stops | configured


@dataclass(frozen=True)
class _Chat:
    """A tokenizer with its chat template under one policy, and what probing found out about the two."""

    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    added: AddedTokens
    facts: TemplateFacts
    clean_cuts: dict[tuple[str, tuple[int, ...]], bool] = field(default_factory=dict)


_CHATS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[object, ...], _Chat]] = WeakKeyDictionary()


def _chat(tokenizer: PreTrainedTokenizerBase, policy: MaskPolicy) -> _Chat:
    date = policy.date or datetime.date.today().isoformat()
    template = tokenizer.chat_template
    named = template if isinstance(template, str) else repr(template)
    key = (named, len(tokenizer), repr(policy.template_args), date, policy.stop_ids)
    chats = _CHATS.setdefault(tokenizer, {})
    if key not in chats:
        renderer = Renderer(tokenizer, dict(policy.template_args), date)
        added = AddedTokens(tokenizer)
        chats[key] = _Chat(tokenizer, renderer, added, probe(renderer, added, policy.stop_ids))
    return chats[key]


@dataclass(frozen=True)
class _Turn:
    """What the model writes for one turn: `text[start:end]`; `stop` is where its stop token's text begins."""

    index: int
    text: str
    start: int
    end: int
    stop: int | None


@dataclass(frozen=True)
class _Host:
    """A text that becomes one training example: the first `count` messages, with the turns trained in it."""

    text: str
    count: int
    turns: list[_Turn] = field(default_factory=list)


def _wanted(messages: Sequence[Message], policy: MaskPolicy) -> list[int]:
    if policy.turns == "full":
        return []  # no turn is told from another
    turns = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
    if policy.turns == "last":
        turns = turns[-1:]
    return [i for i in turns if messages[i].get("train") is not False]


def _locate(chat: _Chat, conversation: Conversation, index: int, issues: list[Issue]) -> _Turn | None:
    solo, start = "", None
    reason = "the prompt is not how the turn's text begins"
    for args in [chat.facts.args, *chat.facts.other_args]:
        try:
            prompt = conversation.upto(index, prompt=True, args=args)
            solo = conversation.upto(index + 1, args=args)
        except RenderError as error:
            reason = f"inference cannot ask for this turn: {error.what}"
            continue
        if solo.startswith(prompt):
            start = len(prompt)
            break
    if start is None:
        try:
            solo = conversation.upto(index + 1)
            start = _by_sentinel(conversation, index, solo)
        except RenderError as error:
            reason = f"the conversation up to this turn cannot be rendered: {error.what}"
        if start is None:
            issues.append(Issue("prefix-broken", index, f"{reason}; its content was not found either: not trained"))
            return None
        issues.append(Issue("prefix-broken", index, f"{reason}; trained from its content on"))
    end, stop = _end(chat, conversation.messages[index], solo, start)
    if stop is None:
        issues.append(Issue("no-stop", index, f"the template puts none of {_shown(chat.facts.stop_texts)} behind it"))
    return _Turn(index, solo, start, end, stop)


def _shown(texts: Sequence[str]) -> str:
    return ", ".join(sorted(texts)) or "its stop tokens (the tokenizer names none)"


def _by_sentinel(conversation: Conversation, index: int, solo: str) -> int | None:
    """Where the content of turn `index` starts in `solo`, by rendering it with another content."""
    sentinel = "sentinelcontent"
    while sentinel in solo:
        sentinel += "x"
    before, found, after = conversation.with_content(index, sentinel).partition(sentinel)
    fits = found and solo.startswith(before) and solo.endswith(after) and len(before) + len(after) <= len(solo)
    return len(before) if fits else None


def _end(chat: _Chat, message: Message, solo: str, start: int) -> tuple[int, int | None]:
    """The end of what the model writes from `start` on, and where its stop token begins (None: there is none)."""
    tail = chat.facts.tail
    stops = [text for text in chat.facts.stop_texts if text]
    if tail is not None and solo.endswith(tail) and start <= (content_end := len(solo) - len(tail)):
        # What the template writes behind every answer stands there: the content ends where it begins, whatever
        # the content itself may hold.
        return _first(solo, stops, content_end) or (content_end, None)
    if has_special(message, chat.added):
        # The content may hold stop tokens of its own; the template's comes last.
        places = [(place + len(text), place) for text in stops if (place := solo.rfind(text, start)) >= 0]
        return max(places, key=lambda p: p[1]) if places else (len(solo), None)
    return _first(solo, stops, start) or (len(solo), None)


def _first(text: str, stops: Sequence[str], start: int) -> tuple[int, int] | None:
    places = [(place + len(stop), place) for stop in stops if (place := text.find(stop, start)) >= 0]
    return min(places, key=lambda p: p[1]) if places else None


def _hosts(conversation: Conversation, turns: Sequence[_Turn], issues: list[Issue]) -> list[_Host]:
    """As few texts as can hold every turn with exactly the text before it that inference would show."""
    whole = _Host(conversation.whole, len(conversation.messages))
    hosts = [whole]
    for turn in reversed(turns):
        head = turn.text[: turn.end]
        host = next((host for host in hosts if host.text.startswith(head)), None)
        if host is None:
            host = _Host(turn.text, turn.index + 1)
            hosts.append(host)
            issues.append(Issue("expanded", turn.index, "later turns change how the template writes this one"))
        host.turns.insert(0, turn)
    if len(hosts) > 1 and not whole.turns:
        hosts.remove(whole)
    return sorted(hosts, key=lambda host: host.count)


def _example(
    chat: _Chat, conversation: Conversation, host: _Host, issues: list[Issue], *, full: bool
) -> TrainingExample:
    encoding = encode_with_offsets(chat.tokenizer, host.text)
    if encoding.offsets is None:
        ids, offsets, trained = _by_segments(chat, host, encoding.ids, issues)
    else:
        ids, offsets = encoding.ids, encoding.offsets
        trained = [False] * len(ids)
        for turn in host.turns:
            first, last = _token_range(chat, host.text, ids, offsets, turn, issues)
            trained[first:last] = [True] * (last - first)
    turns = tuple(turn.index for turn in host.turns)
    if full:
        trained = [True] * len(ids)
        turns = tuple(i for i, message in enumerate(conversation.messages) if message.get("role") == "assistant")
    return TrainingExample(
        input_ids=ids,
        trained=trained,
        roles=token_roles(conversation, chat.facts, host.text, host.count, offsets),
        special=[id_ in chat.added.special for id_ in ids],
        offsets=offsets,
        text=host.text,
        turns=turns,
    )


def _token_range(
    chat: _Chat, text: str, ids: list[int], offsets: list[tuple[int, int]], turn: _Turn, issues: list[Issue]
) -> tuple[int, int]:
    """First token of the turn and the one behind its last. Cuts between tokens: one across a border stays out."""
    first = bisect_left(offsets, (turn.start, -1))
    if first and offsets[first - 1][1] > turn.start:
        issues.append(Issue("straddle", turn.index, _straddler(text, offsets[first - 1], "where the turn begins")))
    elif not _cut_is_clean(chat, text, ids, offsets, first, turn.start):
        issues.append(Issue("straddle", turn.index, "the prompt alone is split into other tokens than here"))
        # With trimmed offsets a token may begin with whitespace of the prompt that its range does not show.
        if first < len(offsets) and first and offsets[first - 1][1] < turn.start:
            first += 1
    if turn.stop is not None:
        stop = bisect_right(offsets, (turn.stop, len(text))) - 1
        if ids[stop] in chat.facts.stops:
            return first, max(first, stop + 1)
        issues.append(Issue("no-stop", turn.index, "the text of its stop token is not tokenised as that token"))
    last = bisect_left(offsets, (turn.end, -1))
    while last > first and offsets[last - 1][1] > turn.end:
        last -= 1
        issues.append(Issue("straddle", turn.index, _straddler(text, offsets[last], "where the turn ends")))
    return first, max(first, last)


def _straddler(text: str, span: tuple[int, int], where: str) -> str:
    return f"the token {text[span[0] : span[1]]!r} lies across the border {where}"


def _cut_is_clean(
    chat: _Chat, text: str, ids: list[int], offsets: list[tuple[int, int]], first: int, start: int
) -> bool:
    """Whether the text before `start`, tokenised alone as at inference, gives the tokens before `first`.

    An added token splits the text before anything else does, so it is enough to look back to the last one.
    """
    back = first - 1
    while back > 0 and ids[back] not in chat.added.texts:
        back -= 1
    back = max(back, 0)
    piece = text[offsets[back][0] : start] if first else text[:start]
    key = (piece, tuple(ids[back:first]))
    if key not in chat.clean_cuts:
        if len(chat.clean_cuts) > 4096:  # templates without added tokens have a piece of their own in every row
            chat.clean_cuts.clear()
        chat.clean_cuts[key] = encode(chat.tokenizer, piece) == list(key[1])
    return chat.clean_cuts[key]


def _by_segments(
    chat: _Chat, host: _Host, whole: list[int], issues: list[Issue]
) -> tuple[list[int], list[tuple[int, int]], list[bool]]:
    """For tokenizers without usable offsets: tokenise between the borders, and keep that only if the ids agree."""
    cuts = sorted({0, len(host.text), *(turn.start for turn in host.turns), *(turn.end for turn in host.turns)})
    spans = [(turn.start, turn.end) for turn in host.turns]
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    trained: list[bool] = []
    for start, end in pairwise(cuts):
        segment = encode(chat.tokenizer, host.text[start:end])
        ids += segment
        offsets += [(start, end), *[(end, end)] * (len(segment) - 1)][: len(segment)]
        trained += [(start, end) in spans] * len(segment)
    if ids != whole:
        for turn in host.turns:
            detail = "this tokenizer tells no positions and joins text across the borders of turns: not trained"
            issues.append(Issue("straddle", turn.index, detail))
        end = len(host.text)
        return whole, [(0, end), *[(end, end)] * (len(whole) - 1)][: len(whole)], [False] * len(whole)
    return ids, offsets, trained


def _example_issues(chat: _Chat, examples: Sequence[TrainingExample]) -> list[Issue]:
    issues = []
    bos = chat.tokenizer.bos_token_id
    if bos is not None and any(example.input_ids[:2] == [bos, bos] for example in examples):
        issues.append(
            Issue("double-bos", None, f"both the template and the text begin with {chat.added.texts.get(bos)}")
        )
    if not any(True in example.trained for example in examples):
        issues.append(Issue("zero-trained", None, "no assistant turn of it is trained"))
    return issues
