"""A judge behind `transformers serve`: the client against a server that nobody scripted.

    pip install "transformers[serving]"
    python benchmarks/judge_smoke.py [--rows 3] [--rubric format] [--tokens 40] [--port 8177]

Serves the packaged SmolLM2-135M on this machine, has rows of the starter set rated, and prints what became of each and
what was spent. A model of that size often does not keep to the form: what matters is that each row ends as a rating
from its scale, or as an error with a label.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from filters.judge.calls import endpoint_scores
from filters.judge.endpoint import Asker
from filters.judge.plan import Endpoint
from filters.judge.rubric import load_rubric
from filters.step import Row
from trainer.conversation import canonical_json, content_hash
from trainer.models import DEFAULT_MODEL, resolve_model

RAW = Path(__file__).parents[1] / "datasets/starter/raw.jsonl"
PATIENCE = 120  # seconds until the server must answer


def wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(PATIENCE):
        if server.poll() is not None:
            sys.exit(f"the server ended with code {server.returncode}: is transformers[serving] installed?")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    sys.exit("the server does not answer")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=3)
    options.add_argument("--rubric", default="format")
    options.add_argument("--tokens", type=int, default=40)
    options.add_argument("--port", type=int, default=8177)
    given = options.parse_args()
    talks = [json.loads(line)["messages"] for line in RAW.read_text(encoding="utf-8").splitlines()[: given.rows]]
    texts = [canonical_json(talk) for talk in talks]
    rows = [Row(i, content_hash(text), text) for i, text in enumerate(texts)]
    folder = resolve_model(DEFAULT_MODEL).path
    command = shutil.which("transformers", path=str(Path(sys.executable).parent)) or "transformers"
    server = subprocess.Popen([command, "serve", folder, "--host", "127.0.0.1", "--port", str(given.port)])
    try:
        wait_for(given.port, server)
        asker = Asker(
            Endpoint(
                base_url=f"http://127.0.0.1:{given.port}/v1",
                model=folder,
                max_reply_tokens=given.tokens,
                concurrency=1,
                timeout=120,
            )
        )
        for part in endpoint_scores(asker, load_rubric(given.rubric), rows, lambda: False):
            for key, score in part.items():
                print(key[:8], score.state, score.value, score.label, score.detail)
        print(asker.spending.usage)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
