"""Messages through templates of the four kinds, down to the token; and what templates refuse."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ecr_jax.inference.chat_template import chat_ids
from ecr_jax.pretrained.language_models import load_tokenizer

LLAMA_2 = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }} {{ eos_token }}{{ bos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nBe kind<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DIALOGPT = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"

MARKS = ["<s>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"]
MESSAGES = [
    {"role": "user", "content": "Hi, films?"},
    {"role": "assistant", "content": "Alien"},
    {"role": "user", "content": "why"},
]


def tokenizer(template):
    """A token a byte, beside the marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    chat_tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    chat_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    chat_tokenizer.decoder = decoders.ByteLevel()
    chat_tokenizer.add_special_tokens(MARKS)
    return PreTrainedTokenizerFast(
        tokenizer_object=chat_tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template
    )


@pytest.mark.parametrize(
    ("template", "text", "marks"),
    [
        (LLAMA_2, "<s>[INST] Hi, films? [/INST] Alien </s><s>[INST] why [/INST]", 3),
        (
            LLAMA_3,
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi, films?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nAlien<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nwhy<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            12,
        ),
        (
            CHATML,
            "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi, films?<|im_end|>\n"
            "<|im_start|>assistant\nAlien<|im_end|>\n<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n",
            9,
        ),
        (DIALOGPT, "Hi, films?</s>Alien</s>why</s>", 3),
    ],
    ids=["llama 2", "llama 3", "chatml", "dialogpt"],
)
def test_four_kinds(template, text, marks):
    chat_tokenizer = tokenizer(template)
    ids = chat_ids(chat_tokenizer, MESSAGES)
    assert chat_tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert all(type(token) is int for token in ids)
    assert (
        sum(token in chat_tokenizer.all_special_ids or token >= 256 for token in ids) == marks
    )  # each mark is one token


def test_smollm2(hub_model):
    chat_tokenizer = load_tokenizer(hub_model("smollm2-135m-instruct"))
    ids = chat_ids(chat_tokenizer, MESSAGES)
    text = chat_tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert text.endswith("<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n")
    assert text.startswith("<|im_start|>system\n") and text.count("<|im_start|>") == 5
    assert ids.count(chat_tokenizer.convert_tokens_to_ids("<|im_start|>")) == 5
    own = chat_ids(chat_tokenizer, [{"role": "system", "content": "Be brief"}, *MESSAGES])
    assert chat_tokenizer.decode(own).startswith("<|im_start|>system\nBe brief<|im_end|>")


def test_what_cannot_be_serialised():
    with pytest.raises(ValueError, match="the tokenizer has no chat template: use that of a chat model"):
        chat_ids(tokenizer(None), MESSAGES)
    with pytest.raises(ValueError, match="no messages"):
        chat_ids(tokenizer(CHATML), [])
    with pytest.raises(ValueError, match="rejects the roles assistant, user: roles must alternate"):
        chat_ids(tokenizer(LLAMA_2), MESSAGES[1:])
