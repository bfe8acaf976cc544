"""The tokens of one row, short, as the preview shows them: the model's tokenizer is read once, in a worker."""

from __future__ import annotations

import threading

from rich.text import Text

from trainer.conversation import canonical_json
from workbench.report.tokens import render_tokens
from workbench.store.detail import ExampleDetail
from workbench.tokens import Lens, Row, lens, see
from workbench.workspace import Workspace


class TokenPreview:
    """Rows through the lens of the workspace's model."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lens: Lens | None = None
        self._reading = threading.Lock()

    def lines(self, detail: ExampleDetail, width: int) -> Text:
        """The tokens of a row in lines of `width` cells. Slow the first time. Raises ModelUnavailable."""
        from trainer.models import DEFAULT_MODEL

        with self._reading:
            if self._lens is None:
                self._lens = lens(self._workspace.config.model or DEFAULT_MODEL)
        tools = canonical_json(detail.tools) if detail.tools else None
        seen = see(self._lens, Row(detail.row, detail.id, canonical_json(detail.messages), tools))
        examples = seen.done.examples
        trained, total = sum(sum(e.trained) for e in examples), sum(len(e.input_ids) for e in examples)
        text = Text(no_wrap=True, end="")
        text.append(f"{trained:,} of {total:,} tokens are trained · {self._lens.label}\n", "dim")
        for issue in seen.issues:
            text.append(f"{issue.kind}\n", "bold")
        text.append("\n")
        for number, example in enumerate(examples):
            if number:
                text.append("\n")
            text.append_text(render_tokens(example, width))
        return text
