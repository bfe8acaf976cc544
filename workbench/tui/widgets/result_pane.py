"""A tab of a finished experiment with a widget of its own.

To add one: a subclass of `ResultPane` in a module of its own, and its class in `PANES` of `verdict_view`, where tabs
have the order of the list. Its key, its name on the `:` line and its line in the help come from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical
from textual.widget import Widget

if TYPE_CHECKING:
    from workbench.results import Finished


class ResultPane(Vertical):
    """Shows one side of a result. It is mounted once, with its `NAME` as id, and shown another result as one opens.

    Messages of tables within it are its own: it stops them.
    """

    NAME: ClassVar[str]
    """The name of the tab."""
    KEY: ClassVar[str]
    """The key that opens it."""
    HELP: ClassVar[str]
    """What it shows, in a sentence for the help."""
    HINT: ClassVar[str] = ""
    """A few words on its keys, shown beside the tabs where there is room."""
    DEFAULT_CSS = "ResultPane { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id=self.NAME)

    def show(self, shown: Finished | None) -> None:
        """Show a result; nothing for None, while another one is read."""
        raise NotImplementedError

    def home(self) -> Widget:
        """What takes the keys when the tab is opened."""
        raise NotImplementedError

    def escape(self) -> bool:
        """Close one thing that is open in it; False where there is none."""
        return False
