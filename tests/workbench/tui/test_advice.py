"""Problems as the app tells them: what to do about them can be done there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from workbench.tui.advice import in_app

ROOT = Path(__file__).parents[3]
OUTSIDE = ("workbench doctor", "workbench init", "pip install")
"""What can only be typed in a shell."""
NOT_OF_THE_APP = {
    "cli",
    "report",
    "diagnosis.py",
    "maintenance.py",
    "duplicates.py",
    "judging.py",
    "overlap.py",
    "demo.py",
}


def advice() -> list[str]:
    """The texts of all `do=` of problems that name one of our commands, values in them as X."""
    found = []
    for path in sorted((ROOT / "workbench").rglob("*.py")):
        if NOT_OF_THE_APP & set(path.relative_to(ROOT / "workbench").parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "do":
                for text in texts(node.value):
                    if "workbench " in text and not any(command in text for command in OUTSIDE):
                        found.append(text)
    return found


def texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return []


@pytest.mark.parametrize("text", sorted(set(advice())))
def test_advice_to_type_a_command_becomes_what_the_app_can_do(text):
    assert "workbench " not in in_app(text)


def test_such_advice_is_found_in_the_source():
    assert len(advice()) > 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Choose another --name: an eval set never changes.", "Choose another name: an eval set never changes."),
        ("Free some space; the same command resumes where it was.",
         "Free some space; asked for again, it goes on where it was."),
        ("The same command resumes where it was.", "Asked for again, it goes on where it was."),
        ("Ask for fewer with --n.", "Ask for fewer."),
        ("--control full takes as long as rows do. Give --trained-tokens for the other arms.",
         "the control full takes as long as rows do. Give a budget in trained tokens."),
        ("--match epochs trains on all of its rows. Leave full out.",
         "a budget in epochs trains on all of its rows. Leave the control full out."),
        ("`workbench doctor` says whether it is whole.", "`workbench doctor` says whether it is whole. Leave the app "
         "(ctrl+q) before you type that: it has the workspace open."),
        ("The workbench needs rows.", "The workbench needs rows."),
    ],
)  # fmt: skip
def test_options_become_fields_and_what_only_a_shell_can_do_says_that_the_app_is_left_first(text, told):
    assert in_app(text) == told


async def test_a_refusal_in_the_app_names_the_key_that_helps(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("V")
        await tui.until(pilot, lambda: pilot.app.current_mode == "versions")
        tui.type_text(pilot.app, ":delete rows\n")
        await tui.until(pilot, lambda: "x on the Versions screen (V) deletes curated" in tui.said(pilot.app))
