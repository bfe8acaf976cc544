"""The tokens of one row, short, as the preview shows them: the model's tokenizer is read once, in a worker."""

from __future__ import annotations

import atexit
import gc
import threading
import time
from collections.abc import Callable

from rich.text import Text

from trainer.conversation import canonical_json
from workbench.errors import ModelUnavailable, Stopped
from workbench.report.tokens import render_tokens
from workbench.store.detail import ExampleDetail
from workbench.tokens import Lens, Row, lens, see
from workbench.tui.workers import Cancelled
from workbench.workspace import Workspace

_LENSES: dict[str, Lens] = {}
_FAILED: dict[str, tuple[float, ModelUnavailable]] = {}
"""When a tokenizer could not be read, by the clock of `time.monotonic`, and why."""

_READING = threading.Lock()
_LOOK = 0.1  # seconds between two looks whether a row that waits for the tokenizer was passed by
_REMEMBERED = 60.0  # seconds: the hub takes many to say no, and rows are passed faster


def default_model(workspace: Workspace) -> str:
    """The model whose tokens are shown where nobody named another."""
    from trainer.models import DEFAULT_MODEL

    return workspace.config.model or DEFAULT_MODEL


def model_lens(model: str, cancelled: Cancelled = lambda: False, *, again: bool = True) -> Lens:
    """A model's lens under the default policy, its tokenizer read once for the whole app: seconds, the first time.

    Raises ModelUnavailable, without `again` at once where the last try failed a moment ago; Stopped when cancelled.
    """
    while not _READING.acquire(timeout=_LOOK):  # what waits here holds a thread that others need
        if cancelled():
            raise Stopped("passed by")
    try:
        if cancelled():
            raise Stopped("passed by")
        when, why = _FAILED.get(model, (-_REMEMBERED, None))
        if why and not again and time.monotonic() - when < _REMEMBERED:
            raise ModelUnavailable(why.what, where=why.where, do=why.do)
        if model not in _LENSES:
            # Libraries and vocabularies are a million objects that stay. To look through all of them for garbage,
            # again and again while they are read and ever after, stops every thread for half a second each time.
            gc.disable()
            try:
                _LENSES[model] = lens(model)
                _FAILED.pop(model, None)
            except ModelUnavailable as error:
                _FAILED[model] = time.monotonic(), error
                raise
            finally:
                gc.freeze()
                gc.enable()
                atexit.register(gc.unfreeze)  # else some libraries complain on the way out of what was never freed
        return _LENSES[model]
    finally:
        _READING.release()


class TokenPreview:
    """Rows through the lens of the workspace's model; `colours` gives those of trained and of special tokens."""

    def __init__(self, workspace: Workspace, colours: Callable[[], tuple[str, str]]) -> None:
        self._workspace = workspace
        self._colours = colours

    def lines(self, detail: ExampleDetail, width: int, cancelled: Cancelled) -> Text:
        """The tokens of a row in lines of `width` cells. Slow the first time. Raises ModelUnavailable or Stopped."""
        through = model_lens(default_model(self._workspace), cancelled, again=False)
        tools = canonical_json(detail.tools) if detail.tools else None
        seen = see(through, Row(detail.row, detail.id, canonical_json(detail.messages), tools))
        examples = seen.done.examples
        trained, total = sum(sum(e.trained) for e in examples), sum(len(e.input_ids) for e in examples)
        text = Text(no_wrap=True, end="")
        text.append(f"{trained:,} of {total:,} tokens are trained · {through.label}\n", "dim")
        for issue in seen.issues:
            text.append(f"{issue.kind}\n", "bold")
        text.append("\n")
        for number, example in enumerate(examples):
            if number:
                text.append("\n")
            text.append_text(render_tokens(example, width, colours=self._colours()))
        return text
