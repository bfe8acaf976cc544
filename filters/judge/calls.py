"""Many calls to an endpoint at a time: scores of rows as they come, and nothing lost of what was paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from filters.judge.endpoint import Asker, Reply
from filters.judge.material import Request
from filters.judge.question import question
from filters.judge.reply import reason
from filters.judge.rubric import Rubric
from filters.judge.spending import BudgetReached
from filters.step import Row, Score
from trainer.errors import ModelUnavailable, Problem, Stopped

_NEVER_USABLE = 20  # first answers of which none has the form asked for: then no later one will, and each costs
_WORTH_STOPPING = 100  # rows; fewer may well be those alone that an earlier run could not get a rating for
_IN_TROUBLE = 10  # rows in a row for which the server was busy or silent, each several times over
_SERVER = ("busy", "timeout")
_MODEL = ("malformed", "cut-off")

Item = TypeVar("Item")
Found = TypeVar("Found")


def endpoint_scores(
    asker: Asker, rubric: Rubric, rows: Sequence[Row], wants_stop: Callable[[], bool], *, compares: bool = False
) -> Iterator[Mapping[str, Score]]:
    """Scores by content hash as the answers come; raises as `ask_all`, and ModelUnavailable where asking has no sense.

    The value is the rating, or with `compares` what the first answer of a comparison got (0, 0.5 or 1); the detail is
    its reason. A row without a usable answer is an error whose label says why: malformed, cut-off, refused, rejected,
    busy or timeout.
    """
    asked = question(rubric, compares=compares)
    found = {row.content_hash: asked.request(row) for row in rows}
    if settled := {key: score for key, score in found.items() if isinstance(score, Score)}:
        yield settled
    requests = {key: request for key, request in found.items() if isinstance(request, Request)}

    def ask(key: str) -> Reply | None:
        return asker.ask(requests[key].messages, lambda text: asked.read(text) is not None, asked.form)

    failures: Counter[str] = Counter()
    usable = in_a_row = 0
    trouble: ModelUnavailable | None = None
    for key, reply in ask_all(asker, requests, ask, wants_stop):
        value = asked.read(reply.text)
        if reply.failure is None and value is not None:
            usable, in_a_row = usable + 1, 0
            yield {key: requests[key].told(Score(float(value), detail=reason(reply.text)))}
            continue
        label = reply.failure or "malformed"
        failures[label] += 1
        in_a_row = in_a_row + 1 if label in _SERVER else 0
        yield {key: Score(state="error", label=label, detail=reply.detail)}
        useless = not usable and sum(failures[said] for said in _MODEL) >= _NEVER_USABLE
        useless = useless and asker.endpoint.give_up and len(requests) >= _WORTH_STOPPING
        if trouble is None and (useless or in_a_row >= _IN_TROUBLE):
            trouble = _trouble(asker, failures, reply)
            asker.stopping.set()
    if trouble:
        raise trouble


def ask_all(
    asker: Asker,
    items: Iterable[Item],
    work: Callable[[Item], Found | None],
    wants_stop: Callable[[], bool],
) -> Iterator[tuple[Item, Found]]:
    """`work` on each of `items` in threads, as results come. None from `work` means that it was called off.

    Raises, after all that was under way has come in: Stopped when `wants_stop` says so, BudgetReached, and what
    `work` raised.
    """
    waiting = iter(items)
    under_way: dict[Future[Found | None], Item] = {}
    problem: Problem | None = None
    limit = asker.endpoint.concurrency
    with ThreadPoolExecutor(limit) as pool:
        try:
            while True:
                if wants_stop():
                    asker.stopping.set()
                while len(under_way) < limit and not asker.stopping.is_set():
                    try:
                        item = next(waiting)
                    except StopIteration:
                        break
                    under_way[pool.submit(work, item)] = item
                if not under_way:
                    break
                for future in wait(under_way, timeout=0.2, return_when=FIRST_COMPLETED).done:
                    item = under_way.pop(future)
                    try:
                        found = future.result()
                    except Problem as error:
                        problem = problem or error
                        asker.stopping.set()
                        continue
                    if found is None:
                        asker.stopping.set()
                    else:
                        yield item, found
        finally:
            asker.stopping.set()
    if problem:
        raise problem
    if wants_stop():
        raise Stopped("Stopped")
    if asker.spending.exhausted:
        raise BudgetReached(
            f"The budget of {asker.spending.exhausted} is used up",
            do="What is judged is kept. The same command with a larger budget goes on where it was.",
        )


def _trouble(asker: Asker, failures: Counter[str], last: Reply) -> ModelUnavailable:
    told = ", ".join(f"{count} {label}" for label, count in failures.most_common())
    do = {
        "cut-off": "Allow longer answers (max_reply_tokens), or have all rows asked about (give_up: false).",
        "malformed": "Use a model that follows instructions, or have all rows asked about (give_up: false).",
    }.get(failures.most_common(1)[0][0], "Wait until the server is well; the same command goes on where it was.")
    return ModelUnavailable(
        f"the judge gives no answers that can be used ({told}; the last one: {last.detail})",
        where=asker.endpoint.base_url,
        do=do,
    )
