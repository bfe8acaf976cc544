"""Losses of tokens, asked of a real job with a tiny model: measured once, stopped, refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from trainer.base import load_base  # noqa: E402
from trainer.conversation import canonical_json  # noqa: E402
from trainer.errors import Stopped  # noqa: E402
from trainer.methods import adapter  # noqa: E402
from trainer.models import resolve_model  # noqa: E402
from trainer.plan import Budget, ExperimentPlan, ModelSetting, Run, TrainingSetting  # noqa: E402
from trainer.token_loss import token_losses  # noqa: E402
from workbench.store.experiments import save_experiment  # noqa: E402
from workbench.token_facts import pages  # noqa: E402
from workbench.token_heat import adapters, heat, mean_trained, measured_range  # noqa: E402
from workbench.tokens import Row, lens, see  # noqa: E402
from workbench.workspace import Workspace  # noqa: E402

CHAT = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "To the sea, slowly."}]


@pytest.fixture
def ws(tmp_path):
    workspace = Workspace.init(tmp_path / "ws")
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def through(tiny_model):
    return lens(str(tiny_model))


def pages_of(through):
    return pages(see(through, Row(0, 1, canonical_json(CHAT), None)))


def test_losses_are_the_models_measured_once_and_then_known(ws, through, tiny_model):
    found = pages_of(through)
    with pytest.raises(Stopped, match="runs on"):
        heat(ws, through, found, None, wish=lambda: "leave")
    assert len(list(ws.runs_dir.iterdir())) == 1
    events: list = []
    (losses,) = heat(ws, through, found, None, events.append)  # of the job that was left alone
    base = load_base(ModelSetting(name=str(tiny_model), quantize="none", device="cpu", dtype="float32"))
    ids = found[0].example.input_ids
    expected = token_losses(base, base.model, ids)
    assert losses[0] is None
    assert losses[1:] == pytest.approx(expected[1:], abs=0.05)  # the job may have chosen bfloat16
    assert [event["done"] for event in events if event["event"] == "progress"] == [len(ids)]
    trained = [loss for loss, is_ in zip(losses, found[0].example.trained, strict=True) if is_]
    assert mean_trained(found[0], losses) == pytest.approx(sum(trained) / len(trained))
    assert list(ws.runs_dir.iterdir()) == []
    events.clear()
    last = replace(through, policy=replace(through.policy, turns="last"))
    assert heat(ws, last, pages_of(last), None, events.append) == [losses], "other labels, the same ids"
    assert events == []


def test_what_the_limit_takes_is_not_measured_and_of_a_dropped_example_as_much_as_fits(through):
    length = len(pages_of(through)[0].example.input_ids)
    ranges = {}
    for truncate in ("drop", "keep-start", "keep-end"):
        (page,) = pages_of(replace(through, limit=20, truncate=truncate))
        ranges[truncate] = measured_range(page, 20)
    assert ranges == {"drop": (0, 20), "keep-start": (0, 20), "keep-end": (length - 20, length)}
    assert measured_range(pages_of(through)[0], 8) == (0, 8), "a limit beyond what the model can see"


def test_a_job_that_is_stopped_leaves_nothing(ws, through):
    with pytest.raises(Stopped):
        heat(ws, through, pages_of(through), None, wish=lambda: "stop")
    assert list(ws.runs_dir.iterdir()) == []


@pytest.mark.usefixtures("forked_jobs")
def test_the_adapters_of_finished_runs_are_measured_on_their_own_base(ws, through, tiny_model):
    name = str(tiny_model)
    model = ModelSetting(name=name, quantize="none", device="cpu", dtype="float32")
    runs = [Run(id="baseline-0", arm="baseline", seed=0), Run(id="baseline-1", arm="baseline", seed=1)]
    plan = ExperimentPlan(model=model, budget=Budget(trained_tokens=9), arms={"baseline": "b.parquet"}, runs=runs)
    noted = {"arms": {"baseline": "clean"}, "job": plan.model_dump()}
    save_experiment(ws.store, "abc", "clean", json.dumps(noted))
    assert adapters(ws, name) == []
    folder = ws.runs_dir / "abc"
    folder.mkdir()
    choice = {"revision": resolve_model(name).revision, "dtype": "float32", "held": "dense"}
    (folder / "model.json").write_text(json.dumps(choice))
    base = load_base(model)
    ids = pages_of(through)[0].example.input_ids
    with adapter(base, TrainingSetting(preset="t", learning_rate=1, tokens_per_step=1), seed=1) as adapted:
        with torch.no_grad():
            for part, weight in adapted.named_parameters():
                if "lora_B" in part:
                    weight.fill_(0.05)
        adapted.save_pretrained(folder / "results" / "baseline-0" / "adapter")
        expected = token_losses(base, adapted, ids)
    assert adapters(ws, name) == [], "the run is not complete"
    (folder / "results" / "baseline-0" / "summary.json").write_text("{}")
    (one,) = adapters(ws, name)
    assert one.name == "clean, seed 0 (clean abc)"
    assert adapters(ws, "another") == []
    (losses,) = heat(ws, through, pages_of(through), one)
    assert losses[1:] == pytest.approx(expected[1:], abs=1e-4)
    plain = token_losses(base, base.model, ids)
    assert max(abs(a - b) for a, b in zip(plain[1:], expected[1:], strict=True)) > 0.01
    again: list = []
    assert heat(ws, through, pages_of(through), one, again.append) == [losses]
    assert again == []
