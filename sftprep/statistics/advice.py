"""What is bad in a dataset's numbers, and what helps: sentences with figures, each with the option to build with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sftprep.dataset.manifest import Manifest
from sftprep.statistics.distribution import Distribution
from sftprep.statistics.measures import Advice, DatasetStatistics, Measures

MUCH = 0.01  # of conversations cut off, dropped or rejected
MUCH_PADDING = 0.25  # of a row's places
LEAST_TRAINED, MOST_TRAINED = 0.01, 0.95  # of the tokens, in a set of which the mask is as it should be
_NAMED = 3  # groups or sources in a sentence

LEFT_OUT = {  # `records.said.KINDS`, each with the rest of a sentence that begins with a number
    "reasoning": "messages whose reasoning is not in the text",
    "tool_calls": "messages with a call of a tool that is not in the text",
    "tool_results": "results of tools that are not in the text",
    "tools": "conversations whose list of tools is not in the text",
    "system": "system messages that are not in the text",
    "developer": "developer messages that are not in the text",
    "user": "user messages that are not in the text",
    "assistant": "assistant messages whose content is not in the text",
    "names": "messages whose name is not in the text",
}


def advice_on(manifest: Manifest, found: DatasetStatistics) -> tuple[Advice, ...]:
    """All that there is to say. found: its own advice is not looked at."""
    return tuple(Advice(kind, what, option) for kind, rule in RULES.items() for what, option in rule(manifest, found))


Said = Iterator[tuple[str, str]]  # sentence, option


def _length(manifest: Manifest, found: DatasetStatistics) -> Said:
    """Too many conversations are cut off, or too few: rows are wider than they need to be."""
    now, all_of_them = manifest.config.get("max_length"), _all_lengths(found)
    if type(now) is not int or not all_of_them.count:
        return
    kept = "conversations" if found.whole.lengths.count == found.whole.conversations else "examples"
    limit, cut = all_of_them.limit(1), all_of_them.above(now)
    above = all_of_them.above(limit)
    then = _percent(above, all_of_them.count) if above else "none"
    if cut > MUCH * all_of_them.count:
        yield (
            f"{cut:,} of {all_of_them.count:,} {kept} ({_percent(cut, all_of_them.count)}) are longer than "
            f"{now:,} tokens: {found.whole.truncated:,} are cut off, {found.too_long.count:,} dropped. With {limit:,} tokens "
            f"{then} would be, and the arrays would take {_size(_bytes_at(manifest, found, limit))} "
            f"instead of {_size(found.padding.bytes)}",
            f"--max-length {limit}",
        )
    elif manifest.layout == "padded" and found.padding.share > MUCH_PADDING and 2 <= limit < now:
        yield (
            f"nearly all {kept} have {limit:,} tokens or fewer, and rows hold {now:,}. With {limit:,} tokens "
            f"{then} would be cut off, and the arrays would take "
            f"{_size(_bytes_at(manifest, found, limit))} instead of {_size(found.padding.bytes)}",
            f"--max-length {limit}",
        )


def _by(manifest: Manifest, found: DatasetStatistics) -> Said:
    if found.by is not None and found.whole.examples and found.groups.keys() <= {""}:
        yield f"no record has {found.by!r} beside its conversation, or it is no text, number or truth value", "--by"


def _packing(manifest: Manifest, found: DatasetStatistics) -> Said:
    padding = found.padding
    if padding.packed_rows is not None and padding.share > MUCH_PADDING:
        saved = 1 - padding.packed_rows / max(padding.rows, 1)
        yield (
            f"{padding.share:.0%} of the places in the rows are padding: if conversations shared rows, about "
            f"{padding.packed_rows:,} would do instead of {padding.rows:,}, {saved:.0%} fewer to train on",
            "--layout packed, or ragged, which is packed when it is read",
        )


def _trained(manifest: Manifest, found: DatasetStatistics) -> Said:
    """The mask trains next to nothing, or next to all: of the whole, or of parts of it."""
    share = found.whole.trained_share
    if found.whole.examples and not LEAST_TRAINED <= share <= MOST_TRAINED:
        yield f"{share:.2%} of the tokens are trained: is that meant?", "sftprep template shows what is"
        return
    for what, parts in (("group", found.groups), ("source", found.sources)):
        odd = [
            f"{name} ({part.trained_share:.2%})"
            for name, part in parts.items()
            if part.examples and not LEAST_TRAINED <= part.trained_share <= MOST_TRAINED
        ]
        if odd and len(parts) > 1:
            more = f" and {len(odd) - _NAMED:,} more" if len(odd) > _NAMED else ""
            yield (
                f"of some {what}s next to none or nearly all of the tokens are trained: {', '.join(odd[:_NAMED])}{more}",
                "sftprep template shows what is",
            )
            return


def _contexts(manifest: Manifest, found: DatasetStatistics) -> Said:
    turns, served = manifest.totals.get("other_context", 0), manifest.config.get("contexts") == "served"
    if turns:
        yield (
            f"{_many(turns, 'turn')} trained in another context than a model is asked for them in: the template prints the "
            f"past in another way; {found.whole.other_context:,} of {found.whole.examples:,} examples have such turns",
            "" if served else "--contexts served",
        )


def _reasoning(manifest: Manifest, found: DatasetStatistics) -> Said:
    if dropped := manifest.totals.get("dropped_reasoning", 0):
        yield (
            f"{_many(dropped, 'turn')} trained without reasoning: the template prints it of the last turn only",
            "--contexts served",
        )


def _unprinted(manifest: Manifest, found: DatasetStatistics) -> Said:
    for kind, what in LEFT_OUT.items():
        count = manifest.totals.get(f"unprinted_{kind}", 0)
        count -= manifest.totals.get("dropped_reasoning", 0) if kind == "reasoning" else 0
        if count > 0:
            yield f"{count:,} {what}: the template does not print it", "--chat-template, or --on-unprinted reject"


def _unended(manifest: Manifest, found: DatasetStatistics) -> Said:
    if turns := manifest.totals.get("unended_turns", 0):
        yield (
            f"{_many(turns, 'turn')} trained without an end-of-turn token: of them no model learns to stop",
            "--end-of-turn",
        )


def _forged(manifest: Manifest, found: DatasetStatistics) -> Said:
    count = manifest.totals.get("control_text", 0)
    if count and manifest.config.get("control_tokens") == "allow":
        yield (
            f"{count:,} conversations have text that becomes control tokens, such as a turn of another's",
            "--control-tokens split",
        )


def _rejected(manifest: Manifest, found: DatasetStatistics) -> Said:
    yield from _lost(manifest, found.whole, "rejected", 0, "sftprep build --explain INPUT")


def _dropped(manifest: Manifest, found: DatasetStatistics) -> Said:
    """Not for their length, which has its own advice."""
    yield from _lost(manifest, found.whole, "dropped", found.too_long.count, "--train-on")


def _lost(manifest: Manifest, whole: Measures, kind: str, known: int, option: str) -> Said:
    count, records = whole.lost_as(kind) - known, manifest.totals["records"]
    if count > MUCH * records:
        reasons = [each for each in whole.lost if each.kind == kind and not each.reason.startswith("prompt longer")]
        why = f", most often for: {reasons[0].reason} (first {reasons[0].first})" if reasons else ""
        yield f"{count:,} of {records:,} records ({_percent(count, records)}) are {kind}{why}", option


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s are' if count != 1 else ' is'}"


RULES: dict[str, Callable[[Manifest, DatasetStatistics], Said]] = {
    "rejected": _rejected,
    "dropped": _dropped,
    "trained share": _trained,
    "length": _length,
    "by": _by,
    "padding": _packing,
    "contexts": _contexts,
    "reasoning": _reasoning,
    "unprinted": _unprinted,
    "unended turns": _unended,
    "forged": _forged,
}


def _all_lengths(found: DatasetStatistics) -> Distribution:
    """Of all examples, those among them that are dropped for it."""
    return Distribution.joined([found.whole.lengths, found.too_long])


def _bytes_at(manifest: Manifest, found: DatasetStatistics, limit: int) -> float:
    """What the arrays would take, about, with so many tokens a conversation: as many a token as now."""
    lengths, now = _all_lengths(found), found.padding
    if manifest.layout == "padded":
        rows = now.rows + found.too_long.count - found.too_long.above(limit)
        return now.bytes * rows * (limit - 1) / max(now.places, 1)
    return now.bytes * lengths.cut(limit).total / max(found.whole.tokens, 1)


def _percent(part: int, whole: int) -> str:
    share = part / max(whole, 1)
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
