"""What the words of a seeker's turn say explicitly: acts, how many films, which attribute a question is about.

Only what is said in so many words is read here ("why?", "I've seen it", "who directed ..."), so that an explicit request
is never missed; everything else is left to the learned act probabilities (stage `acts`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ecr_jax.data.acts import ActName, Attribute
from ecr_jax.knowledge.common_words import ordinary
from ecr_jax.knowledge.naming import words

MOST_FILMS = 3
"""The most films that one reply names."""


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_CLAUSE = re.compile(r"(?:\b(?:Jr|Sr|Mr|Mrs|Ms|Dr|St|vs|Vol|[A-Z])\.|[^.!?;\n])+[.!?;\n]*")
# A full stop behind an abbreviation or an initial ends no sentence.
_NUMBERS = {"two": 2, "2": 2, "couple": 2, "pair": 2, "some": 2, "few": 3, "several": 3, "three": 3, "3": 3, "list": 3}
_MANY = _compile(
    r"\b(?:(two|three|four|five|six|seven|eight|nine|ten|\d{1,2}|some|a few|few|several|a couple|a pair|a list)\s+(?:of\s+)?)"
    r"(?:\w+\s+){0,2}?(?:films?|movies?|flicks?|ones|recommendations?|suggestions?|titles?|options|ideas|choices|comedies|thrillers|dramas|westerns|musicals|documentaries|romances)\b"
)
_BARE_NUMBER = _compile(
    r"\b(two|three|2|3)(?: (?:more|others?|of them|please|then|this time)){0,3}(?:\W*$|,? but\b|, )"
)
_PLURAL_REQUEST = _compile(
    r"\b(?:recommend|suggest|give|show|tell|know|any|what|which|need|want|looking for|find)\b[^.?!]{0,40}"
    r"\b(?:films|movies|flicks|suggestions|recommendations|ideas|options)\b"
)
_REQUEST = _compile(
    r"\b(?:recommend|suggest)\b|\b(?:something|anything|another|one more|any other|some other|what|which|any|a different)"
    r"\b[^.?!]{0,30}\b(?:watch|see|film|movie|one|else|different|new)\b|\bwhat else\b|\b(?:give|show|find|get) me\b"
    r"|\bwhat should i (?:watch|see)\b|\b(?:looking|searching) for\b|\bin the mood for\b|\bnext one\b|\bmore like\b"
    r"|\bsomething (?:else|new|different|that|to|which|like|similar|with|from|by|more|less|good|nice|great|fun|funny|light|scary|sad|short|older|newer)\b"
    r"|\bi (?:want|need|would like|'d like|wanna)\b[^.?!]{0,30}\b(?:watch|see|film|movie|something|one|comed|thriller|drama)"
    r"|^\W*(?:another|more|next|else|others?)\b(?! question)|\bsurprise me\b|^\W*(?:(?:ok(?:ay)?|well|hmm+)\W+)?(?:anything|whatever|dunno|i don't know|no idea|i'm not sure|you (?:choose|decide|pick))\b|\bhow about (?:a|an|some|another)\b"
    r"|\b(?:do|can|could) you (?:have|know)\b[^.?!]{0,20}\b(?:film|movie|one|something|any|some)"
)
_REJECT = _compile(
    r"\bnot (?:that|this|it|those|these|for me|my (?:thing|taste|style|cup)|interested|really (?:my|into|feeling)|in the mood)\b"
    r"|\b(?:don't|dont|do not|didn't|wouldn't) (?:\w+ )?(?:want|like|feel like|fancy|care for|think i(?:'d| would)) "
    r"(?:to watch |to see )?(?:that|this|it|those|these|either|any of)\b|^\W*(?:no|nope|nah|pass)\b(?! (?:problem|worries|idea))"
    r"|^\W*skip\W*$|\b(?:something|anything) else\b|\bnone of (?:those|these|them)\b|\bi'll pass\b|\bskip (?:it|that|this)\b"
    r"|\bboring\b.{0,10}$|\bi hate (?:it|that|this|those|them)\b|\bdoesn't (?:sound|interest|appeal)"
)
_SEEN = _compile(
    r"\b(?:seen|watched|saw)\b[^.?!]{0,20}\b(?:it|that|this|those|them|these|both|already|before|one|all)\b"
    r"|\balready (?:seen|watched|saw|know)\b|\bi(?:'ve| have)? (?:already )?(?:seen|watched)\b|\bseen (?:it|that)\b"
)
_NOT_SEEN = _compile(
    r"\b(?:not|never|haven't|havent|hasn't|didn't|have you|did you|have not|you(?:'ve| have)?|no)\b[^.?!,]{0,12}"
    r"\b(?:seen|watched|saw|see)\b"
)
_WHY = _compile(
    r"\bwhy\b(?! not\b)|\bhow come\b|\bwhat makes (?:you|it|that)\b|\bwhat(?:'s| is) (?:so )?(?:good|special) about\b"
    r"|\bis (?:it|that|this|that one) (?:\w+ )?(?:good|worth|fun|nice|boring|interesting|great)\b|\bwould i (?:like|enjoy) (?:it|that)"
    r"|\bwhat do you think (?:of|about) (?:it|that|this)\b"
    r"|\bhow (?:is|does) (?:it|that|this) (?:relate|match|fit)\b|\bwhat reason|\breasons? (?:for|why)\b"
)
_THANK = _compile(
    r"\b(?:thanks|thank you|thank u|thx|cheers(?! me)|bye|goodbye|good night|see you|see ya|have a (?:good|nice|great))\b"
)
_GREET = _compile(r"^\W*(?:hi|hello|hey|hiya|howdy|good (?:morning|evening|afternoon|day)|greetings|yo)\b")
_ACCEPT = _compile(
    r"\bi(?:'ll| will|'m going to| am going to|'m gonna) (?:\w+ )?(?:watch|see|try|check|give)\b|\bsounds? (?:\w+ )?"
    r"(?:good|great|perfect|nice|interesting|awesome|fun|cool|amazing|lovely)\b|\bgood (?:choice|idea|suggestion|pick)\b"
    r"|\bi(?:'ll| will) (?:take|go with|pick|choose)\b|\byou(?:'ve| have)? (?:got|convinced|sold) me\b|\bi'm (?:sold|convinced)\b"
    r"|^\W*(?:yes|yeah|yep|yup|ok|okay|sure)\W+(?:that|this) one\W*$|\bperfect\b|\badd(?:ing|ed)? (?:it|that) to\b|\blet's (?:do|watch|go)\b"
)

_FIELDS = {
    Attribute.DIRECTOR: _compile(r"\bdirect(?:ed|or|ors|s|ing)?\b|\bwho made\b|\bfilm-?maker\b"),
    Attribute.CAST: _compile(
        r"\bstar(?:s|ring|red)?\b|\bactors?\b|\bactress(?:es)?\b|\bcast\b|\bplay(?:s|ed|ing)? in\b|\bwho(?:'s|s| is| was| are| all)?"
        r"(?: all)? in\b|\bwho else\b|\bwho play(?:s|ed)\b|\blead(?:ing)? (?:role|man|lady|actor)|\b(?:is|are|was|does|did) [\w .'-]+ (?:in|appear in) (?:it|that|this|the)\b"
    ),
    Attribute.WRITER: _compile(r"\bwrote\b|\bwriters?\b|\bwritten\b|\bscreenplay\b|\bscript\b|\bscreenwriter"),
    Attribute.YEAR: _compile(
        r"\b(?:what|which) (?:year|decade)\b|\bwhen (?:was|did|is|were)\b|\bhow (?:old|new|recent)\b|\bcome out\b|\bcame out\b"
        r"|\breleased?\b|\bis (?:it|that|this)\b[^.?!]{0,20}\b(?:old|new|recent|modern)\b|\byear (?:is|was)\b|^year$"
    ),
    Attribute.GENRE: _compile(
        r"\bgenres?\b|\b(?:what|which) (?:kind|type|sort) of (?:a )?(?:film|movie|thing|one|story)?\b"
        r"|\bis (?:it|that|this)\b[^.?!]{0,16}\b(?:scary|funny|romantic|sad|violent|serious|comedy|animated)\b"
    ),
    Attribute.COUNTRY: _compile(
        r"\b(?:what|which) countr(?:y|ies)\b|\bwhere(?:'s| is| was| does| did| are| were)\b[^.?!]{0,40}\b(?:from|made|produced|"
        r"filmed|shot|come)\b|\bcountry\b"
    ),
    Attribute.LANGUAGE: _compile(r"\b(?:what|which) languages?\b|\blanguage\b|\bsubtitle|\bdo they speak\b|\bspoken\b"),
    Attribute.COMPANY: _compile(r"\bstudios?\b|\bproduction compan|\bwho produced\b|\bcompany\b"),
    Attribute.COMPOSER: _compile(r"\bmusic\b|\bscored?\b|\bsoundtrack\b|\bcompos(?:ed|er|es)\b"),
    Attribute.RUNTIME: _compile(r"\bhow long\b|\bruntime\b|\bruns? for\b|\bis (?:it|that) (?:\w+ )?(?:long|short)\b|\bhow many (?:hours|minutes)\b"),
    Attribute.PLOT: _compile(
        r"\babout\?*\W*$|\bwhat(?:'s| is| was)\b[^.?!]{0,40}\babout\b|\bplot\b|\bsynopsis\b|\bwhat happens\b|\bthe story\b|\bstory ?line\b"
        r"|\btell me (?:more|about)\b"
    ),
}  # fmt: skip
_INTERROGATIVE = _compile(
    r"^\W*(?:(?:and|but|so|ok(?:ay)?|oh|cool|nice|hmm+|great|well|also|wait|wow)[\s,]+)*(?:who|whose|what|what's|who's|whos|whats|when|where"
    r"|where's|which|how|is|was|are|were|does|did|do you know|isn't|can you tell|could you tell|tell me|name)\b"
)
_WHAT_ABOUT = _compile(
    r"^\W*(?:(?:and|but|so|ok(?:ay)?|well)[\s,]+)*(?:(?:what|how) about |and )(?:the |its )(\w+)\W*$"
)
_NOT_OF_A_FILM = _compile(
    r"\b(?:recommend|suggest)\b|\b(?:any|some|something|another|other|more|good|movies|films)\b[^.?!]{0,30}\b(?:films?|movies?|ones?|"
    r"by|with|from|starring|directed)\b|\bdo you (?:like|prefer|think|watch|enjoy|love)\b|\bhow are you\b|\b(?:films|movies) (?:do|should|would) \w+"
    r"|\bwhat about\b|\bhow about\b|\bwhat(?: else| other)\b|\bmore (?:films|movies|by|with|from)\b"
)
_ITS_PERSON = _compile(r"\b(?:by|from|with|starring) (?:the|its|their) \w+ (?:of|from|in|who)\b")
_OF_A_TITLE = _compile(
    r"\b(?:do you know|do you like|(?:i'd|i would|i'll|i will) (?:like|enjoy|love)|should i (?:watch|see|try)|what (?:do|can|could) you (?:know|think|say|tell me) (?:about|of)|(?:is|was|how (?:is|was|good is)))"
    r" (?:the (?:film|movie) )?#+ ?(?:(?:any|really|that|so) )?(?:good|worth (?:it|watching|a watch|seeing)|fun|nice|recommendable)?\W*$"
)
"""Questions about a film as a whole; its title stands as "#"."""
_FILM_PRONOUN = _compile(
    r"\b(?:it|its|it's|that|this|the (?:film|movie|first|second|third|last|other|former|latter))\b"
)


_AS_WISHED = _compile(
    r"(?:(\bnot|n't)(?! (?:\w+ )?(?:know|sure|certain|care|remember|say|matter|tell))\b[^.,;!?]{0,20} "
    r"|\b(?:just|exactly|precisely|that's|that is|this is|it's)(?: \w+)? )what i(?:'m| am| was|'ve| have| had| wanted| want| needed"
    r"| need| meant)\b[^.,;!?]*"
)
"""Words that say whether something is as it was wished; the wish in them ("what I was looking for") is none."""


def clauses(text: str) -> Iterator[re.Match[str]]:
    """The sentences of a text, with their places."""
    return _CLAUSE.finditer(text)


def explicit_acts(text: str) -> frozenset[ActName]:
    """The acts of a seeker's turn that its words say outright; questions are `question_attributes`."""
    found = set()
    text = text.replace("’", "'")
    for match in _AS_WISHED.finditer(text):
        found.add(ActName.REJECT if match[1] else ActName.ACCEPT)
    text = _AS_WISHED.sub(" ", text)
    for name, pattern in (
        (ActName.REQUEST, _REQUEST),
        (ActName.REJECT, _REJECT),
        (ActName.WHY, _WHY),
        (ActName.THANK, _THANK),
        (ActName.GREET, _GREET),
        (ActName.ACCEPT, _ACCEPT),
    ):
        if pattern.search(text):
            found.add(name)
    if _SEEN.search(text) and not _NOT_SEEN.search(text):
        found.add(ActName.SEEN)
    if ActName.ACCEPT in found and re.search(r"\b(?:not|n't|doesn't)\b[^.?!]{0,12}\bsounds?\b", text):
        found.discard(ActName.ACCEPT)
    return frozenset(found)


def question_attributes(sentence: str, named: bool) -> tuple[Attribute, ...]:
    """The attributes of a film that a sentence asks about, in the order of `Attribute`; empty where it asks none.

    Args:
      sentence: one sentence.
      named: whether it names a film.
    """
    sentence = sentence.replace("’", "'")
    if match := _WHAT_ABOUT.match(sentence):
        return tuple(attribute for attribute, pattern in _FIELDS.items() if pattern.fullmatch(match[1]))
    asked = "?" in sentence or _INTERROGATIVE.search(sentence)
    if not asked or (_NOT_OF_A_FILM.search(sentence) and not (named or _FILM_PRONOUN.search(sentence))):
        return ()
    if _ITS_PERSON.search(sentence) and _REQUEST.search(sentence):
        return ()
    if named and _OF_A_TITLE.search(sentence):
        return (Attribute.PLOT,)
    if re.search(r"\b(?:movies|films) (?:does|do|did|has|have|with|by|directed|starring)\b", sentence, re.IGNORECASE):
        return ()
    found = tuple(attribute for attribute, pattern in _FIELDS.items() if pattern.search(sentence))
    if len(found) > 1 and Attribute.PLOT in found and re.search(r"\btell me\b", sentence, re.IGNORECASE):
        found = tuple(attribute for attribute in found if attribute != Attribute.PLOT)
    return found


def is_question(sentence: str) -> bool:
    """Whether a sentence asks something."""
    return "?" in sentence or bool(_INTERROGATIVE.search(sentence))


_INSISTS = _compile(
    r"\b(?:no (?:more )?questions|(?:stop|quit) asking|don't ask|surprise me|you (?:choose|pick|decide|tell me)|just (?:give|tell|show|recommend"
    r"|suggest|pick|name|choose)|anything(?: you like)?\W*$|whatever you (?:like|want|think))\b"
)


def insists(text: str) -> bool:
    """Whether a seeker wants a film without being asked for more.

    >>> insists("No more questions please, just give me a film"), insists("I'm just looking")
    (True, False)
    """
    return bool(_INSISTS.search(text.replace("’", "'")))


_ABOUT_THE_RECOMMENDER = _compile(
    r"\W*(?:(?:hi|hello|hey|so|and|ok|wait)\W+)*(?:are you (?:a |an )?(?:\w+ )?(?:ro)?(?:bot|human|real|ai|machine|person|alive)(?: person)?"
    r"|(?:who|what|how old|where) are you(?: from)?|what(?:'s| is) your name|what can you do|how are you(?: \w+)?|how(?:'s| is) it going"
    r"|do you (?:sleep|eat|dream|have feelings|have a name))\W*"
)


def asks_about_the_recommender(text: str) -> bool:
    """Whether a seeker's turn does nothing but ask about the recommender itself.

    >>> asks_about_the_recommender("Hey, are you a robot?"), asks_about_the_recommender("How are you? A comedy please.")
    (True, False)
    """
    return bool(_ABOUT_THE_RECOMMENDER.fullmatch(text.replace("’", "'")))


def wanted_films(text: str) -> int:
    """How many films a request asks for, 1 to `MOST_FILMS`; 0 where it does not say."""
    if match := _MANY.search(text):
        word = match[1].lower().removeprefix("a ")
        return min(_NUMBERS.get(word, int(word) if word.isdecimal() else MOST_FILMS) or 1, MOST_FILMS)
    if match := _BARE_NUMBER.search(text):
        return min(_NUMBERS[match[1].lower()], MOST_FILMS)
    return 2 if _PLURAL_REQUEST.search(text) else 0


_INTERJECTIONS = frozenset(
    "ok k yes yeah yep yup sure nope nah hm hmm hmmm ugh meh lol haha wow oops oh ah aha alright thx cool suck sucks".split()
)


def understood(text: str) -> bool:
    """Whether a text has English words at all: at least a third of its words are everyday ones."""
    found = [word for word, _, _ in words(text) if not word.isdecimal()]
    return bool(found) and sum(ordinary(word) or word in _INTERJECTIONS for word in found) * 3 >= len(found)


_FEELS_BAD = _compile(
    r"\b(?:i'?m|i am|i feel|i'?ve been|i have been|i was|feeling|makes me|made me)\b(?: (?:so|really|very|quite|pretty|a bit|a little|"
    r"kind of|kinda|sort of|just|too|feeling|all)){0,3} (?:terrible|awful|miserable|sad|lonely|depressed|exhausted|stressed|heartbroken"
    r"|anxious|upset|unhappy|blue|down(?! (?:for|with|to))|low|worn out|angry|furious|frustrated|overwhelmed|worried|nervous"
    r"|burn(?:ed|t) out|not (?:feeling )?(?:well|so good|so great)|(?:sick|tired)(?! of))\b"
    r"|\bmy (?:\w+ ){1,2}(?:died|passed away|left me|dumped me|is dying)\b|\b(?:lost my|broke up with|got fired|got dumped)\b"
    r"|\b(?:rough|hard|bad|terrible|awful|horrible|long) (?:day|week|month|year)\b"
)


def feels_bad(text: str) -> bool:
    """Whether a seeker says that they feel bad, about whatever it is.

    >>> feels_bad("My dog died."), feels_bad("I'm so sad today"), feels_bad("I'm down for a comedy")
    (True, True, False)
    """
    return bool(_FEELS_BAD.search(text))


def clean_text(text: str, most: int = 2000) -> str:
    """A text without control characters and lone surrogates, single-spaced, cut after `most` characters."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" or c in "\u200d" else " " for c in text[: 4 * most])
    return " ".join(kept.split())[:most].strip()
