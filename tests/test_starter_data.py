"""The starter set, its planted flaws and the eval prompts are what their cards say."""

import json
import re
import unicodedata
from collections import Counter
from itertools import combinations, pairwise, product
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / "datasets"
KINDS = {
    "exact-duplicate": 12,
    "near-duplicate": 18,
    "cut-off": 16,
    "other-answer": 12,
    "refusal": 12,
    "leaked-markup": 12,
    "mojibake": 10,
    "loop": 8,
    "wrong-language": 10,
    "vague": 10,
}


def read(name):
    with (DATA / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


GOOD = read("starter/good.jsonl")
RAW = read("starter/raw.jsonl")
KEY = read("starter/answer_key.jsonl")
EVAL = read("eval/starter-eval.jsonl")
RAW_BY_ID = {row["id"]: row for row in RAW}
KIND_OF = {entry["id"]: entry["kind"] for entry in KEY}


def content(row):
    return json.dumps([row["messages"], row.get("tools")], sort_keys=True, ensure_ascii=False)


def normalised(text):
    return " ".join(unicodedata.normalize("NFC", text).split())


def turns(row, role):
    return [message["content"] or "" for message in row["messages"] if message["role"] == role]


def prompt(row):
    return "\n".join(turns(row, "user"))


def response(row):
    return "\n".join(turns(row, "assistant"))


def final(row):
    return row["messages"][-1]["content"]


def words(text):
    """Lower-case words; each Chinese character is a word."""
    return re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())


def grams(text, n=5):
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(max(1, len(found) - n + 1))}


def jaccard(a, b):
    return len(a & b) / len(a | b)


def similar_pairs(pairs, threshold):
    return [(a, b, round(jaccard(x, y), 2)) for (a, x), (b, y) in pairs if jaccard(x, y) >= threshold]


@pytest.mark.parametrize("rows", [GOOD, RAW, EVAL], ids=["good", "raw", "eval"])
def test_rows_are_well_formed_conversations_with_unique_ids(rows):
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert set(row) <= {"id", "task", "language", "messages", "tools"}, row["id"]
        roles = [message["role"] for message in row["messages"]]
        spoken = roles[1:] if roles[0] == "system" else roles
        assert spoken[0] == "user", row["id"]
        assert spoken[-1] == "assistant", row["id"]
        assert "system" not in spoken, row["id"]
        if "tools" not in row:
            assert spoken == ["user", "assistant"] * (len(spoken) // 2), row["id"]
        for message in row["messages"]:
            assert message.get("tool_calls") or message["content"].strip(), row["id"]


def test_tool_rows_call_only_the_tools_they_declare():
    rows = [row for row in GOOD if "tools" in row]
    assert len(rows) >= 5
    for row in rows:
        declared = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        calls = [call["function"] for message in row["messages"] for call in message.get("tool_calls", [])]
        assert calls, row["id"]
        for call in calls:
            schema = declared[call["name"]]
            assert set(schema["required"]) <= set(call["arguments"]) <= set(schema["properties"]), row["id"]


def test_good_rows_are_many_and_varied():
    assert len(GOOD) >= 240
    tasks = Counter(row["task"] for row in GOOD)
    assert len(tasks) >= 14
    assert max(tasks.values()) <= len(GOOD) * 0.1
    languages = Counter(row["language"] for row in GOOD)
    assert set(languages) == {"en", "de", "fr", "es", "zh"}
    assert min(languages.values()) >= 12
    assert sum(len(turns(row, "user")) > 1 for row in GOOD) >= 20
    assert sum(bool(turns(row, "system")) for row in GOOD) >= 15


@pytest.mark.parametrize("rows", [GOOD, EVAL], ids=["good", "eval"])
@pytest.mark.parametrize("of", [prompt, response])
def test_clean_rows_have_no_near_duplicates_among_themselves(rows, of):
    texts = [(row["id"], grams(of(row))) for row in rows]
    assert similar_pairs(combinations(texts, 2), 0.3) == []


@pytest.mark.parametrize("rows", [GOOD, EVAL], ids=["good", "eval"])
def test_clean_answers_do_not_open_alike(rows):
    openings = Counter(" ".join(words(final(row))[:3]) for row in rows)
    repeated = {opening: n for opening, n in openings.items() if n > 2}
    assert repeated == {}
    stock = re.compile(
        r"(sure|certainly|of course|absolutely|great question|i'd be happy|here (is|are)|as an ai)\b", re.I
    )
    assert [row["id"] for row in rows if stock.match(final(row))] == []


@pytest.mark.parametrize("rows", [GOOD, EVAL], ids=["good", "eval"])
def test_clean_answers_do_not_restate_the_question(rows):
    echoes = []
    for row in rows:
        question, answer = (words(text) for text in (turns(row, "user")[-1], final(row)))
        if row["task"] not in {"proofreading", "rewriting"} and len(question) >= 6 and answer[:6] == question[:6]:
            echoes.append(row["id"])
    assert echoes == []


def test_raw_is_the_good_rows_and_the_flawed_ones_and_nothing_else():
    assert len(RAW) == len(GOOD) + len(KEY)
    unflawed = [content(row) for row in RAW if row["id"] not in KIND_OF]
    assert Counter(unflawed) == Counter(content(row) for row in GOOD)


def test_raw_ids_and_order_do_not_give_the_flaws_away():
    assert [row["id"] for row in RAW] == [f"r{n:03d}" for n in range(1, len(RAW) + 1)]
    flawed = [row["id"] in KIND_OF for row in RAW]
    thirds = [flawed[i * len(RAW) // 3 : (i + 1) * len(RAW) // 3] for i in range(3)]
    assert all(sum(third) / len(third) > 0.2 for third in thirds)
    copies_first = [entry["id"] < entry["of"] for entry in KEY if entry["of"]]
    assert 0.2 < sum(copies_first) / len(copies_first) < 0.8


def test_answer_key_matches_rows_and_counts():
    assert Counter(KIND_OF.values()) == KINDS
    assert len(KIND_OF) == len(KEY)
    for entry in KEY:
        assert set(entry) == {"id", "kind", "of", "note"}
        assert entry["id"] in RAW_BY_ID
        assert (entry["of"] is not None) == (entry["kind"] in {"exact-duplicate", "near-duplicate"})
        if entry["of"]:
            assert entry["of"] in RAW_BY_ID
            assert entry["of"] not in KIND_OF, "made from a good row"


def test_exact_duplicates_are_equal_and_near_duplicates_are_not():
    for entry in KEY:
        if entry["of"] is None:
            continue
        copy, original = RAW_BY_ID[entry["id"]], RAW_BY_ID[entry["of"]]
        same = [normalised(m["content"] or "") for m in copy["messages"]] == [
            normalised(m["content"] or "") for m in original["messages"]
        ]
        assert same == (entry["kind"] == "exact-duplicate"), entry
        if entry["kind"] == "near-duplicate":
            assert jaccard(grams(response(copy), 1), grams(response(original), 1)) > 0.6, entry


def test_dropping_the_flawed_rows_loses_no_prompt():
    kept = {normalised(prompt(row)) for row in GOOD}
    for entry in KEY:
        if entry["of"] is None:
            assert normalised(prompt(RAW_BY_ID[entry["id"]])) not in kept, entry


def test_flaws_show_where_they_can_be_checked_mechanically():
    def answers(kind):
        return [final(RAW_BY_ID[entry["id"]]) for entry in KEY if entry["kind"] == kind]

    markup = re.compile(r"</?\w+[^>]*>|&\w+;|&#\d+;|\[/INST\]|<\|im_end\|>|### ")
    assert all(markup.search(answer) for answer in answers("leaked-markup"))
    for answer in answers("mojibake"):
        assert re.search("[ÂÃâ]", answer), answer
    for answer in answers("loop"):
        found = words(answer)
        assert max(Counter(pairwise(found)).values()) >= 5, answer
    assert all(len(words(answer)) <= 15 for answer in answers("vague"))


def test_eval_is_held_out_from_raw():
    assert len(EVAL) == 80
    raw_prompts = {normalised(prompt(row)).lower() for row in RAW}
    assert [row["id"] for row in EVAL if normalised(prompt(row)).lower() in raw_prompts] == []
    for of in (prompt, response):
        held_out = [(row["id"], grams(of(row))) for row in EVAL]
        trained = [(row["id"], grams(of(row))) for row in RAW]
        assert similar_pairs(product(held_out, trained), 0.3) == []


def test_eval_covers_the_tasks_and_languages_of_the_starter_set():
    assert Counter(row["language"] for row in EVAL) == {"en": 68, "de": 3, "fr": 3, "es": 3, "zh": 3}
    assert {row["task"] for row in EVAL} <= {row["task"] for row in GOOD}
    assert len({row["task"] for row in EVAL}) >= 14
    assert sum(len(turns(row, "user")) > 1 for row in EVAL) >= 5
    assert sum(bool(turns(row, "system")) for row in EVAL) >= 5


def test_general_text_is_a_page_of_prose_and_shares_nothing_with_the_sets():
    text = (DATA / "eval" / "general.txt").read_text(encoding="utf-8")
    assert 600 <= len(text.split()) <= 900
    page = grams(text, 8)
    for row in RAW + EVAL:
        for message in row["messages"]:
            found = words(message["content"] or "")
            assert len(found) < 8 or not page & grams(message["content"], 8), row["id"]


@pytest.mark.parametrize("card", ["starter/README.md", "eval/README.md"])
def test_cards_state_the_licence(card):
    assert "Apache-2.0" in (DATA / card).read_text(encoding="utf-8")


def test_starter_card_counts_are_the_real_ones():
    card = (DATA / "starter" / "README.md").read_text(encoding="utf-8")
    for name, rows in (("good", GOOD), ("raw", RAW), ("answer_key", KEY)):
        assert f"| `{name}.jsonl` | {len(rows)} |" in card
    for kind, n in KINDS.items():
        assert f"| `{kind}` | {n} |" in card
    english = sum(row["language"] == "en" for row in GOOD)
    several = sum(len(turns(row, "user")) > 1 for row in GOOD)
    system = sum(bool(turns(row, "system")) for row in GOOD)
    assert f"{english} rows in English" in card
    assert f"{several} conversations with several user turns, {system} with a system prompt" in card
