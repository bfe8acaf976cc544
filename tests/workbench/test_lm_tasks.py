"""Tasks of lm-eval on what an experiment trained: our own arithmetic as oracle, and what is said without lm-eval."""

from __future__ import annotations

import importlib.util
import json
import math

import pytest

from trainer.plan import BASE
from workbench import lm_tasks
from workbench.errors import BadInput, ModelUnavailable, NotFound, UsageProblem
from workbench.experiment_removal import remove_experiment
from workbench.store.experiments import experiments
from workbench.workspace import Workspace

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason='lm-eval is not installed: `pip install "sft-workbench[lm-eval]"`',
)
ITEMS = [{"asked": f"Question {i}?", "answer": f" yes {i}"} for i in range(6)]


@pytest.fixture
def ws(compared_copy):
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


@pytest.fixture
def id(ws) -> str:
    [experiment] = experiments(ws.store)
    return experiment.id


@pytest.fixture
def tasks_dir(tmp_path):
    """Two tasks over six local items: which of two answers is likelier, and how likely the right one is."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "items.json").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "items.json")},
            "cache_dir": str(tmp_path / "data"),
        },
        "test_split": "test",
        "doc_to_text": "{{asked}}",
        "target_delimiter": "",
    }
    choice = {
        "task": "our_choice",
        "output_type": "multiple_choice",
        "doc_to_choice": ["yes", "no"],
        "doc_to_target": 0,
    }
    cloze = {
        "task": "our_cloze",
        "output_type": "loglikelihood",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    }
    for task in (choice, cloze):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(common | task))  # JSON is YAML
    return folder


def test_without_lm_eval_a_sentence_names_the_extra(ws, id, monkeypatch):
    def absent(name):
        raise lm_tasks.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(ModelUnavailable, match=r'pip install "sft-workbench\[lm-eval\]"') as told:
        lm_tasks.lm_tasks(ws, id, ["hellaswag"])
    assert told.value.exit_code == 5
    assert not (ws.runs_dir / id / lm_tasks.FOLDER).exists()


def perplexities(ws, id):
    """The perplexity of the right answers under the base and under each arm's first adapter, by our own code."""
    import torch

    from trainer.adapters import with_adapters
    from trainer.base import load_chosen
    from trainer.plan import ExperimentPlan, ModelChoice
    from workbench.store.experiments import find_experiment

    job = ExperimentPlan.model_validate(json.loads(find_experiment(ws.store, id).plan)["job"])
    choice = ModelChoice.model_validate_json((ws.runs_dir / id / "model.json").read_bytes())
    base = load_chosen(job.model, choice)
    runs = ("baseline-0", "candidate-0")
    wearing = with_adapters(base, {run: ws.runs_dir / id / "results" / run / "adapter" for run in runs})
    found = {}
    for run in (BASE, *runs):
        with wearing(None if run == BASE else run) as model, torch.inference_mode(), base.autocast():
            said = []
            for item in ITEMS:
                before, ids = (base.tokenizer(text)["input_ids"] for text in (item["asked"], "".join(item.values())))
                log_p = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
                said.append(sum(float(log_p[t - 1, ids[t]]) for t in range(len(before), len(ids))))
        found[run] = math.exp(-sum(said) / len(said))
    return found


@needs_lm_eval
def test_base_and_adapters_are_scored_as_the_experiment_held_them_and_once(ws, id, tasks_dir, forked_jobs):
    told = []

    def score(*tasks, **how):
        told.clear()
        return lm_tasks.lm_tasks(ws, id, tasks, tasks_dir=tasks_dir, on_event=told.append, **how)

    found = score("our_choice", "our_cloze")
    assert [(one.version, one.run) for one in found.models] == [
        ("base", "base"), ("yes", "baseline-0"), ("no", "candidate-0")
    ]  # fmt: skip
    scores = {one.run: {(s.task, s.metric): s for s in one.found.scores} for one in found.models}
    ours = perplexities(ws, id)
    assert len({round(value, 3) for value in ours.values()}) == 3, "three models"
    for run, expected in ours.items():
        cloze = scores[run]["our_cloze", "perplexity"]
        assert cloze.value == pytest.approx(expected, rel=1e-4)
        assert (cloze.items, cloze.higher_is_better) == (6, False)
        choice = scores[run]["our_choice", "acc"]
        assert choice.stderr == pytest.approx(math.sqrt(choice.value * (1 - choice.value) / 5), abs=1e-9)

    assert score("our_cloze", "our_choice").as_json() == found.as_json()
    assert not told, "scored once, whatever the order of the tasks"
    more = score("our_choice", "our_cloze", arms=["yes"], all_seeds=True)
    assert [one.run for one in more.models] == ["base", "baseline-0", "baseline-1"]
    assert [event["run"] for event in told if "run" in event] == ["baseline-1"]
    chat = score("our_cloze", chat=True, limit=3)
    assert chat.folder != found.folder
    base, yes, no = (one.found.scores[0].value for one in chat.models)
    assert yes < min(base, no), "in the template it was trained on it knows its answers"
    assert {one.found.scores[0].items for one in chat.models} == {3}
    (tasks_dir / "items.json").write_text(json.dumps(ITEMS[0]) + "\n")
    assert score("our_choice").models[0].found.scores[0].items == 1, "the folder of tasks decides, too"
    remove_experiment(ws, id)
    assert not found.folder.exists()


@needs_lm_eval
def test_tasks_that_cannot_be_run_are_told_before_a_model_is_loaded(ws, id, tasks_dir, forked_jobs):
    told = []

    def score(task):
        told.clear()
        lm_tasks.lm_tasks(ws, id, [task], tasks_dir=tasks_dir, on_event=told.append)

    with pytest.raises(BadInput, match=r"task our_chioce: lm-eval knows no such task\. Near it: our_choice"):
        score("our_chioce")
    (tasks_dir / "items.json").unlink()
    with pytest.raises(ModelUnavailable, match="task our_choice: its data could not be had"):
        score("our_choice")
    assert "loading the model" not in {event.get("what") for event in told}
    (tasks_dir / "items.json").write_text('{"asked": "Question?"}\n')
    with pytest.raises(BadInput, match="lm-eval stopped with"):
        score("our_cloze")


def test_arms_and_adapters_that_are_not_there_are_told(ws, id, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    with pytest.raises(NotFound, match="no arm 'maybe'"):
        lm_tasks.lm_tasks(ws, id, ["t"], arms=["yes", "maybe"])
    (ws.runs_dir / id / "results" / "candidate-0" / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(UsageProblem, match="no longer there"):
        lm_tasks.lm_tasks(ws, id, ["t"])
