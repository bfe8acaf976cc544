"""What all tests share: a quiet environment, the folder of real data, and a tiny model made here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from . import guards
from .forked import Forked

# Before any library is imported: tests run beside each other on small machines, and none may look for a network.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: threads of one would wait for those of another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = [
    "workbench/cli/test_compare.py",
    "workbench/tui/test_experiments.py",
    "trainer/test_experiment.py",
    "filters/engines/test_ray.py",
    "trainer/test_models.py",
    "workbench/tui/test_results.py",
    "workbench/tui/test_never_blocks.py",
    "workbench/tui/test_tokens.py",
    "workbench/tui/test_end_to_end.py",
    "workbench/test_elsewhere.py",
    "filters/test_embedding.py",
    "trainer/test_experiment_kills.py",
    "trainer/test_devices.py",
    "test_readme.py",
    "test_tutorial.py",
    "workbench/cli/test_errors.py",
    "trainer/test_finetune.py",
    "filters/test_audit_step.py",
    "test_merging_page.py",
    "workbench/test_comparing.py",
    "trainer/test_processes.py",
    "trainer/test_experiment_failures.py",
    "workbench/tui/test_browse.py",
    "workbench/tui/test_import_flow.py",
    "trainer/test_statistics_calibration.py",
    "trainer/test_quantize.py",
    "workbench/test_demo.py",
    "workbench/test_merging.py",
    "workbench/test_token_heat.py",
    "workbench/test_culprits.py",
    "workbench/test_experiment_removal.py",
    "workbench/test_asking.py",
    "workbench/test_scoring.py",
    "workbench/test_embeddings.py",
    "workbench/cli/test_tokens.py",
    "workbench/cli/test_judge.py",
    "workbench/cli/test_killed.py",
    "workbench/tui/test_hostile.py",
    "workbench/tui/test_versions.py",
    "workbench/tui/test_recipe_screen.py",
    "workbench/tui/test_ablations.py",
    "filters/judge/test_endpoint.py",
    "trainer/test_methods.py",
    "trainer/test_gradients.py",
    "test_why_chapter.py",
    "test_methods_page.py",
]
"""Files of tests that take ten seconds or more: begun late, one process would wait for the other at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """With the guards against hanging."""
    config.pluginmanager.register(guards)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; `make test` keeps that order."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def fork_job() -> Callable[[str, Path], Forked]:
    """`workbench.jobs.start` by a fork: a job that finds its libraries loaded, which costs more than a tiny model."""
    import sentence_transformers  # noqa: F401
    import torch

    from filters.__main__ import _work as curate
    from filters.job import embed_folder  # noqa: F401
    from trainer.__main__ import _work as train
    from trainer.experiment import run_experiment  # noqa: F401
    from trainer.protocol import run_as_job

    def start(module: str, folder: Path) -> Forked:
        def work() -> int:
            torch.set_num_threads(1)
            return run_as_job(folder, {"trainer": train, "filters": curate}[module])

        return Forked(work)

    return start


@pytest.fixture
def forked_jobs(monkeypatch, fork_job) -> None:
    """Jobs are forked from this process, for tests of what jobs find and not of how they are started."""
    monkeypatch.setattr("workbench.jobs.start", fork_job)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a randomly initialised Llama of 60k parameters and a byte-level tokenizer with ChatML."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate([*specials, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=specials[1], eos_token=specials[2], pad_token=specials[2]
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=2, max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
