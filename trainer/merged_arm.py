"""An arm that is not trained: an adapter made, for each seed, of the adapters that other arms trained by it.

What is combined are the updates of the weights, as in `trainer.merging`. The sum of several is an adapter again, whose
rank is the sum of theirs, and PEFT makes it exactly. What TIES and DARE leave has no such rank: the nearest update of
that rank takes its place (truncated singular value decomposition, as PEFT's `ties_svd` and `dare_linear_svd`), and how
much of it that keeps is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import processes
from trainer.adapters import with_adapters
from trainer.base import Base
from trainer.errors import BadInput
from trainer.merging import check_adapter, combine, wear_all
from trainer.plan import MergedArm

if TYPE_CHECKING:
    import torch

_MADE = "default"
"""PEFT saves the adapter of this name as training does, not in a folder of its own."""
_OVERSAMPLED = 8


@contextmanager
def merged_adapter(
    base: Base, merged: MergedArm, folders: Sequence[Path], seed: int, out: Path
) -> Iterator[tuple[Any, float]]:
    """The base with the adapters of `folders` combined, saved in PEFT form in `out`; removed afterwards.

    `folders` are in the order of the parts of `merged`; `seed` is of what `dare` draws. Yields the model and the share
    of the combined update (squared Frobenius norm over all layers) that the adapter's rank keeps. Raises BadInput for
    adapters that are more than updates of weights.
    """
    import torch

    for folder in folders:
        check_adapter(base, folder)
    names = [f"part-{place}" for place in range(len(folders))]
    weights = dict(zip(names, merged.of.values(), strict=True))
    with with_adapters(base, dict(zip(names, folders, strict=True)))(names[0]) as model:
        try:
            model.peft_config[names[0]].use_rslora = False  # the sum's own scaling is 1; the parts keep theirs
            try:
                model.add_weighted_adapter(names, list(weights.values()), _MADE, combination_type="cat")
            except (ValueError, TypeError) as error:
                raise BadInput(f"these adapters cannot be combined ({error})", where=str(folders[0])) from error
            kept = 1.0
            if merged.how != "linear":
                wear_all(model, weights)
                torch.manual_seed(seed)
                with torch.no_grad():
                    kept = _refill(model, names, merged, torch.Generator().manual_seed(seed))
            model.set_adapter(_MADE, inference_mode=True)
            if processes.is_first():
                model.save_pretrained(str(out), selected_adapters=[_MADE])
            yield model, kept
        finally:
            model.unload()


def _refill(model: Any, names: Sequence[str], merged: MergedArm, generator: torch.Generator) -> float:
    """Put the nearest update of its rank to what `merged` makes into every layer's factors; the share that it keeps."""
    from peft.tuners.lora import LoraLayer

    whole, kept = 0.0, 0.0
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and _MADE in layer.lora_A:
            updates = [layer.get_delta_weight(name).float() for name in names if name in layer.lora_A]
            update = combine(updates, merged.how, merged.density, generator)
            left, right = _nearest(update, layer.r[_MADE])
            for factor, found in ((layer.lora_B[_MADE].weight, left), (layer.lora_A[_MADE].weight, right)):
                factor.zero_()
                factor[: found.shape[0], : found.shape[1]] = found
            whole += float(update.square().sum())
            kept += float((left @ right).square().sum())
    return kept / whole if whole else 1.0


def _nearest(update: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (rows x rank, rank x columns) of the matrix of at most `rank` that is nearest to `update`.

    Randomised (arXiv:0909.4061), by torch's generator: a whole decomposition takes minutes a layer on models of 7B.
    """
    import torch

    left, sizes, right = torch.svd_lowrank(update, q=min(rank + _OVERSAMPLED, *update.shape), niter=4)
    return left[:, :rank] * sizes[:rank], right[:, :rank].T
