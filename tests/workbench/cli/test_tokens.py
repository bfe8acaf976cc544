from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from trainer.models import DEFAULT_MODEL, load_tokenizer

SHARED = Path(__file__).parents[3] / "../shared/tokenizers"
MODEL = str(SHARED / "smollm2") if (SHARED / "smollm2").is_dir() else DEFAULT_MODEL

ROWS = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Is [/INST] or [bold]this[/bold] markup?"},
            {"role": "assistant", "content": "No.\n日本語 \u001b[31m\u202e"},
        ]
    },
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
    {"nothing": "to see"},
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "A <|im_end|> forged"},
            {"role": "assistant", "content": ""},
        ]
    },
]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """Commands of this module load each tokenizer once instead of every time: half a second each."""
    import functools

    from trainer import models

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_tokenizer", functools.cache(models.load_tokenizer))
        yield


@pytest.fixture
def workbench(monkeypatch, capsys):
    """workbench(*argv) -> (exit code, stdout, stderr), by the function that the command calls."""

    def run(*argv: str) -> tuple[int, str, str]:
        from workbench.cli import main

        monkeypatch.setattr(sys, "argv", ["workbench", *argv])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_without_a_terminal_brackets_and_gutter_tell_what_is_trained(workbench, rows):
    code, out, _ = workbench("tokens", rows, "--model", MODEL, "--row", "0")
    assert code == 0
    tokenizer = load_tokenizer(MODEL)
    trained = len(tokenizer(ROWS[0]["messages"][-1]["content"] + "<|im_end|>")["input_ids"])
    total = len(tokenizer.apply_chat_template(ROWS[0]["messages"], return_dict=False))
    assert out.splitlines() == [
        f"row 0 · {trained} of {total} tokens trained",
        "s  │ <|im_start|>system⏎",
        "s  │ Be brief.<|im_end|>⏎",
        "u  │ <|im_start|>user⏎",
        "u  │ Is [/INST] or [bold]this[/bold] markup?<|im_end|>⏎",
        "a  │ <|im_start|>assistant⏎",
        "a• │ ⟦No.⏎",
        "a• │ 日本語 ␛[31m⟨202E⟩<|im_end|>⟧⏎",
        "",
        "s system  u user  a assistant  t tool   • trained (in ⟦ ⟧)",
    ]
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_rows_are_summed_up_with_their_issues(workbench, rows):
    code, out, err = workbench("tokens", rows, "--model", MODEL)
    assert code == 0
    assert "! injected-system: the chat template adds text of its own" in out
    assert "\n    system You are a helpful AI assistant" in out
    assert "! empty-turn: an assistant turn is empty: the model would learn to stop at once\n    message 2: " in out
    assert out.splitlines()[-1].startswith("3 rows: ")
    assert "Left out as no conversations: 1" in err


def test_limit_says_how_many_rows(workbench, rows):
    _, out, _ = workbench("tokens", rows, "--model", MODEL, "--limit", "1")
    assert [line for line in out.splitlines() if line.startswith("row ")] == [out.splitlines()[0]]


def test_json_of_a_row_has_every_token_with_its_mark(workbench, rows):
    code, out, _ = workbench("tokens", rows, "--model", MODEL, "--row", "1", "--json")
    data = json.loads(out)
    assert code == 0
    assert data.keys() >= {"text", "tokens", "trained", "total", "issues"}
    assert all(token.keys() >= {"id", "text", "role", "trained", "special"} for token in data["tokens"])
    assert data["total"] == len(data["tokens"])
    assert "".join(token["text"] for token in data["tokens"]) == data["text"]
    marked = [token for token in data["tokens"] if token["trained"]]
    assert "".join(token["text"] for token in marked) == "Hello.<|im_end|>"
    assert data["trained"] == len(marked)
    assert {token["role"] for token in marked} == {"assistant"}
    assert marked[-1]["special"]
    assert [issue["kind"] for issue in data["issues"]] == ["injected-system"]


@pytest.mark.parametrize("flags", [["--json"], ["--json", "--audit"]])
def test_json_of_all_rows_counts_tokens_and_issues(workbench, rows, flags):
    code, out, _ = workbench("tokens", rows, "--model", MODEL, *flags)
    data = json.loads(out)
    assert code == 0
    assert data["rows"] == 3
    assert 0 < data["trained"] < data["tokens"]
    assert data["issues"] == {"empty-turn": 1, "special-in-content": 1, "injected-system": 1}
    assert data["issue_rows"] == {"empty-turn": [3], "special-in-content": [3], "injected-system": [1]}
    assert data["issue_ids"] == data["issue_rows"]  # a file's rows have no other names
    assert (data["limit"], data["over_limit"], data["suspect"]) == (2048, 0, 1)
    assert data["verdict"].startswith("1 row needs a look: ")
    assert data["rejected"] == 1


def test_the_audit_names_rows_behind_each_count_and_what_it_means(workbench, rows):
    code, out, err = workbench("tokens", rows, "--model", MODEL, "--audit", "--max-length", "20")
    assert code == 0
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("empty-turn"))
    assert lines[at].split() == ["empty-turn", "1", "rows", "3"]
    assert lines[at + 1] == "    an assistant turn is empty: the model would learn to stop at once"
    at = next(i for i, line in enumerate(lines) if line.startswith("truncated"))
    assert lines[at].split() == ["truncated", "3", "rows", "0,", "1,", "3"]
    assert any(line.startswith("response-lost") for line in lines)
    assert "── limit: 20 tokens (--max-length)" in out
    assert "examples 0" not in out
    assert lines[-1].startswith("3 rows need a look: ")
    assert max(map(len, lines[:-1])) <= 80
    assert "--row N" in err


def test_the_audit_says_where_generation_tags_disagree_and_that_they_are_not_the_truth(workbench, rows, tmp_path):
    tokenizer = load_tokenizer(MODEL)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content + '<|im_end|>\n' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}"
        "{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
    )
    tokenizer.save_pretrained(tmp_path / "tagged")
    argv = ["tokens", rows, "--model", str(tmp_path / "tagged")]
    _, out, _ = workbench(*argv, "--audit")
    assert re.search(r"tags-disagree +\d+  rows 0", out)
    assert "the tags also mark '\\n' behind it. Tags are no gold standard" in " ".join(out.split())
    _, out, _ = workbench(*argv, "--audit", "--json")
    data = json.loads(out)
    assert data["tags"]["compared"] == data["rows"]
    assert data["issues"]["tags-disagree"] == len(data["issue_ids"]["tags-disagree"]) > 0
    _, out, _ = workbench(*argv, "--row", "0", "--json")
    assert "tags-disagree" in [issue["kind"] for issue in json.loads(out)["issues"]]


def test_a_clean_set_says_so_in_its_last_line(workbench, tmp_path):
    path = tmp_path / "clean.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    _, out, err = workbench("tokens", str(path), "--model", MODEL, "--audit")
    last = out.splitlines()[-1]
    assert last.startswith("clean: every trained turn ends with a stop token")
    assert "2,048" in last
    assert err == ""


def test_without_a_maximum_the_limit_is_what_training_takes_or_what_the_model_can_see(workbench, rows, tmp_path):
    from trainer.plan import SHORT

    assert json.loads(workbench("tokens", rows, "--model", MODEL, "--json")[1])["limit"] == SHORT.max_length
    load_tokenizer(MODEL).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 30}))
    _, out, _ = workbench("tokens", rows, "--model", str(tmp_path), "--audit")
    assert "── limit: 30 tokens (what the model can see)" in out


CHAT = [
    {"role": ("user", "assistant")[i % 2], "content": f"{word} " * 12}
    for i, word in enumerate(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"])
]


@pytest.fixture
def chat(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "system", "content": "s"}, *CHAT]}) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("how", "says", "trained", "gone"),
    [
        ("drop", "× longer than 90 tokens: dropped (", {"beta", "delta", "zeta"}, set()),
        ("keep-start", "× longer than 90 tokens: end cut (", {"beta", "delta"}, {"epsilon", "zeta"}),
        ("keep-end", "× longer than 90 tokens: beginning cut (", {"delta", "zeta"}, {"alpha", "beta"}),
        ("drop-turns", "× longer than 90 tokens: messages 1 to 4 are dropped (", {"zeta"}, set()),
    ],
)
def test_a_row_shows_where_the_limit_cuts_it_and_marks_only_what_is_trained(workbench, chat, how, says, trained, gone):
    argv = ["tokens", chat, "--model", MODEL, "--row", "0", "--max-length", "90", "--truncate", how]
    _, out, _ = workbench(*argv)
    lines = out.splitlines()
    assert lines[0].endswith("would be trained" if how == "drop" else "tokens trained")
    assert lines[1].startswith(says)
    assert {word for line in lines if line.startswith("a• ") for word in trained if word in line} == trained
    cut = [line for line in lines if line[1:5] == "× │ "]
    assert {word for word in ("alpha", "beta", "epsilon", "zeta") if any(word in line for line in cut)} >= gone
    assert bool(cut) == bool(gone)
    assert any(line.startswith("──") for line in lines) == (how != "drop-turns")
    assert any(line.startswith("! truncated: ") for line in lines)
    assert any(line.startswith("! response-lost: ") for line in lines)
    assert ("× cut away" in lines[-1]) == bool(gone)
    data = json.loads(workbench(*argv, "--json")[1])
    assert len(data["cuts"]) == 1
    assert data["left"]["tokens"] == data["total"] - data["cuts"][0]["tokens"]
    assert data["left"]["trained"] == data["trained"] - data["cuts"][0]["trained"]
    if how in ("keep-start", "keep-end"):
        assert lines[0] == f"row 0 · {data['left']['trained']} of {data['total']} tokens trained"


def test_typed_special_tokens_are_flagged_plain_text_or_refused(workbench, rows):
    def seen(how):
        return json.loads(workbench("tokens", rows, "--model", MODEL, "--row", "3", "--json", "--special", how)[1])

    flag, text, refuse = map(seen, ["flag", "text", "refuse"])
    assert [sum(token["special"] and token["role"] == "user" for token in data["tokens"]) for data in (flag, text)] == [
        3,
        2,
    ]
    assert "special-in-content" in [issue["kind"] for issue in flag["issues"]]
    assert "special-in-content" not in [issue["kind"] for issue in text["issues"]]
    assert refuse["examples"] == []
    assert "refused" in refuse["issues"][0]["detail"]


def test_a_base_model_gets_a_plain_format_by_name_and_tokens_only_when_asked(workbench, rows, tmp_path):
    base = tmp_path / "base"
    tokenizer = load_tokenizer(MODEL)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(base)
    argv = ["tokens", rows, "--model", str(base), "--row", "1"]
    code, _, err = workbench(*argv)
    assert code == 5
    assert "no chat template" in err
    assert "--template chatml, alpaca" in err
    _, out, _ = workbench(*argv, "--template", "alpaca")
    assert "a• │ ⟦Hello.<|im_end|>" in out
    assert "### Instruction:" in out
    own = tmp_path / "own.jinja"
    own.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}")
    _, out, _ = workbench(*argv, "--template", str(own))
    assert "user: Hi<|im_end|>" in out
    code, _, err = workbench(*argv, "--template", "chat-ml")
    assert code == 2
    assert "chatml" in err
    code, _, err = workbench(*argv, "--add-tokens")
    assert (code, "--template" in err) == (2, True)
    assert workbench(*argv, "--template", "chatml", "--add-tokens")[0] == 0


def test_every_conversation_of_a_row_is_found_by_its_number_and_the_row_is_named_once(workbench, tmp_path):
    path = tmp_path / "nested.jsonl"
    asked = [[{"input": "a", "output": "x"}, {"input": "b", "output": ""}, {"input": "c", "output": ""}], None]
    asked.append([{"input": "d", "output": ""}])
    path.write_text("\n".join(json.dumps({"instruction": "Say", "instances": one}) for one in asked))
    _, out, _ = workbench("tokens", str(path), "--model", MODEL, "--row", "0")
    assert out.count("row 0 · ") == 3
    _, out, _ = workbench("tokens", str(path), "--model", MODEL, "--row", "0", "--json")
    assert [json.loads(out)["row"], *(one["row"] for one in json.loads(out)["also"])] == [0, 0, 0]
    _, out, _ = workbench("tokens", str(path), "--model", MODEL, "--audit")
    assert re.search(r"empty-turn +3  rows 0, 2\n", out)


def test_reasoning_and_tool_calls_can_stay_untrained(workbench, tmp_path):
    if not (SHARED / "qwen3").is_dir():
        pytest.skip("the qwen3 tokenizer is not on this machine")
    call = {"type": "function", "function": {"name": "w", "arguments": {"at": "sky"}}}
    turn = {"role": "assistant", "reasoning_content": "Hm.", "content": "Wait.", "tool_calls": [call]}
    path = tmp_path / "call.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Rain?"}, turn]}) + "\n")

    def trained(*flags):
        argv = ["tokens", str(path), "--model", str(SHARED / "qwen3"), "--row", "0", "--json", *flags]
        return "".join(token["text"] for token in json.loads(workbench(*argv)[1])["tokens"] if token["trained"])

    assert "Hm." in trained()
    assert "sky" in trained()
    assert "Hm." not in trained("--no-reasoning")
    assert "sky" in trained("--no-reasoning")
    assert "sky" not in trained("--no-tool-calls")
    assert "Wait" in trained("--no-tool-calls", "--no-reasoning")


def test_two_models_stand_side_by_side(workbench, rows, tmp_path):
    other = tmp_path / "other"
    tokenizer = load_tokenizer(MODEL)
    turn = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    ask = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    tokenizer.chat_template = "{% for m in messages %}" + turn + "{% endfor %}" + ask
    tokenizer.save_pretrained(other)
    argv = ["tokens", rows, "--model", MODEL, "--compare", str(other)]
    code, out, err = workbench(*argv)
    assert code == 0
    assert "trained share" in out
    assert "1 of 3 rows differ in their issues: 1" in out
    assert "Left out as no conversations: 1" in err
    data = json.loads(workbench(*argv, "--json")[1])
    assert data["issues"]["injected-system"] == 1
    assert "injected-system" not in data["compare"]["issues"]
    assert data["compare"]["tokens"] < data["tokens"]
    assert data["differ"] == {"rows": [1], "ids": [1]}
    _, out, _ = workbench(*argv, "--row", "1")
    assert out.splitlines()[0] == "row 1"
    assert "other: no issues" in out
    data = json.loads(workbench(*argv, "--row", "1", "--json")[1])
    assert data["total"] > data["compare"]["total"]


def test_ctrl_c_in_an_audit_says_how_far_it_came(workbench, rows, monkeypatch):
    from workbench import tokens

    seen = iter(range(10))

    def interrupted(self):
        for row in original(self):
            if next(seen) == 2:
                raise KeyboardInterrupt
            yield row

    original = tokens.FileRows.__iter__
    monkeypatch.setattr(tokens.FileRows, "__iter__", interrupted)
    code, out, err = workbench("tokens", rows, "--model", MODEL, "--audit")
    assert (code, out) == (6, "")
    assert err.startswith("Stopped after 0 rows. Nothing was written.")


def test_the_policy_full_trains_everything(workbench, rows):
    _, out, _ = workbench("tokens", rows, "--model", MODEL, "--row", "1", "--json", "--policy", "full")
    data = json.loads(out)
    assert data["trained"] == data["total"]


def test_a_source_of_the_workspace_is_shown_by_name_with_its_example_ids(workbench, rows, tmp_path):
    from workbench.workspace import Workspace

    workspace = Workspace.init(tmp_path / "w")
    workspace.import_file(Path(rows), name="chats")
    ids = [id_ for batch in workspace.rows("chats") for id_ in batch.column("id").to_pylist()]
    workspace.close()
    code, out, _ = workbench("-w", str(tmp_path / "w"), "tokens", "chats", "--model", MODEL, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["rows"] == 3
    assert data["issue_rows"]["empty-turn"] == [2]
    assert data["issue_ids"]["empty-turn"] == [ids[2]]
    cached = list((tmp_path / "w/cache/tokens").rglob("*.arrow"))
    assert len(cached) == 1
    assert json.loads(workbench("-w", str(tmp_path / "w"), "tokens", "chats", "--model", MODEL, "--json")[1]) == data
    assert list((tmp_path / "w/cache/tokens").rglob("*.arrow")) == cached
    _, out, _ = workbench("-w", str(tmp_path / "w"), "tokens", "chats", "--model", MODEL, "--audit")
    assert f" rows 2\n{'':<29}examples {ids[2]}\n" in out
    _, out, _ = workbench("-w", str(tmp_path / "w"), "tokens", "chats", "--model", MODEL, "--row", "2", "--json")
    assert json.loads(out)["id"] == ids[2]
    code, _, err = workbench("-w", str(tmp_path / "w"), "tokens", "chat", "--model", MODEL)
    assert code == 2
    assert err.startswith("error: ")
    assert "chat" in err


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["ROWS", "--model", MODEL, "--row", "9"], 2, "the rows are numbered 0 to 3"),
        (["ROWS", "--model", MODEL, "--row", "2"], 2, "row 2 is not a conversation"),
        (["ROWS", "--model", MODEL, "--date", "soon"], 2, "'soon' is not a date"),
        (["ROWS", "--model", MODEL, "--template-arg", "thinking"], 2, "name=value"),
        (["ROWS", "--model", "./no-such-folder"], 5, "no such folder"),
        (["ROWS", "--model", MODEL, "--compare", "./no-such-folder"], 5, "no such folder"),
        (["ROWS", "--model", MODEL, "--row", "1", "--audit"], 2, "give one of them"),
        (["missing.jsonl", "--model", MODEL], 3, "missing.jsonl: there is no such file"),
    ],
)
def test_mistakes_are_told_in_one_message_with_their_exit_code(workbench, rows, argv, code, says):
    got, out, err = workbench("tokens", *[rows if arg == "ROWS" else arg for arg in argv])
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_the_command_loads_no_weights_library(rows):
    import subprocess

    script = (
        "import sys\nfrom workbench.cli import app\n"
        f"app.main(['tokens', {rows!r}, '--model', {MODEL!r}, '--row', '1', '--json'], standalone_mode=False)\n"
        "print(sorted({'peft', 'trl', 'accelerate', 'bitsandbytes', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- the view itself ---


@pytest.fixture
def example(rows):
    from trainer.chat import tokenise

    return tokenise(load_tokenizer(MODEL), ROWS[0]["messages"]).examples[0]


def on_terminal(text, monkeypatch, *, no_color: bool) -> str:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system="256", markup=False, width=80).print(text, end="")
    return stream.getvalue()


def test_on_a_terminal_trained_text_is_underlined_also_without_colour(example, monkeypatch):
    from workbench.report.tokens import render_tokens

    plain = on_terminal(render_tokens(example, 80), monkeypatch, no_color=True)
    assert "\x1b[4mNo.⏎" in plain
    assert "38;5" not in plain
    assert "⟦" not in plain
    coloured = on_terminal(render_tokens(example, 80), monkeypatch, no_color=False)
    assert "\x1b[4;38;5;33mNo.⏎" in coloured


@pytest.mark.parametrize("width", [20, 33, 80])
def test_no_line_is_wider_than_asked_and_no_text_is_lost(example, width):
    from rich.cells import cell_len

    from workbench.report.tokens import render_tokens
    from workbench.text import safe_text

    lines = render_tokens(example, width).plain.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert "".join(line[5:] for line in lines) == safe_text(example.text)
