"""The form for an ablation whose versions are made: what its runs take and can show, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from workbench.ablation_runs import WAYS, outlook
from workbench.comparing import Setup
from workbench.tui.cells import flat
from workbench.tui.widgets.compare_dialog import CompareDialog
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.ablation import Ablation
    from workbench.experiments import Question


class AblateDialog(CompareDialog):
    """Asks how the versions of an ablation are to be compared, and begins. Gives its id, None where it was called off.

    The fields are those of a comparison; each version is compared with the same baseline.
    """

    HEADING = "Train with and without each step of a recipe"
    FOOT = "enter starts · ↑↓ ←→ choose · ctrl+e ctrl+o eval set"
    LEAVE_OUT = ""
    BUDGETS = ("minutes", "tokens")
    DEFAULT_CSS = "AblateDialog > Vertical { width: 78; }"

    def __init__(self, setup: Setup, recipe: str, inputs: Sequence[str], ablation: Ablation) -> None:
        super().__init__(setup)
        self._recipe = recipe
        self._inputs = list(inputs)
        self._ablation = ablation

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The versions are what they are."""
        return False if action in ("candidate", "swap", "leave_out") else super().check_action(action, parameters)

    def arms(self) -> ComposeResult:
        """Nothing: the versions are those of the steps."""
        yield from ()

    def name_versions(self) -> None:
        """Say which recipe is asked about, over what, and how."""
        muted = self.app.theme_variables["muted"]
        told = [("recipe", self._recipe), ("rows of", ", ".join(self._inputs)), ("way", WAYS[self._ablation.mode])]
        text = Text("\n").join(Text.assemble((f"{label:<12}", muted), (flat(value), "bold")) for label, value in told)
        self.query_one("#versions", Static).update(text)

    def outlook(self, ask: Question) -> str:
        """What all comparisons together would come to."""
        return self.sentences(outlook(self.bench.workspace, self._ablation, ask))

    def begin(self, ask: Question, cancelled: Cancelled) -> str:
        """Begin with the first comparison."""
        return self.bench.experiments.runs.begin(self._recipe, self._inputs, self._ablation, ask, cancelled)
