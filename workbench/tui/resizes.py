"""Sizes that Textual forgets to tell: a widget that was shown anew is told its size, whatever came in between."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from textual import events
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget


def tell_sizes(screen: Screen[Any]) -> None:
    """See to it that every widget of a screen that is mounted hears of every change of its size.

    Where the place of any widget is looked up after one was displayed and before the screen is laid out, Textual
    takes the new one for known and sends it no Resize: what waits for its size to be filled would stay empty.
    """
    told: WeakKeyDictionary[Widget, Size] = WeakKeyDictionary()

    def tell(_: Screen[Any]) -> None:
        for widget in screen.walk_children(Widget):
            if (size := widget.outer_size).width and told.get(widget) != size:
                told[widget] = size
                widget.post_message(events.Resize(size, widget.virtual_size, widget.container_size))

    screen.screen_layout_refresh_signal.subscribe(screen, tell, immediate=True)
