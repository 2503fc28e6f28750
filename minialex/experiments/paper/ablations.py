"""What each part of the network is worth: towers, normalisation, pooling, dropout, depth.

    minialex reproduce ablations --data imagenette

Every variant is trained with every seed, and compared with the whole network of the same seed. At
small scale each is trained with several learning rates, and the one counts whose loss on the
validation images, averaged over the seeds, is lowest: one rate would favour the network that it was
found for. Dropout is against learning images by heart, so there it is also taken away in a training
three times as long. Sections 3.2 to 3.4, 4 and 7 of the paper.
"""

from statistics import fmean

from minialex.experiments import PUBLISHED, Context, Figure, Section, Table, alone, measured, paired

ORDER = 2
TITLE = "Parts taken away"
WHOLE = "the whole network"

# What is changed, the published difference beside it, and the options that change it.
VARIANTS = {
    WHOLE: (None, {}),
    "half the kernels, one tower": ("half", {"half": True}),
    "towers that never communicate": ("communication", {"communication": False}),
    "no response normalisation": ("norm", {"response_norm": False}),
    "pooling 2 x 2, not overlapping": ("pooling", {"overlapping_pool": False}),
    "no colour shift": ("colour", {}),
    "no dropout": ("dropout", {"dropout": False}),
    **{f"without convolution {i}": ("depth", {"without": f"conv{i}"}) for i in range(1, 6)},
}

# The same in a longer training, which pictures.py shares, at the usual rate.
LONGER = "trained longer"
VARIANTS_LONGER = {
    LONGER: (None, {}),
    "no dropout, trained longer": ("dropout", {"dropout": False}),
}


def run(context: Context) -> Section:
    """Train each variant with every seed and rate, and let each variant's best rate count."""
    data = context.photographs()
    crops = context.pick(tiny=1, small=1, full=10)
    usual = context.network().get("lr")
    rates = context.pick(tiny=(usual,), small=(0.001, usual, 0.01), full=(usual,))
    cases = [(name, rate) for name in VARIANTS for rate in rates]
    if context.asked.scale != "full":  # there training is long enough
        cases += [(name, usual) for name in VARIANTS_LONGER]

    def train(case: tuple[str, float | None], seed: int):
        name, rate = case
        longer = name in VARIANTS_LONGER
        key, options = (VARIANTS_LONGER if longer else VARIANTS)[name]
        more = context.longer() if longer else context.network()
        if rate != usual:
            more["lr"] = rate
        if key == "colour":
            more["colour_noise"] = 0.0
        if key == "half" and context.asked.scale == "full":
            more |= {"schedule": "2012-half", "epochs": context.epochs(full=96)}
        if options:
            more["model_options"] = options
        return context.train(name, data, seed=seed, **more)

    runs = context.by_seed(cases, context.seeds(), train)
    best = {name: lowest({rate: runs[name, rate] for rate in rates}) for name in VARIANTS}
    best |= {name: rate for name, rate in cases if name in VARIANTS_LONGER}

    def judged(run):
        losses = run.history[-1]["train_loss"], run.history[-1]["val_loss"]
        return *run.errors(crops), *losses, run.recipe_line()

    found = {}
    for name in best:
        counted = runs.get((name, best[name]), {})
        values = {seed: context.found(lambda r=r: judged(r)) for seed, r in counted.items()}
        found[name] = {seed: value for seed, value in values.items() if value is not None}
    return report(data, crops, best, found)


def lowest(by_rate):
    """The rate of {rate: {seed: run}} with the lowest mean validation loss; None without runs.

    Of rates at which a different number of seeds diverged, only those with the fewest are compared.
    """
    most = max(len(of) for of in by_rate.values())
    steady = {rate: of.values() for rate, of in by_rate.items() if of and len(of) == most}
    ended = {rate: fmean(r.history[-1]["val_loss"] for r in of) for rate, of in steady.items()}
    return min(ended, key=ended.__getitem__, default=None)


def report(data, crops: int, best, found) -> Section:
    """A row a variant, with the published difference, and a picture of the differences."""
    rows, differences, findings = [], {}, []
    for whole, variants in ((WHOLE, VARIANTS), (LONGER, VARIANTS_LONGER)):
        for name, (key, _) in variants.items():
            if name not in found:
                continue
            known = PUBLISHED.get(key or "")
            top1, top5, gap = spread(found[name])
            usual1, usual5, usual_gap = spread(found[whole])
            change = None if key is None else paired(top1, usual1)
            change5 = None if key is None else paired(top5, usual5)
            rate = f"{best[name]:g}" if best.get(name) else None  # None: the recipe's own
            rows.append((
                *(name, rate, measured(top1), measured(top5)),
                *(change, published(known, "top1"), change5, published(known, "top5")),
                measured(gap),
            ))  # fmt: skip
            if change is not None:
                differences[name] = (change, known)
                said = "; published: " + in_words(known) if known else ""
                if key == "dropout":
                    said += overfitting(measured(usual_gap), measured(gap))
                findings.append(
                    f"{name[0].upper()}{name[1:]}: {change.text()} points of top-1 error. "
                    f"{change.verdict()}{said}."
                )
    columns = (
        *("variant", "rate", "top-1 error, %", "top-5 error, %"),
        *("top-1 difference", "published", "top-5 difference", "published"),
        "validation minus training loss",
    )
    sources = "; ".join(dict.fromkeys(
        f"{known.what}: {known.data}, {known.source}" for _, known in differences.values() if known
    ))  # fmt: skip
    caption = (
        f"Errors on {crops} crop{'s' * (crops > 1)}, and differences from the whole network of the "
        "same seed, trained as long, in percentage points: above 0 the part helped. "
        f"Published: {sources}."
    )
    lines = [values[-1] for values in found[WHOLE].values()]
    return Section(
        setting=[data.line, *lines[:1]],
        findings=findings,
        tables=[Table("ablations", caption, columns, rows, digits=2)],
        figures=[
            Figure(
                "differences",
                "Difference in top-1 error from the whole network: the dot is the mean over seeds, "
                "the bar its 95 % interval, the cross the published difference.",
                "A dot with an interval for each variant, about a line at no difference.",
                lambda figure: draw(figure, differences),
                (7.0, 0.6 + 0.34 * (1 + len(differences))),
            )
        ],
    )


def spread(of) -> tuple[dict, dict, dict]:
    """By seed: top-1 error, top-5 error, and validation loss minus training loss."""
    return (
        {seed: values[0] for seed, values in of.items()},
        {seed: values[1] for seed, values in of.items()},
        {seed: values[3] - values[2] for seed, values in of.items()},
    )


def overfitting(usual, without) -> str:
    """The sign that section 4.2 speaks of: how far the validation loss is above the training's."""
    if usual is None or without is None:
        return ""
    return (
        f". Validation minus training loss: {without.mean:.2f} without dropout, {usual.mean:.2f} "
        "with it (on in the training loss)"
    )


def in_words(known) -> str:
    """The published difference, or what the paper says in place of one."""
    if known.top1 is None:
        return known.what
    return f"{known.bound} {known.top1:+.1f}".strip()


def published(known, which: str) -> float | None:
    return None if known is None else getattr(known, which)


def draw(figure, differences) -> None:
    """A dot and an interval a variant, the published value as a cross."""
    axes = figure.subplots()
    for y, (change, known) in enumerate(differences.values()):
        if change.interval is not None:
            axes.plot(change.interval, (y, y), color="#4477aa", linewidth=2)
        label = "this run" if y == 0 else None
        axes.plot([change.mean], [y], "o", color="#4477aa", label=label)
        if known is not None and known.top1 is not None:
            axes.plot([known.top1], [y], "x", color="#cc6677", label="published" if not y else None)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(differences)), list(differences))
    axes.set(xlabel="difference in top-1 error, percentage points")
    axes.invert_yaxis()
    if differences:
        axes.legend()


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
