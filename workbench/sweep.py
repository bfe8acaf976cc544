"""A sweep: the same versions trained by several methods and settings, as the arms of one experiment.

The first setting is the baseline. Of one version, each other setting is compared with it; of several, each version is
compared with the first one under every setting, which tells whether what the data does is an effect of the setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.plan import SHORT, STANDARD, STANDARD_FROM, ArmSetting, Budget, Method, TrainingSetting
from workbench.errors import UsageProblem
from workbench.text import counted

MOST_ARMS = 24
"""More arms than this are hardly meant: with 3 seeds, 72 runs."""

METHODS: dict[str, tuple[Method, bool]] = {
    "lora": ("lora", False),
    "qlora": ("lora", True),
    "dora": ("dora", False),
    "qdora": ("dora", True),
    "full": ("full", False),
}
"""The methods that have a name here: what is trained, and whether the base is held in 4 bits."""

_LOW_RANK = ("lora", "dora")
"""What has a rank and an alpha."""

_FULL_RATE = 0.1
"""All weights are trained at a tenth of the learning rate of adapters (practice: 2e-5 where LoRA takes 2e-4)."""


@dataclass(frozen=True)
class Sweep:
    """What is swept over: every combination is a setting. An axis that is empty stays as the preset has it.

    `alphas` not given are twice the rank, so that the scale of the updates stays. `peft` holds the config of each
    method that is not in `METHODS`, by the name it is called.
    """

    methods: tuple[str, ...] = ("lora",)
    ranks: tuple[int, ...] = ()
    alphas: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    peft: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settings(self, usual: TrainingSetting) -> dict[str, ArmSetting]:
        """Every combination, by what it is called. `usual` is what no axis changes. Raises UsageProblem."""
        found: dict[str, ArmSetting] = {}
        for name in self.methods:
            if name not in METHODS and name not in self.peft:
                raise UsageProblem(
                    f"there is no method {name!r}",
                    do=f"There are {', '.join(METHODS)}; --peft-config brings any other that PEFT has.",
                )
            method, nf4 = METHODS.get(name, ("peft", False))
            low_rank = method in _LOW_RANK
            axes = itertools.product(
                self.ranks or (None,) if low_rank else (None,),
                self.alphas or (None,) if low_rank else (None,),
                self.learning_rates or (None,),
                self.epochs or (None,),
            )
            for rank, alpha, rate, epochs in axes:
                changed: dict[str, Any] = {"method": method, "peft": self.peft.get(name, {})}
                if rank is not None:
                    changed |= {"lora_r": rank, "lora_alpha": 2 * rank}
                if alpha is not None:
                    changed["lora_alpha"] = alpha
                usual_rate = usual.learning_rate * (_FULL_RATE if method == "full" else 1)
                changed["learning_rate"] = usual_rate if rate is None else rate
                label = self._label(name, rank, alpha, rate, epochs)
                found[label] = ArmSetting(
                    training=usual.model_copy(update=changed), quantize="nf4" if nf4 else "none", epochs=epochs
                )
        return found

    def _label(self, name: str, rank: int | None, alpha: int | None, rate: float | None, epochs: int | None) -> str:
        """The method with what tells it from others of the sweep."""
        parts = [name]
        if rank is not None and len(self.ranks) > 1:
            parts.append(f"r={rank}")
        if alpha is not None and len(self.alphas) > 1:
            parts.append(f"alpha={alpha}")
        if rate is not None and len(self.learning_rates) > 1:
            parts.append(f"lr={rate:g}")
        if epochs is not None and len(self.epochs) > 1:
            parts.append(counted(epochs, "epoch"))
        return " ".join(parts)

    def budget(self, trained_tokens: int | None) -> Budget:
        """The budget of the first setting. Raises UsageProblem where none or two are given."""
        if self.epochs and trained_tokens:
            raise UsageProblem(
                "--epochs trains each version on all of its rows, and --trained-tokens on so many tokens",
                do="Give one of them.",
            )
        if not self.epochs and not trained_tokens:
            raise UsageProblem(
                "a sweep needs a budget for each run: what minutes buy differs between methods",
                do="Give --trained-tokens, or --epochs.",
            )
        return Budget(trained_tokens=trained_tokens, epochs=self.epochs[0] if self.epochs else None)

    def arms(self, versions: Sequence[str], usual: TrainingSetting) -> list[tuple[str, str, ArmSetting]]:
        """(version, what the setting is called, the setting) of every arm, the baseline first.

        Raises UsageProblem where these are too few or too many.
        """
        if len(set(versions)) < len(versions):
            raise UsageProblem(
                "a sweep takes each version once", do="`workbench compare V V` shows how far training alone moves it."
            )
        settings = self.settings(usual)
        if not any(one.training.method in _LOW_RANK for one in settings.values()) and (self.ranks or self.alphas):
            raise UsageProblem(
                f"--rank and --alpha are of LoRA and DoRA, and mean nothing to {', '.join(self.methods)}",
                do="Leave them out, or sweep over --learning-rate or --epochs.",
            )
        found = [(version, label, setting) for label, setting in settings.items() for version in versions]
        if len(settings) < 2:
            raise UsageProblem(
                "one setting is no sweep",
                do="Name several, separated by commas: --method lora,full or --learning-rate 1e-4,1e-3.",
            )
        if len(found) > MOST_ARMS:
            raise UsageProblem(
                f"{len(settings)} settings of {counted(len(versions), 'version')} are {len(found)} arms, where "
                f"{MOST_ARMS} are allowed",
                do="Sweep over fewer values, or in two sweeps: runs that are there are not made again.",
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return asdict(self)

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Sweep:
        """A sweep as it was noted."""
        axes = ("methods", "ranks", "alphas", "learning_rates", "epochs")
        return Sweep(**{axis: tuple(told[axis]) for axis in axes}, peft=told["peft"])


def usual_setting(training: TrainingSetting | None, trained_tokens: int | None) -> TrainingSetting:
    """What no axis of a sweep changes: as it was given, else by the budget."""
    return training or (STANDARD if (trained_tokens or 0) >= STANDARD_FROM else SHORT)
