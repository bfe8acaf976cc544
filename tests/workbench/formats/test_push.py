"""Pushing to a hub: a small one on this machine that speaks the questions and answers of a real one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import HubUnavailable, UsageProblem
from workbench.formats.push import check_hub, push_folder

REPO = "team/rows"


class Hub(ThreadingHTTPServer):
    """One data set: whether it is there, who sees it, its files and the heads of its commits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.visibility: str | None = None
        self.files: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.refuses: int | None = None  # the status that every question gets


class Answers(BaseHTTPRequestHandler):
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
            self.answer(200, {"id": REPO, "private": hub.visibility == "private", "siblings": siblings})

    def do_POST(self) -> None:
        hub, url = self.server, f"http://127.0.0.1:{self.server.server_port}/datasets/{REPO}"
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
def folder(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.parquet").write_bytes(b"PAR1")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# rows\n")
    return tmp_path


@pytest.mark.parametrize("public", [False, True])
def test_a_new_data_set_is_private_unless_it_shall_not_be(hub, folder, public):
    check_hub(REPO, force=False)
    pushed = push_folder(folder, REPO, public=public, message="7 rows")
    assert (pushed.private, hub.visibility) == (not public, "public" if public else "private")
    assert pushed.url == f"http://127.0.0.1:{hub.server_port}/datasets/{REPO}"
    assert hub.files == {"README.md": (folder / "README.md").read_bytes(), "data/rows.parquet": b"PAR1"}
    assert hub.commits == ["7 rows"]


def test_a_data_set_that_is_there_is_replaced_when_told_and_stays_as_visible(hub, folder):
    hub.visibility = "private"
    check_hub(REPO, force=False)  # it is there, and empty: a push that broke off goes on
    hub.files["data/old.parquet"] = b"old"
    with pytest.raises(UsageProblem, match="--force"):
        check_hub(REPO, force=False)
    check_hub(REPO, force=True)
    assert push_folder(folder, REPO, public=True, message="7 rows").private
    assert sorted(hub.files) == ["README.md", "data/rows.parquet"]


@pytest.mark.parametrize(
    ("status", "says"), [(401, "hf auth login"), (403, "hf auth login"), (418, "refused: No, not you")]
)
def test_a_hub_that_refuses_is_one_sentence(hub, folder, status, says):
    hub.refuses = status
    with pytest.raises(HubUnavailable, match=says):
        check_hub(REPO, force=False)
    with pytest.raises(HubUnavailable, match=says):
        push_folder(folder, REPO, public=False, message="7 rows")
    assert hub.files == {}


def test_a_hub_out_of_reach_is_one_sentence(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(HubUnavailable, match="the hub cannot be reached"):
        check_hub(REPO, force=False)


def test_a_hub_that_never_answers_is_out_of_reach(hub, monkeypatch):
    monkeypatch.setattr("workbench.formats.push._TIMEOUT", 0.2)
    monkeypatch.setattr(Answers, "do_GET", lambda self: threading.Event().wait(3))
    with pytest.raises(HubUnavailable, match="the hub cannot be reached"):
        check_hub(REPO, force=False)
