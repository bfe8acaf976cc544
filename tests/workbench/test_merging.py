"""Adapters of finished experiments, folded into a model folder by the command."""

from __future__ import annotations

import json

import pytest

from workbench import merging
from workbench.errors import NotFound, UsageProblem
from workbench.store.experiments import experiments
from workbench.workspace import Workspace


@pytest.fixture
def ws(compared_copy, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(compared_copy.parent)  # a workspace may be given by a relative path
    opened = Workspace.open(compared_copy.name)
    yield opened
    opened.close()


@pytest.fixture
def id(ws) -> str:
    [experiment] = experiments(ws.store)
    return experiment.id


def stopped(_merged: merging.Merged) -> str:
    raise KeyboardInterrupt


def test_an_experiments_candidate_becomes_a_model_folder_with_a_card(ws, id, tmp_path, forked_jobs, monkeypatch):
    out = tmp_path / "tuned"
    with monkeypatch.context() as patch:
        patch.setattr(merging, "_card", stopped)
        with pytest.raises(KeyboardInterrupt):
            merging.merge(ws, [id, f"{id}:baseline:1=-0.5"], out)
    assert not list(tmp_path.glob("*tuned*"))
    merged = merging.merge(ws, [id, f"{id}:baseline:1=-0.5"], out)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    assert [(part.run, part.weight) for part in merged.parts] == [("candidate-0", 1.0), ("baseline-1", -0.5)]
    assert merged.checks.largest < 1e-3
    assert merged.bytes == sum(path.stat().st_size for path in out.iterdir() if path.name != "README.md")
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"]
    card = (out / "README.md").read_text()
    assert "| no | " in card
    assert "| -0.5 |" in card
    assert not any((ws.runs_dir / merging.FOLDER).iterdir()), "the job's folder is not left behind"
    with pytest.raises(UsageProblem, match="there already"):
        merging.merge(ws, [id], out)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageProblem, match="something else"):
        merging.merge(ws, [id], out, force=True)


def test_an_arm_is_named_by_its_side_or_its_version_and_a_seed_by_its_number(ws, id):
    [experiment] = experiments(ws.store)
    for name, run in (
        (id[:6], "candidate-0"),
        (experiment.name, "candidate-0"),
        (f"{id}:yes", "baseline-0"),
        (f"{id}:candidate:1=0.25", "candidate-1"),
    ):
        assert merging._planned(ws, name)[0].run == run
    with pytest.raises(NotFound, match="no arm 'maybe'"):
        merging._planned(ws, f"{id}:maybe")
    with pytest.raises(NotFound, match="with seed 9"):
        merging._planned(ws, f"{id}:yes:9")
    for wrong in ("much", "nan", "inf", ""):
        with pytest.raises(UsageProblem, match=f"'{wrong}' is no weight"):
            merging._planned(ws, f"{id}={wrong}")


def test_an_arm_that_could_be_several_is_asked_about():
    versions = {"baseline": "raw", "candidate": "a", "random": "a", "merged": "ties=0.3(raw + a)"}
    noted = {"arms": versions, "controls": {"random": {"kind": "random-k", "of": ["candidate"]}}}

    def arm(wanted: str | None, *known: str) -> str:
        return merging._arm(wanted, noted, list(known or versions), "experiment x")

    assert arm("raw") == "baseline"
    assert arm("random") == "random"
    assert arm(*merging._weighted("ties=0.3(raw + a)")[:1]) == "merged"
    assert merging._weighted("x:ties=0.3(raw + a)=-2") == ("x:ties=0.3(raw + a)", -2)
    assert arm(None, "baseline", "candidate", "random") == "candidate", "not the control, which comes last"
    assert arm(None, "baseline") == "baseline"
    with pytest.raises(UsageProblem, match="2 arms are called 'a'"):
        arm("a")
    with pytest.raises(UsageProblem, match=r"it has 2 candidates. Say which .* merged \(ties=0.3\(raw \+ a\)\)"):
        arm(None)


def test_adapters_of_different_bases_are_not_put_together(ws, id, tmp_path, monkeypatch):
    planned = merging._planned

    def one_in_four_bits(ws, name):
        part, job, choice = planned(ws, name)
        return part, job, choice.model_copy(update={"held": "nf4-packed"}) if part.run == "baseline-0" else choice

    monkeypatch.setattr(merging, "_planned", one_in_four_bits)
    with pytest.raises(UsageProblem, match="nf4-packed"):
        merging.merge(ws, [id, f"{id}:baseline"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_is_gone_is_told(ws, id, tmp_path):
    (ws.runs_dir / id / "results" / "candidate-0" / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(UsageProblem, match="no longer there"):
        merging.merge(ws, [id], tmp_path / "out")
