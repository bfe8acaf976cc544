"""Losses measured by a job that is watched off the UI thread, and can be stopped."""

from __future__ import annotations

from dataclasses import dataclass

from textual.dom import DOMNode
from textual.message import Message

from workbench.jobs import Event, Wish
from workbench.token_facts import Page
from workbench.token_heat import Adapter, Losses, heat
from workbench.tokens import Lens
from workbench.tui.workers import Cancelled, background
from workbench.workspace import Workspace


@dataclass
class HeatTold(Message):
    """How far the job is."""

    text: str


@dataclass
class Heated(Message):
    """The losses of `pages` under what is called `name`."""

    pages: list[Page]
    losses: list[Losses]
    name: str


class HeatWatch:
    """At most one job at a time. `node` gets `HeatTold`, and `Heated` or `Failure` at its end."""

    def __init__(self, node: DOMNode, workspace: Workspace) -> None:
        self._node = node
        self._workspace = workspace
        self._wish: Wish = "watch"
        self.measuring = False

    def start(self, lens: Lens, pages: list[Page], adapter: Adapter | None) -> None:
        """Measure the losses of `pages` under the lens's model or an adapter; where that is known, it comes at once."""
        name = adapter.name if adapter else f"the base {lens.label}"
        self._wish, self.measuring = "watch", True

        def tell(event: Event) -> None:
            if event["event"] == "stage":
                self._node.post_message(HeatTold(f"{event['what']} …"))
            elif event["event"] == "progress":
                self._node.post_message(HeatTold(f"{event['what']}: {event['done']:,} of {event['total']:,}"))

        def work(cancelled: Cancelled) -> Heated:
            def wish() -> Wish:
                return "leave" if cancelled() else self._wish

            return Heated(pages, heat(self._workspace, lens, pages, adapter, tell, wish), name)

        background(self._node, work, lambda heated: heated, group="heat")

    def stop(self) -> None:
        """Stop the job; what it measured so far is given up."""
        self._wish, self.measuring = "stop", False
