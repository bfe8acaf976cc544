"""A report says what the experiment says, whole and alike each time, and no text in it is anything but text."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from trainer.plan import SHORT, STANDARD, PolicySetting
from workbench import experiment_report, outcomes, results
from workbench.cli import compare
from workbench.errors import UsageProblem
from workbench.experiment_command import command_line
from workbench.experiments import Question
from workbench.report import plots
from workbench.report.contents import RunPart
from workbench.report.html import html_report
from workbench.report.markdown import markdown_report
from workbench.report.verdict import number
from workbench.store.experiments import find_experiment
from workbench.text import safe_text
from workbench.workspace import Workspace

HOSTILE = (
    "</pre></td></table>\n```\n````\n# head\n| a | b |\n<script>alert(1)</script> "
    "<img src=http://x.invalid/p onerror=y()> ]]> --> {{ 7*7 }} {% raw %} [l](javascript:x) "
    "**b** \x00\x1b[2J \u202egnp &amp; ' \" end"
)
RECIPE = "steps:\n  - exact: {on: both}  # <script>&\n"


@pytest.fixture(scope="module")
def folder(compared, tmp_path_factory):
    """A workspace whose experiment has a recipe between its arms, two slices, and hostile text at every place."""
    folder = shutil.copytree(compared, tmp_path_factory.mktemp("report") / "ws")
    ws = Workspace.open(folder)
    rows = [{"prompt": f"{HOSTILE} {i // 2}", "completion": "the same"} for i in range(8)]
    path = folder.with_name("pairs.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ws.import_file(path, name="pairs", license="<script>alert(2)</script>|x")
    ws.freeze("pairs", "dirty")
    recipe = folder.with_name("r.yaml")
    recipe.write_text(RECIPE)
    ws.run_recipe(recipe, ["dirty"], "clean", allow_wipeout=True)
    row = find_experiment(ws.store, "yes vs no")
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE eval_items SET slice = if(item < 2, '<script>few', 'many')")
    outcomes.conclude(ws, row.id)
    plan = json.loads(row.plan) | {"arms": {"baseline": "dirty", "candidate": "clean"}}
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET plan = ?", [json.dumps(plan)])
        cursor.execute("UPDATE generations SET text = ? WHERE eval_item = 0", [HOSTILE])
        cursor.execute("UPDATE generations SET text = text || 'x' WHERE run_id LIKE '%candidate-0'")
    ws.close()
    return folder


@pytest.fixture(scope="module")
def contents(folder):
    ws = Workspace.open(folder)
    try:
        yield experiment_report.gather(ws, "yes vs no")
    finally:
        ws.close()


class Page(HTMLParser):
    """What a browser would make of a page: tags with attributes, and the text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "circle", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def test_a_page_shows_hostile_text_as_text(contents):
    text = html_report(contents)
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "p", "pre", "code", "ul"),
        *("li", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "div", "section"),
        *("strong", "mark", "ins", "del", "svg", "g", "line", "path", "polyline", "circle", "text"),
    }  # fmt: skip
    assert safe_text(HOSTILE, newlines=True) in "".join(page.texts)
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_page_needs_no_network(contents):
    text = html_report(contents)
    page = Page(text)
    used = {name for _, attributes in page.tags for name in attributes}
    assert not used & {"src", "href", "srcset", "data", "action", "poster"}
    assert not [name for name in used if name.startswith("on")]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text


def test_a_page_can_be_heard(contents):
    text = html_report(contents)
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    drawings = [a for tag, a in page.tags if tag == "svg"]
    assert {a.get("aria-label") or a.get("aria-hidden") for a in drawings} >= {"true"}
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in drawings)
    assert [tag for tag, _ in page.tags].count("table") == [tag for tag, _ in page.tags].count("caption")


def test_markdown_shows_hostile_text_as_text(contents):
    text = markdown_report(contents)
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not [t for t in (*tokens, *inline) if t.type in ("html_block", "html_inline", "link_open", "image")]
    assert {t.content.rstrip("\n") for t in tokens if t.type == "fence"} >= {safe_text(HOSTILE, newlines=True)}
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert "head" not in headings
    assert "The verdict" in headings
    columns = [0]
    for token in tokens:  # no text adds a column to its row
        columns += [0] * (token.type == "tr_open")
        columns[-1] += token.type in ("td_open", "th_open")
    assert set(columns[1:]) <= {2, 4, 5, 6, 8, 9, 10}
    assert all(char.isprintable() or char == "\n" for char in text)


def test_the_same_experiment_gives_the_same_report(folder, contents):
    ws = Workspace.open(folder)
    again = experiment_report.gather(ws, contents.id)
    ws.close()
    assert again == contents
    for write in (html_report, markdown_report):
        text = write(again)
        assert text == write(contents)
        assert str(folder.parent) not in text  # nor does the place tell


def test_a_report_says_what_the_result_says(folder, contents):
    ws = Workspace.open(folder)
    shown = results.open_result(ws, contents.id)
    ws.close()
    assert contents.result == shown.result
    for text in (html_report(contents), markdown_report(contents).replace("\\", "")):
        assert f"Verdict: {shown.result['verdict']}" in text
        for metric in shown.result["metrics"]:
            low, high = (number(end, signed=True) for end in metric["ci"])
            assert number(metric["delta"], signed=True) in text
            assert f"{low} to {high}" in text
        for arm in contents.arms:
            assert arm.manifest_hash in text
            assert arm.origins[0].file_hash in text
        assert shown.evalset.manifest_hash in text
        assert str(shown.result["settings"]["revision"]) in text
        assert "torch" in text
        assert "learning rate" in text


def test_what_left_between_the_arms_is_told_with_its_reason_and_survivor(contents):
    there, back = contents.left
    assert (there.of, there.other, there.rows, back.rows) == ("dirty", "clean", 4, 0)
    [(reason, count)] = there.by_reason.items()
    assert reason.startswith("exact")
    assert count == 4
    survivors = {1: "pairs row 0", 3: "pairs row 2", 5: "pairs row 4", 7: "pairs row 6"}
    assert {gone.row: gone.survivor for gone in there.samples} == survivors
    [(version, diff)] = contents.recipe_diffs
    assert version == "clean"
    assert next(line for line in diff if "exact" in line).startswith("+")
    assert [arm.masks.rows for arm in contents.arms] == [8, 4]
    assert all(arm.masks.verdict and arm.masks.trained for arm in contents.arms)


def test_curves_are_those_of_every_run(contents):
    assert [(run.arm, run.seed) for run in contents.runs] == [
        ("baseline", 0), ("candidate", 0), ("baseline", 1), ("candidate", 1),
    ]  # fmt: skip
    svg = ElementTree.fromstring(plots.curves(contents.runs))
    lines = svg.findall(".//polyline")
    assert len(lines) == 4
    assert len({line.get("stroke-dasharray") for line in lines}) == 2  # told apart without colour
    assert [line.findtext("title") for line in lines][1].startswith("candidate, seed 0: ")


def test_runs_that_could_not_check_themselves_are_reported(contents):
    split = replace(contents, runs=[replace(run, checks=dict.fromkeys(run.checks)) for run in contents.runs])
    assert html_report(split).count('<td class="n">-</td><td class="n">-</td><td class="n">-</td></tr>') == 4


def test_what_is_recited_stands_beside_what_the_untrained_model_recites(contents):
    recites = {"regurgitation": 0.25, "regurgitation_control": 0.03}
    result = contents.result | {"means": contents.result["means"] | {"candidate": recites}}
    for text in (html_report(replace(contents, result=result)), markdown_report(replace(contents, result=result))):
        assert "candidate 25.0%, of the base's 3.0%" in text.replace("&#39;", "'")


def test_items_are_limited_and_counted(folder):
    ws = Workspace.open(folder)
    shown = results.open_result(ws, "yes vs no")
    few = experiment_report.gather(ws, "yes vs no", items=2)
    ws.close()
    changes = sorted((item.change("response_nll") for item in shown.items), reverse=True)
    assert [item.change for item in few.items.worst] == changes[: min(2, few.items.tally["worse"])]
    assert f"{len(few.items.worst)} of {few.items.tally['worse']}" in html_report(few)
    assert sum(few.items.tally.values()) == few.items.total == 6


def test_words_that_the_other_answer_lacks_are_marked(contents):
    [item] = [item for item in (*contents.items.worst, *contents.items.best) if item.item == 0]
    answers = {answer.arm: answer for answer in item.answers}
    assert [differs for _, differs in answers["baseline"].pieces][-1] is True  # "end" became "endx"
    assert "".join(text for text, _ in answers["candidate"].pieces) == HOSTILE + "x"
    assert not any(differs for _, differs in answers["base"].pieces)


def test_a_long_run_is_drawn_by_means():
    losses = [float(i % 2) for i in range(5000)]
    svg = ElementTree.fromstring(plots.curves([RunPart("baseline", 0, losses, 1, {})]))
    points = svg.find(".//polyline").get("points").split()
    assert 100 < len(points) <= 240
    heights = {float(point.partition(",")[2]) for point in points}
    assert max(heights) - min(heights) < 140  # means of zeros and ones, not zeros and ones
    assert plots.curves([RunPart("baseline", 0, [], 1, {})]) == ""


def test_an_interval_lies_on_the_side_that_it_means():
    def metric(ci, higher):
        return {"name": "m", "higher_is_better": higher, "delta": 0.1, "ci": ci, "verdict": "x"}

    def ends(*args):
        path = ElementTree.fromstring(plots.intervals([metric(*args)], {})).find(".//path")
        found = re.findall(r"M([\d.]+) ", path.get("d"))
        return float(found[0]), float(found[-1])

    assert min(ends([0.05, 0.15], True)) > 375 > max(ends([0.05, 0.15], False))
    low, high = ends([-0.05, 0.15], True)
    assert low < 375 < high
    assert "path" not in plots.intervals([metric([None, None], True)], {})


@pytest.mark.parametrize(
    "question",
    [
        Question("a", "b", evalset="e", model="m", seeds=2, trained_tokens=1500, quantize="none", device="cpu"),
        Question("a b", "b'; rm", evalset="e", model="./m", minutes=2.5, max_new_tokens=7, training=STANDARD),
        Question(
            "a", "b", evalset="e", model="m", trained_tokens=900_000,
            training=SHORT.model_copy(update={"early_stop": True, "max_length": 99, "truncate": "keep-end"}),
            policy=PolicySetting(turns="last", tool_calls=False, reasoning=False, special="text", date="2026-01-02",
                                 template_args={"enable_thinking": False, "name": "x y"}, template="chatml"),
        ),
    ],
)  # fmt: skip
def test_the_command_asks_the_same_question(question):
    line, notes = command_line(question)
    assert notes == []
    _, name, *words = shlex.split(line)
    options = compare.command.make_context(name, words).params
    baseline, candidates = options.pop("baseline"), options.pop("candidates")
    assert compare.question(baseline, candidates, options) == question


def test_a_report_of_minutes_says_what_they_bought_with_the_preset_they_were_bought_by(compared_copy):
    ws = Workspace.open(compared_copy)
    row = find_experiment(ws.store, "yes vs no")
    plan, result = json.loads(row.plan), json.loads(row.result)
    plan["job"]["budget"] = {"trained_tokens": None, "minutes": 30, "epochs": None}
    result["settings"] |= {"steps": 40, "training": STANDARD.model_dump()}  # 327,680 tokens: by their number, `short`
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET plan = ?, result = ?", [json.dumps(plan), json.dumps(result)])
    repeat = experiment_report.gather(ws, "yes vs no").repeat
    ws.close()
    assert "--minutes 30" in repeat.commands[0]
    assert "--trained-tokens 327680" in repeat.commands[1]
    assert "--preset standard" in repeat.commands[1]


def test_what_no_option_says_is_said(contents):
    training = SHORT.model_copy(update={"learning_rate": 0.5})
    _, notes = command_line(Question("a", "b", training=training, policy=PolicySetting(template="{{ x }}")))
    assert len(notes) == 2


def test_a_file_that_cannot_be_a_report_is_refused(folder, tmp_path):
    ws = Workspace.open(folder)
    with pytest.raises(UsageProblem, match="HTML or Markdown"):
        experiment_report.write_report(ws, "yes vs no", tmp_path / "r.pdf")
    (tmp_path / "r.md").write_text("mine")
    with pytest.raises(UsageProblem, match="there already"):
        experiment_report.write_report(ws, "yes vs no", tmp_path / "r.md")
    assert (tmp_path / "r.md").read_text() == "mine"
    experiment_report.write_report(ws, "yes vs no", tmp_path / "r.md", force=True)
    ws.close()
    assert (tmp_path / "r.md").read_text().startswith("# clean against dirty\n")


def test_a_version_that_was_trained_alone_is_reported_without_a_verdict(compared_copy):
    ws = Workspace.open(compared_copy)
    row = find_experiment(ws.store, "yes vs no")
    plan, result = json.loads(row.plan), json.loads(row.result)
    plan["arms"] = {"baseline": "yes"}
    result |= {"candidate": None, "scope": None, "verdict": None, "primary": None, "metrics": [], "sentences": []}
    result |= {"comparisons": [], "arms": [arm for arm in result["arms"] if arm["arm"] == "baseline"]}
    result["means"].pop("candidate")
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET plan = ?, result = ?", [json.dumps(plan), json.dumps(result)])
    alone = experiment_report.gather(ws, row.id, items=2)
    ws.close()
    assert [item.item for item in alone.items.sample] == [0, 3]
    for text in (html_report(alone), markdown_report(alone)):
        assert "Verdict" not in text
        assert "What differs" not in text
        assert "2 of 6 items, taken evenly" in text
        assert f"{result['means']['baseline']['response_nll']:.3f}" in text
