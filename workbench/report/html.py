"""A report as one HTML file that needs no network: styles and drawings are inside, and there is no script.

Every text that is put in goes through `safe_text` and is escaped by the template engine, whatever it holds.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from workbench.report import plots
from workbench.report.contents import Contents, arm_name
from workbench.report.diagnosed import ABOUT as ABOUT_DIAGNOSIS
from workbench.report.diagnosed import heading
from workbench.report.failures import ids_told, notes, readings, verdict_of
from workbench.report.pairs import arms as arms_called
from workbench.report.pairs import comparisons
from workbench.report.slices import ABOUT, LISTED, other_slices, slice_tables
from workbench.report.sweep import ABOUT as ABOUT_SETTINGS
from workbench.report.sweep import HEADER, data_sentences, settings_table
from workbench.report.verdict import (
    RANKED,
    SMALLEST,
    checks,
    items_title,
    left_out,
    metric_name,
    number,
    ranking,
    recited,
    sentences,
    view_title,
)
from workbench.text import counted, safe_text

_HERE = Path(__file__).parent
_ENGINE = jinja2.Environment(
    autoescape=True,
    loader=jinja2.FileSystemLoader(_HERE),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: _shown(value),
)


def _shown(value: object) -> object:
    """What a place in the template shows: text as visible characters, markup that is ours as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return safe_text(value, newlines=True)
    return value


def html_report(contents: Contents) -> str:
    """The whole page."""
    result = dict(contents.result)
    views = [
        {
            "result": view,
            "title": view_title(view, len(contents.views)),
            "intervals": Markup(plots.intervals(view["metrics"], contents.margins) if view["verdict"] else ""),
            "sentences": sentences(dict(view)),
            "slices": slice_tables(dict(view)),
            "other_slices": other_slices(dict(view)),
        }
        for view in contents.views
    ]
    arms = dict.fromkeys(run.arm for run in contents.runs)
    return _ENGINE.get_template("report.html.j2").render(
        c=contents,
        result=result,
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        curves=Markup(plots.curves(contents.runs)),
        keys=[(Markup(plots.key(arm)), arm_name(arm)) for arm in arms],
        views=views,
        compared=comparisons(result),
        ranking=ranking(result) if len(arms_called(result)) > 2 and not result.get("sweep") else [],
        ranked=RANKED,
        settings=settings_table(result),
        settings_header=HEADER,
        about_settings=ABOUT_SETTINGS,
        data_sentences=data_sentences(result),
        items_title=items_title(contents.views),
        arm_name=arm_name,
        metric_name=metric_name,
        number=number,
        counted=counted,
        smallest=SMALLEST,
        about_slices=ABOUT,
        listed=LISTED,
        about_diagnosis=ABOUT_DIAGNOSIS,
        heading=heading,
        ids_told=ids_told,
        verdict_of=verdict_of,
        readings=readings,
        diagnosis_notes=notes,
        run_notes=[checks(result), left_out(result), *recited(result)],
    )
