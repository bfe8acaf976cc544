"""What people decide about duplicates: which rows fall, which come back, who survives.

A decision is made from a list as it stands, and changes the draft of the version as one action, which undo takes back.
Whatever is decided, a row that is down as a duplicate points at one that is up: where one falls, the rows that had
fallen for it alone come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.draft import Draft, Duplicate
from workbench.duplicates import OpenDuplicates
from workbench.errors import UsageProblem
from workbench.store.duplicates import Fall
from workbench.text import counted

_UP = ("kept", "back")
_DOWN = ("fell", "dropped")


@dataclass
class Decision:
    """What is to become of rows: `drops` fall, `moved` fall for another row than by now, `back` come back.

    `as_came` fall as they did in the recipe. `left` are survivors that are not among the rows any more, whose clusters
    therefore stay as they are.
    """

    drops: list[Duplicate] = field(default_factory=list)
    moved: list[Duplicate] = field(default_factory=list)
    as_came: list[int] = field(default_factory=list)
    back: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    @property
    def falling(self) -> int:
        """How many rows that are up fall."""
        return len(self.drops) + len(self.as_came)

    @property
    def told(self) -> str:
        """What it changes, in a few words without an end; empty where it changes nothing."""
        parts = [f"dropped {counted(self.falling, 'row')}"] * bool(self.falling)
        parts += [f"took back {counted(len(self.back), 'row')}"] * bool(self.back)
        parts += [f"{counted(len(self.moved), 'row')} now down for another"] * bool(self.moved)
        return ", ".join(parts)


def accept(
    opened: OpenDuplicates, survivors: Sequence[int] | None = None, ids: Sequence[int] | None = None
) -> Decision:
    """Let rows fall as listed: those of the clusters of `survivors` and the rows `ids`; all where neither is given.

    With all, rows come back that fell at another threshold and do not at this one.
    """
    clusters = opened.clusters
    everything = survivors is None and ids is None
    chosen = clusters.falls(survivors, ids)
    decision = Decision()
    decision.left = sorted({fall.survivor for fall in chosen if fall.of_standing == "gone"})
    chosen = [fall for fall in chosen if fall.of_standing != "gone"]
    fell_for = clusters.fell_for([fall.id for fall in chosen])
    names = clusters.names([fall.survivor for fall in chosen])
    back = {fall.survivor for fall in chosen if fall.of_standing in _DOWN}
    for fall in chosen:
        if (
            fall.standing == "gone"
            or fall.id == fall.survivor
            or (fall.standing in _DOWN and fall.now == fall.survivor)
        ):
            continue
        duplicate = _duplicate(opened, fall.id, fall.survivor, fall.similarity, names)
        if fall.standing in _DOWN:
            decision.moved.append(duplicate)
        elif fell_for.get(fall.id) == fall.survivor:
            decision.as_came.append(fall.id)
        else:
            decision.drops.append(duplicate)
    if everything:
        back.update(clusters.down())
    decision.back = sorted(back)
    _free(opened, decision, {fall.id for fall in chosen})
    return decision


def reject(
    opened: OpenDuplicates, survivors: Sequence[int] | None = None, ids: Sequence[int] | None = None
) -> Decision:
    """Take rows back that are down as duplicates: chosen as in `accept`. With all, every row of this step."""
    chosen = opened.clusters.falls(survivors, ids)
    back = {fall.id for fall in chosen if fall.standing in _DOWN}
    if ids is None or survivors:  # whole clusters: with a survivor that gave way to another
        whole = None if survivors is None else set(survivors)
        back |= {f.survivor for f in chosen if f.of_standing in _DOWN and (whole is None or f.survivor in whole)}
    if survivors is None and ids is None:
        back.update(opened.clusters.down())
    return Decision(back=sorted(back))


def keep_instead(opened: OpenDuplicates, id: int) -> Decision:
    """Let row `id` survive in the place of the one that it falls for.

    What is like it at the threshold falls for it, as far as that is known; the other rows of the cluster come back.
    Raises UsageProblem where it is in no cluster, or left for another reason.
    """
    clusters = opened.clusters
    found = clusters.falls(ids=[id])
    if not found:
        return accept(opened, survivors=[id])
    (before,) = found
    if before.standing == "gone" or before.id == before.survivor:
        raise UsageProblem("this row left for another reason", do="Take it back in Browse first.")
    cluster = [fall for fall in clusters.falls(survivors=[before.survivor]) if fall.id != id]
    middle = Fall(before.survivor, id, before.similarity, before.of_standing, before.standing, None)
    near = clusters.near(id)
    names = clusters.names([id])
    decision = Decision(back=[id] if before.standing in _DOWN else [])
    for fall in (middle, *cluster):
        if fall.standing == "gone":
            continue
        similarity = before.similarity if fall is middle else 1.0 if opened.own is None else near.get(fall.id, 0.0)
        if similarity < (opened.summary.threshold or 0):
            decision.back += [fall.id] if fall.standing in _DOWN else []
            continue
        duplicate = _duplicate(opened, fall.id, id, similarity, names)
        if fall.standing == "kept" or (fall is middle and fall.standing in _UP):
            decision.drops.append(duplicate)
        elif fall.standing in _DOWN and (fall is middle or fall.now != id):
            decision.moved.append(duplicate)
    _free(opened, decision, {before.survivor, *(fall.id for fall in cluster)})
    return decision


def carry_out(draft: Draft, opened: OpenDuplicates, decision: Decision) -> str:
    """Change the draft by a decision; returns what was done, in sentences."""
    rest = ""
    if decision.left:
        clusters = counted(len(decision.left), "cluster")
        rest = f" {clusters} stayed: the survivor is not among the rows any more."
    if not (told := decision.told):
        return f"Nothing changed: the rows stand so already.{rest}"
    threshold = opened.summary.threshold
    how = opened.step.name + (f" at {threshold:g}" if threshold is not None else "")
    draft.settle(f"{told} ({how})", [*decision.drops, *decision.moved], decision.back, decision.as_came)
    return f"{told[0].upper()}{told[1:]}. u undoes.{rest}"


def _free(opened: OpenDuplicates, decision: Decision, settled: set[int]) -> None:
    """See to the rows that are down for one that falls now: they fall for the row that the list has, or come back."""
    falling = {duplicate.id for duplicate in decision.drops}.union(decision.as_came)
    freed = [id for id in opened.clusters.down_for(sorted(falling)) if id not in settled] if falling else []
    if not freed:
        return
    listed = {fall.id: fall for fall in opened.clusters.falls(ids=freed)}
    names = opened.clusters.names([fall.survivor for fall in listed.values()])
    back = set(decision.back)
    for id in freed:
        fall = listed.get(id)
        if fall and fall.of_standing in _UP and fall.survivor not in falling:
            decision.moved.append(_duplicate(opened, id, fall.survivor, fall.similarity, names))
        else:
            back.add(id)
    decision.back = sorted(back)


def _duplicate(opened: OpenDuplicates, id: int, of: int, similarity: float, names: dict[int, str]) -> Duplicate:
    return Duplicate(id, of, similarity, f"duplicate of {names[of]} ({opened.step.name} {similarity:.3f})")
