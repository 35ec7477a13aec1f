"""Small data and models that many tests share: a film graph and a corpus as files, word tokenizers, random models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ecr_jax import config as configs
from ecr_jax.config import CorpusConfig, LoraConfig, TrainConfig, presets
from ecr_jax.models.lm import convert
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.pretrained.language_models import Pretrained, save

END = "<end>"


def uri(name):
    return f"<http://dbpedia.org/resource/{name}>"


FILMS = {
    "Ronin_(film)": "Ronin (1998)",
    "Thief_(film)": "Thief (1981)",
    "Collateral_(film)": "Collateral (2004)",
    "Sleuth_(film)": "Sleuth (1972)",
    "Zodiac_(film)": "Zodiac (2007)",
    "Brazil_(film)": "Brazil (1985)",
}
TRIPLES = [
    ("Thief_(film)", "director", "Michael_Mann"),
    ("Collateral_(film)", "director", "Michael_Mann"),
    ("Ronin_(film)", "starring", "Robert_De_Niro"),
    ("Brazil_(film)", "starring", "Robert_De_Niro"),
    ("Sleuth_(film)", "genre", "Mystery_film"),
    ("Zodiac_(film)", "genre", "Mystery_film"),
]


def write_graph(folder):
    """A UniCRS export of FILMS and TRIPLES; every film is an item."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({*FILMS, *(tail for _, _, tail in TRIPLES)})
    ids = {name: number for number, name in enumerate(names)}
    relations = {"<http://dbpedia.org/ontology/director>": 0, "<http://dbpedia.org/ontology/starring>": 1,
                 "<http://dbpedia.org/ontology/genre>": 2, "self_loop": 3}  # fmt: skip
    number = {"director": 0, "starring": 1, "genre": 2}
    edges = {ids[name]: [[3, ids[name]]] for name in names}
    for head, relation, tail in TRIPLES:
        edges[ids[head]].append([number[relation], ids[tail]])
    (folder / "entity2id.json").write_text(json.dumps({uri(name): ids[name] for name in names}))
    (folder / "relation2id.json").write_text(json.dumps(relations))
    (folder / "dbpedia_subkg.json").write_text(json.dumps(edges))
    (folder / "item_ids.json").write_text(json.dumps([ids[name] for name in FILMS]))


def movie_rows():
    return [
        {"movieId": str(100 + number), "name": title, "dbpedia": uri(name), "genre": ["crime"], "director": [],
         "writer": [], "star": [], "plot": "Someone wants something." if number == 0 else ""}
        for number, (name, title) in enumerate(FILMS.items())
    ]  # fmt: skip


def turn(role, text, films=(), emotions=(), feedback="like", acts=()):
    """A turn of the JSONL format; `films` are keys of FILMS whose titles the text holds."""
    mentions = []
    for name in films:
        title = FILMS[name]
        start = text.index(title)
        mentions.append({"start": start, "end": start + len(title), "name": title, "entity": uri(name),
                         "feedback": feedback})  # fmt: skip
    values = {"role": role, "text": text, "mentions": mentions, "acts": list(acts)}
    return values | ({"emotions": list(emotions)} if emotions else {})


def conversation(identifier, liked, offered, emotion="like", feedback="like"):
    """The seeker names one film, gets another offered, replies, and gets a third."""
    third = next(name for name in FILMS if name not in (liked, offered))
    return {
        "id": identifier,
        "turns": [
            turn("seeker", f"hello i liked {FILMS[liked]} a lot", [liked], [emotion], acts=["prefer"]),
            turn(
                "recommender",
                f"then you should see {FILMS[offered]} tonight .",
                [offered],
                feedback=feedback,
                acts=["recommend"],
            ),
            turn("seeker", "that is one with Robert De Niro , what else ?", (), ["curious"], acts=["seen", "request"]),
            turn("recommender", f"maybe {FILMS[third]} is for you .", [third], feedback="unsaid", acts=["recommend"]),
        ],
    }


def write_corpus(folder, train=6):
    """The corpus as files, and the settings that read it."""
    write_graph(folder / "kg")
    names, emotions = list(FILMS), ["like", "negative", "nostalgia", "happy"]
    counts = {"train": train, "valid": 2, "test": 2}
    for shift, (split, count) in enumerate(counts.items()):
        rows = [
            conversation(f"{split}-{i}", names[(i + shift) % 6], names[(i + 1 + 2 * shift) % 6],
                         emotions[i % 4], ["like", "dislike"][i % 2])
            for i in range(count)
        ]  # fmt: skip
        write_lines(folder / f"{split}.jsonl", rows)
    write_lines(folder / "movies.jsonl", movie_rows())
    write_lines(
        folder / "reviews.jsonl",
        [
            {"movie": title, "review": f"what a night this was , number {i} of them all .", "entities": "Rain, Night",
             "knowledge": "None", "split": "valid" if i % 3 == 0 else "train"}
            for i, title in enumerate(FILMS.values())
        ],
    )  # fmt: skip
    return CorpusConfig(name="jsonl", data=folder, train="train.jsonl", valid="valid.jsonl", test="test.jsonl",
                        graph="kg", movies="movies.jsonl", reviews="reviews.jsonl", act_dialogues=0)  # fmt: skip


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tokenizer(words, marks=False):
    """One token a word, split at spaces; unknown words share a token. `marks` adds [CLS] and [SEP], as BERT does."""
    vocabulary = [END, "<unknown>", "[CLS]", "[SEP]", *sorted(set(words))]
    words_only = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unknown>"))
    words_only.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if marks:
        marks_and_ids = [("[CLS]", 2), ("[SEP]", 3)]
        words_only.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks_and_ids)
    return PreTrainedTokenizerFast(tokenizer_object=words_only, eos_token=END, unk_token="<unknown>")


def random_model(config, seed=0, scale=0.3):
    """A model of any configuration with random weights, without compiling an initialisation."""
    module = convert.module_of(config)(config)
    tokens, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    shapes = jax.eval_shape(module.init, jax.random.key(0), tokens, mask)["params"]
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32), shapes)
    return Pretrained(module, params, config)


def llama(vocab_size, layers=1):
    return LlamaConfig(vocab_size, 16, layers, heads=2, kv_heads=1, head_dim=8, hidden=24, positions=512, tied=True)


def bert(vocab_size):
    return BertConfig(vocab_size, 16, 1, heads=2, hidden=24, positions=64)


def write_llama(folder, words):
    """A Hugging Face folder of a random Llama that knows these words."""
    words_tokenizer = tokenizer(words)
    save(folder, random_model(llama(len(words_tokenizer))), words_tokenizer)
    return Path(folder)


def write_bert(folder, words):
    """A Hugging Face folder of a random BERT that knows these words."""
    words_tokenizer = tokenizer(words, marks=True)
    save(folder, random_model(bert(len(words_tokenizer))), words_tokenizer)
    return Path(folder)


WORDS = (
    "User: System: movie hello i liked a lot then you should see tonight . that is one with Robert De Niro , what else "
    "? maybe for you what night this was number of them all Movie Name: Related Entities: Knowledge from KG: First "
    "Sentence: plan: recommend answer | about: films: heard: tone: unknown Seeker Feels: Tone: "
    "Rain, Night None director starring genre Michael Mann Ronin Thief Collateral Sleuth Zodiac Brazil 0 1 2 "
    "3 4 5 (1998) (1981) (2004) (1972) (2007) (1985)"
).split()
"""The words of the corpus of `write_corpus` and of the prompts about it."""


def tiny_config(folder):
    """A config named "tiny" with random models and the corpus of `write_corpus`: two steps of training a stage."""
    language_model = str(write_llama(folder / "llama", WORDS))
    encoder = str(write_bert(folder / "bert", WORDS))
    demo = configs.load("demo")

    def shortened(stage, **changes):
        return dataclasses.replace(getattr(demo, stage), train=TrainConfig(steps=2, batch_size=8), **changes)

    prompt = dataclasses.replace(demo.recommender.prompt, entity_width=8, emotion_width=4, bases=2)
    return dataclasses.replace(
        demo,
        name="tiny",
        language_model=language_model,
        corpus=write_corpus(folder / "data"),
        encoder=dataclasses.replace(demo.encoder, name=encoder, turn_tokens=24, entity_tokens=16),
        recommender=dataclasses.replace(
            demo.recommender, layers=1, prompt=prompt, max_tokens=32, max_states=32, max_entities=4, neighbours=4,
            cooccurring_items=4, rated_items=4, nearest_items=4, similar_films=4, heads=presets.improved_heads(),
            cooccurrence_power=0.5,
        ),
        emotion=shortened("emotion", hidden=8),
        acts=shortened("acts", hidden=8),
        fusion=shortened("fusion"),
        conversation=shortened("conversation", begin_with=None, layers=None, adapter=LoraConfig(rank=2), max_reply=12,
                               valid_examples=4, candidates=4),
        recommendation=shortened("recommendation"),
        response=shortened("response", begin_with=None, language_model=language_model, quantize="int8",
                           adapter=LoraConfig(rank=2, dropout=0.1), max_prompt=32, max_review=12, valid_examples=4,
                           candidates=4),
        evaluation=dataclasses.replace(demo.evaluation, resamples=20, replies=2, whole_replies=2, samples=1),
        prepared=folder / "prepared",
        runs=folder / "runs",
    )  # fmt: skip


def managed_rows(split, count):
    """Conversations with acts: who likes a film is asked for more; who asks what else gets a film."""
    films = list(FILMS)
    return [
        {
            "id": f"{split}-{number}",
            "turns": [
                turn("seeker", f"hello i liked {FILMS[films[number % 6]]} a lot", [films[number % 6]]),
                turn("recommender", "is that one with Robert De Niro ?", acts=["ask:genre"]),
                turn("seeker", "that is one , what else ?"),
                turn(
                    "recommender",
                    f"maybe {FILMS[films[(number + 1) % 6]]} is for you .",
                    [films[(number + 1) % 6]],
                    acts=["recommend"],
                ),
            ],
        }
        for number in range(count)
    ]
