"""The first and last line of every screen: where one is, and what was just said or can be done."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget

from workbench.text import clip_start
from workbench.tui.actions import Action
from workbench.tui.cells import fit, flat

_SAID_FOR = 12.0  # seconds that a sentence stays before the keys are shown again


class TopBar(Widget):
    """Where one is: the screens, the workspace, and the source or version in view."""

    DEFAULT_CSS = """
    TopBar { height: 1; background: $panel; color: $muted; padding: 0 1; }
    """

    where: reactive[str] = reactive("")

    def __init__(self, active: str, screens: Sequence[tuple[str, str, str]], where: str = "") -> None:
        """`screens` are (name, key, title)."""
        super().__init__()
        self._active = active
        self._screens = screens
        self.set_reactive(TopBar.where, where)

    def render(self) -> RenderResult:
        """One line: screens on the left, the rest on the right as far as it fits."""
        line = Text(no_wrap=True, end="")
        strong = Style.from_color(self.styles.color.rich_color) + Style(bold=True)
        accent = Style(color=self.app.theme_variables["accent"])
        line.append("workbench", strong)
        for name, key, title in self._screens:
            line.append("  ")
            style = accent + Style(bold=True, reverse=False) if name == self._active else Style()
            style += Style(meta={"@click": f"app.go('{name}')"})
            line.append(title[:1] if title[:1] == key else f"{key} {title[:1]}", style + Style(underline=True))
            line.append(title[1:], style)
        room = self.size.width - line.cell_len - 3
        if self.where and room > 8:
            where = clip_start(flat(self.where), room)
            line.pad_right(max(self.size.width - line.cell_len - Text(where).cell_len, 0))
            line.append(where)
        return line


class StatusBar(Widget):
    """The last line: a failure or what was just said, else the keys that matter; progress on the right."""

    DEFAULT_CSS = """
    StatusBar { height: auto; max-height: 4; background: $panel; color: $muted; padding: 0 1; }
    StatusBar.-said { color: $foreground; }
    StatusBar.-failed { color: $error; text-style: bold; }
    """

    progress: reactive[str] = reactive("")
    """What this screen does in the background, in a few words."""

    task_line: reactive[str] = reactive("")
    """What the whole app does in the background."""

    def __init__(self, hints: Sequence[Action] = ()) -> None:
        super().__init__()
        self._hints = hints
        self._said = ""
        self._stamp = 0

    def say(self, text: str, *, failed: bool = False) -> None:
        """Show a sentence; a failure stays until something else is said."""
        self._said = flat(text)
        self._stamp += 1
        self.set_class(bool(text) and not failed, "-said")
        self.set_class(bool(text) and failed, "-failed")
        if text and not failed:
            self.set_timer(_SAID_FOR, lambda stamp=self._stamp: self._fade(stamp))
        self.refresh(layout=True)

    @property
    def said(self) -> str:
        """The sentence that is shown; empty while the keys are."""
        return self._said

    def _fade(self, stamp: int) -> None:
        if stamp == self._stamp:
            self.say("")

    def render(self) -> RenderResult:
        """The sentence or the keys, then the progress."""
        doing = "  ".join(text for text in (self.progress, self.task_line) if text)
        doing = fit(doing, self.size.width).rstrip() if cell_len(doing) > self.size.width else doing
        line = Text(self._said) if self._said else self._keys(self.size.width - cell_len(doing) - 3)
        if doing:
            gap = self.size.width - line.cell_len - cell_len(doing)
            line.append(" " * max(gap, 2 * bool(line)) + doing)
        return line

    def _keys(self, room: int) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis", end="")
        bold = Style(color=self.app.theme_variables["foreground"])
        for action in self._hints:
            key = action.shown_keys.split(" ")[0]
            if line.cell_len + len(key) + len(action.title) + 3 > room:
                break
            line.append(key, bold)
            line.append(f" {action.title}   ")
        return line


class TooSmall(Widget):
    """What is shown where the terminal is too small to work in."""

    DEFAULT_CSS = """
    TooSmall { display: none; width: 100%; height: 100%; content-align: center middle; background: $background; }
    """

    def render(self) -> RenderResult:
        """What is needed, and what there is."""
        width, height = self.app.size
        return Text(f"The workbench needs 60x20.\nThis terminal is {width}x{height}.", justify="center")
