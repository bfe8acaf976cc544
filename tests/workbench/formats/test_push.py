"""Pushing to a hub: a small one on this machine that speaks the questions and answers of a real one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from workbench.errors import AlreadyOnHub, HubUnavailable
from workbench.formats.push import check_hub, push_folder

REPO = "team/rows"


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
    with pytest.raises(AlreadyOnHub, match="--force"):
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
    monkeypatch.setattr(hub.RequestHandlerClass, "do_GET", lambda self: threading.Event().wait(3))
    with pytest.raises(HubUnavailable, match="the hub cannot be reached"):
        check_hub(REPO, force=False)
