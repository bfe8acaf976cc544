"""A row of a source or version seen through a lens: tokenised in a worker, with changes of the lens in their order."""

from __future__ import annotations

from dataclasses import dataclass

from textual.dom import DOMNode
from textual.message import Message

from trainer.conversation import canonical_json
from workbench.store.detail import ExampleDetail
from workbench.token_facts import Page, pages
from workbench.tokens import Lens, Row, Seen, see
from workbench.tui.lens_dialogs import LensChange
from workbench.tui.token_preview import default_model, model_lens
from workbench.tui.workers import Cancelled, background
from workbench.workspace import Workspace


@dataclass
class Looked(Message):
    """A row was tokenised, through the lens that `changes` made of the one before; those that `failed` left it."""

    detail: ExampleDetail
    lens: Lens
    seen: Seen
    pages: list[Page]
    changes: list[LensChange]
    failed: dict[LensChange, Exception]

    @property
    def told(self) -> str:
        """What was changed; empty for another row."""
        return ". ".join(change.told for change in self.changes if change not in self.failed)


@dataclass
class LensRead(Message):
    """The lens to begin with is there, whether or not the row can be seen through it."""

    lens: Lens


class RowLook:
    """The lens that is looked through. `node` gets `LensRead`, `Looked` or `Failure`, and hands the first two back.

    Without a `model`, the lens to begin with is that of the workspace's model.
    """

    def __init__(self, node: DOMNode, workspace: Workspace, base: str) -> None:
        self._node = node
        self._workspace = workspace
        self._base = base
        self.model = ""
        self.lens: Lens | None = None
        self.asked: list[LensChange] = []
        """Changes of the lens that are still being made."""

    def at(self, id: int, *changes: LensChange) -> None:
        """Tokenise example `id` in a worker, through a changed lens; it is kept only if that works.

        The worker before is called off, so what it was to change is changed by this one.
        """
        self.asked += changes
        asked = [*self.asked]
        node, workspace, base, lens = self._node, self._workspace, self._base, self.lens
        model = self.model or default_model(workspace)

        def work(cancelled: Cancelled) -> Looked:
            detail = workspace.detail(base, id)
            if lens is None:
                first = model_lens(model)
                node.post_message(LensRead(first))
            through, failed = lens or first, {}
            for change in asked:
                try:
                    through = change.apply(through)
                except Exception as error:  # told, and the changes behind it still get their turn
                    failed[change] = error
            tools = canonical_json(detail.tools) if detail.tools else None
            seen = see(through, Row(detail.row, detail.id, canonical_json(detail.messages), tools))
            return Looked(detail, through, seen, pages(seen), asked, failed)

        background(node, work, lambda looked: looked, group="look")

    def begin(self, message: LensRead) -> None:
        """Look through the first lens."""
        self.lens = self.lens or message.lens

    def take(self, message: Looked) -> None:
        """Keep the lens; what was changed is no longer waited for."""
        self.asked = [change for change in self.asked if change not in message.changes]
        self.lens = message.lens

    def give_up(self) -> None:
        """Nothing is waited for any more."""
        self.asked.clear()
