"""What a job is told. An experiment: a model under one setting, arms of data, seeds, and what to evaluate on.

Everything that changes a number is in here, so that two runs with equal plans are the same experiment.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainer.chat import MaskPolicy, Truncation

BASE = "base"
"""The name of the arm that is not trained: the model as it came."""

Combination = Literal["linear", "ties", "dare-linear", "dare-ties"]
"""How the updates of several adapters are combined: see `trainer.merging.combine`."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSetting(_Frozen):
    """The model that every arm starts from, and how it is held."""

    name: str
    revision: str = ""
    """Which weights the name stood for when the experiment was planned; part of what is asked."""
    quantize: Literal["nf4", "none", "auto"] = "auto"
    """`auto` takes NF4 where 16-bit weights would fill more than half of the device's memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward and backward pass; `auto` measures on CPU and takes bfloat16 on GPUs."""


class ModelChoice(_Frozen):
    """`model.json`: what `auto` came to, and which revision of the model it was; a resumed job keeps to it."""

    revision: str
    dtype: Literal["float32", "bfloat16"]
    held: Literal["dense", "nf4-packed", "nf4-rounded"]


class PolicySetting(_Frozen):
    """Which tokens are trained, and what the chat template is given; the same in training and evaluation."""

    turns: Literal["all", "last", "full"] = "all"
    tool_calls: bool = True
    reasoning: bool = True
    special: Literal["flag", "text", "refuse"] = "flag"
    template_args: dict[str, Any] = {}
    date: str | None = None
    template: str | None = None
    """Instead of the model's own chat template: a name of PLAIN_FORMATS, or the text of a template itself."""

    def mask_policy(self) -> MaskPolicy:
        """The policy as the mask algorithm takes it."""
        args = tuple(sorted(self.template_args.items()))
        return MaskPolicy(**self.model_dump(exclude={"template_args", "template"}), template_args=args)


class LikelihoodPlan(_Frozen):
    """How likely a model finds the answers of rows; see `trainer.likelihood`. Lengths are in tokens."""

    kind: Literal["likelihood"] = "likelihood"
    model: ModelSetting
    policy: PolicySetting
    alone: bool
    max_length: int = Field(gt=0)
    micro_tokens: int = Field(gt=0)


Method = Literal["lora", "dora", "full", "peft"]
"""What is trained: low-rank updates (arXiv:2106.09685), these with magnitudes of their own (arXiv:2402.09353), all
weights, or what a PEFT config says."""


class TrainingSetting(_Frozen):
    """One fine-tuning. Practice for LoRA: r=16, alpha=32 on all linear layers, cosine, 3% warm-up, clip 1.0.

    `method` says what is trained; QLoRA is `lora` on a base in 4 bits. `lora_r` and `lora_alpha` are of the methods
    `lora` and `dora`; `peft` is the config of the method of that name, with the keys that PEFT gives it.
    `tokens_per_step` counts trained tokens in an optimizer step; `micro_tokens` bounds rows x longest row of
    one forward pass (memory); `max_length` is in tokens, and `truncate` says what becomes of longer rows.
    """

    preset: str
    learning_rate: float
    tokens_per_step: int = Field(gt=0)
    method: Method = "lora"
    lora_r: int = 16
    lora_alpha: int = 32
    peft: dict[str, Any] = {}
    warmup: float = 0.03
    clip: float = 1.0
    micro_tokens: int = 1024
    max_length: int = 2048
    truncate: Truncation = "drop"
    early_stop: bool = False


SHORT = TrainingSetting(preset="short", learning_rate=1e-3, tokens_per_step=256, micro_tokens=512)
"""For budgets of minutes on a CPU. Few tokens must buy many optimizer steps: at equal tokens, more and smaller
steps at a higher rate showed data differences ten times the seeds' spread, where 15-20 steps at 2e-4 drowned."""

STANDARD = TrainingSetting(preset="standard", learning_rate=2e-4, tokens_per_step=8192, micro_tokens=8192)
"""Published LoRA practice, for budgets that allow hundreds of steps of this size."""

STANDARD_FROM = 400_000
"""Trained tokens a run from which `STANDARD` has some 50 steps, enough for its learning rate to act."""


MIN_STEPS = 8
"""Fewer optimizer steps than this teach nothing worth comparing."""

CPU_MICRO_TOKENS = 1024
"""Tokens of one forward pass on a CPU: more are no faster there (docs/benchmarks.md) and fill the memory."""

MAX_EPOCHS = 3
"""A budget in minutes never buys more passes over the smallest arm than practice uses."""


class Budget(_Frozen):
    """How much each run trains: a number of trained tokens, or what fits into `minutes` for the whole experiment.

    Either is the same for all arms. With `epochs` each arm makes so many passes over its own rows instead, so that a
    bigger one takes more steps.
    """

    trained_tokens: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)


class ArmSetting(_Frozen):
    """How one arm is trained, where an experiment's arms are not all trained alike.

    With `epochs` it makes so many passes over its own rows, whatever the budget of the plan is.
    """

    training: TrainingSetting
    quantize: Literal["nf4", "none"] = "none"
    epochs: int | None = Field(default=None, gt=0)


class MergedArm(_Frozen):
    """An arm that is not trained, but made of the adapters of others: `of` has their names and weights."""

    how: Combination
    of: dict[str, float] = Field(min_length=1)
    density: float = Field(0.5, gt=0, le=1)
    """The share of each update that `ties` (its largest numbers) and `dare` (numbers drawn at random) keep."""


class Run(_Frozen):
    """One arm with one seed. `id` names the folder of its results."""

    id: str
    arm: str
    seed: int


class Evaluation(_Frozen):
    """What every run is measured on. `max_new_tokens` bounds each greedy answer."""

    items: str = "eval.parquet"
    max_new_tokens: int = 96
    general: str | None = None
    """SHA-256 (hex) of `general.txt` in the folder, on which forgetting is measured; without it it is not."""


class ExperimentPlan(_Frozen):
    """`plan.json` of an experiment. `arms` maps the name of each arm that is trained to its Parquet file in the folder.

    `runs` lists a run of a merged arm behind those that it is made of: of each of its arms the one in the same place.
    """

    kind: Literal["experiment"] = "experiment"
    model: ModelSetting
    policy: PolicySetting = PolicySetting()
    training: TrainingSetting | None = None
    """None: `SHORT` or `STANDARD` by the budget."""
    budget: Budget
    arms: dict[str, str]
    settings: dict[str, ArmSetting] = {}
    """Arms that are trained in a way of their own; the others as `training` and `budget` say."""
    merged: dict[str, MergedArm] = {}
    """Arms that are not trained."""
    whole: list[str] = []
    """Arms that are trained on each of their rows at least once, also where the budget ends before that."""
    token_cache: str | None = None
    """A folder, seen from that of the job, for rows tokenised before; without it they are tokenised again."""
    runs: list[Run]
    evaluation: Evaluation = Evaluation()
    base: bool = True
    """Whether the untrained model is evaluated too (not needed where its numbers are known)."""
    base_answers: str | None = None
    """A Parquet file in the folder with what it answered (`item`, `text`), where it is not evaluated again."""
    evaluation_seconds: float | None = None
    """How long that evaluation took when it was made; plans a budget in minutes where it is not made again."""
    stretch: bool = False
    """Whether the fewest steps worth comparing are made where they take longer than the minutes of the budget; else
    the job refuses."""

    @property
    def all_arms(self) -> list[str]:
        """The arms that are compared, in order, those that are trained first."""
        return [*self.arms, *self.merged]

    def parts(self, run: Run) -> list[Run]:
        """The runs that a run is made of, in the order of its arm's parts; none where it is trained."""
        if run.arm not in self.merged:
            return []
        by_arm = {arm: [other for other in self.runs if other.arm == arm] for arm in self.all_arms}
        place = by_arm[run.arm].index(run)
        return [by_arm[arm][place] for arm in self.merged[run.arm].of]


class ResolvedBudget(_Frozen):
    """`budget.json`: what was decided in the first minute of an experiment; a resumed job keeps to it."""

    training: TrainingSetting
    steps: int | None
    """Optimizer steps of each run; None where they are as many as the epochs of its arm make."""
    dtype: Literal["float32", "bfloat16"]
    trained_tokens_per_second: float | None
    seconds_per_run: float | None
    seconds_per_evaluation: float | None
    stretched: bool = False
    """Whether these are the fewest steps worth comparing, and take longer than the minutes of the plan."""
    capped: bool = False
    """Whether the minutes would have bought more passes over the smallest arm than practice uses."""

    @property
    def trained_tokens(self) -> int | None:
        """Trained tokens of each run, up to one row more; None where it depends on the arm."""
        return None if self.steps is None else self.steps * self.training.tokens_per_step


class AnswersPlan(_Frozen):
    """`plan.json` of a job that answers prompts with the base model and with adapters on it.

    `prompts` are conversations that end where an answer is wanted. `adapters` maps an arm's name to the folder of its
    adapter, seen from that of the job; the base answers under `BASE`. `chosen` is how the experiment held the model.
    """

    kind: Literal["answers"] = "answers"
    model: ModelSetting
    chosen: ModelChoice
    policy: PolicySetting
    adapters: dict[str, str]
    prompts: list[list[dict[str, Any]]]
    max_new_tokens: int = Field(gt=0)
