"""Train the sample's tokenizer: `python tests/make_sample_tokenizer.py [FOLDER]` rewrites it, byte for byte.

Byte-level BPE (Sennrich et al. 2016, over bytes as in GPT-2) on the sample's own conversations, as the chat template
renders them. Ids: merges and bytes first, then the control tokens, so that the vocabulary has `VOCABULARY` ids in all.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sftprep.sample import CONVERSATIONS, TOKENIZER

VOCABULARY = 4000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
CHAT_TEMPLATE = TOKENIZER.with_name("chat_template.jinja")


def tokenizer_files(conversations: list[dict[str, Any]], chat_template: str) -> dict[str, str]:
    """Return file name -> contents of a tokenizer folder that `AutoTokenizer.from_pretrained` loads.

    The contents depend on the arguments alone: the trainer breaks ties between equally frequent pairs by id.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2 does
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(MARKUP),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(conversations, chat_template), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": chat_template,
    }
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=2) + "\n",
    }


def _training_text(conversations: list[dict[str, Any]], chat_template: str) -> Iterator[str]:
    """Yield what lies between control tokens: those are never merged with their surroundings."""
    renderer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    control = re.compile("|".join(re.escape(token) for token in SPECIAL + MARKUP))
    for conversation in conversations:
        text = renderer.apply_chat_template(
            conversation["messages"], conversation.get("tools"), chat_template=chat_template, tokenize=False
        )
        yield from filter(None, control.split(text))


def main(folder: Path = TOKENIZER) -> None:
    """Write tokenizer.json and tokenizer_config.json to `folder`."""
    lines = CONVERSATIONS.read_text(encoding="utf-8").splitlines()
    files = tokenizer_files([json.loads(line) for line in lines], CHAT_TEMPLATE.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (folder / name).write_text(contents, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
