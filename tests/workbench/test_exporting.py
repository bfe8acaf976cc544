"""What leaves a workspace: the same rows, a card that tells the truth, and nothing half done."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from trainer.conversation import canonical_json
from workbench.errors import HubUnavailable, ModelUnavailable, UsageProblem
from workbench.exporting import PARQUET, hub_folder
from workbench.formats.push import check_hub, repo_of
from workbench.store.members import resolve
from workbench.workspace import Workspace

SHARED = Path(__file__).parents[2] / "../shared"
U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}

SMALL_FILES = [
    "alpaca/alpaca_zh.json",
    "sharegpt/glaive_toolcall_en.json",
    "messages/content_parts_loss_weight.jsonl",
    "messages/reason_tool_use_50.jsonl",
]
LOSSLESS = [("out.jsonl", "messages"), ("out.json", "messages"), ("out.parquet", "parquet"), ("out", "datasets")]

CALL = {"id": "c", "function": {"name": "f", "arguments": {"n": 10**30, "x": [None, 1.5, {"": ""}]}}}
SPECIAL = [
    {
        "messages": [
            {"role": "system", "content": "line\u2028para\u2029next\u0085page\x0c"},
            {**U, "content": "nul \x00 and \r\n and \ufeff"},
            {**A, "reasoning_content": "hm\u2028", "train": False, "tool_calls": [CALL]},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
            {**A, "content": "😀 <|im_end|>", "train": False},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "id": 7,
        "nested": {"meta": [None]},
    },
    {"messages": [U, A]},
    {"messages": [U, A]},
]
BROKEN = '{"messages":[{"role":"user","content":"half \\ud800"},{"role":"assistant","content":"a"}]}\n'


@pytest.fixture
def workspace(tmp_path):
    opened = Workspace.init(tmp_path / "ws")
    yield opened
    opened.close()


def special(tmp_path: Path) -> Path:
    path = tmp_path / "special.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in SPECIAL) + BROKEN)
    return path


@pytest.mark.parametrize("file", ["special", *SMALL_FILES])
def test_every_lossless_form_comes_back_to_the_same_hash(workspace, tmp_path, file):
    path = special(tmp_path) if file == "special" else SHARED / "data" / file
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert workspace.import_file(path, name="raw").rejected == (1 if file == "special" else 0)
    version, _ = workspace.freeze("raw", "version")
    metas = [row.meta for row in workspace.examples("version", limit=5).rows]
    for number, (name, format) in enumerate(LOSSLESS if file == "special" else LOSSLESS[2:]):
        done = workspace.export("version", tmp_path / name, format)
        assert (done.rows, done.lost, done.manifest_hash) == (version.rows, [], version.manifest_hash)
        workspace.import_file(tmp_path / name, name=f"back{number}")
        assert workspace.freeze(f"back{number}", f"again{number}")[0].manifest_hash == version.manifest_hash
        assert [row.meta for row in workspace.examples(f"again{number}", limit=5).rows] == metas
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_is_special_is_there_to_be_lost(workspace, tmp_path):
    # The test above holds nothing if the import had dropped these before.
    workspace.import_file(special(tmp_path), name="raw")
    (first, *_) = workspace.examples("raw", limit=1).rows
    assert first.messages[1]["content"] == "nul \x00 and \r\n and \ufeff"
    assert first.messages[2]["tool_calls"][0]["function"]["arguments"]["n"] == 10**30
    assert (first.messages[2]["reasoning_content"], first.messages[4]["train"]) == ("hm\u2028", False)
    assert (first.tools[0]["function"]["name"], first.meta) == ("f", {"id": 7, "nested": {"meta": [None]}})


def test_a_source_has_the_hash_of_the_version_frozen_from_it(workspace, tmp_path):
    workspace.import_file(special(tmp_path), name="raw")
    version, _ = workspace.freeze("raw", "version")
    assert workspace.export("raw", tmp_path / "out.jsonl").manifest_hash == version.manifest_hash


@pytest.fixture
def curated(workspace, tmp_path):
    """The version `clean` of two sources, one under a licence, by a recipe; `held` leaves out an eval set's prompts."""
    for name, licence in (("one", "MIT"), ("two", None)):
        rows = [{"messages": [{**U, "content": f"{name} {i}"}, {**A, "content": f"{i % 4}"}]} for i in range(8)]
        path = tmp_path / "secret folder" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        workspace.import_file(path, name=name, license=licence)
    workspace.hold_out("one", "gold", 2)
    workspace.freeze("one", "held", ["gold"])
    (tmp_path / "r.yaml").write_text("# why: ``` fences\nsteps:\n  - exact: {on: response, max_drop: 1}\n")
    workspace.run_recipe(tmp_path / "r.yaml", ["held", "two"], "clean")
    return workspace


def test_a_card_tells_origins_drops_and_how_to_repeat(curated, tmp_path):
    done = curated.export("clean", tmp_path / "out.jsonl")
    assert done.card == tmp_path / "out.jsonl.card.md"
    card = done.card.read_text()
    assert DatasetCard(card).data.license == ["mit", "unknown"]
    assert "**held** from one: 8 rows in, 2 dropped, 6 left." in card
    assert f"**clean** from held, two: 14 rows in, {14 - done.rows} dropped, {done.rows} left." in card
    assert "````yaml\n# why: ``` fences" in card
    assert done.manifest_hash in card
    assert "secret" not in card
    commands = card[card.index("```sh") :].splitlines()[1:-1]
    assert commands == [
        "workbench init .",
        "workbench import one.jsonl --name one --format messages --license MIT",
        "workbench import two.jsonl --name two --format messages",
        "workbench versions freeze one --name held --without gold",
        "workbench run clean.yaml --from held,two --name clean",
        "workbench versions export clean -o out.jsonl --format messages",
    ]


def test_the_commands_of_a_card_make_the_same_rows_again(curated, tmp_path):
    done = curated.export("clean", tmp_path / "out.jsonl")
    again = Workspace.init(tmp_path / "again")
    try:
        for name in ("one", "two"):
            again.import_file(tmp_path / "secret folder" / f"{name}.jsonl", name=name, format="messages")
        again.hold_out("one", "gold", 2)
        again.freeze("one", "held", ["gold"])
        block = done.card.read_text().split("````yaml\n")[1].split("\n````")[0]
        (tmp_path / "clean.yaml").write_text(block)
        assert again.run_recipe(tmp_path / "clean.yaml", ["held", "two"], "clean").manifest_hash == done.manifest_hash
    finally:
        again.close()


def test_a_name_that_is_no_text_is_a_name_all_the_same(curated, tmp_path):
    out = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    done = curated.export("one", out)
    assert out.exists()
    assert DatasetCard.load(done.card).data.configs[0]["data_files"][0]["path"] == "caf\\xe9.jsonl"


def test_rows_that_a_person_corrected_are_told(curated, tmp_path):
    with curated.store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO fixed_rejects SELECT id, 3, 'was broken', '{', NULL, NULL FROM sources WHERE name = 'two'"
        )
    curated.freeze("two", "all-two")
    assert "1 row was corrected or edited by hand" in curated.export("all-two", tmp_path / "a.jsonl").card.read_text()
    assert "by hand" not in curated.export("one", tmp_path / "b.jsonl").card.read_text()


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("/home/ann/secret/rows.json", "rows.json"),
        ("hf:team/set/config:train", "hf:team/set/config:train"),
        ("hf:/home/ann/secret/set:train", "hf:./set:train"),
        ("hf:~/secret/set", "hf:./set"),
    ],
)
def test_a_card_tells_no_paths_of_this_machine(curated, tmp_path, origin, told):
    with curated.store.transaction() as cursor:
        cursor.execute("UPDATE sources SET path = ? WHERE name = 'one'", [origin])
    card = curated.export("one", tmp_path / "out.jsonl").card.read_text()
    assert "secret" not in card
    assert f"workbench import {told} --name one" in card


def test_languages_come_from_the_steps_that_told_them(curated, tmp_path):
    rows = [("Wie heißt die Hauptstadt von Frankreich, und wie viele Menschen leben dort?", "de")] * 2
    path = tmp_path / "words.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{text} {i}", "completion": text}) + "\n" for i, (text, _) in enumerate(rows))
    )
    curated.import_file(path, name="words")
    assert DatasetCard.load(curated.export("words", tmp_path / "a.jsonl").card).data.language is None
    (tmp_path / "l.yaml").write_text("steps:\n  - language: {allow: [de]}\n")
    curated.run_recipe(tmp_path / "l.yaml", ["words"], "german")
    assert DatasetCard.load(curated.export("german", tmp_path / "b.jsonl").card).data.language == ["de"]


def test_tokens_are_those_of_the_token_view(curated, tmp_path, tiny_model):
    from trainer.chat import audit
    from trainer.models import load_tokenizer

    rows = curated.examples("clean", limit=99).rows
    texts = [(row.id, json.dumps(row.messages), None) for row in rows]
    counted = audit(texts, load_tokenizer(str(tiny_model)))
    card = curated.export("clean", tmp_path / "out.jsonl", model=str(tiny_model)).card.read_text()
    assert (
        f"of {tiny_model.name.replace('_', chr(92) + '_')}: {counted.tokens:,} tokens, {counted.trained:,} of" in card
    )
    assert str(tiny_model) not in card
    with pytest.raises(ModelUnavailable):
        curated.export("clean", tmp_path / "other.jsonl", model="/no/such/model")
    assert not (tmp_path / "other.jsonl").exists()


@pytest.mark.parametrize("format", ["messages", "parquet", "datasets"])
def test_a_disk_that_fills_up_leaves_nothing_behind(workspace, tmp_path, format):
    rows = [{"messages": [{**U, "content": f"{i * 7919**30}" * 40}, A]} for i in range(200)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace.import_file(path, name="rows")
    place = tmp_path / "place"
    place.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # the kernel refuses to let files grow beyond
    try:
        with pytest.raises(UsageProblem, match=r"place/out: cannot write here: File too large"):
            workspace.export("rows", place / "out", format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(place.iterdir()) == []
    assert workspace.export("rows", place / "out", format).rows == 200


@pytest.mark.parametrize("format", ["messages", "datasets"])
def test_stopping_leaves_nothing_behind(curated, tmp_path, format):
    place = tmp_path / "place"
    place.mkdir()

    def stop(done: int, total: int | None, what: str) -> None:
        assert list(place.iterdir()), "nothing was being written yet"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curated.export("clean", place / "out", format, progress=stop)
    assert list(place.iterdir()) == []


def test_trl_trains_on_what_is_exported_for_it(workspace, tmp_path, tiny_model):
    """TRL sees the same conversations in the folder as in memory, tools and all, and trains completions alone."""
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    calls = [
        {"type": "function", "function": {"name": "f", "arguments": arguments}} for arguments in ({"x": 1}, {"y": "z"})
    ]
    rows = [
        {"messages": [U, {**A, "tool_calls": [call]}], "tools": [{"type": "function", "function": {"name": "f"}}]}
        for call in calls
    ]
    rows.append({"messages": [{"role": "system", "content": "s"}, U, A, U, {**A, "content": "last"}]})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace.import_file(path, name="rows")
    workspace.export("rows", tmp_path / "saved", "datasets")
    workspace.export("rows", tmp_path / "pairs.jsonl", "prompt-completion")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
        "{% if m['tool_calls'] %}{{ m['tool_calls'] | tojson }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )

    def prepared(data: datasets.Dataset) -> datasets.Dataset:
        config = SFTConfig(
            output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True, bf16=False, max_length=None
        )
        return SFTTrainer(str(tiny_model), args=config, train_dataset=data, processing_class=tokenizer).train_dataset

    saved = prepared(datasets.load_from_disk(str(tmp_path / "saved")))
    assert [tokenizer.decode(row["input_ids"]) for row in saved] == [
        tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False)
        for row in json.loads(canonical_json(rows))
    ]
    pairs = prepared(
        datasets.load_dataset(
            "json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "c")
        )
    )
    trained = [
        [id for id, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100] for row in pairs
    ]
    assert [tokenizer.decode(ids).split("[")[0] for ids in trained] == ["a", "a", "last"]


def test_the_folder_for_the_hub_is_complete(curated, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    made = hub_folder(
        curated.store, resolve(curated.store, "clean"), folder, "hf:team/clean", model=None, progress=None
    )
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        PARQUET,
    ]
    card = DatasetCard.load(folder / "README.md")
    assert card.data.to_dict()["configs"][0]["data_files"] == [{"split": "train", "path": PARQUET}]
    assert "workbench versions export clean --to hf:team/clean" in card.text
    # What the hub's viewer and every reader do with it: the front matter says where the rows are.
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["messages"] == [row.messages for row in curated.examples("clean", limit=99).rows]
    assert len(loaded) == made.rows


@pytest.mark.parametrize("target", ["team/name", "hf:name", "hf:a/b/c", "hf:/name", "hf:team/na me", "s3:team/name"])
def test_a_place_on_the_hub_is_an_organisation_and_a_name(target):
    with pytest.raises(UsageProblem, match="hf:ORG/NAME"):
        repo_of(target)


def test_a_hub_out_of_reach_is_one_sentence_before_anything_is_made(curated, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    wrote: list[int] = []
    with pytest.raises(HubUnavailable, match="HF_HUB_OFFLINE is set"):  # tests/conftest.py sets it
        curated.push("clean", "hf:team/clean", progress=lambda done, total, what: wrote.append(done))
    assert wrote == []
    assert not list(curated.cache_dir.glob("push-*"))


def test_without_a_token_it_says_how_to_get_one(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(HubUnavailable, match="hf auth login"):
        check_hub("team/name", force=False)
