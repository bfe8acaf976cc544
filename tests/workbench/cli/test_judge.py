"""`workbench judge`: what it shows before it spends, what it pays for, and what it says of agreement."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEY = "sk-never-written-4711"


@pytest.fixture
def judge_server():
    """An endpoint that rates by the length of the answer, and remembers what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            asked.append(prompt)
            rating = min(5, 1 + prompt.split(" assistant]\n")[1].split("\n[")[0].count("word"))
            reply = {
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"content": f"Counted. {KEY}\nRating: {rating}"}}
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
    server.asked, server.url = asked, f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def rows(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "rows.jsonl"
    made = [
        {"instruction": f"Say {n}", "output": " ".join(["word"] * (n % 5)) or "nothing", "quality": 1 + n % 5}
        for n in range(35)
    ]
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    bench("import", path, "--name", "rows")
    return bench


def test_a_spent_budget_keeps_what_it_bought_and_the_next_call_pays_for_the_rest_alone(
    rows, judge_server, tmp_path, root, monkeypatch
):
    judge = ["judge", "score", "rows", "--base-url", judge_server.url, "--model", "m"]
    before = rows(*judge, "--dry-run", "--price-in", 1, "--price-out", 2)
    assert judge_server.asked == []
    assert "35 contents in 35 rows, 0 rated before, 35 to rate" in before.err
    assert "35 calls" in before.err
    assert "a cost of at most" in before.err

    spent = rows(*judge, "--budget-calls", 12)
    assert spent.code == 6
    assert "The budget of 12 calls is used up: 12 rows of rows rated so far" in spent.err
    assert len(judge_server.asked) == 12

    rest = rows(*judge, "--json").json
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
