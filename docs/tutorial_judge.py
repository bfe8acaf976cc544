"""A stand-in for a judge, for the tutorial: it is given the right answers, and reads by likeness alone.

    python docs/tutorial_judge.py datasets/starter/good.jsonl [--port 8177]

Speaks as much of the chat protocol of endpoints as a judge of two answers needs (`POST /v1/chat/completions`), reads
the question that a judge is asked, and calls that answer the better one which is nearer to the answer in the file: by
the cosine of their embeddings, all-MiniLM-L6-v2. Nearer by less than MARGIN is a tie.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import re
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from filters.embedding import embed_here
from trainer.models import quiet_libraries

MARGIN = 0.02

_one_at_a_time = threading.Lock()


def preference(question: str, references: dict[str, str]) -> str:
    """What this judge answers: a reason, and the line that the question asks for. ValueError where it cannot."""
    turns = turns_of(question)
    reference = references.get(asked_in(text for role, text in turns if role == "user"))
    if reference is None:
        raise ValueError("no answer to this prompt is in the file of references")
    (_, first), (_, second) = turns[-2:]
    a, b = nearness(first, reference), nearness(second, reference)
    better = "tie" if abs(a - b) < MARGIN else "A" if a > b else "B"
    return f"To the reference A is {a:.2f} near, B {b:.2f}.\nBetter: {better}"


def nearness(answer: str, reference: str) -> float:
    """The cosine of two texts; 0 where the embedder cannot read one of them."""
    with _one_at_a_time:
        cosine = sum(x * y for x, y in zip(_vector(answer), _vector(reference), strict=True))
    return 0.0 if math.isnan(cosine) else cosine


@lru_cache(maxsize=4096)
def _vector(text: str) -> list[float]:
    return list(embed_here([text])[0].tolist())


def turns_of(question: str) -> list[tuple[str, str]]:
    """(role, text) of the material in a question; its two answers come last, as `answer A` and `answer B`."""
    end = re.search(r"^\[([0-9a-f]{16}) end\]$", question, re.MULTILINE)
    if not end:
        raise ValueError("this question has no material to be judged")
    parts = re.split(rf"^\[{end[1]} (.+)\]\n", question[: end.start()], flags=re.MULTILINE)
    turns = list(zip(parts[1::2], parts[2::2], strict=True))
    if [role for role, _ in turns[-2:]] != ["answer A", "answer B"]:
        raise ValueError("this stand-in compares two answers, and rates none")
    return turns


def asked_in(texts: Iterable[str]) -> str:
    """The user turns of a conversation as one text, by which its reference is found."""
    return " ".join(" ".join(texts).split())


def references_in(path: str | Path) -> dict[str, str]:
    """The last answer of each conversation of a file, by what was asked."""
    with open(path, encoding="utf-8") as file:
        talks = [json.loads(line)["messages"] for line in file]
    return {asked_in(m["content"] for m in talk if m["role"] == "user"): talk[-1]["content"] for talk in talks}


def server_of(references: dict[str, str], port: int) -> ThreadingHTTPServer:
    """The judge at a port of this machine (0: any that is free), not yet serving."""

    class Judge(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer one question."""
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][0]["content"]
            try:
                self._send(200, _completion(body["model"], question, preference(question, references)))
            except ValueError as error:
                self._send(400, {"error": {"message": str(error)}})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each call."""

    return ThreadingHTTPServer(("127.0.0.1", port), Judge)


def _completion(model: str, question: str, text: str) -> dict[str, Any]:
    asked, said = len(question.split()), len(text.split())  # to this judge a word is a token
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options in `words`, by default those of the command line."""
    options = argparse.ArgumentParser(description="A stand-in for a judge that knows the right answers.")
    options.add_argument("references", metavar="FILE", help="conversations whose last answers are right, JSON lines")
    options.add_argument("--port", type=int, default=8177)
    return options.parse_args(words)


def main() -> None:
    """Serve until ctrl-c."""
    given = options_of()
    quiet_libraries()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses a package that is not needed
    try:
        server = server_of(references_in(given.references), given.port)
    except OSError as error:
        raise SystemExit(f"{error}: give another FILE, or another --port.") from None
    print(f"judging at http://localhost:{server.server_port}/v1 until ctrl-c", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
