"""Data sets of the hub: from a small hub on this machine, and from folders of the same layout."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import BadInput, HubUnavailable, UsageProblem
from workbench.formats.read import Opened, open_source

SHA = "5" * 40
CARD = b"""---
configs:
- config_name: plain
  data_files:
  - {split: train, path: data/train-*.jsonl}
  - {split: test, path: data/test.jsonl.gz}
- config_name: other
  data_files: other.csv
---
"""


def lines(*prompts: str) -> bytes:
    return b"".join(json.dumps({"prompt": prompt, "completion": "a"}).encode() + b"\n" for prompt in prompts)


def calls(*arguments: dict[str, Any]) -> bytes:
    turns = [
        [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": one}}]}]
        for one in arguments
    ]
    return b"".join(json.dumps({"messages": messages}).encode() + b"\n" for messages in turns)


FILES = {
    "README.md": CARD,
    "data/train-0.jsonl": lines("a", "b"),
    "data/train-1.jsonl": lines("c"),
    "data/test.jsonl.gz": gzip.compress(lines("d")),
    "other.csv": b"prompt,completion\ne,x\n",
}


class Hub(ThreadingHTTPServer):
    """One data set, `team/rows`, at one revision."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = dict(FILES)
        self.refuses: tuple[int, str] | None = None  # the status and error code that every question gets
        self.fetched: list[str] = []


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, hub = self.path.split("?")[0], self.server
        if hub.refuses:
            self.answer(hub.refuses[0], b"{}", X_Error_Code=hub.refuses[1])
        elif "/resolve/" in path:
            name = path.split("/resolve/")[1].partition("/")[2]
            if name not in hub.files:
                self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=SHA)
                return
            if self.command == "GET":
                hub.fetched.append(name)
            data = hub.files[name]
            self.answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=SHA)
        elif "/tree/" in path:
            self.answer(200, json.dumps(self.tree(path.split("/tree/")[1].partition("/")[2])).encode())
        else:
            names = [{"rfilename": name} for name in hub.files]
            self.answer(200, json.dumps({"id": "team/rows", "sha": SHA, "private": False, "siblings": names}).encode())

    def tree(self, folder: str) -> list[dict[str, Any]]:
        start = f"{folder}/" if folder else ""
        inside = {name: name[len(start) :] for name in self.server.files if name.startswith(start)}
        folders = {start + rest.split("/")[0] for rest in inside.values() if "/" in rest}
        here = [name for name, rest in inside.items() if "/" not in rest]
        return [{"type": "directory", "path": name, "oid": "0"} for name in folders] + [
            {"type": "file", "path": name, "size": len(self.server.files[name]), "oid": "1"} for name in here
        ]


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    import datasets
    from huggingface_hub import HfFileSystem

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    HfFileSystem.clear_instance_cache()
    yield server
    HfFileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()
    thread.join()


def prompts(source: Opened) -> list[str]:
    return [json.loads(row.messages)[0]["content"] for row in source.rows()]


def test_every_split_of_a_configuration_is_read_file_by_file(hub):
    source = open_source("hf:team/rows/plain")
    assert prompts(source) == ["a", "b", "c", "d"]
    assert [(span.name, span.first_row, span.rows) for span in source.spans()] == [
        ("train/data/train-0.jsonl", 0, 2),
        ("train/data/train-1.jsonl", 2, 1),
        ("test/data/test.jsonl.gz", 3, 1),
    ]
    assert SHA in str(source.parts[0].path), "the files are those of one revision"


def test_who_names_a_configuration_does_not_want_the_others(hub):
    assert open_source("hf:team/rows/plain").ignored == ()


def test_data_that_is_in_no_split_is_named(hub):
    del hub.files["README.md"]  # now the library goes by the names of the files and one kind of them alone
    source = open_source("hf:team/rows:train")
    assert prompts(source) == ["a", "b", "c"]
    assert source.ignored == ("other.csv",)


def test_one_split_and_what_was_fetched_is_not_fetched_again(hub):
    for _ in range(2):
        assert prompts(open_source("hf:team/rows/plain:test")) == ["d"]
    assert hub.fetched.count("data/test.jsonl.gz") == 1
    assert "data/train-0.jsonl" not in hub.fetched


def test_a_configuration_or_split_that_is_not_there_names_those_that_are(hub):
    with pytest.raises(BadInput, match=r"Config name is missing.*'plain', 'other'"):
        open_source("hf:team/rows")
    with pytest.raises(BadInput, match=r"there is no split 'dev'. There are train, test."):
        open_source("hf:team/rows/plain:dev")


def test_a_data_set_without_files(hub):
    hub.files = {"README.md": b"# nothing"}
    with pytest.raises(BadInput, match="no files that can be read"):
        open_source("hf:team/rows")


@pytest.mark.parametrize(
    ("refuses", "what", "do"),
    [
        ((401, "RepoNotFound"), "no such data set, or does not show it", "hf auth login"),
        ((403, "GatedRepo"), "the data set is gated", "Ask for access"),
        ((404, "RepoNotFound"), "no such data set", "Check the name"),
        ((400, "Odd"), "the hub refused", "Try again later"),
    ],
)
def test_a_hub_that_refuses(hub, refuses, what, do):
    hub.refuses = refuses
    with pytest.raises(HubUnavailable, match=what) as caught:
        open_source("hf:team/rows")
    assert do in caught.value.do
    assert caught.value.where == "hf:team/rows"


def test_without_a_hub_there_is_one_sentence_and_soon(hub, monkeypatch):
    monkeypatch.setattr("workbench.formats.hub._FIRST_ANSWER", 0.5)
    # A port that takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(HubUnavailable, match="the hub cannot be reached") as caught:
            open_source("hf:team/rows")
        assert time.monotonic() - started < 9, "less than the ten seconds of everybody else"
    assert caught.value.exit_code == 5
    assert "import its folder" in caught.value.do


def test_an_address_that_is_looked_up_for_ever_is_given_up_as_soon(hub, monkeypatch):
    monkeypatch.setattr("workbench.formats.hub._FIRST_ANSWER", 0.5)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://nowhere.invalid")
    found = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **more: found.wait(20) and [])
    started = time.monotonic()
    with pytest.raises(HubUnavailable, match="no answer within"):
        open_source("hf:team/rows")
    assert time.monotonic() - started < 9
    found.set()


def test_offline_mode_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnavailable, match="HF_HUB_OFFLINE is set"):
        open_source("hf:team/rows")


@pytest.mark.parametrize("name", ["rows", "team/rows:", "team/rows/plain:a b", "", "team/rows:train:test"])
def test_what_is_no_name_of_a_data_set(name):
    with pytest.raises(UsageProblem, match="names no data set"):
        open_source(f"hf:{name}")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "set/data").mkdir(parents=True)
    (tmp_path / "set/data/train.jsonl").write_bytes(calls({"city": "Oslo"}, {"days": None}))
    (tmp_path / "set/data/test.jsonl").write_bytes(calls({"city": "Bergen"}))
    return tmp_path / "set"


def test_a_folder_of_that_layout_gives_the_rows_that_load_dataset_gives(folder):
    from datasets import load_dataset

    source = open_source(f"hf:{folder}")
    theirs = load_dataset(str(folder), streaming=True)
    assert [span.name for span in source.spans()] == []
    assert len(list(source.rows())) == sum(len(list(split)) for split in theirs.values()) == 3
    assert [span.name for span in source.spans()] == ["train/data/train.jsonl", "test/data/test.jsonl"]


def test_files_of_a_folder_that_the_library_does_not_take_are_named(folder):
    (folder / "data/train.csv").write_text("prompt,completion\nq,a\n")
    (folder / "README.md").write_text("about")
    source = open_source(f"hf:{folder}:test")
    assert [part.name for part in source.parts] == ["test/data/test.jsonl"]
    assert source.ignored == ("data/train.csv",)


def test_tool_arguments_keep_their_own_keys_where_arrow_would_fill_them_up(folder):
    rows = list(open_source(f"hf:{folder}:train").rows())
    arguments = [json.loads(row.messages)[0]["tool_calls"][0]["function"]["arguments"] for row in rows]
    assert arguments == [{"city": "Oslo"}, {"days": None}]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        open_source(f"hf:{tmp_path}/none")
