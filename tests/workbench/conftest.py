"""A workspace with a finished experiment of the tiny model, run once for all tests that look into one; a hub."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from workbench.workspace import Workspace

PROMPTS = [f"Item {number}?" for number in range(5)]
HOSTILE_PROMPT = "Is [/INST] [bold]x[/] \x1b[2J \u202egnp. fine?"


@pytest.fixture(scope="session")
def compared(tiny_model, tmp_path_factory) -> Path:
    """A workspace folder: versions `yes` and `no`, eval set `items` (six), compared with two seeds."""
    from trainer.experiment import run_experiment
    from trainer.protocol import DONE, Events
    from workbench import experiments, outcomes
    from workbench.workspace import Workspace

    folder = tmp_path_factory.mktemp("compared") / "ws"
    workspace = Workspace.init(folder)
    for name in ("yes", "no"):
        path = folder.with_name(f"{name}.jsonl")
        rows = [{"prompt": f"Question {i}?", "completion": f"{name} {i}"} for i in range(30)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        workspace.import_file(path, name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    path = folder.with_name("items.jsonl")
    prompts = [*PROMPTS, HOSTILE_PROMPT]
    path.write_text("".join(json.dumps({"prompt": p, "completion": f"yes {i}"}) + "\n" for i, p in enumerate(prompts)))
    workspace.import_evalset(path, "items")
    question = experiments.Question(
        "yes",
        "no",
        model=str(tiny_model),
        seeds=2,
        trained_tokens=1500,
        quantize="none",
        device="cpu",
        max_new_tokens=8,
    )  # fmt: skip
    planned = experiments.plan(workspace, question)
    run_experiment(planned.folder, Events(planned.folder))
    (planned.folder / DONE).write_text("{}")
    outcomes.conclude(workspace, planned.id)
    workspace.close()
    return folder


@pytest.fixture
def compared_copy(compared, tmp_path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(compared, tmp_path / "compared"))


@pytest.fixture
def open_copy(tmp_path, tiny_model, monkeypatch) -> Iterator[Callable[[Path], Workspace]]:
    """Opens a copy of a workspace; the tiny model is `./tiny`."""
    from workbench.workspace import Workspace

    opened: list[Workspace] = []

    def copied(folder: Path) -> Workspace:
        opened.append(Workspace.open(Path(shutil.copytree(folder, tmp_path / "ws"))))
        return opened[-1]

    (tmp_path / "tiny").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    yield copied
    for workspace in opened:
        workspace.close()


class Hub(ThreadingHTTPServer):
    """One data set: whether it is there, who sees it, its files and the heads of its commits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repo = "team/rows"
        self.visibility: str | None = None
        self.files: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.refuses: int | None = None  # the status that every question gets


class Answers(BaseHTTPRequestHandler):
    """What the hub's library asks, answered."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, data: object, **headers: str) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        hub = self.server
        if hub.refuses:
            self.answer(hub.refuses, {"error": "No, not you"})
        elif hub.visibility is None:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif "/tree/" in self.path:
            self.answer(200, [{"type": "file", "path": path, "size": 1, "oid": "0"} for path in hub.files])
        else:
            siblings = [{"rfilename": path} for path in (".gitattributes", *hub.files)]
            self.answer(200, {"id": hub.repo, "private": hub.visibility == "private", "siblings": siblings})

    def do_POST(self) -> None:
        hub = self.server
        url = f"http://127.0.0.1:{hub.server_port}/datasets/{hub.repo}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if hub.refuses:
            self.answer(hub.refuses, {"error": "No, not you"})
        elif self.path == "/api/repos/create":
            there, asked = hub.visibility is not None, json.loads(body)
            hub.visibility = hub.visibility or asked["visibility"]
            self.answer(409 if there else 200, {"url": url})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            self.answer(
                200,
                {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]},
            )
        else:
            self.commit([json.loads(line) for line in body.splitlines()])
            self.answer(200, {"commitOid": "c" * 40, "commitUrl": f"{url}/commit/{'c' * 40}"})

    def commit(self, operations: list[dict[str, Any]]) -> None:
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "header":
                self.server.commits.append(value["summary"])
            elif operation["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                del self.server.files[value["path"]]


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    """The only hub that this process can reach, with no data set in it."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def serve():
    """Start a scripted judge; all are closed at the end."""
    from .judged import scripted_server

    servers = []

    def start(script):
        servers.append(scripted_server()(script))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def in_process(monkeypatch):
    """The judging job without a process of its own, which takes seconds to load its libraries."""
    from filters.judge.job import judge_folder
    from trainer.protocol import Events, read_events
    from workbench import scoring

    def run(module, folder, on_event, **_):
        try:
            judge_folder(folder, Events(folder))
        finally:
            for event in read_events(folder)[0]:
                on_event(event)

    monkeypatch.setattr(scoring, "run_job", run)
