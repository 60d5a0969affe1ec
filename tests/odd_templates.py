"""Chat templates that print turns in ways that make them hard to tell apart."""

from __future__ import annotations

from breeds import Breed

_IM = ("<|im_start|>", "<|im_end|>")

# Separators stand between turns: the prompt begins with what the next turn's text does not hold.
SEPARATED = Breed(
    """\
{%- for message in messages %}
    {{- message.role + ': ' + message.content }}{% if not loop.last %}{{ '\n###\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\n###\nassistant: ' }}{% endif %}""",
)


# Prints an answer when it comes to the question after it, or after the loop.
DELAYED = Breed(
    """\
{%- set ns = namespace(answer=none, thought=none) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if ns.answer is not none %}
            {{- '<|assistant|>' }}
            {%- if ns.thought %}{{ '(' + ns.thought + ')' }}{% endif %}
            {{- ns.answer + '<|end|>\n' }}
            {%- set ns.answer = none %}
        {%- endif %}
        {{- '<|user|>' + message.content + '<|end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set ns.answer = message.content %}{% set ns.thought = message.reasoning_content %}
    {%- endif %}
{%- endfor %}
{%- if ns.answer is not none %}{{ '<|assistant|>' + ns.answer + '<|end|>\n' }}{% endif %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}""",
    {"eos_token": "<|end|>"},
    ("<|user|>", "<|assistant|>", "<|end|>"),
)


# Prints tool results beside the call that asked for them.
EARLY_RESULTS = Breed(
    """\
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ '<|user|>' + message.content + '<|end|>' }}
    {%- elif message.tool_calls %}
        {{- '<|assistant|>' + message.tool_calls[0].function | tojson + '<|call|>' }}
        {%- if not loop.last and loop.nextitem.role == 'tool' %}{{ '<|result|>' + loop.nextitem.content + '<|end|>' }}{% endif %}
        {{- message.content }}
    {%- elif message.role == 'assistant' %}{{ '<|assistant|>' + message.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}""",
    {"eos_token": "<|end|>"},
    ("<|user|>", "<|assistant|>", "<|end|>", "<|call|>", "<|result|>"),
)


# Does not loop over messages at all.
BY_INDEX = Breed(
    """\
{%- for i in range(messages | length) %}
    {{- '<|im_start|>' + messages[i].role + '\n' + messages[i].content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    {"eos_token": "<|im_end|>"},
    _IM,
)


# Loops over messages that it makes itself.
REBUILT = Breed(
    """\
{%- set ns = namespace(list=[]) %}
{%- for message in messages %}
    {%- set ns.list = ns.list + [{'role': 'model' if message.role == 'assistant' else message.role, 'content': message.content | trim}] %}
{%- endfor %}
{%- for message in ns.list %}
    {{- '<start_of_turn>' + message.role + '\n' + message.content + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}""",
    {"bos_token": "<bos>", "eos_token": "<eos>"},
    ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
)

LAST_APART = Breed(
    """\
{%- for message in messages[:-1] %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}
{%- set last = messages[-1] %}
{%- if last.role == 'assistant' %}{{ '<|im_start|>assistant\n' + last.content + '<|im_end|>\n' }}
{%- else %}{{ '<|im_start|>' + last.role + '\n' + last.content + '<|im_end|>\n' }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    {"eos_token": "<|im_end|>"},
    _IM,
)

MACROS = Breed(
    """\
{%- macro turn(role, content) %}{{ '<|im_start|>' + role + '\n' + content + '<|im_end|>\n' }}{% endmacro %}
{%- macro conversation(messages) %}
    {%- for message in messages %}
        {%- if message.role == 'tool' %}{% continue %}{% endif %}
        {{- turn(message.role, message.content) }}
        {%- if message.content == 'stop' %}{% break %}{% endif %}
    {%- endfor %}
{%- endmacro %}
{{- conversation(messages) }}
{%- if add_generation_prompt %}{{ turn('assistant', '')[:-11] }}{% endif %}""",
    {"eos_token": "<|im_end|>"},
    _IM,
)

SET_BLOCK = Breed(
    """\
{%- set body %}
    {%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}
{%- endset %}
{{- body }}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    {"eos_token": "<|im_end|>"},
    _IM,
)


# as Gemma 4's: after a tool's result it asks for nothing
SILENT = Breed(
    """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + (message.tool_calls | tojson if message.tool_calls else message.content) }}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    {"eos_token": "<|im_end|>"},
    _IM,
)


FALCON = Breed(
    """\
{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}
{%- if message['role'] == 'system' %}{{ 'System: ' + message['content'] }}
{%- elif message['role'] == 'user' %}{{ 'User: ' + message['content'] }}
{%- elif message['role'] == 'assistant' %}{{ 'Falcon: ' + message['content'] }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\nFalcon:' }}{% endif %}""",
    {"eos_token": "<|endoftext|>"},
    ("<|endoftext|>",),
)


VICUNA = Breed(
    """\
{{ 'A chat between a user and an assistant.' }}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ ' USER: ' + message.content }}
    {%- elif message.role == 'assistant' %}{{ ' ASSISTANT: ' + message.content + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}""",
    {"bos_token": "<s>", "eos_token": "</s>"},
    ("<s>", "</s>", "<unk>"),
)


# Prints its own first message, and the tools, in the turn of the first message, whosever that is.
WELCOMING = Breed(
    """\
{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}{{ '<|im_start|>system\\nassistant: be kind.' + (tools | tojson if tools else '') + '<|im_end|>\\n' }}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content }}{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}""",
    {"eos_token": "<|im_end|>"},
    _IM,
    ("<think>",),
)


# Indented as it stands in the file, so that a turn has other white space than the prompt.
INDENTED = Breed(
    """\
{% for message in messages %}
    {{ message.role | capitalize }}: {{ message.content }}
{% endfor %}
{% if add_generation_prompt %}
Assistant:
{% endif %}""",
)


# As DeepSeek V3.2: the prompt opens a thought and closes it, the turn has only its end; after a result, nothing else of the prompt.
CLOSED_THOUGHT = Breed(
    """\
{%- for message in messages %}
    {%- if message.role == 'tool' %}{{ '<|result|>' + message.content }}
    {%- elif message.role == 'user' %}{{ '<|user|>' + message.content }}
    {%- else %}
        {{- '<|assistant|>' if messages[loop.index0 - 1].role == 'user' }}
        {{- '</think>' + message.content }}{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}
        {{- '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think></think>' }}{% endif %}""",
    {"eos_token": "<|end|>"},
    ("<|user|>", "<|assistant|>", "<|result|>", "<|end|>"),
    ("<think>", "</think>"),
)


# As DeepSeek R1's: words beside a call stand behind a second header, where no server asks for them.
TWO_HEADERS = Breed(
    """\
{%- for message in messages %}
    {%- if message.tool_calls %}{{ '<|assistant|>' + message.tool_calls[0].function | tojson + '<|end|>' }}{% endif %}
    {{- '<|' + message.role + '|>' + message.content + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>' }}{% endif %}""",
    {"eos_token": "<|end|>"},
    ("<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
    ("<think>",),
)


# As Gemma 4: ends a call with the token that its result begins with, whether or not there is one.
OPEN_CALL = Breed(
    """\
{%- for message in messages %}
    {%- if message.role == 'tool' %}{{ '<|result>' + message.content + '<result|>' }}
    {%- else %}
        {{- '<|turn>' + message.role + '\\n' + message.content }}
        {%- if message.tool_calls %}
            {{- '<|call>' + message.tool_calls[0].function | tojson + '<call|>' + ('<|result>' if loop.last else '') }}
        {%- else %}{{ '<turn|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<|turn>assistant\\n' }}{% endif %}""",
    {"eos_token": "<eos>"},
    ("<eos>", "<|turn>", "<turn|>", "<|call>", "<call|>", "<|result>", "<result|>"),
)
