"""The command as it is installed, called wrongly: its exit code and one helpful message, never a traceback.

Workspaces that are in use, newer, read-only or damaged have their own file, `test_workspace_states`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import CompletedProcess

import pytest

from trainer import models
from workbench.workspace import Workspace


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a workspace and files that each have something wrong with them."""
    folder = tmp_path_factory.mktemp("desk")
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}."} for i in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "empty.jsonl").touch()
    (folder / "blank.json").write_text(" \n")
    (folder / "unknown.yaml").write_text("steps:\n  - exact: {on: both}\n  - lenght: {min_words: 3}\n")
    (folder / "nothing.yaml").write_text("steps:\n  - length: {on: response, min_words: 90}\n")
    (folder / "no-tokenizer").mkdir()
    (folder / "no-tokenizer" / "config.json").write_text('{"model_type": "llama"}')
    workspace = Workspace.init(folder / "ws")
    workspace.import_file(folder / "rows.jsonl", name="rows")
    workspace.close()
    return folder


def call(folder, *argv: str, python: tuple[str, str] = ("-m", "workbench"), **env: str) -> CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-w", "ws", *argv],
        cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


MISTAKES = {
    "no such model": (["tokens", "rows.jsonl", "--model", "no-such-org/none"], 5, "Give a local folder"),
    "not a tokenizer": (["tokens", "rows.jsonl", "--model", "./no-tokenizer"], 5, "tokenizer.json"),
    "empty file": (["import", "empty.jsonl"], 3, "empty.jsonl"),
    "blank file": (["import", "blank.json"], 3, "blank.json"),
    "no such file": (["import", "nowhere.jsonl"], 2, "nowhere.jsonl"),
    "unknown step": (["run", "unknown.yaml", "--from", "rows", "--name", "v"], 3, "length"),
    "zero rows left": (["run", "nothing.yaml", "--from", "rows", "--name", "v", "--allow-wipeout"], 3, "length"),
    "unknown version": (["compare", "rows", "v"], 2, "eval set"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_its_exit_code_and_one_message(desk, mistake):
    argv, code, help_ = MISTAKES[mistake]
    done = call(desk, *argv)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert help_ in done.stderr
    assert len(done.stderr.splitlines()) == 1 or mistake == "unknown step"


def test_an_unknown_step_is_named_with_file_line_and_its_neighbour(desk):
    message = call(desk, *MISTAKES["unknown step"][0]).stderr
    assert "unknown.yaml:3" in message
    assert "lenght" in message


def test_a_model_is_given_up_within_15_seconds_without_a_network(desk):
    assert models._HUB_TIMEOUT <= 10
    sooner = "from trainer import models; models._HUB_TIMEOUT = 1; from workbench.cli import main; main()"
    # A proxy that refuses at once is kind; one that never answers is the network that hangs.
    with socket.create_server(("127.0.0.1", 0)) as deaf, ThreadPoolExecutor(1) as beside:
        deaf.settimeout(60)
        asked = beside.submit(lambda: (deaf.accept(), time.monotonic()))
        proxy = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        told = {"HF_HUB_OFFLINE": "0", "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
        done = call(desk, *MISTAKES["no such model"][0], python=("-c", sooner), **told)
        (connection, _), began = asked.result(timeout=1)
        connection.close()
    assert time.monotonic() - began < 9, "what came before the question is the loading of libraries"
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: model no-such-org/none: not on this machine, and the hub cannot be reached.")


def test_debug_shows_the_traceback_besides_the_message(desk):
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "--debug", "-w", "ws", "import", "empty.jsonl"],
        cwd=desk, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
