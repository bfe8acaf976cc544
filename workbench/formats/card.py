"""The dataset card that goes with every export: a README as the hub reads it, YAML front matter and Markdown.

All text that came from data or people is escaped: it can break neither the YAML nor the Markdown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import workbench
from workbench.formats.licences import licence_fields
from workbench.formats.write import LOSSLESS
from workbench.markdown import code_block, plain, table
from workbench.text import counted

_FORMS = {
    "messages": "messages (JSON): `messages`, and `tools` and `meta` where there are any",
    "alpaca": "Alpaca (JSON): `instruction`, `output`, and `system` and `history` where there are any",
    "sharegpt": "ShareGPT (JSON): `conversations` of `from` and `value`",
    "prompt-completion": "prompt and completion (JSON)",
    "parquet": "Parquet: `messages`, `tools` and `meta` as JSON columns, which `datasets` reads from 4.7 on",
    "datasets": "a folder for `datasets.load_from_disk` (from 4.7 on): `messages`, `tools` and `meta` as JSON columns",
}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
MANUAL = "manual"  # the step of what people dropped themselves
_FILES_SHOWN = 50
_LANGUAGE_SHARE = 0.01  # of the rows whose language was told: less is as likely a misjudgement


@dataclass(frozen=True)
class CardFile:
    """A file that rows of a source were read from, and its SHA-256 (hex)."""

    name: str
    file_hash: str
    rows: int


@dataclass(frozen=True)
class CardSource:
    """A source of the exported rows: how many of them are its, of how many that its files held."""

    name: str
    origin: str
    license: str | None
    file_hash: str
    rows: int
    read: int
    rejected: int
    files: Sequence[CardFile] = ()


@dataclass(frozen=True)
class CardStage:
    """One run on the way to the rows. `steps` as the JSON of `workbench run` has them; `recipe` None for a freeze."""

    version: str
    inputs: Sequence[str]
    rows_in: int
    rows_out: int
    steps: Sequence[Mapping[str, Any]]
    recipe: str | None


@dataclass
class Size:
    """How much one role says."""

    turns: int = 0
    characters: int = 0
    words: int = 0


@dataclass(frozen=True)
class CardTokens:
    """What a model's tokenizer and chat template make of the rows."""

    model: str
    tokens: int
    trained: int
    longest: int
    issues: Mapping[str, int]


@dataclass(frozen=True)
class Card:
    """All that a card says. `data` is the path or pattern of the data beside the card, None where none is needed."""

    name: str
    rows: int
    written: int
    manifest_hash: str
    format: str
    data: str | None
    lost: Sequence[str]
    notes: Sequence[str]
    sources: Sequence[CardSource]
    stages: Sequence[CardStage]
    sizes: Mapping[str, Size]
    untrained: int  # turns with `train: false`
    tokens: CardTokens | None
    languages: Mapping[str, int]
    commands: Sequence[str]
    by_hand: int  # rows that a person corrected or edited


def card_text(card: Card) -> str:
    """The card as the text of a README.md."""
    parts = [
        f"---\n{_front_matter(card)}---",
        f"# {plain(card.name)}",
        _summary(card),
        "## Sources and licences",
        _licences(card.sources),
        _sources(card.sources),
        "## How it was made",
        *(_stages(card) or ["The rows are those of the source, as they were imported."]),
        "## Size",
        _sizes(card),
        _tokens(card),
        "## What this form has lost",
        _losses(card),
        "## How to repeat it",
        _repeat(card),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(card: Card) -> str:
    from huggingface_hub import DatasetCardData

    told = sum(card.languages.values())
    languages = sorted(code for code, rows in card.languages.items() if rows >= _LANGUAGE_SHARE * told)
    configs = [{"config_name": "default", "data_files": [{"split": "train", "path": card.data}]}]
    licence, licence_name = licence_fields(source.license for source in card.sources)
    data = DatasetCardData(
        license=licence,
        license_name=licence_name,
        pretty_name=card.name,
        language=languages or None,
        size_categories=[_size_category(card.written)],
        task_categories=["text-generation"],
        tags=["sft-workbench"],
        configs=configs if card.data else None,
    )
    return str(data.to_yaml()) + "\n"


def _size_category(rows: int) -> str:
    limits = (10**power for power in range(3, 3 + len(_SIZES)))
    return next((name for name, limit in zip(_SIZES, limits, strict=True) if rows < limit), "n>1B")


def _summary(card: Card) -> str:
    lossless = "nothing is lost" if card.format in LOSSLESS else "see below for what it loses"
    facts = [
        ["rows", f"{card.written:,}" + ("" if card.written == card.rows else f" of {card.rows:,}")],
        ["form", f"{_FORMS[card.format]}; {lossless}"],
        ["manifest hash", f"`{card.manifest_hash}`"],
        ["made by", f"SFT workbench {workbench.__version__}"],
    ]
    told = "The manifest hash is the SHA-256 over the rows' content hashes in order: equal hashes are equal data."
    return table(["", ""], facts) + f"\n\n{told}"


def _licences(sources: Iterable[CardSource]) -> str:
    rows: Counter[str | None] = Counter()
    for source in sources:
        rows[source.license] += source.rows
    stated = [(licence, count) for licence, count in rows.items() if licence is not None]
    said = []
    if len(stated) == 1 and None not in rows:
        said.append(f"All rows come under {plain(stated[0][0])}.")
    elif len(rows) > 1:
        parts = [f"{plain(licence)} ({counted(count, 'row')})" for licence, count in stated]
        parts += [f"not stated ({counted(rows[None], 'row')})"] if None in rows else []
        said.append(f"**Mixed licences**: each row keeps that of its source. {'; '.join(parts)}.")
    if None in rows:
        unknown = counted(rows[None], "row")
        said.append(f"**Licence unknown**: for {unknown} nobody stated one. Find out before you pass them on.")
    return " ".join(said)


def _sources(sources: Sequence[CardSource]) -> str:
    header = ["source", "licence", "rows here", "rows read", "rejected", "origin", "SHA-256"]
    listed = table(
        header,
        [
            [
                plain(source.name),
                plain(source.license or "not stated"),
                f"{source.rows:,}",
                f"{source.read:,}",
                f"{source.rejected:,}",
                plain(source.origin),
                f"`{plain(source.file_hash)}`",
            ]
            for source in sources
        ],
        right={2, 3, 4},
    )
    files = [(source, file) for source in sources if len(source.files) > 1 for file in source.files]
    if not files:
        return listed
    rows = [
        [plain(source.name), plain(file.name), f"{file.rows:,}", f"`{plain(file.file_hash)}`"]
        for source, file in files[:_FILES_SHOWN]
    ]
    more = f"\n\nAnd {len(files) - _FILES_SHOWN:,} more files." if len(files) > _FILES_SHOWN else ""
    return f"{listed}\n\n" + table(["source", "file", "rows read", "SHA-256"], rows, right={2}) + more


def _stages(card: Card) -> list[str]:
    parts = []
    for stage in card.stages:
        dropped = stage.rows_in - stage.rows_out
        made = f"**{plain(stage.version)}** from {', '.join(map(plain, stage.inputs))}: "
        parts.append(f"{made}{counted(stage.rows_in, 'row')} in, {dropped:,} dropped, {stage.rows_out:,} left.")
        if stage.steps:
            parts.append(_steps(stage.steps))
        if stage.recipe is not None:
            parts.append(f"The recipe of {plain(stage.version)}:")
            parts.append(code_block(stage.recipe, "yaml"))
    return parts


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for step in steps:
        why = [f"{count:,} {plain(reason)}" for reason, count in step["reasons"].items()]
        why += [f"({plain(note)})" for note in step["notes"]]
        numbers = [f"{count:,}" for count in (step["in"], step["dropped"], step["in"] - step["dropped"])]
        rows.append([plain(step["name"]), *numbers, ", ".join(why)])
    return table(["step", "rows in", "dropped", "left", "reasons"], rows, right={1, 2, 3})


def _sizes(card: Card) -> str:
    sizes = card.sizes.values()
    every = Size(sum(s.turns for s in sizes), sum(s.characters for s in sizes), sum(s.words for s in sizes))
    rows = [
        [plain(role), f"{size.turns:,}", f"{size.characters:,}", f"{size.words:,}"]
        for role, size in [*card.sizes.items(), ("all", every)]
    ]
    told = f"Counted over all {card.rows:,} rows; words are what spaces part."
    return table(["role", "turns", "characters", "words"], rows, right={1, 2, 3}) + f"\n\n{told}"


def _tokens(card: Card) -> str:
    tokens = card.tokens
    if tokens is None:
        return "Tokens were not counted: they depend on the model (`workbench versions export --model NAME`)."
    issues = ", ".join(f"{plain(kind)} {rows:,}" for kind, rows in tokens.issues.items()) or "none"
    return (
        f"With the tokenizer and chat template of {plain(tokens.model)}: {tokens.tokens:,} tokens, {tokens.trained:,} "
        f"of them trained; the longest training example has {tokens.longest:,}. Rows with issues: {issues}."
    )


def _losses(card: Card) -> str:
    said = [f"- {plain(line)}" for line in card.lost] or ["- Nothing."]
    said += [f"- {plain(line)}" for line in card.notes]
    if card.untrained and card.format in LOSSLESS:
        said.append(
            f"- Assistant turns with `train: false`: {card.untrained:,}. SFT workbench does not train them; "
            "TRL does not know the mark and would."
        )
    return "\n".join(said)


def _repeat(card: Card) -> str:
    commands = code_block("\n".join(card.commands), "sh")
    saved = "Save each recipe above as the file named here. " if any(s.recipe is not None for s in card.stages) else ""
    said = f"{saved}The last command must name the manifest hash above.\n\n{commands}"
    dropped = sum(step["dropped"] for stage in card.stages for step in stage.steps if step["name"] == MANUAL)
    by_hand = [(card.by_hand, "corrected or edited"), (dropped, "dropped")]
    told = " and ".join(
        f"{counted(rows, 'row')} {'was' if rows == 1 else 'were'} {what} by hand" for rows, what in by_hand if rows
    )
    return f"{said}\n\n{told}: these commands alone do not do that." if told else said
