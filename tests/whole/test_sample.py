"""The built-in sample: its files reproduce, and every conversation in it is well formed and renders."""

from __future__ import annotations

import json
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import make_sample_tokenizer
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sftprep.sample import CONVERSATIONS, TOKENIZER

RECORDS: list[dict[str, Any]] = [json.loads(line) for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines()]
WITH_TOOLS = [record for record in RECORDS if "tools" in record]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)


def render(tokenizer: PreTrainedTokenizerFast, record: dict[str, Any], **options: Any) -> str:
    return tokenizer.apply_chat_template(record["messages"], record.get("tools"), tokenize=False, **options)


def test_make_tokenizer_reproduces_the_files(tmp_path: Path) -> None:
    make_sample_tokenizer.main(tmp_path / "new" / "folder")

    made = {path.name: path.read_bytes() for path in (tmp_path / "new" / "folder").iterdir()}
    assert made == {path.name: path.read_bytes() for path in TOKENIZER.iterdir()}


def test_the_tokenizer_depends_on_the_conversations() -> None:
    chat_template = make_sample_tokenizer.CHAT_TEMPLATE.read_text(encoding="utf-8")

    whole, part = (make_sample_tokenizer.tokenizer_files(records, chat_template) for records in (RECORDS, RECORDS[:-1]))

    assert whole["tokenizer.json"] != part["tokenizer.json"]
    assert whole["tokenizer_config.json"] == part["tokenizer_config.json"]


def test_the_files_are_package_resources() -> None:
    sample = resources.files("sftprep.sample")

    assert (sample / "conversations.jsonl").read_bytes() == CONVERSATIONS.read_bytes()
    assert (sample / "tokenizer" / "tokenizer.json").read_bytes() == (TOKENIZER / "tokenizer.json").read_bytes()


def test_the_tokenizer_has_4000_ids_and_its_control_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert sorted(tokenizer.get_vocab().values()) == list(range(4000))
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token) == ("<|endoftext|>", "<|im_end|>", None)
    added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    assert added == dict.fromkeys(make_sample_tokenizer.SPECIAL, True) | dict.fromkeys(
        make_sample_tokenizer.MARKUP, False
    )


@pytest.mark.parametrize("record", RECORDS, ids=range(1, len(RECORDS) + 1))
def test_every_conversation_renders_and_decodes_to_itself(
    tokenizer: PreTrainedTokenizerFast, record: dict[str, Any]
) -> None:
    text = render(tokenizer, record)
    ids = tokenizer(text, add_special_tokens=False).input_ids

    assert tokenizer.decode(ids) == text
    assert len(ids) < 400
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == ids.count(tokenizer.eos_token_id)
    for message in record["messages"]:
        assert message["content"] in text
        assert message.get("reasoning_content", "") in text


def test_unseen_text_decodes_to_itself(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Ångström \x00 \t\r\n  naïve 🧑‍🚀🏴󠁧󠁢󠁥󠁮󠁧󠁿 ᚠᛇᚻ ១២៣ 'S 1234567 \u202e\ufffd"

    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_the_template_writes_tools_reasoning_calls_and_results(tokenizer: PreTrainedTokenizerFast) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    calls = [
        {"id": "a", "type": "function", "function": {"name": "add", "arguments": {"x": 1, "y": None}}},
        {"id": "b", "type": "function", "function": {"name": "add", "arguments": '{"x": 2}'}},
    ]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Go."},
        {"role": "assistant", "reasoning_content": "Two calls.", "content": "Adding.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "ä"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]

    assert render(tokenizer, {"messages": messages, "tools": [tool]}, add_generation_prompt=True) == (
        "<|im_start|>system\n"
        "Be brief.\n\n"
        "You can call these tools:\n"
        '{"name": "add", "parameters": {}}\n'
        "To call one, write its name and arguments as JSON between <tool_call> and </tool_call>.<|im_end|>\n"
        "<|im_start|>user\n"
        "Go.<|im_end|>\n"
        "<|im_start|>assistant\n"
        "<think>\nTwo calls.\n</think>\n\n"
        "Adding.\n"
        '<tool_call>\n{"name": "add", "arguments": {"x": 1, "y": null}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {"x": 2}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n"
        "<tool_response>\nä\n</tool_response>\n"
        "<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_template_refuses_an_unknown_role(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(Exception, match="role bot; expected one of"):
        render(tokenizer, {"messages": [{"role": "bot", "content": "Hi"}]})


@pytest.mark.parametrize("record", RECORDS, ids=range(1, len(RECORDS) + 1))
def test_roles_follow_each_other(record: dict[str, Any]) -> None:
    follows = {
        None: {"system", "user"},
        "system": {"user"},
        "user": {"assistant"},
        "assistant": {"user", "tool"},
        "tool": {"tool", "assistant"},
    }
    roles = [message["role"] for message in record["messages"]]

    assert record.keys() <= {"messages", "tools"}
    assert 2 <= len(roles) <= 9
    assert all(role in follows[before] for before, role in zip([None, *roles], roles, strict=False))
    assert roles[-1] == "assistant"


@pytest.mark.parametrize("record", WITH_TOOLS, ids=range(1, len(WITH_TOOLS) + 1))
def test_every_call_fits_its_tool_and_has_its_result(record: dict[str, Any]) -> None:
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in record["tools"]}
    asked: list[tuple[str, str]] = []
    answered: list[tuple[str, str]] = []
    for message in record["messages"]:
        for call in message.get("tool_calls", []):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            assert set(parameters[name]["required"]) <= arguments.keys() <= parameters[name]["properties"].keys()
            asked.append((call["id"], name))
        if message["role"] == "tool":
            json.loads(message["content"])
            answered.append((message["tool_call_id"], message["name"]))

    assert asked
    assert asked == answered


def test_the_sample_covers_what_it_promises() -> None:
    messages = [message for record in RECORDS for message in record["messages"]]
    text = "".join(message["content"] for message in messages)
    scripts = {unicodedata.name(character, "").split()[0] for character in set(text) if character.isalpha()}

    assert 55 <= len(RECORDS) <= 80
    assert len({json.dumps(record["messages"]) for record in RECORDS}) == len(RECORDS)
    assert len(WITH_TOOLS) >= 4
    assert sum("reasoning_content" in message for message in messages) >= 4
    assert sum(record["messages"][0]["role"] == "system" for record in RECORDS) >= 8
    assert sum("```" in message["content"] for message in messages) >= 8
    assert scripts >= {"LATIN", "CJK", "HIRAGANA", "HANGUL", "ARABIC", "DEVANAGARI", "CYRILLIC", "GREEK", "THAI"}
    for word in (
        "because",
        "deshalb",
        "Quelle",
        "¿Cuántos",
        "maior rio",
        "是",
        "です",
        "습니다",
        "عاصمة",
        "है",
        "Сколько",
    ):
        assert word in text, word
    assert "🌅" in text
