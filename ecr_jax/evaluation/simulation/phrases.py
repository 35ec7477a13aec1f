"""What the simulated seeker says, by rule: short sentences with slots, in everyday English.

`{what}` is a genre with its article, a person, a decade, a year or a country; `{it}` the film under discussion. The
words are this evaluation's own and not those that the built-in corpus is generated from.
"""

from __future__ import annotations

from collections.abc import Mapping

from ecr_jax.data.acts import Attribute

GREETINGS = ("Hi!", "Hello there.", "Hey!", "Good evening!", "Hello!", "")

MOODS = (
    ("", "curious"),
    ("", "curious"),
    ("I had a lovely day and want to end it with a film.", "happy"),
    ("It has been a hard week and I feel rather low.", "negative"),
    ("I feel nostalgic tonight.", "nostalgia"),
    ("My friends are coming over and we can't agree on a film.", "neutral"),
)
"""(a sentence, the emotion of the turn)."""

WISHES: Mapping[Attribute, tuple[str, ...]] = {
    Attribute.GENRE: (
        "I'm in the mood for {what}.",
        "I'd like to see {what}.",
        "Could you recommend {what}?",
        "{What} would be great.",
        "I feel like watching {what}.",
    ),
    Attribute.YEAR: (
        "It should be a film from {what}.",
        "I'd like something from {what}.",
        "Do you know a good film from {what}?",
        "I'm looking for a film from {what}.",
    ),
    Attribute.CAST: (
        "I'd love to see something with {what}.",
        "Something with {what}, please.",
        "Do you know a film with {what}?",
        "I'm looking for a film with {what}.",
    ),
    Attribute.DIRECTOR: (
        "Something directed by {what}, please.",
        "I'd like a film by {what}.",
        "Do you know a film that {what} directed?",
        "I like how {what} directs, so something by {what} would be good.",
    ),
    Attribute.COUNTRY: (
        "I'd like a film from {what}.",
        "Something that was made in {what}, please.",
        "It should be a film from {what}.",
    ),
}

MORE_WISHES: Mapping[Attribute, tuple[str, ...]] = {
    Attribute.GENRE: (
        "It should also be {what}.",
        "And I'd like it to be {what} as well.",
        "And it should be {what}, too.",
    ),
    Attribute.YEAR: (
        "It should also be from {what}.",
        "And I'd like it to be from {what}.",
        "And it should have come out in {what}.",
    ),
    Attribute.CAST: (
        "It should also have {what} in it.",
        "And I'd like {what} to be in it.",
        "And {what} should be in it, too.",
    ),
    Attribute.DIRECTOR: (
        "It should also be directed by {what}.",
        "And I'd like it to be directed by {what}.",
    ),
    Attribute.COUNTRY: (
        "It should also be from {what}.",
        "And I'd like it to be from {what}.",
    ),
}
"""Wishes beside those that were said before."""

COMPLAINTS: Mapping[Attribute, tuple[str, ...]] = {
    Attribute.GENRE: ("But {it} isn't {what}.", "I don't think {it} is {what}."),
    Attribute.YEAR: ("But {it} isn't from {what}.", "{It} isn't from {what}, as far as I know."),
    Attribute.CAST: ("But {what} isn't in {it}.", "As far as I know, {what} isn't in {it}."),
    Attribute.DIRECTOR: ("But {what} didn't direct {it}.", "{It} wasn't directed by {what}."),
    Attribute.COUNTRY: ("But {it} isn't from {what}.", "{It} wasn't made in {what}, was it?"),
}
"""A film is refused because it does not have what was asked for."""

AVERSIONS = (
    "No, I'm not in the mood for {what}.",
    "I don't want to see {what} tonight.",
    "{What} isn't what I need tonight.",
    "Please, not {what}.",
)
"""A film is refused for a genre that it has."""

REFUSALS = (
    "Hm, that one doesn't appeal to me.",
    "Not that one, thanks.",
    "That's not what I'm looking for.",
    "I don't think I'd enjoy that one.",
    "No, not that one.",
    "I'd rather see something else.",
    "That doesn't sound right to me.",
    "I'll pass on that one.",
)

SEEN = (
    ("I've already seen that one, and I loved it!", "like"),
    ("I have seen that one with my sister; what a good evening that was.", "nostalgia"),
    ("I've seen it already and it made me really happy.", "happy"),
    ("I have already seen that one. It was a surprise how good it was!", "surprise"),
)

OTHERS = (
    "Do you have another idea?",
    "Something else, please.",
    "What else is there?",
    "Could you suggest another one?",
    "Can you think of a different one?",
    "What else would you recommend?",
    "Could you try again?",
)

QUESTIONS: Mapping[Attribute, tuple[str, ...]] = {
    Attribute.DIRECTOR: ("Who directed {it}?", "Who is the director of {it}?"),
    Attribute.CAST: ("Who is in {it}?", "Who stars in {it}?"),
    Attribute.YEAR: ("When did {it} come out?", "What year is {it} from?"),
    Attribute.GENRE: ("What genre is {it}?", "What kind of film is {it}?"),
    Attribute.COUNTRY: ("Which country is {it} from?", "Where was {it} made?"),
}

QUESTIONS_YES_NO = ("Is {what} in {it}?", "Does {what} star in {it}?")

INTERESTED = (
    "That sounds interesting.",
    "Oh, I don't know that one.",
    "Hm, maybe.",
    "I've never heard of that one.",
    "That could be something.",
    "I'm curious about that one.",
)

LIKED = (
    "I loved {it}.",
    "I really enjoyed {it}.",
    "{It} is one of my favourites.",
    "The last one I enjoyed was {it}.",
)
"""The answer to the question for a film that the seeker likes."""

NONE_LIKED = ("I can't think of one right now.", "None comes to mind, sorry.", "That's hard to say.")

NO_PREFERENCE = ("I don't mind.", "That doesn't matter to me.", "I have no preference there.")

ANY = ("Surprise me!", "Just recommend something.", "What would you recommend?", "You choose one, please.")

ACCEPTANCES = (
    ("That's it, just what I was looking for! Thank you, I'll watch it tonight.", "happy"),
    ("Perfect, I'll watch that one. Thanks a lot!", "grateful"),
    ("Oh yes, that sounds wonderful! Thank you.", "happy"),
    ("Great, that one it is. Thank you so much for your patience!", "grateful"),
    ("Wow, that's exactly the one. Thanks!", "surprise"),
)
