"""Are `--header` and `--end-of-turn` what they are said to be? One that no answer has would be passed over without a word."""

from __future__ import annotations

from collections.abc import Iterable

from sftprep.config import BuildConfig
from sftprep.errors import ConfigError
from sftprep.template.probes import Messages
from sftprep.template.turns import Rendering


def check_overrides(config: BuildConfig, talk: Iterable[tuple[Messages, Rendering]]) -> None:
    """Look for them in plain talk: messages, and what the template made of them.

    Raises ConfigError for a header that no answer begins with, or an end that no answer has.
    """
    answers = [
        (rendering.text, span)
        for messages, rendering in talk
        for span in rendering.spans
        if messages[span.message]["role"] == "assistant"
    ]
    for option, given, what, found in (
        (
            "--header",
            config.header,
            "stands before no answer",
            [text[span.turn : span.start] for text, span in answers],
        ),
        (
            "--end-of-turn",
            config.end_of_turn,
            "ends no answer",
            [text[span.start : span.stop] for text, span in answers],
        ),
    ):
        if given is None or not answers:
            continue
        if not given or not any(each.endswith(given) for each in found):
            raise ConfigError(
                f"{option} {given!r}: {what} of this chat template; `sftprep template` shows what does, and without the option "
                "it is looked for"
            )
