"""Asking an OpenAI-compatible endpoint, many calls at a time: paced, retried, counted, and never believed too much."""

from __future__ import annotations

import email.utils
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from filters.judge.material import reminder
from filters.judge.plan import Endpoint, origin
from filters.judge.spending import Reservation, Spending, reserve
from filters.rules.refusal import refusal
from trainer.conversation import Message
from trainer.errors import ModelUnavailable

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

_TRIES = 5  # sends of one question while the server is busy, slow or broken
_ASKS = 3  # questions until an answer has the form that was asked for
_BACKOFF = 0.5  # seconds before the second try, doubled for each further one
_LONGEST_WAIT = 600.0  # seconds; a server that wants a longer pause counts as busy
_SAID = 300  # characters of a server's message that are kept
_NEEDED = frozenset(  # headers that a call cannot do without
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
)
_UNSENT = frozenset(  # the client's reasons for which no question can have reached the server
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError"}
)
_HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON can carry it, a file or a further question cannot


@dataclass(frozen=True)
class Reply:
    """A judge's answer, or why there is none: `failure` is a short stable word, `detail` is for people."""

    text: str = ""
    failure: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class _Again:
    """A call that failed and may be sent again, after `pause` seconds in which nobody may call."""

    failure: Reply
    pause: float = 0.0


class Asker:
    """Asks one endpoint. Safe to use from many threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ModelUnavailable where the client library is missing."""
        self.endpoint = endpoint
        self._key = os.environ.get(endpoint.key_variable, "").strip() if endpoint.key_variable else ""
        self._client = _client(endpoint, self._key)
        self._pace = _Pace(endpoint.calls_per_minute)
        self._limit_name = "max_tokens"
        self.spending = Spending(endpoint.budget)
        self.stopping = threading.Event()
        """Set to have calls under way end, and no further one begin."""

    def ask(self, messages: list[Message], accepts: Callable[[str], bool], form: str) -> Reply | None:
        """The first answer that `accepts` its form, which `form` describes to the judge; else why there is none.

        None where work must stop before there is an answer. Raises ModelUnavailable where asking on has no sense.
        """
        asked, last = messages, ""
        for _ in range(_ASKS):
            reply = self._send(asked)
            if reply is None or reply.failure or accepts(reply.text):
                return reply
            last = reply.text
            if refusal(reply.text):
                return Reply(failure="refused", detail=_shortened(reply.text))
            if self.stopping.is_set():
                return None
            asked = [*messages, {"role": "assistant", "content": reply.text}, reminder(form)]
        return Reply(failure="malformed", detail=f"asked {_ASKS} times; the last answer: {_shortened(last)}")

    def _send(self, messages: list[Message]) -> Reply | None:
        """One answer to one question, sent again while the server cannot take it."""
        failure = Reply(failure="busy")
        reservation = reserve(messages, self.endpoint.max_reply_tokens)
        for attempt in range(_TRIES):
            if attempt and self.stopping.wait(_BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1)):
                return None
            if not self._pace.wait(self.stopping) or not self.spending.take(reservation, self.stopping):
                return None
            outcome = self._once(messages, reservation)
            if isinstance(outcome, Reply):
                return outcome
            failure = outcome.failure
            if outcome.pause > _LONGEST_WAIT:
                break
            self._pace.hold(outcome.pause)
        if failure.failure == "unreachable":
            raise ModelUnavailable(
                f"the judge's endpoint cannot be reached ({failure.detail})",
                where=self.endpoint.base_url,
                do="Start the server, or correct the address; the same command goes on where it was.",
            )
        return failure

    def _once(self, messages: list[Message], reservation: Reservation) -> Reply | _Again:
        """One call and what came of it, counted."""
        import openai

        tokens: tuple[int | None, int | None] | None = None
        limit_name = self._limit_name
        try:
            completion = self._call(messages, limit_name)
            tokens = _tokens(completion)
            # The client does not hold an answer to its types: it may be any JSON.
            choices = getattr(completion, "choices", None)
            if isinstance(choices, list) and choices and hasattr(choices[0], "message"):
                return self._read(choices[0])
            return _Again(Reply(failure="busy", detail="the server's answer is no chat completion"))
        except openai.APITimeoutError as error:
            tokens = _after(error)
            return _Again(Reply(failure="timeout", detail=f"no answer within {self.endpoint.timeout:g} seconds"))
        except openai.APIConnectionError as error:
            tokens = _after(error)
            return _Again(Reply(failure="unreachable", detail=type(error.__cause__ or error).__name__))
        except openai.APIStatusError as error:
            if self._adapts(error, limit_name):
                return _Again(Reply(failure="rejected", detail=self._said(error)))
            if not _passing(error):
                return self._rejected(error)
            return _Again(Reply(failure="busy", detail=self._said(error)), _retry_after(error))
        except (openai.APIError, ValueError) as error:
            tokens = None, None
            told = f"the server's answer cannot be read ({type(error).__name__})"
            return _Again(Reply(failure="busy", detail=told))
        finally:
            self.spending.settle(reservation, tokens)

    def _call(self, messages: list[Message], limit_name: str) -> Any:
        options: dict[str, Any] = {limit_name: self.endpoint.max_reply_tokens}
        if self.endpoint.temperature is not None:
            options["temperature"] = self.endpoint.temperature
        return self._client.chat.completions.create(model=self.endpoint.model, messages=messages, **options)  # type: ignore[arg-type]

    def _adapts(self, error: APIStatusError, sent: str) -> bool:
        """Whether the server only wants the limit of tokens, which was `sent` by that name, under its newer one."""
        if error.status_code == 400 and sent == "max_tokens" and "max_completion_tokens" in str(error):
            self._limit_name = "max_completion_tokens"
            return True
        return False

    def _rejected(self, error: APIStatusError) -> Reply:
        """What a refusal of the server means: for this question alone, or for all of them."""
        where, variable = self.endpoint.base_url, self.endpoint.key_variable
        if error.status_code in (401, 403):
            what = "the endpoint does not accept the key" if self._key else "the endpoint wants a key, and none is set"
            do = f"Put a valid key into the environment variable {variable}; it is never written down."
            if variable is None:
                what = "the endpoint wants a key, and none was sent: only the recipe names this address"
                do = (
                    f"If you trust it, name it: judge_hosts = {origin(where)!r} in workbench.toml, or "
                    "WORKBENCH_JUDGE_HOSTS in the environment."
                )
            raise ModelUnavailable(what, where=where, do=do) from None
        if error.status_code in (404, 405):
            raise ModelUnavailable(
                f"the endpoint does not know the model {self.endpoint.model!r}, or the address ({self._said(error)})",
                where=where,
                do="Check both; the address usually ends in /v1.",
            ) from None
        if error.status_code in (402, 429):
            raise ModelUnavailable(
                f"the endpoint's account has no credit left ({self._said(error)})",
                where=where,
                do="Top it up; the same command goes on where it was.",
            ) from None
        return Reply(failure="rejected", detail=self._said(error))

    def _read(self, choice: Any) -> Reply:
        """The text of an answer, unless it was cut off or refused."""
        text = self._writable(str(getattr(choice.message, "content", None) or ""))
        finish = getattr(choice, "finish_reason", None)
        if finish == "length":
            limit = self.endpoint.max_reply_tokens
            return Reply(failure="cut-off", detail=f"cut off at {limit:,} tokens; it ended {text[-100:]!r}")
        if finish == "content_filter" or getattr(choice.message, "refusal", None):
            told = str(getattr(choice.message, "refusal", None) or text)
            return Reply(failure="refused", detail=_shortened(self._writable(told)))
        return Reply(text)

    def _said(self, error: APIStatusError) -> str:
        """The server's own words, shortened."""
        body = error.body
        told = body.get("message") if isinstance(body, dict) else None
        return _shortened(self._writable(f"{error.status_code}: {told or getattr(error.response, 'text', '')}"))

    def _writable(self, text: str) -> str:
        """What a server said, as it is written down: without our key, which some repeat, and in valid Unicode."""
        text = _HALF.sub("\N{REPLACEMENT CHARACTER}", text)
        return text.replace(self._key, "[key]") if self._key else text


class _Pace:
    """When the next call may begin, for all threads together."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self, stopping: threading.Event) -> bool:
        """Wait for a turn; False where work is to stop first."""
        while not stopping.is_set():
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._gap
                    return True
                pause = self._next - now
            stopping.wait(min(pause, 0.5))
        return False

    def hold(self, seconds: float) -> None:
        """Let no call begin for so long: the server asked for it."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def require_client() -> None:
    """Raise ModelUnavailable where the client library is missing; nothing is loaded."""
    if find_spec("openai") is None:
        raise ModelUnavailable(
            "the client library for endpoints is not installed",
            where="package openai",
            do="Install it with `pip install 'sft-workbench[judge]'`.",
        )


def _client(endpoint: Endpoint, key: str) -> OpenAI:
    require_client()
    import openai

    for name in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # OPENAI_LOG=debug would write requests into the job's log
    bare = None
    if endpoint.key_variable is None:  # the client takes more from the environment than a key: OPENAI_CUSTOM_HEADERS
        bare = openai.DefaultHttpxClient(event_hooks={"request": [_strip]})
    # Servers on one's own machine want no key, but the client insists on one.
    return openai.OpenAI(
        base_url=endpoint.base_url, api_key=key or "none", timeout=endpoint.timeout, max_retries=0, http_client=bare
    )


def _strip(request: Any) -> None:
    """Take all headers out of a request that it can do without."""
    for name in list(request.headers):
        if name.lower() not in _NEEDED:
            del request.headers[name]


def _after(error: Exception) -> tuple[None, None] | None:
    """What a call that brought no answer cost, as `Spending.settle` takes it: unknown, unless it was never sent."""
    return None if type(error.__cause__).__name__ in _UNSENT else (None, None)


def _tokens(completion: Any) -> tuple[int | None, int | None]:
    """The tokens of the prompt and of the reply, as the server counted them; None for what is no count."""
    usage = getattr(completion, "usage", None)
    prompt, reply = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    # Not isinstance: True is an int too.
    return prompt if type(prompt) is int and prompt >= 0 else None, reply if type(reply) is int and reply >= 0 else None


def _passing(error: APIStatusError) -> bool:
    """Whether the same call may succeed later."""
    if error.status_code == 429:
        return getattr(error, "code", None) != "insufficient_quota"
    return error.status_code in (408, 409) or error.status_code >= 500


def _retry_after(error: APIStatusError) -> float:
    """The pause in seconds that the server asks for, as a number or a date (RFC 9110, 10.2.3); 0 where it asks none."""
    told = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _shortened(text: str) -> str:
    """What somebody else's machine said, on one short line that a terminal can show."""
    told = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))
    return told[: _SAID - 1] + "…" if len(told) > _SAID else told
