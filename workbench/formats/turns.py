"""One turn of a conversation, from any of the ways to write it to the Hugging Face conversational form.

Text is never changed. What changes is the frame: role names, `from`/`value`, text parts, tool arguments that are
JSON text, a turn's weight of 0, which becomes `"train": false`, and that of parts of a turn, which becomes
`"train_spans"`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.conversation import Message
from workbench.formats.json_rows import parse_json
from workbench.formats.rows import RowProblem

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
FUNCTION_CALL = "function_call"  # ShareGPT's role for a call, whose text is the call as JSON
_CANONICAL = tuple(dict.fromkeys(ROLES.values()))  # no set: a role may be anything, also what has no hash
_WEIGHTS = ("train", "weight", "loss_weight")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_PART_TYPES = ("text", "reasoning", "thinking", "tool_call")
_PART_KEYS = {"type", "value", *_PART_TYPES, *_WEIGHTS}


def turns(value: object, column: str) -> list[Message]:
    """The messages in `value`: a list of turns, one turn, or either as JSON text.

    Raises RowProblem, which says where (`messages[2]`) and what.
    """
    items = decoded(value, column)
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise RowProblem(f"`{column}` is {kind(items)}, not a list of turns")
    if not items:
        raise RowProblem(f"the conversation in `{column}` is empty")
    return [
        item
        if type(item) is dict and len(item) == 2 and type(item.get("content")) is str and item.get("role") in _CANONICAL
        else one_turn(item, f"{column}[{i}]")
        for i, item in enumerate(items)
    ]


def is_empty_turn(message: Message) -> bool:
    """Whether it is an assistant turn without content, tool call or reasoning."""
    if message["role"] != "assistant" or message["content"].strip():
        return False
    return not any(message.get(key) for key in ("tool_calls", *_REASONING))


def has_other_weight(message: Message) -> bool:
    """Whether it is an assistant turn with a weight other than 0 and 1, by which nothing is trained."""
    return message["role"] == "assistant" and any(message.get(key) not in (None, False) for key in _WEIGHTS)


def lost_part_keys(value: object) -> set[str]:
    """The keys of content parts in turns (a list, one, or either as JSON text) that a joined text has no place for.

    Such as `cache_control`. Null and empty ones say nothing and are not among them.
    """
    lost: set[str] = set()
    if isinstance(value, str):
        if '"type"' not in value:
            return lost
        value = decoded(value, "")
    for turn in value if isinstance(value, list) else [value]:
        content = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict):
                lost.update(
                    key for key, said in part.items() if key not in _PART_KEYS and said not in (None, "", [], {})
                )
    return lost


def tool_schemas(value: object) -> list[dict[str, Any]] | None:
    """The tool schemas in `value` (a list, one schema, or either as JSON text), each as a `function`; None if none.

    Raises RowProblem for anything else.
    """
    if value is None or value == "":
        return None
    items = decoded(value, "tools")
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise RowProblem(f"`tools` is {kind(items)}, not a list of tool schemas")
    return [_tool_schema(decoded(item, f"tools[{i}]"), i) for i, item in enumerate(items)] or None


def decoded(value: object, where: str) -> object:
    """`value`, or what it holds as JSON text. Raises RowProblem for text that is not JSON."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value, f"`{where}`")
    except ValueError as error:
        raise RowProblem(str(error)) from None


def kind(value: object) -> str:
    """What `value` is, in words for a reason."""
    if value is None:
        return "null"
    names = {bool: "true or false", str: "text", dict: "an object", list: "a list", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _tool_schema(item: object, position: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise RowProblem(f"`tools[{position}]` is {kind(item)}, not a tool schema")
    if "function" in item or "name" not in item or item.get("type", "function") != "function":
        return item
    return {"type": "function", "function": {key: part for key, part in item.items() if key != "type"}}


def one_turn(item: object, where: str) -> Message:
    """The message of one turn. Raises RowProblem, which says `where` and what."""
    if not isinstance(item, dict):
        raise RowProblem(f"`{where}` is {kind(item)}, not a turn with a role and a content")
    rest = {key: value for key, value in item.items() if value is not None}
    given = rest.pop("role") if "role" in rest else rest.pop("from", None)
    content = rest.pop("content") if "content" in rest else rest.pop("value", None)
    if not isinstance(given, str):
        raise RowProblem(
            f"`{where}` has no role" if given is None else f"`{where}`: the role is {kind(given)}, not text"
        )
    calls = _calls(rest.pop("tool_calls", None) or [], where)
    if legacy := rest.pop(FUNCTION_CALL, None):
        calls += _calls(legacy, where)
    if given == FUNCTION_CALL:
        role, content, calls = "assistant", "", _calls(content, where) + calls
    else:
        role = _role(given, where)
    for key in _REASONING:
        if not isinstance(rest.get(key, ""), str):
            raise RowProblem(f"`{where}`: `{key}` is {kind(rest[key])}, not text")
    if isinstance(content, list):
        parts = _parts(content, where, marks=role == "assistant")
        calls += parts.calls
        if parts.reasoning:
            rest["reasoning_content"] = rest.get("reasoning_content", "") + parts.reasoning
        content = parts.text
        if parts.spans is not None:
            _mark(rest, parts, bool(calls), where)
    if content is None and (calls or any(key in rest for key in _REASONING)):
        content = ""  # templates add contents up: an absent one must not become the word "None"
    if not isinstance(content, str):
        raise RowProblem(f"`{where}`: the content is {kind(content)}, not text")
    message = {**_trained(rest, where), "role": role, "content": content}
    if role != "assistant":
        message.pop("train", None)  # only assistant turns are trained: there is nothing to switch off
    if calls:
        message["tool_calls"] = calls
    return message


def _role(given: str, where: str) -> str:
    role = ROLES.get(given) or ROLES.get(given.lower())
    if role is None:
        raise RowProblem(f"`{where}`: unknown role {given[:60]!r}")
    return role


class _Joined(NamedTuple):
    """Content parts, each kind joined as it stands, without a separator.

    `spans` are the [start, end] places in `text` that are trained; None where no part is marked as not trained.
    """

    text: str
    reasoning: str
    calls: list[dict[str, Any]]
    spans: list[list[int]] | None


def _parts(parts: list[Any], where: str, *, marks: bool) -> _Joined:
    text, reasoning = "", ""
    calls: list[dict[str, Any]] = []
    spans: list[list[int]] = []
    marked = False
    for i, part in enumerate(parts):
        if isinstance(part, str):
            part = {"text": part}
        if not isinstance(part, dict):
            raise RowProblem(f"`{where}`: content part {i} is {kind(part)}")
        type_ = "text" if part.get("type") is None else part["type"]
        if type_ not in _PART_TYPES:
            raise RowProblem(f"`{where}`: content part {i} is of type {str(type_)[:60]!r}; only text can be imported")
        value = next((part[key] for key in (type_, "text", "value") if part.get(key) is not None), None)
        off = marks and _is_off(part, f"{where}`: content part {i}, `")
        if off and type_ != "text":
            raise RowProblem(f"`{where}`: content part {i} is marked as not trained, which only text can be")
        marked = marked or off
        if type_ == "tool_call":
            calls += _calls(value, where)
        elif not isinstance(value, str):
            raise RowProblem(f"`{where}`: content part {i} is {kind(value)}, not text")
        elif type_ == "text":
            if value and not off:
                if spans and spans[-1][1] == len(text):
                    spans[-1][1] += len(value)
                else:
                    spans.append([len(text), len(text) + len(value)])
            text += value
        else:
            reasoning += value
    return _Joined(text, reasoning, calls, spans if marked else None)


def _is_off(part: dict[str, Any], where: str) -> bool:
    """Whether a content part is marked as not trained. Raises RowProblem for a mark that could not be kept."""
    off = False
    for key in _WEIGHTS:
        weight = part.get(key)
        if weight not in (None, 0, 1):
            raise RowProblem(f"`{where}{key}` is {str(weight)[:60]!r}; a part is trained (true, 1) or not (false, 0)")
        off = off or (weight is not None and not weight)
    return off


def _mark(rest: dict[str, Any], parts: _Joined, calls: bool, where: str) -> None:
    """Write down which text of a turn is trained. What stands before the text goes with its beginning, what stands
    behind it with its end: raises RowProblem where reasoning or calls would lose their training by that."""
    spans = parts.spans or []
    if "train_spans" in rest:
        raise RowProblem(f"`{where}` has `train_spans` and parts that are marked as not trained: leave one of them")
    thinks = any(rest.get(key) for key in _REASONING)
    if (thinks and (not spans or spans[0][0])) or (calls and (not spans or spans[-1][1] < len(parts.text))):
        raise RowProblem(
            f"`{where}`: the text beside its {'tool calls' if calls else 'reasoning'} is marked as not trained, "
            "which cannot be kept without leaving these untrained too"
        )
    if spans:
        rest["train_spans"] = spans
    else:
        rest["train"] = False


def _calls(value: object, where: str) -> list[dict[str, Any]]:
    """Tool calls (one or a list, flat or wrapped, also as JSON text) with their arguments as an object."""
    calls = decoded(value, where)
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list):
        raise RowProblem(f"`{where}`: a tool call is {kind(calls)}, not an object")
    return [_call(decoded(call, where), where) for call in calls]


def _call(call: object, where: str) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise RowProblem(f"`{where}`: a tool call is {kind(call)}, not an object")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem(f"`{where}`: a tool call has no function name")
    key = "arguments" if function.get("arguments") is not None else "parameters"  # as Llama 3 calls them
    arguments = function.get(key)
    if arguments is None or arguments == "":
        arguments = {}
    arguments = decoded(arguments, f"{where}: arguments of {function['name'][:60]}")
    if not isinstance(arguments, dict):
        raise RowProblem(f"`{where}`: the arguments of {function['name'][:60]!r} are {kind(arguments)}, not an object")
    rest = {name: part for name, part in function.items() if name not in ("name", "arguments", key)}
    named = {"name": function["name"], "arguments": arguments}
    if function is call:  # flat: what else stands there (an id) belongs to the call
        return {"type": "function", **rest, "function": named}
    return {"type": "function", **call, "function": {**rest, **named}}


def _trained(rest: dict[str, Any], where: str) -> dict[str, Any]:
    """`rest` with the turn's weight as `"train": false` or nothing; a weight between stays as it is."""
    off = False
    for key in _WEIGHTS:
        weight = rest.get(key)
        if weight is None:
            continue
        if not isinstance(weight, (bool, int, float)):
            raise RowProblem(f"`{where}`: `{key}` is {kind(weight)}, not true, false or a number")
        off = off or weight == 0
        if weight in (0, 1):
            del rest[key]
    if off:
        rest["train"] = False
    return rest
