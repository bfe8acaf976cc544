"""A path that is being typed goes on as what lies there."""

from __future__ import annotations

from workbench.paths import complete_path


def test_what_lies_in_the_folder_and_begins_so_in_order(tmp_path, monkeypatch):
    for name in ("chats.jsonl", "chat", "other.csv", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "chats").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert complete_path("cha") == ["chat", "chats.jsonl", "chats/"]
    assert complete_path(f"{tmp_path}/o") == [f"{tmp_path}/other.csv"]
    assert complete_path("~/o") == ["~/other.csv"], "as it was typed"
    assert complete_path("") == ["chat", "chats.jsonl", "chats/", "other.csv"]
    assert complete_path(".") == [".hidden"]


def test_where_nothing_can_be_read_there_is_nothing_to_go_on_with(tmp_path):
    for text in (f"{tmp_path}/no/such/", "~nobody-here/x", "\0/x", f"{tmp_path}/\0"):
        assert complete_path(text) == []
