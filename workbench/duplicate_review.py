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
    """What is to become of rows: `drops` fall, `moved` are down for another row than by now, `back` come back.

    `left` are survivors that are not among the rows any more, whose clusters therefore stay as they are.
    """

    drops: list[Duplicate] = field(default_factory=list)
    moved: list[Duplicate] = field(default_factory=list)
    back: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    @property
    def told(self) -> str:
        """What it changed, in a few words without an end; empty where nothing."""
        return self._told("dropped", "took back", "put")

    @property
    def would(self) -> str:
        """What it would change."""
        return self._told("drops", "takes back", "puts")

    def _told(self, dropped: str, took_back: str, put: str) -> str:
        parts = [f"{dropped} {counted(len(self.drops), 'row')}"] * bool(self.drops)
        parts += [f"{took_back} {counted(len(self.back), 'row')}"] * bool(self.back)
        parts += [f"{put} {counted(len(self.moved), 'row')} under another survivor"] * bool(self.moved)
        return ", ".join(parts)


def accept(
    opened: OpenDuplicates, survivors: Sequence[int] | None = None, ids: Sequence[int] | None = None
) -> Decision:
    """Let rows fall as listed: those of the clusters of `survivors` and the rows `ids`; all where neither is given.

    With all, rows come back that fell at another threshold and do not at this one.
    """
    clusters = opened.clusters
    chosen = [fall for fall in clusters.falls(survivors, ids) if fall.id != fall.survivor]
    left = {fall.survivor for fall in chosen if fall.of_standing == "gone"}
    back = {fall.survivor for fall in chosen if fall.of_standing in _DOWN}
    falls = [fall for fall in chosen if fall.standing in _UP and fall.survivor not in left]
    names = clusters.names([fall.survivor for fall in falls])
    drops = {fall.id: _duplicate(opened, fall.id, fall.survivor, fall.similarity, names) for fall in falls}
    if survivors is None and ids is None:
        back.update(clusters.down())
    decision = Decision([*drops.values()], [], sorted(back), sorted(left))
    _free(opened, decision)
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
    In a list of conflicts the others stay as they are. Raises UsageProblem where it left for another reason.
    """
    clusters = opened.clusters
    found = clusters.falls(ids=[id])
    if not found:
        return accept(opened, survivors=[id])
    before = found[0]
    if before.standing == "gone" or before.id == before.survivor:
        raise UsageProblem("this row left for another reason", do="Take it back in Browse first.")
    others = [] if opened.step.reports else clusters.falls(survivors=[before.survivor])
    cluster = [fall for fall in others if fall.id != id]
    middle = Fall(before.survivor, id, before.similarity, before.of_standing, before.standing, None)
    near = clusters.near(id)
    names = clusters.names([id])
    decision = Decision(back=[id] if before.standing in _DOWN else [])
    for fall in (middle, *cluster):
        similarity = before.similarity if fall is middle else 1.0 if opened.own is None else near.get(fall.id, 0.0)
        is_like = similarity >= (opened.summary.threshold or 0)
        duplicate = _duplicate(opened, fall.id, id, similarity, names)
        if fall.standing in _DOWN:
            if not is_like:
                decision.back.append(fall.id)
            elif fall.now != id:
                decision.moved.append(duplicate)
        elif is_like and (fall.standing == "kept" or (fall is middle and fall.standing in _UP)):
            decision.drops.append(duplicate)
    _free(opened, decision)
    return decision


def carry_out(draft: Draft, opened: OpenDuplicates, decision: Decision) -> str:
    """Change the draft by a decision; returns what was done, in sentences."""
    rest = ""
    if decision.left:
        clusters = counted(len(decision.left), "cluster")
        rest = f" {clusters} stayed: the survivor is not among the rows any more. s keeps another row in its place."
    if not (told := decision.told):
        return f"Nothing changed: the rows stand so already.{rest}"
    threshold = opened.summary.threshold
    how = opened.step.name + (f" at {threshold:g}" if threshold is not None else "")
    falls = [*decision.drops, *decision.moved]
    fell_for = opened.clusters.fell_for([fall.id for fall in falls])
    as_came = [fall.id for fall in falls if fell_for.get(fall.id) == fall.of]
    by_hand = [fall for fall in falls if fell_for.get(fall.id) != fall.of]
    draft.settle(f"{told} ({how})", by_hand, decision.back, as_came)
    return f"{told[0].upper()}{told[1:]}. u undoes.{rest}"


def _free(opened: OpenDuplicates, decision: Decision) -> None:
    """See to the rows that are down for one that falls now: they fall for the row that the list has, or come back."""
    falling = {duplicate.id for duplicate in decision.drops}
    settled = {duplicate.id for duplicate in decision.moved}.union(decision.back)
    freed = [id for id in opened.clusters.down_for(sorted(falling)) if id not in settled] if falling else []
    if not freed:
        return
    listed = {fall.id: fall for fall in opened.clusters.falls(ids=freed)}
    names = opened.clusters.names([fall.survivor for fall in listed.values()])
    back = set(decision.back)
    for id in freed:
        fall = listed.get(id)
        if fall and fall.survivor not in falling and (fall.of_standing in _UP or fall.survivor in back):
            decision.moved.append(_duplicate(opened, id, fall.survivor, fall.similarity, names))
        else:
            back.add(id)
    decision.back = sorted(back)


def _duplicate(opened: OpenDuplicates, id: int, of: int, similarity: float, names: dict[int, str]) -> Duplicate:
    if opened.step.reports:
        reason = f"conflicts with {names[of]} (prompts {similarity:.3f})"
    else:
        reason = f"duplicate of {names[of]} ({opened.step.name} {similarity:.3f})"
    return Duplicate(id, of, similarity, reason, opened.step.id)
