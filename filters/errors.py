"""What can go wrong in curation. The tree starts in `trainer.errors`.

BadInput                     3
├── RecipeProblem            3  the recipe does not say something that can be run
└── Wipeout                  3  a step would drop more than its `max_drop`, or all of one group
"""

from __future__ import annotations

from trainer.errors import BadInput


class RecipeProblem(BadInput):
    """A recipe that cannot be run; `where` is `file:line`, or the file when `what` lists several lines."""


class Wipeout(BadInput):
    """The wipe-out guard stopped a step."""
