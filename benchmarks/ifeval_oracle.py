"""Our checkers of verifiable instructions beside lm-eval's, on many answers made for every kind.

    pip install --no-deps lm-eval && pip install nltk langdetect immutabledict packaging
    NLTK_DATA=DIR python benchmarks/ifeval_oracle.py PROMPTS.jsonl [--per-kind 400] [--show 3]

Needs NLTK's sentence model `punkt_tab` in DIR/tokenizers, and IFEval's prompts for real parameters. Answers are made
by seed: pieces of prose, lists, headings and marks put together so that each kind is often followed, often missed,
and often missed only just. Prints a table of agreement for strict and loose, and examples where the two differ.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.instructions import KINDS, parse, variants

SENTENCES = (
    "The river was low that summer.",
    "Nobody had asked Dr. Meyer about it, though she knew.",
    "Why would they leave so early?",
    "It cost 3.5 million dollars in total!",
    'She said "Come in." and closed the door.',
    "Use a pan, e.g. an iron one, and heat it well.",
    "Mr. Lee lives in the U.S. and likes it there.",
    "no one saw the small cat",
    "THIS IS LOUD.",
    "I think NASA and the UN agreed on COVID-19 rules.",
    "Well... that is one way to see it.",
    "Visit example.com for more.",
)
FOREIGN = {
    "de": "Das Wetter ist heute schön und wir gehen mit den Kindern in den Park, um dort ein wenig zu spielen.",
    "pt": "O tempo está bonito hoje e nós vamos com as crianças ao parque para brincar um pouco durante a tarde.",
    "it": "Oggi il tempo è bello e andiamo con i bambini al parco per giocare un poco durante tutto il pomeriggio.",
    "ru": "Сегодня хорошая погода, и мы идём с детьми в парк, чтобы немного поиграть и отдохнуть вместе.",
    "hi": "आज मौसम अच्छा है और हम बच्चों के साथ थोड़ा खेलने के लिए पार्क में जा रहे हैं।",
    "ar": "الطقس جميل اليوم ونحن ذاهبون مع الأطفال إلى الحديقة لنلعب قليلا معا هناك.",
    "ko": "오늘은 날씨가 좋아서 우리는 아이들과 함께 공원에 가서 조금 놀기로 했습니다.",
    "vi": "Hôm nay thời tiết đẹp và chúng tôi cùng các con đi đến công viên để chơi một chút vào buổi chiều.",
}


def prose(random: random.Random, most: int = 12) -> str:
    """Up to `most` sentences, now and then in paragraphs."""
    picked = [random.choice(SENTENCES) for _ in range(random.randint(1, most))]
    return "".join(s + random.choice((" ", " ", " ", "\n", "\n\n")) for s in picked).strip()


def _around(random: random.Random, count: int) -> int:
    return max(0, count + random.choice((-2, -1, 0, 0, 1, 3)))


def _repeat(random: random.Random, wanted: int, piece: Callable[[int], str], glue: str = "\n") -> str:
    return glue.join(piece(i) for i in range(_around(random, wanted)))


def answer_for(kind: str, params: dict[str, Any], random: random.Random) -> str:
    """An answer that has to do with the instruction: followed, missed, or nearly."""
    text = prose(random)
    match kind:
        case "keywords:existence":
            return text + " " + " ".join(w for w in params["keywords"] if random.random() < 0.8)
        case "keywords:frequency":
            return (
                text
                + " "
                + _repeat(random, params["frequency"], lambda _: params["keyword"] + random.choice(("", "s")), " ")
            )
        case "keywords:forbidden_words":
            word = random.choice(params["forbidden_words"])
            return text + random.choice(("", f" {word}.", f" {word}s", f" {word.upper()}", f" ({word})"))
        case "keywords:letter_frequency":
            return text[: random.randint(5, 200)] + params["letter"] * random.randint(0, 5)
        case "change_case:capital_word_frequency":
            return (
                text
                + " "
                + _repeat(random, params["capital_frequency"], lambda i: ("VERY", "GOOD,", "I", "(OK)")[i % 4], " ")
            )
        case "change_case:english_capital" | "change_case:english_lowercase":
            return random.choice((text.upper(), text.lower(), text, FOREIGN["de"].upper(), FOREIGN["pt"].lower()))
        case "language:response_language":
            other = random.choice(list(FOREIGN.values()))
            return random.choice((FOREIGN.get(params["language"], other), other, text))
        case "length_constraints:number_words":
            return " ".join(
                random.choice(SENTENCES) for _ in range(max(1, params["num_words"] // 7 + random.randint(-4, 8)))
            )
        case "length_constraints:number_sentences":
            return _repeat(
                random, params["num_sentences"], lambda _: random.choice(SENTENCES), random.choice((" ", "\n"))
            )
        case "length_constraints:number_paragraphs":
            glue = random.choice(("\n***\n", "\n\n***\n\n", " *** ", "\n\n"))
            return random.choice(("", "***\n")) + _repeat(
                random, params["num_paragraphs"], lambda _: prose(random, 2), glue
            )
        case "length_constraints:nth_paragraph_first_word":

            def paragraph(i: int) -> str:
                word = params["first_word"] if i + 1 == params["nth_paragraph"] and random.random() < 0.8 else "Then"
                return (
                    random.choice(("{}", "{},", '"{}"', "{}:", "**{}**")).format(random.choice((word, word.title())))
                    + " it went on."
                )

            return _repeat(random, params["num_paragraphs"], paragraph, "\n\n")
        case "detectable_content:number_placeholders":
            return (
                text
                + " "
                + _repeat(
                    random,
                    params["num_placeholders"],
                    lambda i: random.choice(("[name]", "[address]", "(x)", "[]")),
                    " ",
                )
            )
        case "detectable_content:postscript":
            return text + random.choice(
                ("", "\n\nP.S. Call me.", "\n\nP.P.S. Call me.", "\nPS: Call.", "\np.s. hi", "\nP. S. Hi", "\nP.P.S hi")
            )
        case "detectable_format:number_bullet_lists":
            mark = random.choice(("* ", "- ", "  - ", "*", "• ", "** ", "1. "))
            return (
                random.choice(("", text + "\n"))
                + _repeat(random, params["num_bullets"], lambda i: f"{mark}point {i}")
                + random.choice(("", "\n---\nEnd"))
            )
        case "detectable_format:number_highlighted_sections":
            mark = random.choice(("*{}*", "**{}**", "* {}", "***{}***"))
            return _repeat(random, params["num_highlights"], lambda i: mark.format(f"part {i}") + " and so on.")
        case "detectable_format:multiple_sections":
            mark = random.choice((params["section_spliter"], params["section_spliter"].upper(), "Part"))
            return _repeat(random, params["num_sections"], lambda i: f"{mark} {i + 1}\n{random.choice(SENTENCES)}")
        case "detectable_format:json_format":
            body = json.dumps({"a": [1, 2], "b": text})
            return random.choice(
                (body, f"```json\n{body}\n```", f"```\n{body}\n```", f"Here:\n{body}", body[:-1], "[1, 2]", text)
            )
        case "detectable_format:title":
            return random.choice(("<<A title>>", "<<>>", "<A title>", "<< >>", "<<A\ntitle>>")) + "\n" + text
        case "detectable_format:constrained_response":
            return random.choice(
                ("My answer is yes.", "My answer is no", "My answer is maybe.", "Yes.", "my answer is no.")
            ) + random.choice(("", " " + text))
        case "combination:two_responses":
            parts = [prose(random, 2) for _ in range(random.choice((1, 2, 2, 2, 3)))]
            return (
                random.choice(("", "******\n"))
                + random.choice(("******", "\n******\n", "***")).join(random.choice((parts, parts[:1] * 2)))
                + random.choice(("", "\n******"))
            )
        case "combination:repeat_prompt":
            prompt = params["prompt_to_repeat"]
            return (
                random.choice((prompt, prompt.upper(), "Sure!\n" + prompt, prompt[:-5], f'"{prompt}"')) + "\n\n" + text
            )
        case "startend:end_checker":
            phrase = params["end_phrase"]
            return (
                text
                + " "
                + random.choice((phrase, phrase + '"', phrase.lower(), phrase + " Bye.", phrase + "\n\nThanks!", ""))
            )
        case "startend:quotation":
            return random.choice(('"{}"', '"{}', "{}", "\u201c{}\u201d", "'{}'", ' "{}" ')).format(text)
        case "punctuation:no_comma":
            return text.replace(",", random.choice(("", ",", "")))
    raise ValueError(kind)


def decorated(text: str, random: random.Random) -> str:
    """Now and then with a first line, a last line, or asterisks around it: what the loose variants are for."""
    if random.random() < 0.15:
        text = "Sure, here it is:\n" + text
    if random.random() < 0.15:
        text += "\nI hope this helps!"
    return f"**{text}**" if random.random() < 0.1 else text


def oracle() -> Any:
    """lm-eval's module with the checkers, without the rest of lm-eval and what that imports."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("lm-eval is not installed: see the beginning of this file")
    root = Path(next(iter(spec.submodule_search_locations)))
    for name, folder in (("lm_eval", root), ("lm_eval.tasks", root / "tasks")):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry

    langdetect.DetectorFactory.seed = 0
    return instructions_registry.INSTRUCTION_DICT


def their_check(registry: Any, kind: str, params: dict[str, Any]) -> Callable[[str], bool]:
    """lm-eval's check of one instruction, strict."""
    instruction = registry[kind](kind)
    instruction.build_description(**params)
    return lambda answer: bool(answer.strip() and instruction.check_following(answer))


def main() -> None:
    """Compare, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--per-kind", type=int, default=400)
    parser.add_argument("--show", type=int, default=3, help="differences shown of each kind")
    parser.add_argument("--kind", choices=sorted(KINDS))
    options = parser.parse_args()
    registry = oracle()
    by_kind = defaultdict(list)
    for line in options.prompts.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for kind, params in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            by_kind[kind].append(params)
    print("| kind | answers | followed | strict alike | loose alike |\n|---|---|---|---|---|")
    differences = []
    for kind in [options.kind] if options.kind else sorted(KINDS):
        made = random.Random(kind)
        followed = strict = loose = 0
        for _ in range(options.per_kind):
            params = made.choice(by_kind[kind])
            answer = decorated(answer_for(kind, params, made), made)
            (ours,), theirs = parse([kind], [params]), their_check(registry, kind, params)
            mine, other = ours.strict(answer), theirs(answer)
            followed += other
            strict += mine == other
            if mine != other:
                differences.append((kind, params, answer, mine, other))
            loose += ours.loose(answer) == any(map(theirs, variants(answer)))
        n = options.per_kind
        print(f"| `{kind}` | {n} | {followed / n:.0%} | {strict / n:.1%} | {loose / n:.1%} |", flush=True)
    shown: dict[str, int] = defaultdict(int)
    for kind, params, answer, mine, other in differences:
        shown[kind] += 1
        if shown[kind] <= options.show:
            print(f"\n{kind} {params}: ours {mine}, lm-eval {other}\n{answer!r}")


if __name__ == "__main__":
    main()
