"""What a template itself says of who writes what: its generation tags, beside what is trained here. Step 6.

Templates mark the model's text by `{% generation %}`, or TRL's package has a twin of them that does. The tags are a
second opinion, not the truth: some take in the header of a turn, or the newline behind its stop token, which no
model has to write.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.chat.chat_format import chat_format
from trainer.chat.example import Issue, MaskPolicy
from trainer.chat.render import Conversation, Renderer, RenderError
from trainer.chat.turns import locate, wanted_turns
from trainer.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TAGS = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")
_OPEN, _CLOSE = "\ufdd1", "\ufdd2"  # noncharacters: no text that is passed on contains them


def tag_issues(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    policy: MaskPolicy | None = None,
) -> list[Issue] | None:
    """Where the tags mark other text than what is trained of a turn: `tags-disagree`, with what and where.

    None where there is nothing to compare: the template has no tags, nor a twin with some, it refuses the row, or every
    token is trained whatever the tags say. Parts that the policy leaves out count as trained. It renders every turn
    four times: for a sample, not for every row.
    """
    chat = chat_format(tokenizer, policy)
    source = tagged_source(tokenizer.get_chat_template(tools=[{}] if tools else None))
    if source is None or chat.policy.turns == "full":
        return None
    try:
        conversation = Conversation(chat.renderer, messages, tools, chat.facts.args)
    except RenderError:
        return None
    marked = chat.renderer.with_source(_marked(source))
    issues = []
    for index in wanted_turns(messages, chat.policy):
        turn = locate(chat, conversation, index, [])
        if turn is not None:
            theirs = _tagged(marked, conversation, index, chat.facts.args)
            if said := _difference(turn.text[turn.start : turn.end], theirs):
                issues.append(Issue("tags-disagree", index, said))
    return issues


def tagged_source(template: str) -> str | None:
    """`template` where it has generation tags; else its twin in TRL's package, which matches texts exactly; or None."""
    return template if _TAGS.search(template) else _twins().get(template)


@cache
def _twins() -> Mapping[str, str]:
    """The templates of TRL's installed package that have a twin with tags. TRL itself is not imported."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "chat_templates"
    pairs = [(path, path.with_stem(path.stem + "_training")) for path in folder.glob("*.jinja")]
    return {path.read_text(encoding="utf-8"): twin.read_text(encoding="utf-8") for path, twin in pairs if twin.exists()}


def _marked(source: str) -> str:
    """`source` with each tag writing a character of our own in its place, and trimming around it as the tag does."""
    return _TAGS.sub(lambda t: f"{{%{t[1]} if true %}}{_CLOSE if t[2] else _OPEN}{{% endif {t[3]}%}}", source)


def _tagged(renderer: Renderer, conversation: Conversation, index: int, args: Mapping[str, Any]) -> str | None:
    """What the tags mark of turn `index`; None where the template with tags refuses the conversation."""
    try:
        # Each message gives the same number of marked pieces whether others follow or not.
        before = renderer.render(conversation.messages[:index], conversation.tools, args=args) if index else ""
        text = renderer.render(conversation.messages[: index + 1], conversation.tools, args=args)
    except RenderError:
        return None
    pieces = re.findall(f"{_OPEN}(.*?){_CLOSE}", text, re.DOTALL)
    return "".join(pieces[before.count(_OPEN) :])


def _difference(ours: str, theirs: str | None) -> str:
    """How the tags' text of a turn differs from ours, in words; empty where it does not."""
    if theirs == ours:
        return ""
    if theirs is None:
        return "the template with tags refuses the conversation up to this turn"
    if not theirs:
        return "the tags mark nothing of it"
    if (at := theirs.find(ours)) >= 0:
        return _said("also mark", theirs[:at], "before it", theirs[at + len(ours) :], "behind it")
    if (at := ours.find(theirs)) >= 0:
        rest = ours[at + len(theirs) :]
        return _said("leave out", ours[:at], "before what they mark", rest, "behind what they mark")
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"the tags mark {_short(theirs[at:])} where {_short(ours[at:])} is trained, from character {at} of it on"


def _said(verb: str, before: str, where_before: str, behind: str, where_behind: str) -> str:
    ends = [(before, where_before), (behind, where_behind)]
    return f"the tags {verb} " + " and ".join(f"{_short(text)} {where}" for text, where in ends if text)


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else f"{text[: most - 1]}…")
