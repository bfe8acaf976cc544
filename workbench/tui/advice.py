"""What to do about a problem, for somebody who is in the app: commands of the shell find the workspace in use there."""

from __future__ import annotations

import re

_HERE: tuple[tuple[str, str], ...] = (
    # Commands, and how the app does the same.
    (r"`workbench experiments resume(?: [^`]*)?` goes on with it", "r on the Experiments screen (E) goes on with it"),
    (r"`workbench experiments rm [^`]*`", "X on the Experiments screen (E)"),
    (r"`workbench experiments ls` lists them", "The Experiments screen (E) lists them"),
    (r"Name them with `workbench compare`", "Name them as candidates"),
    (r"`workbench compare A B` makes one", "c on the Experiments screen (E) makes one"),
    (
        r"`workbench evalset import [^`]*` brings one in(?:; `workbench evalset hold-out` makes one)?",
        ":hold-out makes one, and :eval-set on the Experiments screen (E) brings one in",
    ),
    (r"`workbench run` or `workbench versions freeze` makes one", "f in Browse (B) or a recipe (p) makes one"),
    (r": workbench versions freeze \S+ --name V --without [^.]*\.", "."),
    (r": workbench versions freeze \S+ --name V\.", ": open it (o), then f."),
    (r"remove (that one|it first) with `workbench \w+ rm [^`]*`", r"delete \1 with x on the Versions screen (V)"),
    (r": workbench versions rm ([^.]*)\.", r": x on the Versions screen (V) deletes \1."),
    (r"`workbench import --preview [^`]*` shows how it is read", "i shows how it is read"),
    (r"`workbench import` says why it is rejected", ":rejects says why"),
    (r"`workbench rejects ls [^`]*` lists them", ":rejects lists them"),
    (r"`workbench tokens` with --audit", "its rows as tokens (t)"),
    (r"See `workbench (?:sources|versions) show ([^`]*)`\.", r"Open \1 (o)."),
    (r"`workbench experiments diagnose` looks at what each arm does", "8 on the Experiments screen (E) looks at that"),
    (r"`workbench compare V V` shows", "a comparison of a version with itself shows"),
    # Options, which dialogs have as fields.
    (r"another --name\b", "another name"),
    (r"of its own: --name ", "of its own: "),
    (r"Choose another name with -o, or add --force\.", "Choose another name."),
    (r"with --map or --format", "in the fields columns and format"),
    (r"Give --format or --map, not both", "Fill in the format or the columns, not both"),
    (r"; or use --map", "; or fill in the columns"),
    (r"Write --map ", "Write the columns as "),
    (r"Give --evalset NAME", "Choose one"),
    (r"Ask for fewer with --n\b", "Ask for fewer"),
    (r"--quantize none", "quantise: none"),
    (r"--control (\S+) takes", r"the control \1 takes"),
    (r"give the larger version first", "make the larger version the baseline (ctrl+x swaps)"),
    (r"Give --trained-tokens for the other arms", "Give a budget in trained tokens"),
    (r"--match epochs trains", "a budget in epochs trains"),
    (r"Leave full out", "Leave the control full out"),
    (r"; the same command (?:resumes|goes on) where it was", "; asked for again, it goes on where it was"),
    (r"The same command (?:resumes|goes on) where it was", "Asked for again, it goes on where it was"),
)
_LEAVE = "Leave the app (ctrl+q) before you type that: it has the workspace open."
_COMMAND = re.compile(r"[`:] ?workbench [a-z]+")


def in_app(text: str) -> str:
    """The text of a problem with what can be done in the app in place of commands and options of the shell."""
    for pattern, here in _HERE:
        text = re.sub(pattern, here, text)
    return f"{text} {_LEAVE}" if _COMMAND.search(text) else text
