"""Well-known ways to write a conversation, for base models that come without a chat template.

They are Jinja templates of our own making. None adds words that no message contains: where a format is known with
an opening sentence (Alpaca's, Vicuna's), give it as a system message.
"""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.chat.render import Renderer, RenderError
from trainer.errors import BadInput, UsageProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PlainFormat:
    """`source`: the template. `tokens`: those that a model should know as special ones. `bos`: it writes its own."""

    source: str
    tokens: tuple[str, ...] = ()
    bos: bool = False


_CHATML = r"""
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""

_ZEPHYR = r"""
{%- for message in messages %}
    {%- if message['role'] not in ('system', 'user', 'assistant') %}
        {{- raise_exception('the zephyr format has no turn of ' + message['role']) }}
    {%- endif %}
    {{- '<|' + message['role'] + '|>\n' + message['content'] }}{{ eos_token }}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\n' }}
{%- endif %}"""

_ALPACA = r"""
{%- for message in messages %}
    {%- if message['role'] == 'system' and loop.first %}
        {{- message['content'] + '\n\n' }}
    {%- elif message['role'] == 'user' %}
        {{- '### Instruction:\n' + message['content'] + '\n\n' }}
    {%- elif message['role'] == 'assistant' %}
        {{- '### Response:\n' + message['content'] }}{{ eos_token }}{{ '\n\n' }}
    {%- else %}
        {{- raise_exception('the alpaca format has no place here for a turn of ' + message['role']) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\n' }}
{%- endif %}"""

_VICUNA = r"""
{%- for message in messages %}
    {%- if message['role'] == 'system' and loop.first %}
        {{- message['content'] + ' ' }}
    {%- elif message['role'] == 'user' %}
        {{- 'USER: ' + message['content'] + ' ' }}
    {%- elif message['role'] == 'assistant' %}
        {{- 'ASSISTANT: ' + message['content'] | trim }}{{ eos_token }}
    {%- else %}
        {{- raise_exception('the vicuna format has no place here for a turn of ' + message['role']) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'ASSISTANT:' }}
{%- endif %}"""

_LLAMA_2 = r"""
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- bos_token }}{{ '[INST] ' }}
        {%- if loop.index0 == 1 and messages[0]['role'] == 'system' %}
            {{- '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' }}
        {%- endif %}
        {{- message['content'] + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + ' ' }}{{ eos_token }}
    {%- elif message['role'] != 'system' or not loop.first %}
        {{- raise_exception('the llama-2 format has no place here for a turn of ' + message['role']) }}
    {%- endif %}
{%- endfor %}"""

PLAIN_FORMATS = {
    "chatml": PlainFormat(_CHATML, tokens=("<|im_start|>", "<|im_end|>")),
    "alpaca": PlainFormat(_ALPACA),
    "vicuna": PlainFormat(_VICUNA),
    "llama-2": PlainFormat(_LLAMA_2, bos=True),
    "zephyr": PlainFormat(_ZEPHYR),
}
"""By name. All but ChatML end an answer with the tokenizer's own eos token."""


def with_template(
    tokenizer: PreTrainedTokenizerBase, template: str, *, add_tokens: bool = False
) -> PreTrainedTokenizerBase:
    """A copy of `tokenizer` that writes conversations by `template`: a name of PLAIN_FORMATS, Jinja text, or its file.

    Where the tokenizer itself puts its bos token before a text, a named format does too. With `add_tokens` the
    special tokens of the format become tokens of the copy, which then has more than the model's embeddings may;
    without, `<|im_end|>` of ChatML is plain text to a tokenizer that does not know it, and no stop token.

    Raises UsageProblem for a name that is none, and for tokens where there are none to add; BadInput for a file that
    cannot be read or is no template.
    """
    named = PLAIN_FORMATS.get(template)
    if add_tokens and not (named and named.tokens):
        having = ", ".join(name for name, known in PLAIN_FORMATS.items() if known.tokens)
        raise UsageProblem(f"{template} has no special tokens to add", do=f"Only {having} has.")
    source = named.source if named else template_source(template)
    dressed = copy.deepcopy(tokenizer)
    if named is None:
        dressed.chat_template = source
        _check(dressed, template)
        return dressed
    opens = not named.bos and dressed.bos_token_id is not None and dressed("a")["input_ids"][0] == dressed.bos_token_id
    dressed.chat_template = ("{{- bos_token }}" if opens else "") + source
    if add_tokens:
        dressed.add_tokens(list(named.tokens), special_tokens=True)
    return dressed


def template_source(template: str) -> str:
    """What a plan keeps of `--template`: the name of a format, or the Jinja text of a file (or that text itself).

    Raises UsageProblem for a name that is none, BadInput for a file that cannot be read.
    """
    if template in PLAIN_FORMATS or "{%" in template or "{{" in template:
        return template
    path = Path(template)
    if not path.is_file() and not path.suffix:
        close = difflib.get_close_matches(template, PLAIN_FORMATS, 1)
        hint = f"Did you mean {close[0]}?" if close else f"Give one of {', '.join(PLAIN_FORMATS)}, or a Jinja file."
        raise UsageProblem(f"there is no chat format {template!r}", do=hint)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot be read: {error}", where=template, do="Give a text file with a Jinja template."
        ) from error


def _check(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    from jinja2 import TemplateSyntaxError

    try:
        Renderer(tokenizer, {}, None).render([{"role": "user", "content": "a"}])
    except RenderError as error:
        if isinstance(cause := error.__cause__, TemplateSyntaxError):
            where = f"{template}, line {cause.lineno}"
            raise BadInput(f"is no Jinja template: {cause.message}", where=where, do="Correct it.") from error
