"""Which tokens are trained: those, and only those, that the model must write at inference.

For each assistant turn the conversation is rendered as inference hands it over (`prompt`) and as it stands when
the turn has just been written (`solo`). What `solo` has beyond `prompt`, up to and including the first stop
token behind the turn's content, is what the model writes. Where that text is also how the whole conversation
begins, the turn is trained inside the whole; else it becomes an example of its own. docs/masks.md tells more.

Every row goes through three phases: it is planned (rendered, its turns found in the text), its texts are
tokenised together with those of many other rows, and the tokens are labelled.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from trainer.chat.cache import Shelf, TokenCache, row_key
from trainer.chat.chat_format import ChatFormat, chat_format
from trainer.chat.checks import conversation_issues
from trainer.chat.cuts import labelled, prompt_ends
from trainer.chat.encode import Encoding, check_unicode
from trainer.chat.example import Issue, MaskPolicy, Tokenised, TrainingExample
from trainer.chat.forged import Unwritable, admitted, unmarked
from trainer.chat.render import Conversation, RenderError
from trainer.chat.roles import token_roles
from trainer.chat.turns import Host, hosts, locate, wanted_turns
from trainer.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = tuple[Sequence[Message], Sequence[Any] | None]
"""The messages of a conversation and the schemas of its tools."""


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    policy: MaskPolicy | None = None,
) -> Tokenised:
    """The training examples of one conversation, and what a person should know about them.

    An assistant message with `"train": false` is not trained; of one with `"train_spans": [[start, end], ...]` only
    those characters of its content are. Raises ModelUnavailable where the tokenizer has no chat template; a
    conversation that the template refuses gives no example and the issue `template-error`.
    """
    chat = chat_format(tokenizer, policy)
    plans = [_plan(chat, messages, tools)]
    return next(_finish(chat, plans, _encode(chat, plans)))


def tokenise_many(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Row],
    policy: MaskPolicy | None = None,
    *,
    cache: TokenCache | None = None,
    batch_size: int = 64,
) -> Iterator[Tokenised]:
    """`tokenise` for many `rows`, in their order: the same results, made several times as fast.

    Batches are tokenised in threads (a fast tokenizer lets go of Python's lock) while the next ones are rendered.
    At most a few batches of `batch_size` rows are held at a time. Rows that `cache` holds are taken from there, and
    the others are put there, also when the iterator is closed early.
    """
    chat = chat_format(tokenizer, policy)
    shelf = cache.shelf(chat) if cache is not None else None
    # A slow tokenizer is Python code that nobody promised to be safe in threads.
    threads = min(4, os.cpu_count() or 1) if tokenizer.is_fast else 1
    waiting: deque[tuple[list[_Keyed], Future[list[Encoding]]]] = deque()
    try:
        with ThreadPoolExecutor(threads, "tokenise") as pool:
            for batch in _batches(rows, batch_size):
                planned = [_planned(chat, shelf, *row) for row in batch]
                waiting.append((planned, pool.submit(_encode, chat, [plan for _, plan in planned])))
                if len(waiting) > threads:
                    yield from _finished(chat, shelf, *waiting.popleft())
            while waiting:
                yield from _finished(chat, shelf, *waiting.popleft())
    finally:
        if shelf is not None:
            shelf.flush()


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    policy: MaskPolicy | None = None,
) -> list[int]:
    """The ids that inference hands to the model for it to answer `messages`, by the renderer that training uses.

    Raises RenderError (bad input) where the chat template refuses the conversation.
    """
    return _ids(tokenizer, messages, tools, policy, prompt=True)


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    policy: MaskPolicy | None = None,
) -> list[int]:
    """The ids of a whole conversation, for a model that reads it and writes nothing. Raises as `prompt_ids`."""
    return _ids(tokenizer, messages, tools, policy, prompt=False)


def _ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    policy: MaskPolicy | None,
    *,
    prompt: bool,
) -> list[int]:
    chat = chat_format(tokenizer, policy)
    messages, tools = admitted(messages, tools, chat.added, chat.policy.special)
    text = Conversation(chat.renderer, messages, tools, chat.facts.args, prompt=prompt).whole
    check_unicode(text)
    return chat.encode_marked(text).ids if chat.is_marked(text) else chat.encoder.ids(text)


def stop_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: object = None, policy: MaskPolicy | None = None
) -> frozenset[int]:
    """The ids that end a turn: the generation config's, the tokenizer's eos, and the template's own.

    `generation_config` is a transformers GenerationConfig or None.
    """
    eos = getattr(generation_config, "eos_token_id", None)
    configured = frozenset([eos] if isinstance(eos, int) else eos or [])
    return chat_format(tokenizer, policy).facts.stops | configured


@dataclass(frozen=True)
class _Plan:
    """A row before it is tokenised: the texts that become its examples, and what was found out on the way."""

    conversation: Conversation
    hosts: list[Host]
    issues: list[Issue]


def _plan(chat: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None) -> _Plan | Tokenised:
    issues: list[Issue] = []
    try:
        messages, tools = admitted(messages, tools, chat.added, chat.policy.special)
        conversation = Conversation(chat.renderer, messages, tools, chat.facts.args)
        # Steps 1, 2 and 4 of the design find each turn; step 3 finds the texts that can hold them.
        turns = [locate(chat, conversation, index, issues) for index in wanted_turns(messages, chat.policy)]
        found = hosts(conversation, [turn for turn in turns if turn], issues)
        for host in found:
            check_unicode(host.text)
        # Marked texts are few, and may turn out to be unwritable: they are tokenised here and now.
        found = [
            replace(host, encoding=chat.encode_marked(host.text)) if chat.is_marked(host.text) else host
            for host in found
        ]
    except Unwritable as error:
        return Tokenised([], [Issue("special-in-content", None, f"{error.what}: the row is refused")])
    except RenderError as error:
        return Tokenised([], [Issue("template-error", None, error.what)])
    return _Plan(conversation, found, issues)


_Keyed = tuple[bytes | None, _Plan | Tokenised]
"""A row with what the cache is to find it by; None where it is not to be put there."""


def _planned(chat: ChatFormat, shelf: Shelf | None, messages: Sequence[Message], tools: Sequence[Any] | None) -> _Keyed:
    key = row_key(messages, tools) if shelf is not None else None
    if shelf is not None and (known := shelf.get(key)):
        return None, known
    return key, _plan(chat, messages, tools)


def _finished(
    chat: ChatFormat, shelf: Shelf | None, planned: Sequence[_Keyed], encodings: Future[list[Encoding]]
) -> Iterator[Tokenised]:
    done_rows = _finish(chat, [plan for _, plan in planned], encodings.result())
    for (key, _), done in zip(planned, done_rows, strict=True):
        if shelf is not None and key:
            shelf.put(key, done)
        yield done


def _encode(chat: ChatFormat, plans: Sequence[_Plan | Tokenised]) -> list[Encoding]:
    """One encoding for each host of each plan, in order."""
    every = [host for plan in plans if isinstance(plan, _Plan) for host in plan.hosts]
    fresh = iter(chat.encoder.batch([host.text for host in every if not host.encoding], offsets=True))
    return [host.encoding or next(fresh) for host in every]


def _finish(chat: ChatFormat, plans: Sequence[_Plan | Tokenised], encodings: Iterable[Encoding]) -> Iterator[Tokenised]:
    hosts_of = [plan.hosts if isinstance(plan, _Plan) else [] for plan in plans]
    given = iter(encodings)
    pairs = [[(host, next(given)) for host in row] for row in hosts_of]
    alone = chat.ids_alone(
        text for row in pairs for host, encoding in row for text in prompt_ends(chat, host, encoding)
    )
    for plan, row in zip(plans, pairs, strict=True):
        if isinstance(plan, Tokenised):
            yield plan
            continue
        issues = list(plan.issues)
        examples = [_example(chat, plan.conversation, host, encoding, alone, issues) for host, encoding in row]
        issues += conversation_issues(plan.conversation, chat.facts, chat.added)
        yield Tokenised(examples, issues + _example_issues(chat, examples))


def _example(
    chat: ChatFormat,
    conversation: Conversation,
    host: Host,
    encoding: Encoding,
    alone: dict[str, list[int]],
    issues: list[Issue],
) -> TrainingExample:
    ids, offsets, trained = labelled(chat, host, encoding, alone, issues)  # step 5
    turns = tuple(turn.index for turn in host.turns)
    if chat.policy.turns == "full":
        trained = [True] * len(ids)
        turns = tuple(i for i, message in enumerate(conversation.messages) if message.get("role") == "assistant")
    roles = token_roles(conversation, chat.facts, host.text, host.count, offsets)
    text, offsets = unmarked(host.text, offsets) if chat.is_marked(host.text) else (host.text, offsets)
    return TrainingExample(
        input_ids=ids,
        trained=trained,
        roles=roles,
        offsets=offsets,
        text=text,
        turns=turns,
        special_ids=chat.added.special,
    )


def _example_issues(chat: ChatFormat, examples: Sequence[TrainingExample]) -> list[Issue]:
    issues = []
    bos = chat.tokenizer.bos_token_id
    if bos is not None and any(example.input_ids[:2] == [bos, bos] for example in examples):
        issues.append(
            Issue("double-bos", None, f"both the template and the text begin with {chat.added.texts.get(bos)}")
        )
    if not any(True in example.trained for example in examples):
        issues.append(Issue("zero-trained", None, "no assistant turn of it is trained"))
    return issues


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    given = iter(rows)
    while batch := list(islice(given, size)):
        yield batch
