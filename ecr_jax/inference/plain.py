"""A plain reply made from the plan: always right, and said in varying words.

It is what the agent says where no written candidate passes the checks. Everything in it comes from the plan.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

from ecr_jax.data.acts import ActName, Attribute
from ecr_jax.features.plans import Fact
from ecr_jax.inference.planning import Answer, Decision
from ecr_jax.inference.wishes import Wish
from ecr_jax.knowledge.attributes import spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph

_GREETINGS = (
    "Hi!",
    "Hello!",
    "Hi there!",
    "Hello there!",
    "Hey!",
    "Hi, nice to meet you!",
    "Hello, how nice of you to write!",
    "Good to meet you!",
    "Hello, welcome!",
    "Hey there!",
)
_COMFORT = (
    "I'm sorry you feel like that.",
    "That sounds hard, I'm sorry.",
    "I'm sorry to hear that.",
    "That doesn't sound easy.",
    "Oh no, that must be hard.",
    "I'm sorry, I hope it gets better soon.",
)
_REACTIONS: Mapping[str, tuple[str, ...]] = {
    "negative": (
        "I see, I'll keep that in mind.",
        "Fair enough.",
        "I understand.",
        "All right, not that then.",
        "Point taken.",
    ),
    "happy": ("I'm glad to hear that!", "That's great!", "How nice!", "Lovely!", "That makes me happy too!"),
    "like": (
        "Good choice!",
        "I can see why you like that.",
        "That's a good one!",
        "You have good taste!",
        "Good taste!",
    ),
    "nostalgia": ("Those memories stay with us.", "It's lovely to look back.", "What a nice memory."),
    "surprise": ("I can imagine!", "That is a surprise!", "Oh, really!"),
    "grateful": ("You're welcome!", "My pleasure!", "Gladly!"),
    "agreement": ("Exactly.", "I think so too.", "Right."),
    "": ("I see.", "All right.", "Okay."),
}
_BEFORE_ASKING = (
    "",
    "",
    "Let's see.",
    "All right.",
    "Let me ask you something.",
    "So that I can help you:",
    "Tell me a bit more.",
    "To get an idea:",
    "One question first.",
    "Let's find you something.",
    "Help me a little:",
    "I'd like to know more.",
    "Just so that I know:",
    "Let me think about it with you.",
)
_ASKED: Mapping[Attribute | None, tuple[str, ...]] = {
    Attribute.FILM: (
        "Which film did you enjoy lately?",
        "What is a film that you love?",
        "Can you name a film that you liked?",
        "What was the last film that you really enjoyed?",
        "Is there a film that you could watch again and again?",
        "Which film would you show to a friend?",
        "Which film has stayed with you?",
        "What did you watch last that was good?",
        "Is there a film that you never get tired of?",
    ),
    Attribute.GENRE: (
        "What are you in the mood for: {options}?",
        "Would you rather see {options}?",
        "What kind of film would you like, {options}?",
        "Should it be {options}?",
        "Which would suit you best, {options}?",
        "Do you feel like {options}?",
        "What would you like to see tonight: {options}?",
        "Should I look for {options}?",
    ),
    Attribute.CAST: (
        "Is there an actor or a director whose films you like?",
        "Do you have a favourite actor or director?",
        "Whose films do you like to watch?",
        "Which actor or director do you never miss?",
        "Is there somebody whom you like to see on the screen?",
        "Who is in the films that you like, or who made them?",
    ),
    Attribute.YEAR: (
        "Would you like something recent or something older?",
        "Do you prefer new films or older ones?",
        "Should it be a recent film or an older one?",
        "Are you more for recent films or for the classics?",
        "Should I look among the new films or the older ones?",
    ),
    None: (
        "What else should I know about your taste?",
        "What matters most to you in a film?",
        "Can you tell me more about what you like?",
        "What should the film be like?",
        "What would make it a good evening for you?",
        "What do you like in a film?",
        "Is there anything that the film should have?",
        "What should I look for?",
    ),
}
_AFTER_ASKING: Mapping[Attribute | None, tuple[str, ...]] = {
    Attribute.FILM: (
        "",
        "",
        "The first one that comes to mind will do.",
        "It can be old or new.",
        "Any kind of film will do.",
        "It doesn't have to be a famous one.",
    ),
    Attribute.GENRE: (
        "",
        "",
        "If it's none of these, just tell me.",
        "Anything else is fine, too.",
        "Or name another kind.",
    ),
    Attribute.CAST: ("", "", "One name is enough.", "It's fine if there is nobody.", "Anybody will do."),
    Attribute.YEAR: ("", "", "Either is fine with me.", "If it makes no difference, just say so."),
    None: ("", "", "Anything helps.", "Take your time.", "A word or two is enough."),
}
_COMFORTING_ASKED = (
    "Would you like something light to cheer you up, or something quiet to get lost in?",
    "Should it be something light, or something that goes with your mood?",
    "Would something light help, or would you rather see something calm?",
    "Do you want to be cheered up, or is it a day for something quiet?",
)
_WHICH_FILM = (
    "Which film do you mean?",
    "I'm not sure which film you mean. Which one is it?",
    "Which film are you asking about?",
    "Can you tell me which film you mean?",
)
_NOT_UNDERSTOOD = (
    "I'm afraid I didn't understand that.",
    "Sorry, I didn't get that.",
    "I'm not sure what you mean.",
    "I couldn't make sense of that, sorry.",
    "That went past me, I'm afraid.",
    "Sorry, that was too hard for me.",
    "I don't quite follow, sorry.",
    "Hmm, I'm not sure what that means.",
)
_CLOSINGS = (
    (
        "You're welcome!",
        "Gladly!",
        "Any time!",
        "Glad I could help.",
        "My pleasure!",
        "With pleasure!",
        "Happy to help!",
        "You're very welcome!",
        "It was nice talking to you.",
    ),
    (
        "Enjoy the film!",
        "Have a good time.",
        "Enjoy!",
        "Have fun watching!",
        "Have a nice evening.",
        "I hope you like it.",
        "Enjoy your evening!",
        "I hope it's a good one.",
        "Have a great time with it.",
        "Make yourself comfortable and enjoy.",
        "Let me know how you liked it.",
    ),
    (
        "",
        "",
        "",
        "Until next time!",
        "Come back whenever you like.",
        "I'm here if you need another one.",
        "See you soon!",
    ),
)
_COMFORTING_CLOSINGS = (
    ("You're welcome.", "Any time.", "Of course."),
    ("Take care of yourself.", "All the best to you.", "Look after yourself.", "I hope you feel better soon."),
    ("", "", "Come back whenever you like.", "I'm here if you want to talk about films."),
)
_CHATS = (
    "I'm here to talk about films.",
    "Films are what I know best.",
    "Let's talk about films.",
    "I only know about films, I'm afraid.",
    "I'd rather talk about films.",
    "That's outside my world, which is films.",
    "Films are all that I can talk about.",
)
_UNMET = (
    "I don't know a film that has all of that, but this comes close.",
    "Nothing I know is exactly that; this is the closest.",
    "I can't find a film that fits all of it, so here is the closest.",
    "There is none that I know with all of that, but one comes near.",
    "I don't have exactly that, only something close.",
)
_ONE = (
    "How about {0}?",
    "You could watch {0}.",
    "I'd recommend {0}.",
    "I think {0} could be for you.",
    "Have you thought of {0}?",
    "Maybe {0} is what you are looking for.",
    "Then {0} might be a good choice.",
    "What do you think of {0}?",
    "I have {0} in mind.",
    "My suggestion is {0}.",
    "Let me suggest {0}.",
    "You might enjoy {0}.",
    "{0} comes to mind.",
    "Why not try {0}?",
    "Do you know {0}?",
    "{0} would be my choice.",
)
_COMFORTING_ONE = (
    "Maybe {0} is good company tonight.",
    "{0} might take your mind off things.",
    "You could try {0}.",
    "Perhaps {0} would do you good.",
    "Maybe {0} could brighten the evening a little.",
    "I would put on {0}.",
)
_CALM_ONE = (
    "You could try {0}.",
    "Then maybe {0}.",
    "Perhaps {0} is more to your taste.",
    "{0} might suit you better.",
    "Let's try {0} instead.",
    "What about {0}, then?",
    "Maybe {0} is closer to what you want.",
    "{0} would be another idea.",
)
_TWO = (
    "How about {0} or {1}?",
    "You could watch {0} or {1}.",
    "I'd recommend {0} and {1}.",
    "{0} and {1} come to mind.",
    "Have a look at {0} and {1}.",
)
_THREE = (
    "How about {0}, {1} or {2}?",
    "I'd recommend {0}, {1} and {2}.",
    "{0}, {1} and {2} come to mind.",
    "Have a look at {0}, {1} and {2}.",
)
_FILM_IS_SUBJECT = ("It {}.", "It {}.", "The film {}.", "That one {}.", "This one {}.")
_ANSWERS = ("{}.", "{}.", "As far as I know, {}.", "From what I know, {}.")
_PREDICATES: Mapping[Attribute, str] = {
    Attribute.DIRECTOR: "was directed by {}",
    Attribute.CAST: "stars {}",
    Attribute.WRITER: "was written by {}",
    Attribute.YEAR: "came out in {}",
    Attribute.COUNTRY: "was made in {}",
    Attribute.LANGUAGE: "is in {}",
    Attribute.COMPANY: "was produced by {}",
    Attribute.COMPOSER: "has music by {}",
    Attribute.RUNTIME: "runs for {}",
}
_UNKNOWN: Mapping[Attribute, str] = {
    Attribute.DIRECTOR: "who directed {}",
    Attribute.CAST: "who is in {}",
    Attribute.WRITER: "who wrote {}",
    Attribute.YEAR: "when {} came out",
    Attribute.GENRE: "what genre {} is",
    Attribute.COUNTRY: "where {} was made",
    Attribute.LANGUAGE: "what language {} is in",
    Attribute.COMPANY: "who produced {}",
    Attribute.COMPOSER: "who wrote the music of {}",
    Attribute.RUNTIME: "how long {} is",
    Attribute.PLOT: "what {} is about",
    Attribute.FILM: "more about {}",
}
_NOT_KNOWN = ("I don't know {}.", "I'm afraid I don't know {}.", "Sorry, I don't know {}.")
_GENRE_NOUNS = frozenset(
    "comedy drama thriller musical western documentary mystery romance biography parody biopic slasher".split()
)
_WITH_ARTICLE = frozenset(
    ("usa", "uk", "united states", "united kingdom", "netherlands", "soviet union", "philippines", "czech republic")
)


_TRIES = 20
"""Choices of words until one is taken that was said before."""


def plain_reply(decision: Decision, graph: KnowledgeGraph, seed: int, said: Collection[str] = ()) -> str:
    """A reply that carries out a plan in plain sentences.

    Args:
      decision: what the reply is to do.
      graph: for the names of its films.
      seed: the choice of words follows from it.
      said: replies of the dialogue so far; none of them is said again as long as there are other words.
    """
    replies = (_plain_reply(decision, graph, random.Random(seed + attempt)) for attempt in range(_TRIES))
    first = next(replies)
    return next((reply for reply in (first, *replies) if reply not in said), first)


def _plain_reply(decision: Decision, graph: KnowledgeGraph, rng: random.Random) -> str:
    said: Mapping[ActName, Callable[[], str]] = {
        ActName.GREET: lambda: rng.choice(_GREETINGS),
        ActName.REACT: lambda: rng.choice(
            _COMFORT if decision.comfort else _REACTIONS.get(decision.plan.heard, _REACTIONS[""])
        ),
        ActName.ASK: lambda: _asked(decision, rng),
        ActName.RECOMMEND: lambda: _recommended(decision, graph, rng),
        ActName.ANSWER: lambda: _answered(decision, graph, rng),
        ActName.EXPLAIN: lambda: _explained(decision, graph, rng),
        ActName.CLOSE: lambda: _closed(decision, rng),
        ActName.CHAT: lambda: rng.choice(_NOT_UNDERSTOOD if decision.puzzled else _CHATS),
    }
    names = list(dict.fromkeys(act.name for act in decision.plan.acts))
    if ActName.RECOMMEND in names and ActName.EXPLAIN in names:
        names.remove(ActName.EXPLAIN)  # a recommendation states its facts itself
    return " ".join(said[name]() for name in names)


def plain_addition(decision: Decision) -> str:
    """A sentence of the plan's facts about the first recommended film, or "" where there are none."""
    first = len(decision.plan.films) - decision.plan.recommended
    facts = [fact for fact in decision.plan.facts if fact.film == first and fact.values]
    return f"It {_joined(predicates(facts))}." if facts else ""


def predicates(facts: Sequence[Fact]) -> list[str]:
    """The facts of one film as predicates; who wrote and directed it is said once."""
    values = {fact.attribute: fact.values for fact in facts}
    if Attribute.DIRECTOR not in values or values[Attribute.DIRECTOR] != values.get(Attribute.WRITER):
        return [predicate(fact) for fact in facts]
    rest = [fact for fact in facts if fact.attribute not in (Attribute.DIRECTOR, Attribute.WRITER)]
    return [f"was written and directed by {_joined(values[Attribute.DIRECTOR])}", *map(predicate, rest)]


def predicate(fact: Fact) -> str:
    """A fact as the predicate of a sentence, e.g. "was directed by Joel Coen and Ethan Coen"."""
    if fact.attribute == Attribute.GENRE:
        if len(fact.values) > 1:
            return f"mixes {_joined(fact.values)}"
        genre = next(iter(fact.values))
        article = "an" if genre[0] in "aeiou" else "a"
        return f"is {article} {genre}" if genre in _GENRE_NOUNS else f"is {article} {genre} film"
    values = fact.values
    if fact.attribute == Attribute.COUNTRY:
        values = [f"the {value}" if value.lower() in _WITH_ARTICLE else value for value in values]
    return _PREDICATES[fact.attribute].format(_joined(values))


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _asked(decision: Decision, rng: random.Random) -> str:
    attribute = next(act.attribute for act in decision.plan.acts if act.name == ActName.ASK)
    if decision.unclear:
        return rng.choice(_WHICH_FILM)
    if decision.comfort:
        return rng.choice(_COMFORTING_ASKED)
    options = [f"{'an' if option[0] in 'aeiou' else 'a'} {option}" for option in decision.options]
    rng.shuffle(options)
    listed = (
        f"{', '.join(options[:-1])} or {options[-1]}" if len(options) > 1 else "something light or something serious"
    )
    alone = len(decision.plan.acts) == 1
    before = rng.choice(_BEFORE_ASKING) if alone else ""
    asked = rng.choice(_ASKED.get(attribute, _ASKED[None])).format(options=listed)
    after = rng.choice(_AFTER_ASKING.get(attribute, _AFTER_ASKING[None]))
    return f"{before} {asked} {after}".strip()


def _closed(decision: Decision, rng: random.Random) -> str:
    banks = _COMFORTING_CLOSINGS if decision.comfort else _CLOSINGS
    return " ".join(rng.choice(bank) for bank in banks).strip()


def _recommended(decision: Decision, graph: KnowledgeGraph, rng: random.Random) -> str:
    plan = decision.plan
    first = len(plan.films) - plan.recommended
    titles = [graph.title(film) for film in plan.films[first:]]
    one = _COMFORTING_ONE if decision.comfort else _CALM_ONE if plan.tone == "agreement" else _ONE
    sentences = [rng.choice(_UNMET)] if decision.unmet else []
    sentences.append(rng.choice((one, _TWO, _THREE)[len(titles) - 1]).format(*titles))
    of_film = [
        predicates([f for f in plan.facts if f.film == first + place and f.values]) for place in range(len(titles))
    ]
    if len(titles) == 1 and of_film[0]:
        stated = rng.sample(of_film[0], len(of_film[0]))
        sentences.append(rng.choice(_FILM_IS_SUBJECT).format(_joined(stated)))
    elif len(titles) > 1 and all(of_film):
        order = ("The first", "the second", "the third")
        sentences.append(_joined([f"{order[place]} {facts[0]}" for place, facts in enumerate(of_film)]) + ".")
    return " ".join(sentences)


def _answered(decision: Decision, graph: KnowledgeGraph, rng: random.Random) -> str:
    sentences, plan = [], decision.plan
    for answer in decision.answers:
        film = answer.question.film or 0
        title = graph.names[film] if answer.question.attribute == Attribute.YEAR else graph.title(film)
        sentences.append(_answer(answer, "it" if sentences else title, rng))
        more = [
            f
            for f in plan.facts
            if plan.films[f.film] == answer.question.film and f.attribute != answer.question.attribute
        ]
        if not answer.values and more and len(decision.answers) == 1:
            sentences.append(f"What I know is that it {_joined(predicates(more))}.")
    return " ".join(sentences)


def _answer(answer: Answer, title: str, rng: random.Random) -> str:
    question = answer.question
    if not answer.values:
        return rng.choice(_NOT_KNOWN).format(_UNKNOWN[question.attribute].format(title))
    stated = f"{title} {predicate(Fact(0, question.attribute, answer.values))}"
    if question.yes_no and answer.yes is not None:
        if answer.yes and question.attribute == Attribute.CAST:
            return f"Yes, {answer.values[0]} is in {title}."
        return f"{'Yes' if answer.yes else 'No'}, {stated}."
    answered = rng.choice(_ANSWERS).format(stated)
    return f"{answered[0].upper()}{answered[1:]}"


def _explained(decision: Decision, graph: KnowledgeGraph, rng: random.Random) -> str:
    plan = decision.plan
    title = graph.title(plan.films[0])
    facts = [fact for fact in plan.facts if fact.film == 0 and fact.values]
    if len(plan.films) > 1 and facts:
        liked, shared = graph.title(plan.films[1]), predicate(facts[0])
        return rng.choice(
            (
                f"Because you liked {liked}: like it, {title} {shared}.",
                f"You liked {liked}, and {title} {shared} as well.",
                f"I thought of {title} because you liked {liked}. It {shared}, too.",
            )
        )
    if facts:
        reasons = _joined(predicates(facts))
        return rng.choice(
            (f"I thought of {title} because it {reasons}.", f"{title} {reasons}, which I thought you might like.")
        )
    return rng.choice(
        (f"I thought {title} goes with what you told me.", f"{title} often suits people with your taste.")
    )


def wish_words(wish: Wish, graph: KnowledgeGraph) -> str:
    """A wish in a few words, for an explanation: "no horror", "1990-1999"."""
    what = f"{wish.years[0]}-{wish.years[1]}" if wish.years else spoken_name(graph, wish.entity or 0)
    return f"{'' if wish.wanted else 'no '}{what}{'' if wish.firm else ' (liked)'}"
