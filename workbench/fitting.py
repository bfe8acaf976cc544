"""Whether a training fits into the memory of this machine, told before it is begun, and what would make it fit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from trainer.footprint import Shape, footprint, saved_shape
from trainer.models import local_folder
from trainer.plan import CPU_MICRO_TOKENS, ExperimentPlan, Run, TrainingSetting
from workbench.sweep import usual_setting


@dataclass(frozen=True)
class Need:
    """What the arms that are called `labels` are estimated to need at most, in bytes, and what would need less."""

    labels: tuple[str, ...]
    bytes: int
    instead: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Fit:
    """The memory that is free, on the GPU where there is one, and what an experiment needs of it, the most first."""

    free: int
    on_gpu: bool
    needs: tuple[Need, ...]

    def sentences(self) -> list[str]:
        """What is needed and free; a warning where that is too little, with what would make it fit."""
        most = self.needs[0]
        where = "on the GPU" if self.on_gpu else "of memory"
        whose = f" ({'; '.join(most.labels)})" if len(self.needs) > 1 else ""
        told = [f"about {most.bytes / 1e9:.1f} GB {where} at most{whose}, where {self.free / 1e9:.1f} GB are free"]
        for need in self.needs:
            if need.bytes <= self.free:
                continue
            fitting = [f"{what} (about {size / 1e9:.1f} GB)" for what, size in need.instead if size <= self.free]
            whose = f" for {'; '.join(need.labels)}" if len(self.needs) > 1 else ""
            what = f"it would fit with {' or '.join(fitting)}" if fitting else "only a smaller model would fit"
            told.append(f"warning: {need.bytes / 1e9:.1f} GB{whose} will hardly fit into the memory: {what}")
        return told


def fit(plan: ExperimentPlan, labels: dict[str, str]) -> Fit | None:
    """What an experiment needs; None where the model's weights are not on this machine yet, or of an unknown form.

    Forward passes are taken to be full: of one row that is longer than them, more is needed.
    """
    folder = local_folder(plan.model.name)
    shape = saved_shape(folder) if folder else None
    if shape is None:
        return None
    gpu = _free_on_gpu() if plan.model.device != "cpu" else None
    free = psutil.virtual_memory().available if gpu is None else gpu
    usual = usual_setting(plan.training, plan.budget.trained_tokens)
    wanted: dict[tuple[int, tuple[tuple[str, int], ...]], list[str]] = {}
    for arm in plan.arms:
        own = plan.settings.get(arm)
        quantize = own.quantize if own else plan.model.quantize
        need = _needed(shape, own.training if own else usual, quantize, gpu, free, swept=own is not None)
        wanted.setdefault(need, []).append(labels.get(arm, arm))
    needs = [Need(tuple(dict.fromkeys(names)), size, instead) for (size, instead), names in wanted.items()]
    return Fit(free, gpu is not None, tuple(sorted(needs, key=lambda need: -need.bytes)))


def bytes_of_models(plan: ExperimentPlan, runs: Sequence[Run]) -> int:
    """What `runs` that train all weights save, and one of them needs for its checkpoint, which is three times as much.

    0 where there are none, or the model's size is not known.
    """
    full = [run for run in runs if (own := plan.settings.get(run.arm)) and own.training.method == "full"]
    folder = local_folder(plan.model.name) if full else None
    shape = saved_shape(folder) if folder else None
    return 4 * shape.parameters * (len(full) + 3) if shape else 0


def _needed(
    shape: Shape, setting: TrainingSetting, quantize: str, gpu: int | None, free: int, *, swept: bool
) -> tuple[int, tuple[tuple[str, int], ...]]:
    """The bytes of a setting, and of what could be done in its place."""
    on_gpu = gpu is not None
    tokens = setting.micro_tokens if on_gpu else min(setting.micro_tokens, CPU_MICRO_TOKENS)

    def packs(quantize: str, *, bits16: bool) -> bool:
        # On a CPU `auto` alone packs the weights: 4 bits that were asked for are held rounded, which trains faster.
        too_large = shape.parameters * (2 if bits16 else 4) > free / 2
        return (quantize == "auto" and too_large) or (quantize == "nf4" and on_gpu)

    def total(setting: TrainingSetting, quantize: str) -> int:
        # Which arithmetic a CPU is faster in, the job finds out.
        return max(
            footprint(
                shape,
                setting,
                held="nf4-packed" if packs(quantize, bits16=bits16) else "dense",
                bits16=bits16,
                tokens=tokens,
                trained=tokens,
                on_gpu=on_gpu,
            ).total
            for bits16 in ((True,) if on_gpu else (False, True))
        )

    lora = setting.model_copy(update={"method": "lora"})
    instead = []
    if setting.method in ("full", "dora"):
        instead.append(("--method lora", total(lora, quantize)))
    if on_gpu and not packs(quantize, bits16=True):
        in_4_bits = "--method qlora" if swept else "--quantize nf4"
        instead.append((f"a base in 4 bits, {in_4_bits}", total(lora, "nf4")))
    elif not on_gpu and not swept:
        instead.append(("a base in 4 bits, --quantize auto", total(lora, "auto")))
    return total(setting, quantize), tuple(instead)


def _free_on_gpu() -> int | None:
    """Bytes free on the first GPU; None without one, or where its driver does not say."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10)
    first = (told.stdout.splitlines() or [""])[0].strip()
    return int(first) * 1024 * 1024 if told.returncode == 0 and first.isdigit() else None
