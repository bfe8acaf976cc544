from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")

from trainer.base import load_base  # noqa: E402
from trainer.finetune import finetune  # noqa: E402
from trainer.losses import padded, scored_positions, token_losses  # noqa: E402
from trainer.quantize import bitsandbytes  # noqa: E402


def has_avx512_bf16() -> bool:
    functional = bitsandbytes().functional
    return bool(functional.has_avx512bf16())


@pytest.fixture
def nf4(tiny_setting):
    return tiny_setting.model_copy(update={"quantize": "nf4"})


def test_rounded_weights_give_the_logits_of_packed_four_bit_weights(nf4, rows):
    batch = padded([(row.input_ids, row.labels) for row in rows[:4]], 2)
    rounded, packed = load_base(nf4), load_base(nf4, packed=True)
    assert (rounded.held, packed.held) == ("nf4-rounded", "nf4-packed")
    with torch.inference_mode():
        ours = rounded.model(input_ids=batch["input_ids"]).logits
        theirs = packed.model(input_ids=batch["input_ids"]).logits
        plain = load_base(nf4.model_copy(update={"quantize": "none"})).model(input_ids=batch["input_ids"]).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert (ours - plain).abs().max() > 1e-3, "quantising changed something at all"


def test_packed_weights_can_still_be_trained_after_a_forward_in_eval_mode(nf4, rows, setting, tmp_path):
    if not has_avx512_bf16():
        pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes does not repack")
    base = load_base(nf4, packed=True)
    with torch.inference_mode(), scored_positions(base.model) as select:
        token_losses(base.model, select, padded([(rows[0].input_ids, rows[0].labels)], 2))
    result = finetune(base, rows, setting, seed=0, steps=8, out=tmp_path)
    assert result.sanity.gradient_reach == 1.0
    assert result.losses[-1] < result.losses[0] - 0.15


def test_importing_bitsandbytes_neither_asks_for_a_hub_kernel_nor_warns_nor_loads_the_compiler(tmp_path):
    (tmp_path / "kernels.py").write_text(
        "def get_kernel(*a, **k):\n    print('ASKED THE HUB')\n    raise RuntimeError('no network')\n"
    )
    code = """
        import sys
        from trainer.quantize import bitsandbytes
        module = bitsandbytes()
        assert module.__name__ == "bitsandbytes"
        assert "torch._inductor" not in sys.modules, "torch's compiler was loaded, for nothing"
        import torch._dynamo  # but is there for who wants it
        import peft
        import kernels  # the package itself stays importable for others
        print("fine", kernels.__file__ is not None)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False,
        env={**__import__("os").environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "fine True\n", done.stderr
    assert "kernel" not in done.stderr.lower()
