"""`workbench ablate` where it cannot be carried out: said before anything is trained."""

from __future__ import annotations

import json

import pytest

from ..ablated import to_ablate


@pytest.fixture
def ablate(tmp_path, tiny_model, anywhere, monkeypatch):
    """ablate(*options): the recipe `r.yaml`, whose baseline has the prompt of eval set `shared`."""
    monkeypatch.chdir(tmp_path)
    ws = to_ablate(tmp_path, tiny_model)
    (tmp_path / "shared.jsonl").write_text(json.dumps({"prompt": "Question 2?", "completion": "answer 2"}) + "\n")
    ws.import_evalset(tmp_path / "shared.jsonl", "shared")
    ws.close()
    command = ("-w", tmp_path / "ws", "ablate", "r.yaml", "--from", "rows", "--model", "./tiny", "--evalset", "shared")
    return lambda *options: anywhere(*command, "--trained-tokens", 2560, *options)


def test_a_baseline_that_knows_the_eval_prompts_ends_it(ablate):
    told = ablate("--json")
    assert (told.code, told.out) == (3, "")
    assert "rows of version 'rows-r' have the prompt of an item of eval set 'shared'" in told.err


def test_a_folder_for_another_machine_is_refused_rather_than_trained_here(ablate, tmp_path):
    told = ablate("--export", tmp_path / "out")
    assert told.code == 2
    assert "--export" in told.err
    assert not (tmp_path / "out").exists()
