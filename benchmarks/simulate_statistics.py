"""How often do our tests raise a false alarm, and what do they find? The tables of docs/statistics.md.

    python benchmarks/simulate_statistics.py [--repeats 4000]

Every table draws experiments with known variances and hands them to `trainer.statistics`. `luck` is the standard
deviation of a run's luck in units of what the items alone make of a run's mean: at 3, which is what small fine-tunes
show, the luck of training is nine tenths of the variance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy import stats

from trainer.power import minimum_detectable_effect
from trainer.preference import controlled_win_rate, opponent, win_rate
from trainer.statistics import estimate_noise_floor, paired_difference, paired_share_difference
from trainer.verdict import DEFAULT_METRICS, decide, measure

N_ITEMS = 64
ALPHA = 0.05


def two_arms(rng, n_seeds, *, luck, effect=0.0, item_effects=0.0, ratio=1.0, shared=0.0, n_items=N_ITEMS):
    """Two arms (seeds x items). rest has sd 1; run luck has sd luck/sqrt(items) a run, `ratio` times that in arm b.

    `shared` is the correlation of the arms' luck under one seed; `item_effects` the sd of arm-by-item effects.
    """
    item = rng.normal(0, 2, n_items)
    common = rng.normal(size=(n_seeds, 1))
    tables = []
    for scale in (1.0, ratio):
        own = rng.normal(size=(n_seeds, 1))
        run = luck * scale / np.sqrt(n_items) * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
        tables.append(item + run + rng.normal(size=(n_seeds, n_items)))
    tables[1] += effect + rng.normal(0, item_effects, n_items)
    return tables[0], tables[1]


def share_of(repeats: int, flagged: Callable[[], bool]) -> str:
    return f"{100 * np.mean([flagged() for _ in range(repeats)]):5.1f}"


def items_only(a, b):
    return stats.ttest_1samp((b - a).mean(0), 0).pvalue


def seeds_paired(a, b):
    """The crossed layout on differences: the run component from S paired differences, S - 1 degrees of freedom."""
    d = b - a
    (s, i) = d.shape
    rest = d - d.mean(0) - d.mean(1, keepdims=True) + d.mean()
    parts = [
        (s * d.mean(0).var(ddof=1), i - 1),
        (i * d.mean(1).var(ddof=1), s - 1),
        (-(rest**2).sum() / (i - 1) / (s - 1), (i - 1) * (s - 1)),
    ]
    total = sum(v for v, _ in parts)
    df = total**2 / sum(v**2 / n for v, n in parts)
    if total < max(parts[0][0], parts[1][0]):
        total, df = max(parts[:2])
    return 2 * stats.t.sf(abs(d.mean()) / np.sqrt(total / s / i), df)


def false_alarms(rng, repeats):
    print("\n## False alarms (%): same data in both arms, other seeds\n")
    print("| seeds | luck | ours | ours, luck differs 2x | ours, seed shares 0.7 | seeds paired | items only |")
    print("|---|---|---|---|---|---|---|")
    for n_seeds in (2, 3, 4):
        for luck in (0, 1, 2, 3, 5, 10):

            def rate(test, luck=luck, n_seeds=n_seeds, **more):
                return share_of(repeats, lambda: test(*two_arms(rng, n_seeds, luck=luck, **more)) < ALPHA)

            def ours(a, b):
                return paired_difference(a, b).p

            row = [rate(ours), rate(ours, ratio=2.0), rate(ours, shared=0.7), rate(seeds_paired), rate(items_only)]
            print(f"| {n_seeds} | {luck} | " + " | ".join(row) + " |")


def tails(rng, repeats):
    print("\n## Small p values (%): same data in both arms; corrections for several tests stand on them\n")
    print("| seeds | luck | p < 0.05 | p < 0.01 | p < 0.001 |\n|---|---|---|---|---|")
    for n_seeds in (2, 3, 4):
        for luck in (1, 2, 3):
            found = np.array([paired_difference(*two_arms(rng, n_seeds, luck=luck)).p for _ in range(5 * repeats)])
            shares = (f"{100 * np.mean(found < alpha):5.2f}" for alpha in (0.05, 0.01, 0.001))
            print(f"| {n_seeds} | {luck} | " + " | ".join(shares) + " |")


def baselines_and_candidate(rng, n_baselines, *, luck, effect):
    """Baseline runs (n, items), whose first is compared and all make the noise floor, and one candidate run."""
    baselines, others = two_arms(rng, n_baselines, luck=luck, effect=effect)
    return baselines, others[:1]


def one_seed(rng, repeats):
    print("\n## One seed against more (%): luck 3 unless said, effect in sd of the difference between two runs\n")
    print(
        "| trained runs | rule | no effect, luck 30 | no effect | 4 sd | 8 sd | 12 sd |\n|---|---|---|---|---|---|---|"
    )

    def row(runs, name, flagged):
        cells = [share_of(repeats, lambda: flagged(30, 0.0))]
        for effect in (0, 4, 8, 12):
            size = effect * np.sqrt(2 * (1 + 3**2) / N_ITEMS)
            cells.append(share_of(repeats, lambda size=size: flagged(3, size)))
        print(f"| {runs} | {name} | " + " | ".join(cells) + " |")

    def clearing(n_baselines, times=None):
        def flagged(luck, effect):
            base, cand = baselines_and_candidate(rng, n_baselines, luck=luck, effect=effect)
            found = paired_difference(base[:1], cand, noise=estimate_noise_floor(base))
            if times is None:
                return found.decisive_p < ALPHA
            return found.p < ALPHA and abs(found.delta) > times * found.noise.sd

        return flagged

    def seeds(n_seeds):
        return lambda luck, effect: paired_difference(*two_arms(rng, n_seeds, luck=luck, effect=effect)).p < ALPHA

    row(2, "one seed, items only", clearing(2, 0.0))
    row(3, "one A/A pair, 1 sd", clearing(2, 1.0))
    row(3, "one A/A pair, 3.1 sd (t at 20%)", clearing(2, stats.t.ppf(0.90, 1)))
    row(3, "one A/A pair, 6.3 sd (t at 10%)", clearing(2, stats.t.ppf(0.95, 1)))
    row(3, "**one A/A pair, 12.7 sd (t at 5%): ours**", clearing(2))
    row(4, "three baseline runs, 4.3 sd: ours", clearing(3))
    row(5, "four baseline runs, 3.2 sd: ours", clearing(4))
    row(4, "**two seeds an arm: ours**", seeds(2))
    row(6, "**three seeds an arm: ours**", seeds(3))
    row(8, "four seeds an arm: ours", seeds(4))


def clustered(rng, repeats):
    print("\n## False alarms (%) with clusters: cluster effects of sd 1 between the arms, one seed\n")
    print("| clusters | sizes | by cluster: ours | clusters ignored |\n|---|---|---|---|")
    for n, sizes in ((4, "equal"), (8, "equal"), (8, "1 to 32"), (30, "1 to 8")):
        counts = np.full(n, 8) if sizes == "equal" else np.geomspace(1, int(sizes.split()[-1]), n).round().astype(int)
        member = np.repeat(np.arange(n), counts)

        def draw(n=n, member=member):
            a, b = two_arms(rng, 1, luck=0, n_items=len(member))
            return a, b + rng.normal(size=n)[member]

        by_cluster = share_of(repeats, lambda m=member: paired_difference(*draw(), clusters=list(m)).p < ALPHA)
        ignored = share_of(repeats, lambda: paired_difference(*draw()).p < ALPHA)
        print(f"| {n} | {sizes} | {by_cluster} | {ignored} |")


def yes_no(rng, repeats):
    print(
        "\n## False alarms (%) of a yes/no metric, 80 items; each run's rate drawn around the stated one (logit sd)\n"
    )
    print("| rate | logit sd | one seed, exact | with A/A pair | two seeds | three seeds |\n|---|---|---|---|---|---|")

    def draw(n_seeds, logit, spread):
        item = rng.normal(0, 1, 80)
        return [
            (
                rng.random((n_seeds, 80)) < 1 / (1 + np.exp(-(logit + item + rng.normal(0, spread, (n_seeds, 1)))))
            ).astype(float)
            for _ in range(2)
        ]

    for rate, logit in (("0.5", 0.0), ("0.9", 2.5), ("0.97", 4.0)):
        for spread in (0.0, 0.5):

            def floored(logit=logit, spread=spread):
                a, b = draw(2, logit, spread)
                noise = estimate_noise_floor(a, yes_no=True)
                return paired_share_difference(a[:1], b[:1], noise=noise).decisive_p < ALPHA

            def plain(n_seeds, logit=logit, spread=spread):
                return share_of(repeats, lambda: paired_share_difference(*draw(n_seeds, logit, spread)).p < ALPHA)

            cells = [plain(1), share_of(repeats, floored), plain(2), plain(3)]
            print(f"| {rate} | {spread} | " + " | ".join(cells) + " |")


def planned_power(rng, repeats):
    print("\n## Power (%) at the announced MDE (planned for 80)\n")
    print("| seeds | luck | item effects sd | power |\n|---|---|---|---|")
    for n_seeds in (1, 2, 3, 4):
        for luck, item_effects in ((0.5, 1.0), (3.0, 0.0), (3.0, 1.0)):
            seed_sd = np.sqrt(2) * luck / np.sqrt(N_ITEMS)
            mde = minimum_detectable_effect(
                item_sd=np.sqrt(2),
                item_effect_sd=item_effects,
                seed_sd=seed_sd,
                n_items=N_ITEMS,
                n_seeds=n_seeds,
                noise_df=3,
            )

            def found(n_seeds=n_seeds, luck=luck, item_effects=item_effects, mde=mde):
                a, b = two_arms(rng, n_seeds, luck=luck, effect=mde, item_effects=item_effects)
                noise = estimate_noise_floor(two_arms(rng, 4, luck=luck)[0]) if n_seeds == 1 else None
                return paired_difference(a, b, noise=noise).decisive_p < ALPHA

            print(f"| {n_seeds} | {luck} | {item_effects} | {share_of(repeats, found)} |")


def verdicts(rng, repeats):
    print("\n## Whole verdicts (%) on the same data, four metrics, luck 3\n")
    print("| seeds | better | worse | mixed | no difference detected | guardrail breached |\n|---|---|---|---|---|---|")
    for n_seeds in (1, 2, 3):
        seen = []
        for _ in range(repeats):
            measured = []
            for spec in (spec for spec in DEFAULT_METRICS if spec.role != "report" and not spec.general):
                a, b = two_arms(rng, max(n_seeds, 2), luck=3)
                if spec.yes_no:
                    a, b = (a > -3).astype(float), (b > -3).astype(float)
                noise = estimate_noise_floor(a, yes_no=spec.yes_no) if n_seeds == 1 else None
                measured.append(measure(spec, a[:n_seeds], b[:n_seeds], noise=noise))
            verdict = decide(measured)
            outcomes = [m.verdict for m in verdict.metrics]
            breached = any(m.breached(o) for m, o in zip(measured, outcomes, strict=True))
            seen.append((verdict.verdict, breached))
        cells = [
            f"{100 * np.mean([v == name for v, _ in seen]):5.1f}"
            for name in ("better", "worse", "mixed", "no difference detected")
        ]
        print(f"| {n_seeds} | " + " | ".join(cells) + f" | {100 * np.mean([x for _, x in seen]):5.1f} |")


def judged(rng, n_seeds, *, luck=0.0, quality=0.0, length=0.0, longer=0.0, n_items=80):
    """Shares and length differences of pairs (seeds x items); a fifth are ties. All tastes and luck are in logits."""
    mine, theirs = rng.normal(0, luck, (2, n_seeds))
    items = rng.normal(size=n_items)
    met = np.array([[theirs[opponent(run, item, n_seeds)] for item in range(n_items)] for run in range(n_seeds)])
    lengths = rng.normal(30 * longer, 30, (n_seeds, n_items))
    taste = quality + items + mine[:, None] - met + length * np.tanh(lengths / 30)
    wins = rng.random(taste.shape) < 1 / (1 + np.exp(-taste))
    return np.where(rng.random(taste.shape) < 0.2, 0.5, wins.astype(float)), lengths


def preference(rng, repeats):
    print("\n## A judge's preference: false alarms (%), 80 items\n")
    print("| seeds | luck | win rate | of equal length |\n|---|---|---|---|")
    for n_seeds in (2, 3, 4):
        for luck in (0, 0.3, 1.0):
            found = []
            for _ in range(repeats):
                shares, lengths = judged(rng, n_seeds, luck=luck)
                found.append([win_rate(shares).p < ALPHA, controlled_win_rate(shares, lengths).p < ALPHA])
            plain, equal = 100 * np.mean(found, 0)
            print(f"| {n_seeds} | {luck} | {plain:.1f} | {equal:.1f} |")
    print("\n## Mean win rate (%) by what the judge likes; the candidate's answers are 0.7 sd longer\n")
    print("| the judge likes | win rate | of equal length |\n|---|---|---|")
    for name, taste in (("length alone", {"length": 3.0}), ("quality alone", {"quality": 1.0})):
        pairs = [judged(rng, 3, longer=0.7, **taste) for _ in range(min(repeats, 400))]
        rates = [(win_rate(s).candidate, controlled_win_rate(s, d).candidate) for s, d in pairs]
        plain, equal = 100 * np.mean(rates, 0)
        print(f"| {name} | {plain:.1f} | {equal:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    tables = {
        table.__name__: table
        for table in (false_alarms, tails, one_seed, clustered, yes_no, planned_power, verdicts, preference)
    }
    parser.add_argument("--only", choices=tables, help="one table alone, with draws of its own")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    for name, table in tables.items():
        if args.only in (None, name):
            table(rng, args.repeats)


if __name__ == "__main__":
    main()
