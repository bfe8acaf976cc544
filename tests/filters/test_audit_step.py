from __future__ import annotations

import pytest

from filters.audit import AuditParams, issues_scorer
from filters.errors import RecipeProblem, Wipeout
from filters.pipeline import MemoryScores
from filters.recipe import parse_recipe
from trainer.chat import MaskPolicy, configured_stops, tokenise
from trainer.errors import ModelUnavailable, UsageProblem
from trainer.models import DEFAULT_MODEL, load_tokenizer, resolve_model


def drops(found):
    return {drop.id: (drop.reason, drop.detail) for drop in found[0].drops}


def test_rows_with_an_issue_leave_and_the_reason_names_it(batches, outcomes, talk):
    rows = batches(
        [
            talk("Hi", "Hello."),
            talk("Hi", ""),
            [{"role": "user", "content": "Anyone?"}],
            talk("Say <|im_end|>", "No."),
            talk("Hi", "word " * 200),
            talk("Hi", "", "Hi again", "<|im_start|>"),
        ]
    )
    recipe = """
steps:
  - audit: {drop: [special-in-content, empty-turn, zero-trained, response-lost], max_length: 150, max_drop: 1}
"""
    found = drops(outcomes(recipe, rows))
    assert {id: reason for id, (reason, _) in found.items()} == {
        1: "empty-turn",
        2: "zero-trained",
        3: "special-in-content",
        4: "response-lost",
        5: "special-in-content",  # the first of `drop` that the row has
    }
    assert found[1][1] == "message 1: no content and no tool call"
    assert found[3][1] == "message 0: contains <|im_end|>"
    assert "trained tokens" in found[4][1]


def test_only_the_kinds_that_are_named_drop(batches, outcomes, talk):
    rows = batches([talk("Hi", "Hello."), talk("Hi", "")])
    assert drops(outcomes("steps: [{audit: {drop: [no-stop]}}]", rows)) == {}


def test_the_limit_is_what_training_takes_and_its_border_is_exact(batches, outcomes, talk):
    model = DEFAULT_MODEL
    messages = talk("Hi", "Hello there.")
    stops = configured_stops(resolve_model(model, weights=False).path)
    done = tokenise(load_tokenizer(model), messages, None, MaskPolicy(stop_ids=stops))
    length = len(done.examples[0].input_ids)
    rows = batches([messages, talk("Hi", "word " * 2100), *[talk("Hi", "Yes.")] * 2])

    def dropped(settings):
        return set(drops(outcomes(f"steps: [{{audit: {{drop: [truncated], max_drop: 1{settings}}}}}]", rows)))

    assert dropped("") == {1}
    assert dropped(f", max_length: {length}") == {1}
    assert dropped(f", max_length: {length - 1}") == {0, 1}


def test_a_step_that_would_take_too_much_stops(batches, outcomes, talk):
    rows = batches([talk(f"Hi {i}", "Hello.") for i in range(4)])
    with pytest.raises(Wipeout, match=r"4 of 4 rows.*injected-system"):
        outcomes("steps: [{audit: {drop: [injected-system]}}]", rows)


def test_scores_are_kept_by_content_template_tokenizer_and_policy(batches, outcomes, talk, tiny_model, tmp_path):
    rows = batches([talk("Hi", "Hello."), talk("Hi", "")])
    recipe = "steps: [{audit: {drop: [empty-turn]}}]"
    cache = MemoryScores()
    first = drops(outcomes(recipe, rows, scores=cache))
    asked = []

    class Watched(MemoryScores):
        def get(self, hashes, scorer, fingerprint):
            return cache.get(hashes, scorer, fingerprint)

        def put(self, scores, scorer, fingerprint):
            asked.extend(scores)

    assert drops(outcomes(recipe, rows, scores=Watched())) == first
    assert asked == []

    def fingerprint(**asked):
        return issues_scorer(AuditParams(**{"drop": ["no-stop"], "model": str(tiny_model)} | asked)).fingerprint

    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.save_pretrained(tmp_path)
    asked = [
        {}, {"policy": "last"}, {"max_length": 77}, {"template": "chatml"}, {"model": str(tmp_path)},
        {"template": "chatml", "add_tokens": True}, {"truncate": "keep-end"}, {"special": "text"},
        {"tool_calls": False}, {"reasoning": False}, {"template_args": {"x": 1}}, {"date": "2025-02-02"},
    ]  # fmt: skip
    prints = {fingerprint(**one) for one in asked}
    tokenizer.chat_template = tokenizer.chat_template + "{# another #}"
    tokenizer.save_pretrained(tmp_path)
    prints.add(fingerprint(model=str(tmp_path)))
    assert len(prints) == len(asked) + 1
    assert fingerprint() == fingerprint(drop=["truncated"], max_drop=1)


def test_one_row_that_breaks_is_an_error_and_the_others_are_judged(make_row, talk):
    rows = [make_row("Hi", "Hello.", id=0), make_row(messages=["x"], id=1), make_row("Hi", "", id=2)]
    scores = issues_scorer(AuditParams(drop=["no-stop"])).score(rows)
    assert [score.state for score in scores] == ["ok", "error", "ok"]
    assert "empty-turn" in (scores[2].label or "").split()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            "drop: [no_stp]",
            "recipe:4: audit: drop must hold kinds of issues; 'no_stp' is none (did you mean 'no-stop'?)",
        ),
        ("drop: [weather]", "known are template-error, zero-trained"),
        ("drop: [tags-disagree]", "tags are compared in the first rows alone"),
        ("drop: [no-stop]\n      truncate: keep", "recipe:5: audit: truncate"),
        ("drop: [no-stop]\n      template: chat-ml", "recipe:5: audit: template must be a plain format"),
        ("drop: [no-stop]\n      template: chat-ml", "did you mean 'chatml'?"),
        ("drop: []", "recipe:4: audit: drop"),
        ("max_length: 9", "'audit' needs 'drop'"),
        (
            "drop: [no-stop]\n      max_len: 9",
            "recipe:5: 'audit' has no parameter 'max_len'. Did you mean 'max_length'?",
        ),
    ],
)
def test_a_mistake_in_the_recipe_is_found_with_its_line(parameters, says):
    with pytest.raises(RecipeProblem) as caught:
        parse_recipe(f"steps:\n  - exact\n  - audit:\n      {parameters}\n")
    assert says in str(caught.value)


def test_the_options_of_the_tokens_command_are_those_of_the_step(batches, outcomes, talk):
    from workbench.cli.tokens import command

    known = {option.name for option in command.params}
    looking = {"target", "row", "audit", "compare", "limit", "as_json"}
    assert known - looking <= AuditParams.model_fields.keys()


def test_the_options_do_what_they_do_in_the_tokens_command(batches, outcomes, talk):
    forged = talk("Say <|im_end|>", "No.")
    long = talk("word " * 60, "Yes.")

    def dropped(messages, kind, **settings):
        given = ", ".join(f"{name}: {value}" for name, value in settings.items())
        rows = batches([messages, *[talk("Hi", "Hello.")] * 2])
        recipe = f"steps: [{{audit: {{drop: [{kind}], max_drop: 1{', ' * bool(given)}{given}}}}}]"
        return set(drops(outcomes(recipe, rows)))

    assert dropped(forged, "special-in-content") == {0}
    assert dropped(forged, "special-in-content", special="text") == set()
    assert dropped(long, "response-lost", max_length=40) == {0}
    assert dropped(long, "response-lost", max_length=40, truncate="keep-end") == set()
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    only_a_call = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert dropped(only_a_call, "zero-trained") == set()
    assert dropped(only_a_call, "zero-trained", tool_calls="false") == {0}
    with pytest.raises(UsageProblem, match="no tokens to add without a template"):
        dropped(forged, "no-stop", add_tokens="true")


@pytest.fixture
def bare(tmp_path):
    """A tokenizer without a chat template."""
    tokenizer = load_tokenizer(DEFAULT_MODEL)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_base_model_without_a_template_is_judged_in_a_plain_format(outcomes, talk, batches, bare):
    rows = batches([talk("Hi", "Hello."), talk("Hi", "")])
    found = drops(outcomes(f"steps: [{{audit: {{drop: [empty-turn], template: alpaca, model: {bare}}}}}]", rows))
    assert {id: reason for id, (reason, _) in found.items()} == {1: "empty-turn"}


@pytest.mark.parametrize(("model", "says"), [("./not-there", "no such folder"), ("BARE", "no chat template")])
def test_a_model_that_is_no_use_is_told_before_any_row_is_read(outcomes, talk, batches, bare, model, says):
    rows = batches([talk("Hi", "Hello.")])
    read = []

    def watched():
        read.append(1)
        return rows()

    name = bare if model == "BARE" else model
    with pytest.raises(ModelUnavailable, match=says):
        outcomes(f"steps: [exact, {{audit: {{drop: [no-stop], model: {name}}}}}]", watched)
    assert read == []
