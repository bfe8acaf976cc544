"""The page on merging is run: its script and commands, with a tiny model; and what it says of merged adapters is so."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from .chapters import ROOT, needs_fork, run_page

pytestmark = needs_fork

DATA = ROOT / "../shared/data"
FILES = ("prompt_completion/gsm8k_train.jsonl", "alpaca/codegen_instruct.json")


@pytest.mark.skipif(not DATA.exists(), reason="the folder of real data is not here")
def test_the_page_runs_and_a_merged_adapter_is_folded_and_asked_like_any_other(
    tmp_path, tiny_model, fork_job, monkeypatch
):
    import trainer.answers
    import trainer.merging  # noqa: F401  # the children find all of it loaded

    for name in FILES:
        (tmp_path / Path(name).name).symlink_to((DATA / name).resolve())
    smaller = {"--seeds 2": "--seeds 1", "3072": "80", "[10:160]": "[10:20]", "[:10]": "[:2]", "tokens 24": "tokens 2"}
    options = {"compare": f"--model {tiny_model} --answers 0 --preset short --json"}
    ran = run_page("docs/merging.md", tmp_path, fork_job, options, smaller)
    assert [one.line for one in ran if not one.as_told] == []
    result = json.loads(ran[-1].out)
    merged = {arm["label"]: arm for arm in result["arms"] if arm["merged"]}
    assert list(merged) == [
        "linear(code + maths)",
        "linear(0.5 code + 0.5 maths)",
        "ties(code + maths)",
        "dare-linear(code + maths)",
        "linear(both - 0.5 wrong)",
    ]
    assert {arm["trained_tokens"] for arm in merged.values()} == {0}
    assert [arm["merged"]["kept"] for arm in merged.values()][:2] == [1.0, 1.0]

    from workbench import asking, merging
    from workbench.workspace import Workspace

    monkeypatch.setattr("workbench.jobs.start", fork_job)
    with contextlib.closing(Workspace.open(tmp_path / "merged")) as ws:
        folded = merging.merge(ws, [f"{result['experiment']}:ties(code + maths)"], tmp_path / "folded")
        assert folded.parts[0].run == "merged3-0"
        assert folded.checks.largest < 1e-3
        number = next(n for n, one in enumerate(result["comparisons"]) if one["arm"] == "merged3")
        asked = asking.prepare_question(ws, result["experiment"], [{"role": "user", "content": "Hi"}], number=number)
        asking.ask(asked, lambda event: None, lambda: "watch")
        assert asked.arms["candidate"] == "ties(code + maths)"
        assert asking.answers(asked).keys() == {"base", "baseline", "candidate"}
