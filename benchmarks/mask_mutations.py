"""Which test notices which mistake? Breaks each step of the masks on purpose and runs their tests.

    python benchmarks/mask_mutations.py [WORD ...]

Each mutation is a change of the source in a copy of the project, and the tests of trainer/chat run on the copy. With
words, only the mutations whose description has one of them. Prints a Markdown table for docs/masks.md and fails where
a mutation was noticed by no test, or where its place in the source is gone. All of it takes about half an hour.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ["trainer", "filters", "workbench", "datasets", "tests", "docs", "benchmarks", "pyproject.toml", "README.md"]
STAGES = [
    ["mask", "parts", "render", "byte_level"],
    ["templates"],
    ["oracle"],
    ["many", "properties"],
    ["training_batches"],
]
"""Tests of trainer/chat in the order of what they cost; the first stage where some fail is the last one."""

# A failing property would be made small for minutes; that it fails is all we ask.
PLUGIN = """
from hypothesis import Phase, settings
settings.register_profile("mutations", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutations")
"""


@dataclass(frozen=True)
class Mutation:
    """A mistake: what `old` does, which stands once in `file` of trainer/, `new` does wrongly."""

    mistake: str
    file: str
    old: str
    new: str


MUTATIONS = [
    # Step 1: the prompt of inference, and the turn as it was written.
    Mutation(
        "the prompt lacks the header of the answer",
        "chat/turns.py",
        "prompt = conversation.upto(index, prompt=True",
        "prompt = conversation.upto(index, prompt=False",
    ),
    Mutation(
        "the template's arguments do not reach the prompt",
        "chat/turns.py",
        "prompt = conversation.upto(index, prompt=True, args=args)",
        "prompt = conversation.upto(index, prompt=True, args={})",
    ),
    Mutation(
        "the prompts of evaluation lack the template's arguments",
        "chat/mask.py",
        "tools, chat.facts.args, prompt=prompt)",
        "tools, {}, prompt=prompt)",
    ),
    Mutation(
        "the prompts of evaluation lack the policy",
        "evaluate.py",
        'messages, tools, replace(policy, turns="last"))',
        "messages, tools)",
    ),
    Mutation("the date is not frozen", "chat/render.py", 'if "strftime_now" not in template:', "if True:"),
    Mutation(
        "arguments of tools stay text",
        "chat/render.py",
        "self.messages = [dict_arguments(message) for message in messages]",
        "self.messages = list(messages)",
    ),
    Mutation(
        "arguments of tools never become text",
        "chat/render.py",
        "self.messages = [text_arguments(message) for message in messages]",
        "raise",
    ),
    Mutation("parts of content are not joined", "chat/render.py", "elif self.joins_parts and", "elif False and"),
    Mutation("text is not made parts", "chat/render.py", "if self.parts and", "if False and"),
    Mutation("the template sees our own key `train`", "chat/render.py", '{"train", "train_spans"}', '{"train_spans"}'),
    # Step 2: from the prompt to the stop token.
    Mutation(
        "nobody looks whether the turn begins with the prompt",
        "chat/turns.py",
        "if conversation.upto(index + 1, args=args).startswith(prompt):",
        "if conversation.upto(index + 1, args=args):",
    ),
    Mutation("the stop token is not trained", "chat/cuts.py", "max(first, stop + 1)", "max(first, stop)"),
    Mutation(
        "one token behind the stop token is trained", "chat/cuts.py", "max(first, stop + 1)", "max(first, stop + 2)"
    ),
    Mutation(
        "a stop token typed into an answer ends it",
        "chat/turns.py",
        "_first(solo, stops, content_end)",
        "_first(solo, stops, start)",
    ),
    Mutation(
        "a stop token typed into a tool call ends it",
        "chat/turns.py",
        "place := solo.rfind(text, start)",
        "place := solo.find(text, start)",
    ),
    Mutation(
        "the template's own stop token is not found", "chat/probe.py", "stops.add(added.ids[behind.group()])", "pass"
    ),
    Mutation("the stop token of tool calls is not found", "chat/probe.py", "stops.add(added.ids[last])", "pass"),
    Mutation(
        "any token behind an answer counts as a stop",
        "chat/probe.py",
        "tail is not None and not known_in(shared) and",
        "tail is not None and",
    ),
    Mutation("the policy's stop tokens are left out", "chat/probe.py", "stops = set(more) |", "stops = set() |"),
    Mutation(
        "a stop token that melted into another counts as one",
        "chat/cuts.py",
        "if ids[stop] in chat.facts.stops:",
        "if True:",
    ),
    # Step 3: the turn inside the whole conversation.
    Mutation(
        "every turn is trained inside the whole conversation",
        "chat/turns.py",
        "for host in found if host.text.startswith(head)",
        "for host in found",
    ),
    Mutation(
        "every turn becomes an example of its own",
        "chat/turns.py",
        "for host in found if host.text.startswith(head)",
        "for host in found[:0]",
    ),
    Mutation("`train: false` is not looked at", "chat/turns.py", 'if messages[i].get("train") is not False]', "]"),
    Mutation("`last` takes the first turn", "chat/turns.py", "turns = turns[-1:]", "turns = turns[:1]"),
    # Step 4: prompts that do not fit.
    Mutation(
        "the template's switches are not tried for a turn",
        "chat/turns.py",
        "[chat.facts.args, *chat.facts.other_args]",
        "[chat.facts.args]",
    ),
    Mutation(
        "the template's switches are not tried for plain answers",
        "chat/probe.py",
        "choices = [renderer.args, *_switched(renderer)]",
        "choices = [renderer.args]",
    ),
    Mutation(
        "the content is not looked for",
        "chat/turns.py",
        "    if found is None:\n        issues",
        "    if True:\n        issues",
    ),
    # Step 5: tokens.
    Mutation(
        "the tokenizer adds special tokens", "chat/encode.py", "add_special_tokens=False", "add_special_tokens=True"
    ),
    Mutation(
        "a token across the border is trained",
        "chat/cuts.py",
        '"where the turn begins")))',
        '"where the turn begins")))\n        first -= 1',
    ),
    Mutation("a prompt split otherwise is not noticed", "chat/cuts.py", "if alone[piece] != expected:", "if False:"),
    Mutation(
        "positions are trusted as they come",
        "chat/encode.py",
        "found is not None and covers(text, found)",
        "found is not None",
    ),
    Mutation(
        "the bytes of the tokens are trusted as they come",
        "chat/byte_level.py",
        'if b"".join(pieces) != raw:',
        "if False:",
    ),
    Mutation(
        "a text that the tokenizer would compose is tokenised as it is",
        "chat/byte_level.py",
        "not self._composes or _is_composed(text)",
        "True",
    ),
    Mutation("segments are trusted as they come", "chat/cuts.py", "if ids != whole:", "if False:"),
    # Parts of a turn, and tokens that somebody typed.
    Mutation("`train_spans` are not looked at", "chat/parts.py", 'if "train_spans" in message:', "if False:"),
    Mutation(
        "tool calls are trained where the policy says no",
        "chat/parts.py",
        "if not policy.tool_calls and",
        "if False and",
    ),
    Mutation("reasoning is trained where the policy says no", "chat/parts.py", "if not policy.reasoning:", "if False:"),
    Mutation(
        "half a token of an ignored part is trained",
        "chat/cuts.py",
        "bisect_right(offsets.ends, start)",
        "bisect_left(offsets.starts, start)",
    ),
    Mutation(
        "typed tokens stay special where the policy says text",
        "chat/forged.py",
        'if special == "flag":',
        'if special != "refuse":',
    ),
    Mutation("rows with typed tokens are not refused", "chat/forged.py", 'if special == "refuse":', "if False:"),
    # What a person is told.
    Mutation(
        "special tokens in content are not told",
        "chat/checks.py",
        "if forged := forged_in(message, added):",
        "if forged := []:",
    ),
    Mutation(
        "tools that are not shown are not told",
        "chat/checks.py",
        "not (facts.shows_tools and name in conversation.whole)",
        "False",
    ),
    Mutation(
        "calls that are not shown are not told", "chat/checks.py", "shown = _written(conversation, index)", "pass"
    ),
    # From labels to the loss.
    Mutation("every token is a label", "chat/example.py", "[id_ if trained else IGNORED for", "[id_ for"),
    Mutation(
        "padding is masked by its id",
        "losses.py",
        '    return {"input_ids": input_ids, "labels": labels}',
        '    labels[input_ids == pad_id] = -100\n    return {"input_ids": input_ids, "labels": labels}',
    ),
    Mutation("labels are not shifted", "losses.py", "mask[:, :-1] = targets != -100", "mask[:, 1:] = targets != -100"),
]


def copy_project(folder: Path) -> Path:
    """A copy that the tests run in as in the original, with the folder of shared data beside it."""
    project = folder / "project"
    project.mkdir()
    for name in COPIED:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "out")
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=ignored)
        else:
            shutil.copy(source, project / name)
    (folder / "plugin").mkdir()
    (folder / "plugin" / "no_shrinking.py").write_text(PLUGIN)
    if (ROOT / "../shared").exists():
        (folder / "shared").symlink_to((ROOT / "../shared").resolve())
    return project


def failing_tests(project: Path) -> Counter[str]:
    """The tests (without their parameters) that fail in the first stage where any do, with their failing cases."""
    environment = os.environ | {"PYTHONPATH": str(project.parent / "plugin"), "OMP_NUM_THREADS": "1"}
    for stage in STAGES:
        command = [sys.executable, "-m", "pytest", *(f"tests/trainer/chat/test_{name}.py" for name in stage)]
        command += ["-q", "--tb=no", "-k", "not docs", "-p", "no:cacheprovider", "-p", "no_shrinking"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            sys.exit(f"the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        if failed := Counter(re.findall(r"^(?:FAILED|ERROR) \S+/(\w+\.py::\w+)", done.stdout, re.MULTILINE)):
            return failed
    return Counter()


def as_row(mistake: str, failed: Counter[str]) -> str:
    if not failed:
        return f"| {mistake} | **no test** |"
    named = [f"`{test.split('::')[1]}`" for test, _ in failed.most_common(2)]
    more = f" and {len(failed) - 2} more" if len(failed) > 2 else ""
    return f"| {mistake} | {', '.join(named)}{more} |"


def main() -> None:
    words = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not words or any(word in m.mistake for word in words)]
    unnoticed = 0
    with tempfile.TemporaryDirectory() as scratch:
        project = copy_project(Path(scratch))
        for mutation in chosen:
            if (found := (project / "trainer" / mutation.file).read_text().count(mutation.old)) != 1:
                sys.exit(f"{mutation.mistake}: stands {found} times in trainer/{mutation.file}: {mutation.old}")
        if failed := failing_tests(project):
            sys.exit(f"tests fail before anything is broken: {', '.join(failed)}")
        print("| broken on purpose | noticed first by |\n|---|---|", flush=True)
        for mutation in chosen:
            path = project / "trainer" / mutation.file
            sound = path.read_text()
            path.write_text(sound.replace(mutation.old, mutation.new))
            failed = failing_tests(project)
            path.write_text(sound)
            unnoticed += not failed
            print(as_row(mutation.mistake, failed), flush=True)
    if unnoticed:
        sys.exit(f"{unnoticed} mistakes were noticed by no test")


if __name__ == "__main__":
    main()
