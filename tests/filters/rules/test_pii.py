from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.rules.personal import find, is_iban, luhn
from filters.rules.pii import pii_scorer
from filters.rules.secrets import entropy

# Put together here, so that no tool that looks for keys takes this file for a leak.
KEY_TAIL = "Zq7Rk2Vw9Xb4Tn8Lp3Md6Hs1Gf5Jc0Ya"
KEYS = [
    "AK" + "IAZQ7RK2VW9XB4TN8L",
    "gh" + "p_" + KEY_TAIL + "Wu4E",
    "sk" + "-proj-" + KEY_TAIL,
    "sk" + "_live_" + KEY_TAIL[:24],
    "AI" + "za" + KEY_TAIL + "Wu4",
    "hf" + "_" + "ZqRkVwXbTnLpMdHsGfJcYaWuEiOqTzBnMk",
    "xo" + "xb-" + "904817263541-" + KEY_TAIL[:20],
    "-----BEGIN " + "RSA PRIVATE KEY-----",
]
PERSONAL = [
    ("mail", "Schreiben Sie an anna.berg+lists@post-berg.de, danke."),
    ("mail", "联系我：li.wei@qinghe-mail.cn。"),
    ("mail", "<o'neil_7@sub.mail.tidewater.org>"),
    ("phone", "Ring me on +49 30 2093 7712 after six."),
    ("phone", "Appelez le +33 6 48 21 97 30."),
    ("phone", "Call (613) 704-0926 or write."),
    ("phone", "Call 1-613-704-0926 now"),
    ("phone", "Tel.: 030 2093 7712"),
    ("phone", "我的手机号码是 13972604815。"),
    ("phone", "Mobile: 0425 329 187"),
    ("card", "Charge it to 4539 1488 0343 6467, please."),
    ("card", "my amex 3714-902718-15635 runs out in May"),
    ("iban", "Bitte auf DE02 1203 0000 0000 2020 51 überweisen."),
    ("iban", "IBAN FR7630006000011234567890189"),
    ("ip", "The login came from 84.17.203.9 at night."),
    ("ip", "ping 2a02:8109:b6bf::c1e3 answers"),
    ("key", 'api_key = "' + KEY_TAIL + '"'),
    ("key", "Authorization: Bearer " + KEY_TAIL),
    ("key", "postgres://anna:" + "t1debreak3r" + "@db.tidewater.org:5432/main"),
    *[("key", f"I pasted {key} into the chat.") for key in KEYS],
]
NOT_PERSONAL = [
    # reserved for examples, or meant as such
    "Write to jane@example.com or bob@mail.example.org.",
    "Set it to your_name@gmail.com or user@domain.com.",
    "Call 555-0142 or (212) 555-0187.",
    "The test card is 4242 4242 4242 4242.",
    "A sample: DE89 3704 0044 0532 0130 00.",
    "key = 'sk" + "-your-key-goes-here-please'",
    "password = 'change_me_before_you_deploy_it_1'",
    "AKIA" + "IOSFODNN7EXAMPLE",
    # check digits that do not fit
    "Order 4539 1488 0343 6468 has shipped.",
    "DE03 1203 0000 0000 2020 51",
    "The ISBN is 978-3-16-148410-0, the part number 4012-7781-0034-9921-7.",
    # addresses of nobody
    "Try 127.0.0.1, 192.168.0.17, 10.0.0.5, 203.0.113.9 or ::1.",
    "The mask is 255.255.255.0, the resolver 8.8.8.8.",
    "The network 84.17.203.0 is large.",
    "fe80::1ff:fe23:4567:890a and 2001:db8::7 lead nowhere",
    # versions, times, numbers
    "Chrome/112.0.5615.49 on version 10.15.7.12, v2.14.33.1 before",
    "See section 12.4.11.2 for that.",
    "It is 12:30:45, or 07:05:09:11.",
    "std::vector<int> a; de::ad(); and 4a00::5, which no network has",
    'api_key = "aaaaaaaabbbbbbbb444455556666"',
    "Between 1998-2004 there were 2147483647 of them.",
    "pi is 3.14159265358979, and 1234567890 counts up",
    "2023-04-17 10:22:31",
    "the commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "@pytest.fixture, leaflet@1.7.1, icon@2x.png, git@host",
    "Email me! a@b, @ann, tom @ home",
    "https://github.com/anna/tool@main",
]


def kinds(text):
    return [piece.kind for piece in find(text)]


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
def test_personal_data_and_keys_are_found(kind, text):
    assert kinds(text) == [kind]


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_samples_versions_and_mere_numbers_are_not_personal(text):
    assert find(text) == []


def test_a_piece_is_found_where_it_stands_and_once():
    text = "Ann (ann.lee@tidewater.org, +44 20 7183 8750)"
    assert [text[p.start : p.end] for p in find(text)] == ["ann.lee@tidewater.org", "+44 20 7183 8750"]


@given(st.integers(10**14, 10**15 - 1), st.integers(1, 9), st.data())
def test_a_card_number_with_one_wrong_digit_is_none(first, change, data):
    body = str(first)
    digits = next(body + str(check) for check in range(10) if luhn(body + str(check)))
    at = data.draw(st.integers(0, 15))
    assert not luhn(digits[:at] + str((int(digits[at]) + change) % 10) + digits[at + 1 :])


@given(st.integers(0, 10**18 - 1))
def test_an_account_number_needs_its_check_digits(account):
    body = f"{account:018d}"
    check = 98 - int(body + "131400") % 97  # D is 13, E is 14
    assert is_iban(f"DE{check:02d}{body}") == (body != "370400440532013000")
    assert not is_iban(f"DE{check % 97 + 1:02d}{body}")


def test_disorder_tells_a_random_value_from_a_name():
    drawn = random.Random(0)
    assert entropy("aaaaaaaaaa") == 0
    assert entropy("".join(drawn.choices("0123456789abcdef", k=64))) > 3.5
    assert find("secret_key: the_second_secret_of_the_house_2") == []


def test_a_row_falls_by_its_surest_kind_and_never_tells_it_in_full(judge, make_row):
    row = make_row("Who?", "Ann: ann.lee@tidewater.org, card 4539 1488 0343 6467.")
    found = judge("pii", row)
    assert (found.reason, found.score) == ("pii: card", 2.0)
    assert "ann.lee" not in found.detail
    assert judge("pii", row, kinds=["mail"]).reason == "pii: mail"
    assert judge("pii", row, kinds=["ip"]) is None
    assert judge("pii", row, on="prompt") is None


def test_of_a_short_secret_no_more_than_a_quarter_is_told(make_row):
    password = "t1d" + "8"
    score = pii_scorer("both").score([make_row("q", f"postgres://anna:{password}@db.tidewater.org/main")])[0]
    assert (score.value, score.detail) == (1.0, "key t…")


def test_flagging_scores_and_drops_nothing(judge, make_row):
    assert judge("pii", make_row("q", "ann.lee@tidewater.org"), action="flag") is None


def test_what_goes_to_tools_and_comes_back_counts(judge, make_row):
    call = {"type": "function", "function": {"name": "mail", "arguments": {"to": "ann.lee@tidewater.org"}}}
    messages = [
        {"role": "user", "content": "Write to Ann."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sent from 84.17.203.9"},
        {"role": "assistant", "content": "Done."},
    ]
    row = make_row(messages=messages)
    assert judge("pii", row, kinds=["mail"]) is not None
    assert judge("pii", row, kinds=["ip"]) is not None
    assert judge("pii", row, kinds=["ip"], on="response") is None
