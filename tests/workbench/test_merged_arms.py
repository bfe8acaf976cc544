"""Arms that are made of the adapters of others: asked for, planned, taken over, decided and shown as what they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from trainer.plan import SHORT, ArmSetting, Budget, ExperimentPlan, ModelSetting
from workbench import experiments
from workbench.comparing import listing, promises, setup
from workbench.culprits import comparison_of, find_culprits
from workbench.errors import UsageProblem
from workbench.experiment_command import command_line
from workbench.experiment_removal import foresee_removal
from workbench.experiment_report import gather
from workbench.experiments import Experiment, Question, asked
from workbench.failures.case import open_case
from workbench.merged_arms import check_parts, make_merged, said, spelled
from workbench.report.verdict import ranking
from workbench.store.experiments import find_experiment
from workbench.workspace import Workspace

from .planted import ended, made_of

TIES, LINEAR = "ties(code + chat)", "linear(code - 0.5 chat)"
MEANS = {"base": 3.0, "both": 2.0, "code": 2.1, "chat": 2.1, TIES: 1.9, LINEAR: 2.3, "linear(code + chat)": 2.0}
MERGES = ("ties:code+chat", "linear:code+chat:1,-0.5")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions `code` and `chat` of eight rows each, `both` of all of them, and an eval set of six items."""
    code, chat = ([(f"{name} {i}?", f"{name} {i}") for i in range(8)] for name in ("code", "chat"))
    return made_of(tmp_path_factory.mktemp("merged"), {"both": code + chat, "code": code, "chat": chat})


@pytest.fixture
def ws(made_once: Path, open_copy: Callable[[Path], Workspace]) -> Workspace:
    return open_copy(made_once)


def ask(*merges: str, **options: Any) -> Question:
    settings: dict[str, Any] = {"model": "./tiny", "trained_tokens": 2560, "seeds": 3, "merges": merges} | options
    return Question("both", "code", ("chat",), **settings)


def made(ws: Workspace, question: Question) -> tuple[Experiment, list[str], dict[str, Any]]:
    """An experiment to its end, the runs that had to be made for it, and its JSON."""
    return ended(ws, question, MEANS.__getitem__)


FULL, LARGER = SHORT.model_copy(update={"method": "full"}), SHORT.model_copy(update={"lora_r": 64})
LABELS = {"baseline": "both", "candidate": "code", "candidate2": "chat", "candidate3": "a+b", "candidate4": "a"}


@pytest.mark.parametrize(
    ("text", "told", "again"),
    [
        ("ties:code+chat", "ties(code + chat)", None),
        ("ties=0.3:code+candidate2", "ties=0.3(code + chat)", "ties=0.3:code+chat"),
        ("linear:code+chat:1,-0.5", "linear(code - 0.5 chat)", "linear:code+chat:1.0,-0.5"),
        ("dare-linear=0.5:a+a+b+code:1,1,1", "dare-linear(a + a+b + code)", "dare-linear:a+a+b+code"),
        ("linear:code:-1", "linear(-code)", "linear:code:-1.0"),
    ],
)
def test_what_is_asked_for_is_told_and_spelled_so_that_it_can_be_asked_again(text, told, again):
    [merged] = make_merged([text], LABELS).values()
    assert said(merged, LABELS) == told
    assert spelled(merged, LABELS) == (again or text)
    assert make_merged([spelled(merged, LABELS)], LABELS) == {"merged": merged}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("code+chat", "takes HOW"),
        ("mean:code+chat", "'mean' is no way to merge. There are linear, ties"),
        ("ties:code+toxic", "'toxic' is no version of this comparison"),
        ("linear:code+chat:1", "2 versions and 1 weights"),
        ("linear:code+code", "1 versions and 2 weights"),
        ("linear:code+chat:1,much", "'much' is no number"),
        ("linear:code+chat:1,inf", "'inf' is no number"),
        ("ties=2:code+chat", "2 is no density of ties"),
        ("linear=0.5:code+chat", "0.5 is no density of linear"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(text, says):
    with pytest.raises(UsageProblem, match=re.escape(says)):
        make_merged([text], LABELS)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"candidate": {"training": FULL}}, "code is trained by full, and only LoRA"),
        ({"candidate2": {"training": SHORT, "quantize": "nf4"}}, "held in different ways"),
        ({"candidate": {"training": LARGER}}, None),
    ],
)
def test_parts_that_cannot_be_combined_are_refused_and_other_ranks_are_not(settings, says):
    [merged] = make_merged(["ties:code+chat"], LABELS).values()
    plan = ExperimentPlan(
        model=ModelSetting(name="tiny", quantize="none"),
        budget=Budget(trained_tokens=100),
        arms=dict.fromkeys(LABELS, ""),
        settings={arm: ArmSetting(**own) for arm, own in settings.items()},
        merged={"merged": merged},
        runs=[],
    )
    with pytest.raises(UsageProblem, match=says) if says else nullcontext():
        check_parts(plan, LABELS)


def test_nothing_is_made_where_the_merge_cannot_be(ws):
    with pytest.raises(UsageProblem, match="the same arm twice"):
        experiments.plan(ws, ask("ties:code+chat", "ties=0.5:code+chat"))
    with pytest.raises(UsageProblem, match="made of arms that are compared"):
        experiments.plan(ws, Question("both", None, model="./tiny", trained_tokens=2560, merges=("ties:both",)))
    assert listing(ws) == []


def test_merged_arms_are_compared_with_the_baseline_and_corrected_with_the_others(ws):
    experiment, runs, result = made(ws, ask(*MERGES))
    assert experiment.name == "both vs code vs chat (merged by ties, linear)"
    assert [run.id for run in experiment.plan.runs[:5]] == [
        "baseline-0", "candidate-0", "candidate2-0", "merged-0", "merged2-0",
    ]  # fmt: skip
    assert not (experiment.folder / "merged.parquet").exists()
    assert {one["candidate"]: one["verdict"] for one in result["comparisons"]} == {
        "code": "worse", "chat": "worse", TIES: "better", LINEAR: "worse",
    }  # fmt: skip
    first = result["comparisons"][2]
    assert "corrected for 4 comparisons (Holm)" in first["sentences"][0]
    assert any(
        s == f"{TIES} was not trained: for each seed it was made of what code and chat learnt by it, and keeps 90% of "
        "the combined update, as much as its rank holds."
        for s in first["sentences"]
    )
    assert not any("not trained" in s for s in result["comparisons"][0]["sentences"])
    [arm] = [arm for arm in result["arms"] if arm["arm"] == "merged2"]
    assert (arm["rows"], arm["trained_tokens"], arm["steps"], arm["manifest_hash"]) == (None, 0, 0, None)
    assert arm["merged"] == {"how": "linear", "density": 0.5, "of": {"code": 1.0, "chat": -0.5}, "kept": 0.9}
    assert [arm["merged"] for arm in result["arms"][:3]] == [None] * 3
    lines = {line.label: (line.place, line.rows, line.trained_tokens, line.said) for line in ranking(result)}
    assert lines[TIES] == ("1", "-", "0", "better")
    assert len(runs) == 5 * 3 + 1


def test_a_merged_run_is_taken_over_where_its_parts_and_its_method_are_the_same(ws):
    made(ws, ask(*MERGES))
    again, runs, _ = made(ws, Question("code", "chat", model="./tiny", trained_tokens=2560, merges=MERGES[:1]))
    assert runs == []
    assert set(again.taken) == {f"{arm}-{seed}" for arm in ("baseline", "candidate", "merged") for seed in range(3)}
    other = experiments.foresee(ws, ask("ties=0.3:code+chat", "linear:code+chat"))
    assert not [run for run in other.taken if run.startswith("merged")]
    assert len(other.taken) == 9


def test_what_it_will_take_counts_merged_runs_as_measured_alone(ws):
    made(ws, Question("both", "code", model="./tiny", trained_tokens=2560, seeds=1))
    plain = experiments.foresee(ws, ask(seeds=6))
    merged = experiments.foresee(ws, ask(*MERGES, seeds=6))
    assert plain.seconds == pytest.approx((3 * 6 - 2) * 6.0)  # 5 s of training and 1 s of evaluation, two runs there
    assert merged.seconds == pytest.approx(plain.seconds + 2 * 6 * 1.0)
    assert merged.disk > plain.disk
    head, arms, *_ = promises(merged)
    assert head.startswith("both vs code vs chat (merged by ties, linear) · 18 runs and 12 merged of them · 2,560")
    assert f"merged {TIES} (not trained)" in arms


def test_the_question_can_be_asked_again_and_a_new_one_begins_without_its_merges(ws):
    experiment, _, _ = made(ws, ask(*MERGES))
    question = asked(find_experiment(ws.store, experiment.id))
    assert (question.candidates, question.merges) == (("code", "chat"), (MERGES[0], "linear:code+chat:1.0,-0.5"))
    assert experiments.foresee(ws, question).id == experiment.id
    line, notes = command_line(question)
    assert "--merge ties:code+chat --merge linear:code+chat:1.0,-0.5" in line
    assert notes == []
    assert setup(ws, "both", "code").question.merges == ()


def test_what_looks_at_rows_leaves_merged_arms_out_and_says_why(ws):
    experiment, _, _ = made(ws, ask(*MERGES))
    assert list(open_case(ws, experiment.id).versions) == ["baseline", "candidate", "candidate2"]
    with pytest.raises(UsageProblem, match="was trained on no rows, but made of other arms"):
        find_culprits(ws, experiment.id, 0, number=comparison_of(ws, experiment.id, "merged"))
    assert sorted(foresee_removal(ws, experiment.id).freed) == ["both", "chat", "code"]


def test_the_report_says_what_was_not_trained(ws):
    experiment, _, _ = made(ws, ask(*MERGES))
    contents = gather(ws, experiment.id)
    assert [arm.version for arm in contents.arms] == ["both", "code", "chat"]
    assert {run.arm for run in contents.runs} == {"baseline", "candidate", "candidate2"}
    assert contents.question[0].startswith(
        f"Is the model better after training on code or chat, or made as {TIES} or {LINEAR}, than after "
        "training on both"
    )
    assert f"Not trained, but made of their adapters, are {TIES}, {LINEAR}." in contents.question[1]
    assert ("an arm that is not trained", TIES) in contents.repeat.facts
    assert "0 (merged)" not in " ".join(contents.question)
