"""From conversations to numbers: token masks, QLoRA training, paired evaluation and statistics.

Works alone, without `workbench` or `filters`: its input is a run folder (see `trainer.protocol`).
"""
