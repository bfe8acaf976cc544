"""A widget that is shown anew hears of its size, also where its place was looked up before the screen was laid out."""

from __future__ import annotations

from textual.app import App
from textual.containers import Vertical
from textual.screen import Screen

from workbench.tui.resizes import tell_sizes


class Pane(Vertical):
    """Notes the sizes that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []

    def on_resize(self) -> None:
        self.told.append(self.size.width)


class Panes(Screen[None]):
    """Two panes, one of them hidden at first."""

    def compose(self):
        yield Pane()
        yield Pane()

    def on_mount(self) -> None:
        tell_sizes(self)
        self.query(Pane).last().display = False


async def test_a_pane_is_told_its_size_whatever_was_asked_between_its_display_and_its_layout():
    app = App()
    async with app.run_test(size=(60, 20)) as pilot:
        await app.push_screen(Panes())
        await pilot.pause()
        first, second = app.screen.query(Pane)
        assert second.told == []
        first.display, second.display = False, True
        app.screen._compositor.update_widgets({second})  # as a repaint that comes first does
        assert second.region.width == 60
        await pilot.pause(0.1)
        assert second.told == [60], "Textual tells nothing here"
        await pilot.resize_terminal(70, 20)
        await pilot.pause(0.1)
        assert second.told[-1] == 70
