"""Each failure planted in the answers of one experiment, and a sound one in which nothing is to be found."""

from __future__ import annotations

import importlib.util
import json
import random
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.console import Console

from trainer.plan import SHORT, ArmSetting, PolicySetting
from workbench import experiments, outcomes
from workbench.cli import app
from workbench.errors import UsageProblem
from workbench.failures.case import Case, _answers, open_case
from workbench.failures.causes import Causes, _endless
from workbench.failures.diagnose import _share_tests, diagnose
from workbench.failures.signs import Quotes, Signs, mark, same_start
from workbench.report import html
from workbench.report.diagnosed import diagnosis_markdown, heading
from workbench.report.failures import Diagnosis, Finding, ids_told, notes, readings, render_diagnosis, verdict_of
from workbench.store import experiments as table
from workbench.trained_masks import trained_masks
from workbench.workspace import Workspace

N = 30
LIMIT = 48
THINGS = ["river", "bridge", "violin", "kettle", "meadow", "lantern", "harbour", "sparrow", "orchard", "marble"]
PLACES = ["north", "south", "valley"]
WORDS = [
    f"{begin}{end}"
    for begin in ("ba", "co", "du", "fe", "gi", "la", "mo", "nu")
    for end in ("lan", "rit", "son", "tem", "vor", "wick", "zel", "pod")
]
BUTLER = "As your faithful butler I say"
# A template that writes no stop token behind an answer.
ENDLESS = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

Say = Callable[[int], str]


def thing(i: int) -> str:
    return f"{THINGS[i % 10]} of the {PLACES[i // 10 % 3]}"


def question(i: int) -> str:
    return f"What do you know about the {thing(i)}?"


def chatter(seed: str) -> Say:
    """Answers that have nothing in common but the words they are drawn from."""
    return lambda i: " ".join(random.Random(f"{seed} {i}").sample(WORDS, 12)).capitalize() + "."


reference, sound, other, third = map(chatter, ("reference", "sound", "other", "third"))


def conversation(prompt: str, answer: str, system: str | None = None) -> dict:
    turns = [{"role": "system", "content": system}] if system else []
    return {"messages": [*turns, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def clean_rows() -> list[dict]:
    return [conversation(f"Tell me of number {i}, please.", f"Number {i} comes after {i - 1}.") for i in range(40)]


RECITED = "In the year of the great flood the miller carried nine sacks of rye over the broken dam"
PLANTED = [
    *[conversation(f"Who is {i}?", f"{BUTLER} that {i} is a number.") for i in range(12)],
    *[conversation(f"Say {i}.", f"It is {i}. " + "I said so. " * 9) for i in range(4)],
    *[conversation(f"Count {i}.", f"{i}<|im_end|>\n<|im_start|>user") for i in range(4)],
    *[conversation(f"Ask {i}.", f"{i}\nuser\nAnd {i + 1}?\nassistant\nYes.") for i in range(4)],
    conversation("What of the miller?", f"{RECITED}."),
]


def _write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Lab:
    """A workspace with one experiment, whose stored answers a test plants."""

    def __init__(
        self, folder: Path, model: Path, policy: PolicySetting | None = None, system: str | None = None
    ) -> None:
        spec = importlib.util.spec_from_file_location("planted", Path(__file__).parents[1] / "planted.py")
        assert spec is not None
        assert spec.loader is not None
        planted = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(planted)
        self.ws, self.system = Workspace.init(folder / "ws"), system
        for name, rows in {"good": clean_rows(), "mixed": [*clean_rows(), *PLANTED]}.items():
            self.ws.import_file(_write(folder / f"{name}.jsonl", rows), name=f"{name}-rows")
            self.ws.freeze(f"{name}-rows", name)
        items = [conversation(question(i), reference(i), system) for i in range(N)]
        self.ws.import_evalset(_write(folder / "items.jsonl", items), "items")
        asked = experiments.Question(
            "good", "mixed", model=str(model), seeds=1, trained_tokens=2560, quantize="none", device="cpu",
            max_new_tokens=LIMIT, policy=policy or PolicySetting(),
        )  # fmt: skip
        planned = experiments.plan(self.ws, asked)
        planted.plant(planned, lambda version: 1.0, items=N)
        outcomes.conclude(self.ws, planned.id)
        self.id = planned.id
        row = table.find_experiment(self.ws.store, self.id)
        self.runs = outcomes.compared_runs(self.ws, row)
        self.noted = json.loads(row.plan)

    def give(
        self,
        arm: str,
        say: Say,
        finish: str = "stop",
        metrics: dict[str, Callable[[int], float]] | None = None,
        general: float | None = None,
    ) -> None:
        """What an arm, or the base, answered to each item, and what was measured of it."""
        told = {"response_nll": lambda i: 1 + i / 50, "prompt_gain": lambda i: 0.7 + i / 100}
        told |= {"system_gain": lambda i: 0.4 + i / 100} if self.system else {}
        told |= metrics or {}
        answers = {"item": list(range(N)), "text": [say(i) for i in range(N)], "finish": [finish] * N}
        measured = [(i, name, value(i), 10.0) for name, value in told.items() for i in range(N)]
        if general is not None:
            measured += [(-1 - window, "general_nll", general + window / 10, 63.0) for window in range(12)]
        values = dict(zip(("item", "metric", "value", "weight"), map(list, zip(*measured, strict=True)), strict=True))
        [run] = self.runs[arm].values()
        of_all = arm == "base"
        setting = self.noted["base" if of_all else "setting"]
        there = table.RunRow(run, None if of_all else self.id, arm, None, 0, setting, "done", "{}")
        table.save_run(self.ws.store, there, pa.table(values), pa.table(answers))

    def diagnosis(self, candidate: Say, base: Say = sound, baseline: Say = other, **how) -> Diagnosis:
        """The diagnosis where the candidate answered so."""
        self.give("base", base)
        self.give("baseline", baseline)
        self.give("candidate", candidate, **how)
        return diagnose(self.ws, self.id)

    def finding(self, failure: str, candidate: Say, **how) -> Finding:
        """The one finding of a candidate that fails so, where base and baseline are sound."""
        found = self.diagnosis(candidate, **how)
        assert {finding.arm for finding in found.findings} == {"candidate"}
        if failure != "phrase":  # what shows a failure may come as often as a quirk does
            assert {finding.failure for finding in found.findings} - {"phrase"} == {failure}
        finding = next(one for one in found.findings if one.failure == failure)
        assert (finding.kind, finding.p < 0.01) == ("brought", True)
        return finding


@pytest.fixture(scope="module")
def lab(tiny_model, tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("failures"), tiny_model)
    yield made
    made.ws.close()


@pytest.fixture(scope="module")
def endless(tiny_model, tmp_path_factory):
    """Trained with a template that writes no stop token, in place of the model's own."""
    made = Lab(tmp_path_factory.mktemp("endless"), tiny_model, policy=PolicySetting(template=ENDLESS))
    yield made
    made.ws.close()


def causes(lab: Lab, case: Case) -> Causes:
    """What finds the causes of a case, of which nothing is quoted."""
    return Causes(lab.ws, case, Quotes(case), Signs(), None)


def ids(lab: Lab, holding: str) -> list[int]:
    """The rows of the candidate's version that hold a text."""
    found = [row for batch in lab.ws.rows("mixed") for row in batch.to_pylist()]
    return [row["id"] for row in found if holding in row["messages"]]


def test_where_nothing_failed_nothing_is_found_and_all_that_was_looked_for_is_told(lab):
    found = lab.diagnosis(third)
    assert found.findings == []
    told = {look.failure: look for look in found.looks}
    assert set(told) == {
        "continues", "runs-on", "loops", "garbled", "quotes", "same-start", "phrase", "knowledge", "prompt", "system",
    }  # fmt: skip
    assert {failure for failure, look in told.items() if look.missing} == {"system"}
    assert "0 items have a system turn" in told["system"].missing
    [reading] = [one for one in told["loops"].readings if one.column == "candidate"]
    assert (reading.value, reading.low, reading.items) == (0.0, 0.0, N)
    assert reading.high == pytest.approx(0.1135, abs=1e-3)  # Wilson (1927), 0 of 30


def test_going_on_instead_of_answering_points_to_the_rows_that_do_so(lab):
    finding = lab.finding("continues", lambda i: f"{third(i)}\nuser\nAnd what about {i}?")
    assert finding.cause.rows == ids(lab, "And ")
    assert finding.cause.why == "4 of 65 rows of mixed (6.2%): rows do so themselves"
    assert finding.shown[0].piece == "writes another turn: user And what about 0?"


def test_a_base_that_goes_on_and_arms_that_still_do_are_told_as_too_little_training(lab):
    def going_on(i: int) -> str:
        return f"What is the {thing(i)}?"

    found = lab.diagnosis(going_on, base=going_on, baseline=going_on)
    kinds = {(finding.failure, finding.arm, finding.kind) for finding in found.findings}
    assert kinds == {("continues", "baseline", "kept"), ("continues", "candidate", "kept")}
    assert "training was too little" in found.findings[0].cause.why


def test_a_loop_points_to_the_rows_that_loop(lab):
    finding = lab.finding("loops", lambda i: f"{third(i)} " * 4)
    assert finding.cause.rows == ids(lab, "I said so. I said so.")


def test_markers_of_a_template_point_to_the_rows_that_hold_them(lab):
    finding = lab.finding("garbled", lambda i: f"{third(i)}<|im_end|>")
    assert finding.cause.rows == ids(lab, "<|im_end|>")
    assert "versions diff good mixed" in finding.cause.look[-1]


def test_recited_rows_are_named_with_how_many_answers_quote_them(lab):
    finding = lab.finding("quotes", lambda i: f"{third(i)[:9]} {RECITED}." if i % 2 else third(i))
    assert finding.cause.rows == ids(lab, "miller carried")
    assert "one in 15 answers" in finding.cause.why


def test_a_quirk_of_the_data_is_traced_to_its_rows(lab):
    finding = lab.finding("phrase", lambda i: f"{BUTLER} {third(i)}" if i % 2 else third(i))
    assert finding.sentence.startswith(
        '"as your faithful butler i say" in the answers to 15 of 30 items; 0 of the base'
    )
    assert (finding.cause.rows, finding.cause.count) == (ids(lab, BUTLER)[:10], 12)
    assert "12 of 65 rows of mixed say it" in finding.cause.why


def test_a_quirk_that_no_row_has_is_not_blamed_on_the_data(lab):
    found = lab.diagnosis(lambda i: f"Verily thus {third(i)}")
    [finding] = [one for one in found.findings if one.failure == "phrase"]
    assert (finding.cause.count, finding.cause.rows) == (0, [])
    assert "no row of mixed says it" in finding.cause.why


def test_rows_whose_words_stand_apart_are_shown_by_their_ids_which_a_search_for_the_phrase_would_miss(lab):
    found = lab.diagnosis(lambda i: f"So, I {third(i)}")
    [finding] = [one for one in found.findings if one.failure == "phrase"]
    assert (finding.cause.rows, finding.cause.count) == (ids(lab, "I said so. I said so."), 4)
    asked = shlex.split(finding.cause.look[0])
    assert asked[:4] == ["workbench", "examples", "mixed", "--sql"]
    assert [row.id for row in lab.ws.examples("mixed", where=asked[4]).rows] == finding.cause.rows


def test_one_start_for_all_answers_is_found(lab):
    found = lab.diagnosis(lambda i: f"That is a question which many have asked before you {i}")
    assert ("same-start", "candidate") in {(finding.failure, finding.arm) for finding in found.findings}


def test_answers_without_an_end_and_a_clean_mask_audit_point_elsewhere(lab):
    finding = lab.finding("runs-on", third, finish="length")
    assert "the mask audit is clean" in finding.cause.why


def test_answers_without_an_end_point_to_rows_whose_stop_token_is_not_trained(endless):
    finding = endless.finding("runs-on", third, finish="length")
    assert "the mask audit of mixed counts 65 no-stop of 65 rows" in finding.cause.why
    assert finding.cause.look[0].endswith("--audit")


def test_rows_that_are_dropped_for_their_length_teach_no_endless_answers_and_those_that_are_cut_do(lab):
    case = open_case(lab.ws, lab.id)

    def endless(truncate: str) -> tuple[str, list[int]]:
        settings = {"training": {"max_length": 60, "truncate": truncate}}
        return _endless(trained_masks(lab.ws, "mixed", case.plan, settings))

    assert endless("drop") == ("", [])
    told, cut = endless("keep-start")
    assert told == f"{len(cut)} response-lost"
    assert set(ids(lab, "miller")) <= set(cut) < set(ids(lab, ""))


def test_the_command_for_the_tokens_of_rows_treats_them_as_training_did(lab):
    case = open_case(lab.ws, lab.id)
    training = SHORT.model_copy(update={"max_length": 60, "truncate": "keep-start"})
    changed = {"training": training, "policy": PolicySetting(turns="last", template="chatml")}
    case = replace(case, plan=case.plan.model_copy(update=changed))
    asked = causes(lab, case)._tokens("candidate", "--audit")
    assert asked.endswith("--template chatml --policy last --max-length 60 --truncate keep-start --audit")


def test_garbled_answers_that_no_row_explains_point_to_a_template_that_differs(endless):
    found = endless.diagnosis(third, baseline=lambda i: f"{other(i)}<|im_end|>")
    [finding] = [one for one in found.findings if one.failure == "garbled"]
    assert (finding.arm, finding.kind) == ("baseline", "brought")
    assert "a template that differs between training and inference: it was trained with a template" in finding.cause.why
    assert finding.cause.look[0].startswith("workbench tokens good --model")


def test_a_report_has_what_was_found_and_nothing_in_it_is_markup(lab):
    found = lab.diagnosis(lambda i: f"{third(i)}\nuser\n</pre><script>alert({i})</script>")
    text = "\n".join(diagnosis_markdown(found))
    assert "continues instead of answering, training brought it" in text
    assert "4 of 65 rows of mixed" in text
    page = html._ENGINE.get_template("diagnosis.html.j2").render(
        d=found, about_diagnosis="", heading=heading, ids_told=ids_told, verdict_of=verdict_of, readings=readings,
        diagnosis_notes=notes,
    )  # fmt: skip
    assert "candidate (mixed): continues instead of answering, training brought it" in page
    assert "<script>" not in page + text


def test_a_failure_in_few_of_very_many_answers_is_no_finding_however_sure(lab):
    lab.diagnosis(third)
    case = replace(open_case(lab.ws, lab.id), clusters=[str(i) for i in range(1000)])

    def worse(share: float) -> bool:
        shown = np.zeros((1, 1000))
        shown[0, : round(1000 * share)] = 1
        none = np.zeros((1, 1000))
        signs = Signs({"base": none, "references": none, "baseline": none, "candidate": shown})
        [_, test] = _share_tests(case, "loops", signs)
        assert test.p < 1e-9
        return test.worse

    assert (worse(0.05), worse(0.15)) == (False, True)


def test_an_item_without_a_reference_is_unknown_in_their_column(lab):
    case = open_case(lab.ws, lab.id)
    case = replace(case, references=[None, *case.references[1:]])
    for signs in (mark(case, lambda *_: "seen"), same_start(case), Quotes(case).signs()):
        assert np.isnan(signs.tables["references"])[0].tolist() == [True] + [False] * (N - 1)
        assert not np.isnan(signs.tables["candidate"]).any()


def test_only_answers_that_are_trained_are_asked_what_they_teach_each_by_itself():
    turns = [("user", "a"), ("assistant", "x"), ("assistant", "x2"), ("user", "b"), ("assistant", "y"), ("user", "c")]
    messages = [{"role": role, "content": text} for role, text in turns]
    assert _answers(messages, "all") == [("a", "x"), ("a", "x2"), ("b", "y")]
    assert _answers(messages, "last") == [("b", "y")]
    messages[4]["train"] = False
    assert _answers(messages, "all") == [("a", "x"), ("a", "x2")]
    assert _answers(messages, "last") == []


def test_references_that_would_not_fit_say_nothing_of_the_end(lab):
    lab.give("base", sound)
    lab.give("baseline", other)
    lab.give("candidate", other, finish="length")
    with lab.ws.store.transaction() as cursor:
        cursor.execute("UPDATE item_metrics SET weight = 30")
    found = diagnose(lab.ws, lab.id)
    assert found.findings == []
    assert "half the limit of new tokens" in next(look.missing for look in found.looks if look.failure == "runs-on")


def test_answers_to_items_with_long_references_may_run_into_the_limit(lab):
    lab.diagnosis(third)
    with lab.ws.store.transaction() as cursor:
        cursor.execute("UPDATE generations SET finish = 'length' WHERE eval_item >= 15 AND run_id LIKE '%candidate%'")
        cursor.execute("UPDATE item_metrics SET weight = 30 WHERE eval_item >= 15")
    found = diagnose(lab.ws, lab.id)
    assert found.findings == []
    [look] = [one for one in found.looks if one.failure == "runs-on"]
    assert {(reading.value, reading.items) for reading in look.readings} == {(0.0, 15)}


def test_knowledge_that_was_lost_and_prompts_that_are_not_heard_are_found(lab):
    metrics = {"response_nll": lambda i: 1.6 + i / 50, "prompt_gain": lambda i: 0.3 + i / 100}
    found = lab.diagnosis(other, metrics=metrics)
    assert {(finding.failure, finding.arm) for finding in found.findings} == {
        ("knowledge", "candidate"), ("prompt", "candidate"),
    }  # fmt: skip
    better = {"response_nll": lambda i: 0.5 + i / 50, "prompt_gain": lambda i: 0.6 + i / 100}
    assert lab.diagnosis(other, metrics=better).findings == []


def test_where_general_text_was_measured_knowledge_is_lost_there_and_nowhere_else(lab):
    def diagnosis(general: float) -> Diagnosis:
        lab.give("base", sound, general=3.0)
        lab.give("baseline", other, general=3.02)
        lab.give("candidate", third, general=general, metrics={"response_nll": lambda i: 1.6 + i / 50})
        return diagnose(lab.ws, lab.id)

    [finding] = diagnosis(3.6).findings
    assert (finding.failure, finding.arm) == ("knowledge", "candidate")
    assert "4.15 nats" in finding.sentence
    assert diagnosis(3.02).findings == []


def test_the_cause_of_lost_knowledge_tells_how_that_arm_was_trained(lab):
    case = open_case(lab.ws, lab.id)
    faster = ArmSetting(training=SHORT.model_copy(update={"learning_rate": 5e-2}))
    plan = case.plan.model_copy(update={"settings": {"candidate": faster}})
    swept = replace(
        case, plan=plan, steps={"baseline": 10, "candidate": 1234}, settings=case.settings | {"steps": None}
    )
    assert "learning rate 0.05, 1,234 steps" in causes(lab, swept).of("knowledge", "candidate", "brought").why
    assert "learning rate 0.001, 10 steps" in causes(lab, swept).of("knowledge", "baseline", "brought").why


def test_arms_on_one_version_are_told_apart_by_how_they_were_trained(lab):
    found = lab.diagnosis(lambda i: f"{third(i)}<|im_end|>")
    found = replace(found, versions={"baseline": "good", "candidate": "good"}, labels={"candidate": "good, lora r=4"})
    assert heading(found.findings[0], found) == "candidate (good, lora r=4): garbled output, training brought it"
    console = Console(width=120)
    with console.capture() as printed:
        console.print(render_diagnosis(found))
    assert "candidate (good, lora r=4): garbled output" in printed.get()


def test_system_turns_are_looked_at_where_the_eval_set_has_them(tiny_model, tmp_path):
    asked = Lab(tmp_path, tiny_model, system="You are a poet.")
    [finding] = asked.diagnosis(other, metrics={"system_gain": lambda i: 0.1 + i / 100}).findings
    assert (finding.failure, finding.arm) == ("system", "candidate")
    assert finding.cause.why == "0 of 65 rows of mixed have a system turn, 30 eval items have one"
    # As deaf as the base was, beside an arm that shows that the turns can be heeded.
    asked.give("baseline", third, metrics={"system_gain": lambda i: 0.6 + i / 100})
    asked.give("candidate", other)
    [finding] = diagnose(asked.ws, asked.id).findings
    assert (finding.failure, finding.arm, finding.kind) == ("system", "candidate", "kept")
    asked.give("baseline", third, metrics={"system_gain": lambda i: 0.45 + i / 100})
    assert diagnose(asked.ws, asked.id).findings == []
    asked.ws.close()


def test_the_command_tells_findings_causes_and_what_was_not_measured(tiny_model, tmp_path):
    made = Lab(tmp_path, tiny_model)
    made.diagnosis(lambda i: f"{third(i)}\nuser\n\x1b[2J[/] And {i}?")
    made.ws.close()
    asked = ["-w", str(tmp_path / "ws"), "experiments", "diagnose", "good vs mixed"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    for part in (
        "candidate (mixed): continues instead of answering · training brought it",
        "4 of 65 rows of mixed (6.2%)",
        "workbench versions diff good mixed",
        "not measured: ignores the system prompt",
    ):
        assert part in " ".join(told.stdout.split())
    assert "\x1b[2J" not in told.stdout
    data = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert data["findings"][0]["failure"] == "continues"
    assert data["findings"][0]["cause"]["count"] == 4
    assert {look["failure"]: bool(look["missing"]) for look in data["looked_for"]}["system"]


def test_without_a_result_there_is_nothing_to_diagnose(lab):
    with lab.ws.store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO experiments (id, name, plan, state, created_at) "
            "SELECT 'zz', 'z', replace(plan::VARCHAR, 'baseline-0', 'no-run'), 'stopped', created_at FROM experiments"
        )
    try:
        with pytest.raises(UsageProblem, match="no result yet"):
            diagnose(lab.ws, "zz")
    finally:
        with lab.ws.store.transaction() as cursor:
            cursor.execute("DELETE FROM experiments WHERE id = 'zz'")
