from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import trl
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

SHARED = Path(__file__).parents[3] / "../shared/tokenizers"
REAL = ["smollm2", "qwen3", "llama3_1"]
FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))

# Family (the start of the template's name, longest match) -> the tokenizer's eos; what the model writes before a
# plain answer; what it writes behind it.
FAMILIES = {
    "cohere": ("<|END_OF_TURN_TOKEN|>", "", "<|END_OF_TURN_TOKEN|>"),
    "cohere2": ("<|END_OF_TURN_TOKEN|>", "", "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"),
    "deepseek": ("<｜end▁of▁sentence｜>", "", "<｜end▁of▁sentence｜>"),
    "diffusion_gemma": ("<eos>", "", "<turn|>"),
    "gemma": ("<eos>", "", "<end_of_turn>"),
    "gemma4": ("<eos>", "", "<turn|>"),
    "glm4moe": ("<|endoftext|>", "\n<think></think>\n", ""),
    "gptoss": ("<|return|>", "<|channel|>final<|message|>", "<|return|>"),
    "idefics3": ("<end_of_utterance>", " ", "<end_of_utterance>"),
    "lfm2": ("<|im_end|>", "", "<|im_end|>"),
    "llama3": ("<|eot_id|>", "", "<|eot_id|>"),
    "llava_next": ("</s>", " ", "</s>"),
    "muse_glimmer": ("<|eot|>", " to=user<|message|>", "<|eot|>"),
    "nemotron": ("<|im_end|>", "", "<|im_end|>"),
    "phi3": ("<|endoftext|>", "", "<|end|>"),
    "qwen2": ("<|im_end|>", "", "<|im_end|>"),
    "qwen3": ("<|im_end|>", "<think>\n\n</think>\n\n", "<|im_end|>"),
    "qwen3_5_nothink": ("<|im_end|>", "", "<|im_end|>"),
    "qwen3_5_think": ("<|im_end|>", "</think>\n\n", "<|im_end|>"),
    "qwen3_6": ("<|im_end|>", "</think>\n\n", "<|im_end|>"),
    "qwen3_8": ("<|im_end|>", "</think>\n\n", "<|im_end|>"),
    "qwen3_instruct_2507": ("<|im_end|>", "", "<|im_end|>"),
    "qwen3_vl": ("<|im_end|>", "", "<|im_end|>"),
    "smollm2": ("<|im_end|>", "", "<|im_end|>"),
    "smolvlm": ("<end_of_utterance>", " ", "<end_of_utterance>"),
}

_TOKEN = re.compile(r"<\|[A-Za-z_0-9]+\|>|<｜[^｜<>]+｜>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_[a-z]+>|</s>|<s>")
# SmolLM2's own splitting tells a run of newlines at the end of a text from one in front of a word; that of the
# families whose prompts end in newlines does not.
_LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_LINES = Sequence([Split(Regex(_LINES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def pytest_generate_tests(metafunc):
    if "template" in metafunc.fixturenames:
        metafunc.parametrize("template", TEMPLATES)


def _load(name: str):
    from trainer.models import DEFAULT_MODEL, load_tokenizer, quiet_libraries

    quiet_libraries()
    if (SHARED / name).is_dir():
        return load_tokenizer(str(SHARED / name))
    if name == "smollm2":
        return load_tokenizer(DEFAULT_MODEL)  # the packaged one, so that most tests run on every machine
    pytest.skip(f"the {name} tokenizer is not on this machine")


_LOADED: dict[str, object] = {}


@pytest.fixture(scope="session")
def load():
    """load(name): one of REAL. It is shared by all tests of a run: copy it before changing it."""

    def cached(name: str):
        if name not in _LOADED:
            _LOADED[name] = _load(name)
        return _LOADED[name]

    return cached


@pytest.fixture(scope="session")
def smollm2(load):
    return load("smollm2")


@pytest.fixture(scope="session")
def qwen3(load):
    return load("qwen3")


@pytest.fixture(scope="session")
def llama(load):
    return load("llama3_1")


@pytest.fixture(params=REAL)
def tokenizer(request, load):
    return load(request.param)


@pytest.fixture(scope="session")
def templates():
    """The names of the templates that TRL's installed package ships, without those made for training."""
    return TEMPLATES


@pytest.fixture(scope="session")
def family():
    """family(template): its family's eos, what the model writes before a plain answer, and behind it."""
    return lambda name: FAMILIES[max((key for key in FAMILIES if name.startswith(key)), key=len)]


@pytest.fixture(scope="session")
def with_template(load, family):
    """with_template(name): a tokenizer dressed as another family: its template, its special tokens.

    It is SmolLM2's unless told otherwise, and shared by all tests of a run: copy it before changing it.
    """
    dressed: dict[tuple[str, str, bool], object] = {}

    def dress(name: str, pre_tokenizer: PreTokenizer | None = SPLIT_LINES, vocabulary: str = "smollm2"):
        key = (name, vocabulary, pre_tokenizer is None)
        if key not in dressed:
            tokenizer = copy.deepcopy(load(vocabulary))
            if pre_tokenizer:
                tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
            tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text()
            eos = family(name)[0]
            found = sorted(set(_TOKEN.findall(tokenizer.chat_template)) | {eos})
            tokenizer.add_special_tokens({"additional_special_tokens": found, "eos_token": eos, "bos_token": "<BOS>"})
            dressed[key] = tokenizer
        return dressed[key]

    return dress
