"""Where and in which form a source or version is written."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from workbench.exporting import FORMS
from workbench.tui.widgets.dialogs import Dialog


@dataclass(frozen=True)
class Export:
    """What was chosen: the name of a form, and the file, folder or `hf:ORG/NAME` to write to."""

    form: str
    target: str


class ExportDialog(Dialog[Export]):
    """A list of forms, each with what it loses, over the place to write to."""

    DEFAULT_CSS = """
    ExportDialog > Vertical { width: 92; }
    ExportDialog Input { margin: 1 0 0 0; }
    ExportDialog #hub { color: $warning; width: 100%; }
    """

    def __init__(self, name: str) -> None:
        detail = "The dataset card goes beside it: sources, licences, every step, how to make it again."
        super().__init__(f"Export {name}", detail, "enter goes on, then writes · esc cancel")
        self._stem = name

    def inside(self) -> ComposeResult:
        """The forms and the place."""
        muted = self.app.theme_variables["muted"]
        yield OptionList(
            *(
                Option(Text.assemble((f"{form.name:<18}", "bold"), (form.about, muted), overflow="ellipsis"))
                for form in FORMS
            )
        )
        yield Input(self._proposal(0), placeholder="a file, or hf:ORG/NAME", compact=True)
        yield Static(id="hub", markup=False)

    def on_mount(self) -> None:
        """Begin with the forms."""
        super().on_mount()
        self.query_one(OptionList).focus()
        self.query_one(OptionList).highlighted = 0

    def _proposal(self, number: int) -> str:
        return f"{self._stem}{FORMS[number].ending}"

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Propose the ending of the form."""
        event.stop()
        line = self.query_one(Input)
        if line.value in {self._proposal(number) for number in range(len(FORMS))}:
            line.value = self._proposal(event.option_index)
        self._tell_of_hub()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go on to the place."""
        event.stop()
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say where the form does not count."""
        event.stop()
        self._tell_of_hub()

    def _tell_of_hub(self) -> None:
        form = FORMS[self.query_one(OptionList).highlighted or 0].name
        told = "The hub gets Parquet and the card, for nobody else to see."
        if form != "parquet":
            told += f" It is not written as {form}."
        is_hub = self.query_one(Input).value.strip().startswith("hf:")
        self.query_one("#hub", Static).update(told if is_hub else "")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Both are chosen."""
        event.stop()
        if target := event.value.strip():
            self.dismiss(Export(FORMS[self.query_one(OptionList).highlighted or 0].name, target))
