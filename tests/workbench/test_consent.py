"""Which addresses may get a key: those that the user named, to the letter."""

from __future__ import annotations

import pytest

from filters.judge.plan import Endpoint
from workbench.config import Config
from workbench.consent import Keys, on_this_machine
from workbench.errors import UsageProblem

NAMED = Config(judge_hosts="api.judge.org, http://localhost:8000", judge_key_variable="JUDGE_KEY")


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://api.judge.org/v1", True),
        ("https://API.judge.org:443/other", True),
        ("http://localhost:8000/v1", True),
        ("http://api.judge.org/v1", False),  # in the clear
        ("https://api.judge.org:8443/v1", False),
        ("https://api.judge.org.evil.net/v1", False),
        ("https://evil.net/api.judge.org", False),
        ("http://localhost:8001/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)
def test_a_key_goes_to_the_scheme_host_and_port_that_were_named_and_nowhere_else(url, may, monkeypatch):
    monkeypatch.delenv("WORKBENCH_JUDGE_URL", raising=False)
    given = Keys.of(NAMED).given(Endpoint(base_url=url, model="m", key_variable="AWS_SECRET_ACCESS_KEY"))
    assert given.key_variable == ("JUDGE_KEY" if may else None)


def test_the_command_line_and_the_environment_name_addresses_too(monkeypatch):
    monkeypatch.setenv("WORKBENCH_JUDGE_HOSTS", "https://one.org,https://two.org")
    monkeypatch.setenv("WORKBENCH_JUDGE_KEY_VARIABLE", "OTHER_KEY")
    keys = Keys.of(NAMED, "http://three.org:81/v1")
    assert all(keys.may_have(f"{at}/v1") for at in ("https://one.org", "https://two.org", "http://three.org:81"))
    assert keys.variable == "OTHER_KEY"
    assert Keys.of(NAMED, variable="MINE").variable == "MINE"


def test_what_is_no_address_is_refused():
    with pytest.raises(UsageProblem, match="judge_hosts"):
        Keys.of(Config(judge_hosts="ftp://host"))


def test_this_machine_is_known_by_its_names():
    assert all(on_this_machine(f"http://{host}:8000/v1") for host in ("localhost", "127.0.0.1", "[::1]"))
    assert not any(on_this_machine(f"http://{host}/v1") for host in ("localhost.evil.net", "10.0.0.1", "0.0.0.0"))
