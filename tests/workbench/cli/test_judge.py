"""`workbench judge`: what it shows before it spends, what it pays for, and what it says of agreement."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from filters.step import Score
from workbench.judging import judge_step
from workbench.store.scores import StoredScores
from workbench.workspace import Workspace

KEY = "sk-never-written-4711"


@pytest.fixture
def judge_server():
    """An endpoint that rates by the length of the answer, and remembers what it was asked."""
    asked, keys = [], []

    def said(prompt):
        if "[" not in prompt or " answer A]" not in prompt:
            return f"Rating: {min(5, 1 + words(prompt, 'assistant'))}"
        a, b = words(prompt, "answer A"), words(prompt, "answer B")
        return f"Better: {'A' if a >= b else 'B'}"  # of equals, what stands first

    def words(prompt, name):
        return prompt.split(f" {name}]\n")[1].split("\n[")[0].count("word")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            asked.append(prompt)
            keys.append(self.headers["Authorization"])
            reply = {
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"content": f"Counted. {KEY}\n{said(prompt)}"}}
                ],
                "usage": {"prompt_tokens": 50, "completion_tokens": 5},
            }
            raw = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.asked, server.keys, server.url = asked, keys, f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def rows(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "rows.jsonl"
    made = [
        {
            "instruction": f"Say {n}",
            "output": " ".join(["word"] * (n % 5)) or "nothing",
            "quality": 1 + n % 5,
            "same": 4,
        }
        for n in range(35)
    ]
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    bench("import", path, "--name", "rows")
    return bench


def test_a_spent_budget_keeps_what_it_bought_and_the_next_call_pays_for_the_rest_alone(
    rows, judge_server, tmp_path, root, monkeypatch
):
    judge = ["judge", "score", "rows", "--base-url", judge_server.url, "--model", "m"]
    refused = rows(*judge)
    assert (refused.code, "35 calls" in refused.err, "--yes" in refused.err) == (2, True, True)
    before = rows(*judge, "--dry-run", "--price-in", 1, "--price-out", 2)
    assert judge_server.asked == []
    assert "35 contents in 35 rows, 0 rated before, 35 to rate" in before.err
    assert "35 calls" in before.err
    assert "a cost of at most" in before.err

    spent = rows(*judge, "--budget-calls", 12)
    assert spent.code == 6
    assert "The budget of 12 calls is used up: 12 rows of rows rated so far" in spent.err
    assert len(judge_server.asked) == 12

    assert rows(*judge, "--json").code == 2, "nobody can be asked there"
    rest = rows(*judge, "--json", "--yes").json
    assert len(judge_server.asked) == len(set(judge_server.asked)) == 35
    assert (rest["known"], rest["calls"], rest["usage"]["calls"]) == (12, 23, 23)
    assert rest["ratings"] == {str(rating): 7 for rating in range(1, 6)}
    assert rest["usage"]["prompt_tokens"] == 23 * 50

    told = rows(*judge)
    assert "mean 3.00" in told.out
    assert len(judge_server.asked) == 35

    # The same scores in a recipe, with who judges taken from the environment.
    monkeypatch.setenv("WORKBENCH_JUDGE_URL", judge_server.url)
    monkeypatch.setenv("WORKBENCH_JUDGE_MODEL", "m")
    recipe = tmp_path / "best.yaml"
    recipe.write_text("steps: [judge, {top: {by: judge-helpfulness, share: 0.2}}]", encoding="utf-8")
    report = rows("run", recipe, "--from", "rows", "--name", "best", "--json").json
    assert report["rows_out"] == 7
    assert len(judge_server.asked) == 35

    agreed = rows("judge", "agreement", "rows", "--field", "quality").out
    assert "against labels 1-5 on 35 rows" in agreed
    assert "+1.00" in agreed
    for path in root.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_agreement_says_what_is_missing(rows, judge_server):
    nothing = rows("judge", "agreement", "rows")
    assert (nothing.code, "Label rows in Browse" in nothing.err) == (2, True)
    unrated = rows("judge", "agreement", "rows", "--field", "quality")
    assert (unrated.code, "none of the 35 labelled rows has a rating" in unrated.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--base-url", "http://me:secret@host/v1", "--model", "m"], "environment variable"),
        (["--rubric", "helpfullness"], "Did you mean 'helpfulness'"),
        (["--base-url", "http://host/v1"], "an endpoint needs model"),
        (["--budget-cost", "3"], "price_in"),
    ],
)
def test_options_that_do_not_fit_are_refused(rows, options, says):
    refused = rows("judge", "score", "rows", *options)
    assert refused.code == 2
    assert says in refused.err
    assert "secret@" not in refused.err


RECIPE = "steps: [judge: {{rubric: helpfulness, base_url: '{url}', model: m, price_in: 1, price_out: 2{more}}}]"


@pytest.fixture
def judging(rows, judge_server, tmp_path):
    """Run a recipe with a judge at the server."""

    def run(*options, more=""):
        recipe = tmp_path / "judge.yaml"
        recipe.write_text(RECIPE.format(url=judge_server.url, more=more))
        return rows("run", recipe, "--from", "rows", "--name", "v", *options)

    return run


def test_a_recipe_asks_nobody_before_somebody_agreed_and_its_address_gets_no_key(judging, judge_server, monkeypatch):
    refused = judging()
    assert refused.code == 2
    assert "m at http://127.0.0.1" in refused.err
    assert "35 calls without retries: about" in refused.err
    assert "a cost of at most" in refused.err
    assert "--yes" in refused.err
    assert judging("--dry-run").code == 2
    assert judge_server.asked == []

    told = judging(more=", budget_calls: 20")  # a budget is consent, on this machine
    assert (told.code, len(judge_server.asked)) == (6, 20)
    assert "35 calls without retries" in told.err
    assert "It stops at 20 calls." in told.err
    assert set(judge_server.keys) == {None}, "the recipe alone names this address"

    monkeypatch.setenv("WORKBENCH_JUDGE_HOSTS", judge_server.url.removesuffix("/v1"))
    made = judging("--yes")
    assert (made.code, len(judge_server.asked)) == (0, 35)
    assert "15 calls without retries" in made.err
    assert set(judge_server.keys) == {None, f"Bearer {KEY}"}


def test_a_strangers_address_needs_more_than_the_recipes_own_budget(rows, tmp_path):
    recipe = tmp_path / "theirs.yaml"
    recipe.write_text(RECIPE.format(url="http://192.0.2.7/v1", more=", budget_calls: 20"))
    refused = rows("run", recipe, "--from", "rows", "--name", "v")
    assert (refused.code, "m at http://192.0.2.7/v1" in refused.err) == (2, True)
    assert "judge_hosts" in refused.err


def test_a_recipe_cannot_name_the_variable_of_a_key(judging):
    refused = judging("--yes", more=", key_variable: AWS_SECRET_ACCESS_KEY")
    assert refused.code == 3
    assert "judge_key_variable" in refused.err


def test_what_was_dropped_by_hand_is_not_judged(rows, judge_server, root):
    workspace = Workspace.open(root)
    first = next(workspace.rows("rows")).column("id")[0].as_py()
    workspace.draft("rows").drop([first], "not wanted")
    workspace.close()
    before = rows("judge", "score", "rows", "--base-url", judge_server.url, "--model", "m", "--dry-run", "--json").json
    assert (before["rows"], before["calls"]) == (34, 34)


def rate(root, url):
    """Give every row a rating by the judge at `url`, as a job would."""
    workspace = Workspace.open(root)
    (scorer,) = judge_step(workspace, {"base_url": url, "model": "m"}).scorers
    keys = [key for batch in workspace.rows("rows") for key in batch.column("content_hash").to_pylist()]
    stored = StoredScores(workspace.store)
    stored.put({key: Score(float(1 + n % 5)) for n, key in enumerate(keys)}, scorer.name, scorer.fingerprint)
    stored.close()
    workspace.close()


def test_pairs_are_compared_in_both_orders_and_flips_told(rows, judge_server, tmp_path, root):
    path = tmp_path / "other.jsonl"
    answers = {0: "word word", 1: "word word word word", 2: "word word, no", 3: "only", 34: " "}
    path.write_text("".join(json.dumps({"instruction": f"Say {n}", "output": a}) + "\n" for n, a in answers.items()))
    rows("import", path, "--name", "other")
    judge = ["rows", "other", "--base-url", judge_server.url, "--model", "m"]
    assert "no prompt has two different answers in rows" in rows("judge", "pairs", *judge[:1], *judge[2:]).err
    assert rows("judge", "pairs", *judge).code == 2
    assert judge_server.asked == []
    found = rows("judge", "pairs", *judge, "--yes")
    # 0: nothing or two words; 1: one or four; 2: two each, so the order decides; 3: three or none
    assert "4 pairs judged in both orders" in found.out
    assert "1 for rows" in found.out
    assert "2 for other" in found.out
    assert "1 ties, of which 1 because the verdict changed with the order" in found.out
    assert "Share of rows: 38%" in found.out
    assert len(judge_server.asked) == 8
    again = rows("judge", "pairs", *judge, "--json").json
    assert again["verdicts"]["position_flips"]["value"] == 0.25
    assert (again["calls"], len(judge_server.asked)) == (0, 8)
    rate(root, judge_server.url)
    agreed = rows("judge", "agreement", "rows", *judge[2:], "--field", "quality", "--pairs-with", "other").out
    assert "position flips" in agreed
    assert "25% [5%, 70%] of 4 pairs" in agreed
    same = rows("judge", "agreement", "rows", *judge[2:], "--field", "same").out
    assert "weighted kappa               not defined: all labels are 4" in same
    assert "nan" not in same
