"""The tokenizer of the preview: rows that are passed by do not wait for it, and a failure is not tried at every row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workbench.errors import ModelUnavailable, Stopped
from workbench.tui import token_preview
from workbench.tui.token_preview import model_lens

SMOLLM = Path(__file__).parents[3] / "../shared/tokenizers/smollm2"


def test_a_row_that_is_passed_by_does_not_wait_for_the_tokenizer():
    with token_preview._READING, pytest.raises(Stopped):
        model_lens("any", lambda: True)
    with pytest.raises(Stopped):
        model_lens("any", lambda: True)
    assert token_preview._READING.acquire(blocking=False), "it is free again"
    token_preview._READING.release()


@pytest.mark.skipif(not SMOLLM.is_dir(), reason="needs the tokenizers in ../shared")
def test_a_failure_is_remembered_for_rows_but_not_where_a_person_asks_again(tmp_path, monkeypatch):
    model = str(tmp_path / "model")
    Path(model).mkdir()
    with pytest.raises(ModelUnavailable) as first:
        model_lens(model, again=False)
    shutil.copytree(SMOLLM, model, dirs_exist_ok=True)
    with pytest.raises(ModelUnavailable) as second:
        model_lens(model, again=False)
    assert str(second.value) == str(first.value)
    monkeypatch.setattr(token_preview, "_REMEMBERED", 0.0)
    assert model_lens(model, again=False).model == model, "it may be there by now"
    with pytest.raises(ModelUnavailable):
        model_lens(str(tmp_path / "other"))
    monkeypatch.undo()
    (tmp_path / "other").symlink_to(model)
    assert model_lens(str(tmp_path / "other")).model == str(tmp_path / "other")
    assert model_lens(str(tmp_path / "other"), again=False)
