"""Runs of an experiment on several devices at once, as far as the bench has to do with it: see `trainer.devices`."""

from __future__ import annotations

import math
from dataclasses import replace

from trainer.devices import AUTO, parse_devices, write_devices
from workbench.errors import UsageProblem
from workbench.experiments import Experiment
from workbench.jobs import is_running


def on_devices(experiment: Experiment, text: str) -> Experiment:
    """The experiment with its runs spread over the devices of a list such as `0,1`; its time is expected anew.

    Raises UsageProblem where the list is none, or the job runs already.
    """
    devices = parse_devices(text)
    if experiment.done:
        return experiment
    if is_running(experiment.folder):
        raise UsageProblem(
            "its job runs already, and not to be spread over devices under way",
            where=f"experiment {experiment.id}",
            do="Leave --devices out to watch it, or stop it first.",
        )
    write_devices(experiment.folder, devices)
    left = len(experiment.plan.runs) - len(experiment.taken)
    if experiment.seconds is None or devices == [AUTO] or not left:
        return experiment
    return replace(experiment, seconds=experiment.seconds * math.ceil(left / len(devices)) / left)
