from __future__ import annotations

import time

import pytest

from filters.dedup.particulars import Particulars


def differ(one, other):
    first, second = Particulars.of(one), Particulars.of(other)
    assert first.contradicts(second) == second.contradicts(first)
    return first.contradicts(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # numbers
        ("Convert 10 km to miles.", "Convert 25 km to miles."),
        ("Is 17 prime?", "Is 18 a prime?"),
        ("Give three tips on sleep.", "Give five tips on sleep."),
        # names, also those that are written as no word is
        ("What is the capital of Peru?", "What is the capital of Chad?"),
        ("How do I sort a list in C?", "How do I sort a list in C++?"),
        ("Explain what parse_header() is for.", "Explain what parse_footer() is for."),
        ("Fix this: print(total(rows)) fails.", "Fix this: print(count(rows)) fails."),
        # quotations: what is asked about, or the input
        ("Translate 'good morning' into Welsh.", "Translate 'good night' into Welsh."),
        ("Count the vowels in the word “lantern”.", "Count the vowels in the word “harbour”."),
        # limits that only one of them has
        ("Reverse a list in place.", "Reverse a list in place without a loop."),
        ("Name a fruit that is red.", "Name a fruit that is not red."),
        ("Why do cats purr?", "Why don't cats purr?"),
        # opposites
        ("List advantages of remote work.", "List disadvantages of remote work."),
        ("Add up the even numbers of a list.", "Add up the odd numbers of a list."),
        ("Count the vowels of a word.", "Count the vowels and the consonants of a word."),
        # the order of names
        ("Translate this Python code to Java.", "Translate this Java code to Python."),
        ("Is Mars larger than Venus?", "Is Venus larger than Mars?"),
        # one or two words are what they are
        ("Paris", "Berlin"),
    ],
)
def test_texts_that_only_look_alike_are_told_apart(one, other):
    assert differ(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Give three tips.", "Give me 3 tips, please."),
        ("Paris", "Paris!"),
        ("Write a merge sort in Python.", "In Python, write a merge sort."),
        ("Write a Fibonacci function in Java.", "Write a Java function for Fibonacci numbers."),
        ("Compare Oslo and Bergen.", "Compare Bergen and Oslo."),
        ("Check whether a year is a leap year.", "Check whether a year is a leap year or not."),
        ("Count lines that contain 'ERROR'.", "Count lines that contain the word error."),
        ("Explain Bubble Sort to a child.", "Please explain bubble sort to a child."),
        ("How does a pump lift water?", "Explain how a pump lifts water, with one example such as 'a bicycle pump'."),
        ("Is 17 prime?", "Is the number 17, which is odd, a prime?"),
        ("Warum schwimmt Eis oben?", "Warum schwimmt Eis eigentlich oben?"),
    ],
)
def test_other_words_and_more_detail_are_no_contradiction(one, other):
    assert not differ(one, other)


def test_capitals_of_a_headline_name_nothing():
    assert not differ(
        "Write A Short Story About A Lonely Lighthouse Keeper",
        "Tell A Brief Tale Of One Lonely Keeper In His Lighthouse",
    )


def test_code_without_end_is_read_in_time():
    text = "x = {" + "'" * 20_000 + "in " * 20_000
    began = time.thread_time()
    Particulars.of(text)
    assert time.thread_time() - began < 2
