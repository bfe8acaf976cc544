"""The lines above the tokens: which row, seen how, and how much of it is trained."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from workbench.report.tokens import cut_sentence
from workbench.token_facts import Counts, Page
from workbench.token_heat import Losses, mean_trained
from workbench.tokens import Lens
from workbench.tui.cells import flat
from workbench.tui.lens_dialogs import policy_told


def head_text(
    where: Sequence[str],
    lens: Lens,
    page: Page | None,
    now: Counts,
    before: Counts | None,
    heat: tuple[str, Losses] | None,
) -> Text:
    """Two lines, and a third where the limit takes something.

    `before` are the counts through the lens that was changed, `heat` the name and the losses of what was measured.
    """
    parts = [*where, lens.label]
    if page and page.count > 1:
        parts.append(f"training example {page.number} of {page.count}, {len(page.example.input_ids):,} tokens (> <)")
    told = [f"trained {now.trained:,} of {now.total:,} tokens"]
    if before and before != now:
        told[0] += f" (was {before.trained:,} of {before.total:,})"
    told.append(f"limit {lens.limit:,}, {lens.limit_is}")
    told.append(f"{policy_told(lens)}, longer: {lens.truncate}")
    if heat and page:
        mean = mean_trained(page, heat[1])
        told.append(f"loss under {heat[0]}" + (f": mean {mean:.3f} nats" if mean is not None else ""))
    text = Text(flat(" · ".join(parts)) + "\n")
    text.append(flat(" · ".join(told)), "bold")
    if page and page.cut:
        text.append("\n")
        text.append_text(cut_sentence(page.cut, lens.limit))
    return text
