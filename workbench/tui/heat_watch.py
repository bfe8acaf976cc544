"""Losses measured by a job that is watched off the UI thread, and can be stopped."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.dom import DOMNode
from textual.message import Message

from workbench.errors import Stopped
from workbench.jobs import Event, Wish
from workbench.token_facts import Page
from workbench.token_heat import Adapter, Losses, adapters, heat
from workbench.tokens import Lens
from workbench.tui.widgets.dialogs import choose
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


@dataclass(frozen=True)
class Under:
    """What losses are measured under: the base, or an adapter on it."""

    name: str
    adapter: Adapter | None


async def ask_under(app: App[Any], workspace: Workspace, lens: Lens) -> Under | None:
    """Ask what to measure under, where there is more than the base."""
    base = Under(f"the base, {lens.label}", None)
    known = await asyncio.to_thread(adapters, workspace, lens.model)
    if not known:
        return base
    choices = [base, *(Under(adapter.name, adapter) for adapter in known)]
    chosen = await choose(app, "Loss of every token under", [(str(i), one.name) for i, one in enumerate(choices)])
    return choices[int(chosen)] if chosen is not None else None


class HeatWatch:
    """At most one job at a time. `node` gets `HeatTold`, and `Heated` or `Failure` at its end."""

    def __init__(self, node: DOMNode, workspace: Workspace) -> None:
        self._node = node
        self._workspace = workspace
        self._stop = threading.Event()
        self._one = threading.Lock()
        self.measuring = False

    def start(self, lens: Lens, pages: list[Page], under: Under) -> None:
        """Measure the losses of `pages`; what was measured before comes at once."""
        self._stop = stop = threading.Event()
        self.measuring = True

        def tell(event: Event) -> None:
            if event["event"] == "stage":
                self._node.post_message(HeatTold(f"{event['what']} …"))
            elif event["event"] == "progress":
                self._node.post_message(HeatTold(f"{event['what']}: {event['done']:,} of {event['total']:,}"))

        def work(cancelled: Cancelled) -> Heated:
            def wish() -> Wish:
                return "stop" if stop.is_set() else "leave" if cancelled() else "watch"

            with self._one:  # a job that was stopped takes a moment to end
                if wish() != "watch":
                    raise Stopped("Nobody waits for it any more")
                return Heated(pages, heat(self._workspace, lens, pages, under.adapter, tell, wish), under.name)

        background(self._node, work, lambda heated: heated, group="heat")

    def stop(self) -> None:
        """Stop the job; what it measured so far is given up."""
        self._stop.set()
        self.measuring = False
