"""The seeker of a generated dialogue: has tastes, moods and questions, and reacts to what is recommended."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.films.ground import Ground, Heard, Question
from ecr_jax.data.films.phrases import seeker as phrases
from ecr_jax.data.films.phrases.moods import MOODS
from ecr_jax.data.films.phrases.nouns import GENRES, TASTES_PLURAL, TASTES_SINGULAR, Bank
from ecr_jax.data.films.world import Taste, World
from ecr_jax.data.films.writing import Slot, Style, Writer, draw, genre_slots, person, pick
from ecr_jax.data.schema import Feedback, Role, Turn

GREET, CHAT, PREFER, REQUEST, WHY, ACCEPT, REJECT, SEEN, THANK = (
    Act(ActName.GREET), Act(ActName.CHAT), Act(ActName.PREFER), Act(ActName.REQUEST), Act(ActName.WHY),
    Act(ActName.ACCEPT), Act(ActName.REJECT), Act(ActName.SEEN), Act(ActName.THANK),
)  # fmt: skip

# The kinds of attributes that a seeker's tastes have, with their probabilities.
_TASTES = {
    ("director",): 0.22,
    ("actor",): 0.18,
    ("genre", "era"): 0.20,
    ("genre", "genre"): 0.10,
    ("genre", "director"): 0.08,
    ("genre", "actor"): 0.10,
    ("actor", "era"): 0.04,
    ("genre",): 0.04,
    ("era",): 0.04,
}
# P(like, dislike, unsaid | how well a film fits the tastes).
_FEEDBACK_GIVEN_FIT = {
    "full": (0.83, 0.02, 0.15),
    "part": (0.77, 0.04, 0.19),
    "none": (0.58, 0.12, 0.30),
    "averse": (0.24, 0.48, 0.28),
}
# P(reaction | feedback), and P(emotion | reaction, feedback).
_REACTIONS = {
    Feedback.LIKE: {"accept": 0.32, "seen": 0.34, "question": 0.28, "why": 0.06},
    Feedback.DISLIKE: {"seen": 0.45, "reject": 0.40, "question": 0.15},
    Feedback.UNSAID: {"question": 0.36, "unsure": 0.16, "reject": 0.27, "accept": 0.10, "seen": 0.06, "why": 0.05},
}
_ENJOYED = {"like": 0.42, "happy": 0.18, "nostalgia": 0.09, "surprise": 0.12, "agreement": 0.11, "neutral": 0.08}
_WANTED = {"like": 0.32, "happy": 0.17, "grateful": 0.17, "agreement": 0.20, "surprise": 0.08, "curious": 0.06}
_EMOTIONS: Mapping[tuple[str, Feedback], Mapping[str, float]] = {
    ("seen", Feedback.LIKE): _ENJOYED,
    ("seen", Feedback.DISLIKE): {"negative": 1.0},
    ("seen", Feedback.UNSAID): {"neutral": 1.0},
    ("accept", Feedback.LIKE): _WANTED,
    ("accept", Feedback.UNSAID): {"neutral": 0.4, "curious": 0.25, "agreement": 0.2, "grateful": 0.15},
    ("reject", Feedback.DISLIKE): {"negative": 0.85, "neutral": 0.15},
    ("reject", Feedback.UNSAID): {"neutral": 1.0},
    ("unsure", Feedback.UNSAID): {"neutral": 0.6, "curious": 0.4},
}
_VALENCE = {
    "like": 1.0, "happy": 1.0, "nostalgia": 0.9, "agreement": 0.6, "grateful": 0.6, "surprise": 0.5, "curious": 0.2,
    "neutral": 0.0, "negative": -1.2,
}  # fmt: skip
_QUESTIONS = {
    "director": 0.13, "cast": 0.14, "year": 0.10, "plot": 0.10, "genre": 0.08, "about": 0.06, "runtime": 0.07,
    "writer": 0.06, "country": 0.06, "language": 0.06, "company": 0.05, "composer": 0.05, "": 0.07,
}  # fmt: skip
_YES_NO_QUESTIONS = {"cast": 0.4, "old": 0.18, "new": 0.1, "genre": 0.17, "director": 0.15}
_YES_NO_ATTRIBUTE = {"cast": "cast", "director": "director", "genre": "genre", "old": "year", "new": "year"}
_ASKED_FOR = {"genre": "genre", "cast": "actor", "director": "director", "year": "era"}
_MOST_QUESTIONS = 4
_APART = 6
"""How many years make a film newer or older."""
_CAN_BE_REJECTED = tuple(genre for genre in GENRES if genre != "Drama")


def question_act(kind: str) -> Act:
    """The act of a question of some kind; one about anything, or about what no graph holds, has no attribute."""
    kind = _YES_NO_ATTRIBUTE.get(kind, kind)
    return Act(ActName.QUESTION, Attribute(kind) if kind and kind != "about" else None)


class Seeker:
    """Has tastes, perhaps an aversion, and feedback on every film, of which the recommender hears only what is said."""

    def __init__(self, world: World, rng: np.random.Generator, style: Style):
        self.world, self.rng, self.style = world, rng, style
        self.tastes = self._draw_tastes()
        self.aversion = self._draw_aversion()
        self.unstated = list(self.tastes)
        self.answers: dict[int, Feedback] = {}
        self.questions = 0
        self.takes_back: Taste | None = None
        self.takes: int | None = None  # the film that was accepted last
        self.ground: Ground

    # What the seeker likes.

    def _draw_tastes(self) -> list[Taste]:
        world, rng = self.world, self.rng
        while True:
            kinds = draw(rng, {"+".join(kinds): p for kinds, p in _TASTES.items()}).split("+")
            tastes: list[Taste] = []
            fitting = np.ones(len(world.pool), bool)
            for kind in reversed(kinds):  # the narrow attribute first, then a genre that goes with it
                values = world.choices[kind]
                weights = (world.tables[kind] @ fitting) ** 0.5
                if kind == "actor":
                    weights *= [world.fame[str(name)] for name in values]
                weights *= [(kind, value) not in tastes for value in values]
                if not weights.sum():
                    break
                taste = (kind, values[rng.choice(len(values), p=weights / weights.sum())])
                tastes.insert(0, taste)
                fitting &= world.fits(taste)
            if len(tastes) == len(kinds) and fitting.sum() >= 4:
                return tastes

    def _draw_aversion(self) -> Taste | None:
        """A genre of many of the fitting films, so that a recommender who knows it can avoid them."""
        world = self.world
        fitting = np.logical_and.reduce([world.fits(taste) for taste in self.tastes])
        shares = {
            genre: float((fitting & films).sum() / fitting.sum())
            for genre, films in world.of["genre"].items()
            if ("genre", genre) not in self.tastes and genre in GENRES
        }
        fair = {str(genre): share for genre, share in shares.items() if 0.15 <= share <= 0.6}
        return ("genre", draw(self.rng, fair)) if fair and self.rng.random() < 0.45 else None

    def feedback(self, film: int) -> Feedback:
        """The seeker's feedback on a film after the dialogue; sampled once."""
        if film not in self.answers:
            fit = np.mean([self.world.fits(taste)[film] for taste in self.tastes])
            averse = self.aversion is not None and self.world.fits(self.aversion)[film]
            p = _FEEDBACK_GIVEN_FIT["averse" if averse else "full" if fit == 1 else "part" if fit else "none"]
            self.answers[film] = tuple(Feedback)[self.rng.choice(3, p=p)]
        return self.answers[film]

    # Turns.

    def open(self, greeted: bool, asked_how: bool) -> tuple[Turn, Heard]:
        """The seeker's first turn.

        Args:
          greeted: the recommender greeted before.
          asked_how: and asked how the seeker is.
        """
        rng, writer, heard = self.rng, self.ground.writer(self.style), Heard()
        if asked_how and rng.random() < 0.85:
            writer.say(phrases.FINE, GREET, emotion="neutral")
            heard.talk = "fine"
        elif not greeted or rng.random() < 0.45:
            how = not greeted and rng.random() < 0.3
            writer.say(phrases.HOW_ARE_YOU if how else phrases.GREETING, GREET, emotion="neutral")
            heard.talk = "how are you" if how else "greeting"
        if writer.text and not greeted and rng.random() < 0.22:
            return self._finish(writer, heard)
        self._start(writer, heard)
        return self._finish(writer, heard)

    def answer(self, what: str) -> tuple[Turn, Heard]:
        """Answers a question of the recommender about preferences, a key of `phrases.recommender.ASK`."""
        rng, writer, heard = self.rng, self.ground.writer(self.style), Heard()
        if rng.random() < 0.05:
            self._chat(writer, heard)
        elif what == "avoid":
            self._dislike(writer, heard, asked=True)
        elif what == "film" or (what == "" and not self.unstated):
            self._love_film(writer, heard)
        elif tastes := [t for t in self.unstated if not self.ground.tastes or t[0] == _ASKED_FOR.get(what, t[0])]:
            self._taste(writer, heard, tastes[: 1 if rng.random() < 0.75 else 2], answering=True)
            if rng.random() < 0.15:
                self._love_film(writer, heard)
        else:
            writer.say(phrases.OPEN_MINDED, PREFER, emotion="neutral")
            heard.about, heard.feeling = "taste", "neutral"
        return self._finish(writer, heard)

    def react(self, last: bool) -> tuple[Turn, Heard]:
        """Reacts to the recommended films, or to an answer about them.

        Args:
          last: the seeker leaves, whatever was recommended.
        """
        rng, writer, heard = self.rng, self.ground.writer(self.style), Heard()
        films = self.ground.recent
        if len(films) > 1 and rng.random() < 0.3:
            films = films[:1]
        alone, reactions = len(self.ground.recent) == 1, []
        for film in films[:2]:
            reaction = self._draw_reaction(film, last)
            if reaction in ("question", "why"):
                self._ask(writer, heard, film, reaction, named=not alone)
                self.ground.recent = [f for f in self.ground.recent if f not in [done for done, _, _ in reactions]]
                return self._finish(writer, heard)  # the others stay open
            reactions.append((film, reaction, self._react_to(writer, heard, film, reaction, alone)))
        for film in set(self.ground.recent) - set(films[:2]):
            self.ground.valence[film] = 0.5 * self.ground.valence[self.ground.recent[0]]
        self.ground.recent = []
        if len(reactions) == 1:
            film, reaction, emotion = reactions[0]
            if rng.random() < (0.4 if emotion == "negative" else 0.18 if reaction == "seen" else 0.05):
                self._reason(writer, film, reaction, emotion)
        if last or (heard.accepted is not None and rng.random() < 0.25):
            self._leave(writer, heard)
        else:
            self._go_on(writer, heard, reactions[-1][1] if reactions else "")
        return self._finish(writer, heard)

    def say_bye(self, content: bool) -> Turn:
        """The seeker's last word after the recommender's goodbye; `content` with a film or not."""
        writer = self.ground.writer(self.style)
        emotion = draw(
            self.rng, {"neutral": 0.5, "grateful": 0.3} | ({"happy": 0.1, "agreement": 0.1} if content else {})
        )
        writer.say(phrases.BYE[emotion], THANK, emotion=emotion)
        return self.ground.finish(Role.SEEKER, writer)

    def _finish(self, writer: Writer, heard: Heard) -> tuple[Turn, Heard]:
        return self.ground.finish(Role.SEEKER, writer), heard

    # Preferences.

    def _start(self, writer: Writer, heard: Heard) -> None:
        """Says what the seeker came for."""
        rng = self.rng
        way = draw(rng, {"taste": 0.56, "mood": 0.18, "vague": 0.09, "like film": 0.12, "chat": 0.05})
        if way == "chat":
            self._chat(writer, heard)
        elif way == "vague":
            writer.say(phrases.VAGUE, REQUEST, emotion="neutral")
        elif way == "like film":
            self._love_film(writer, heard, request=True)
        elif way == "mood":
            self._mood(writer, heard)
            if rng.random() < 0.5:
                self._taste(writer, heard, self.unstated[:1], answering=False)
                heard.about = "mood"
            elif rng.random() < 0.7:
                writer.say(phrases.VAGUE, REQUEST)
        else:
            both = len(self.unstated) == 2 and rng.random() < 0.45
            self._taste(writer, heard, self.unstated[: 2 if both else 1], answering=False)
            if rng.random() < 0.3:
                self._love_film(writer, heard)

    def _mood(self, writer: Writer, heard: Heard) -> None:
        self.ground.mood = draw(
            self.rng, {"sad": 0.26, "stressed": 0.24, "bored": 0.18, "party": 0.22, "nostalgic": 0.10}
        )
        mood = MOODS[self.ground.mood]
        writer.say(mood.says, CHAT, emotion=mood.emotion)
        heard.about, heard.feeling = "mood", mood.emotion

    def _chat(self, writer: Writer, heard: Heard) -> None:
        heard.talk = draw(self.rng, {"off topic": 0.5, "nonsense": 0.22, "foreign": 0.28})
        bank = {"off topic": phrases.OFF_TOPIC, "nonsense": phrases.NONSENSE, "foreign": phrases.FOREIGN}[heard.talk]
        writer.say(bank, CHAT, emotion="neutral")

    def _nouns(self, *tastes: Taste) -> dict[str, Slot]:
        """Slots `nps` and `bare` (plural), and `np` (plural or singular)."""
        kinds = "+".join(kind for kind, _ in tastes)
        slots = self.ground.taste_slots(*tastes)
        slots["nps"] = pick(self.rng, TASTES_PLURAL[kinds])
        slots["bare"] = pick(self.rng, [phrase for phrase in TASTES_PLURAL[kinds] if "'s" not in phrase])
        slots["np"] = pick(self.rng, TASTES_SINGULAR[kinds]) if self.rng.random() < 0.6 else slots["bare"]
        return slots

    def _taste(self, writer: Writer, heard: Heard, tastes: list[Taste], answering: bool) -> None:
        """States tastes that are not stated yet; one who changes their mind later states another."""
        rng, ground = self.rng, self.ground
        if self.aversion and self.takes_back is None and not answering and not ground.ruled_out and rng.random() < 0.15:
            self.takes_back, tastes = self.aversion, [self.aversion]
        else:
            self.unstated = [taste for taste in self.unstated if taste not in tastes]
        ground.tastes += tastes
        weights = {"like": 0.26, "happy": 0.08, "curious": 0.12, "neutral": 0.40, "nostalgia": 0.06, "surprise": 0.03}
        if answering:
            weights["agreement"] = 0.12
        for kind, value in tastes:
            if kind == "era" and int(value) < 1990:
                weights["nostalgia"] = 0.6
            if kind == "genre" and value in ("Comedy", "Musical", "Family"):
                weights["happy"] *= 2.5
        emotion = draw(rng, weights)
        wish = emotion in phrases.WISHES and not answering and rng.random() < 0.75
        if wish:
            writer.say(phrases.WISHES[emotion], PREFER, REQUEST, emotion=emotion, slots=self._nouns(*tastes))
        else:
            short = answering and emotion == "neutral" and rng.random() < 0.4
            bank = phrases.SHORT_TASTES if short else phrases.TASTES[emotion]
            writer.say(bank, PREFER, emotion=emotion, slots=self._nouns(*tastes))
        heard.about, heard.feeling = "taste", emotion

    def _own_film(self, against: bool = False) -> int:
        """A film that the seeker knows, which fits their tastes, or does not at all; none that was mentioned before."""
        world = self.world
        scores = world.log_known - 6.0 * np.mean([world.fits(taste) for taste in self.tastes], axis=0)
        if not against:
            scores = 0.5 * world.log_known
            for taste in self.tastes:
                scores = scores + 5.0 * world.fits(taste)
            if self.aversion:
                scores = scores - 4.0 * world.fits(self.aversion)
        scores[list(self.ground.valence)] = -np.inf
        return int(np.argmax(scores + self.rng.gumbel(size=len(scores))))

    def _love_film(self, writer: Writer, heard: Heard, request: bool = False) -> None:
        """Names a film that the seeker likes; with `request`, asks for another like it."""
        rng = self.rng
        film = self._own_film()
        self.answers[film] = Feedback.LIKE if rng.random() < 0.9 else Feedback.UNSAID
        if request:
            emotion = draw(rng, {"neutral": 0.6, "curious": 0.4})
            bank, acts = phrases.LIKE_FILM[emotion], (PREFER, REQUEST)
        else:
            weights = {"like": 0.42, "happy": 0.14, "nostalgia": 0.08, "surprise": 0.10, "neutral": 0.24}
            emotion = draw(rng, self._suiting(weights, film))
            bank, acts = phrases.LOVED_FILMS[emotion], (PREFER,)
        writer.say(bank, *acts, emotion=emotion, slots={"film": self.ground.film(film)})
        self.ground.valence[film] = max(_VALENCE[emotion], 0.7)
        self.ground.liked.append(film)
        heard.about, heard.feeling = "own film", emotion

    def _suiting(self, weights: Mapping[str, float], film: int) -> dict[str, float]:
        """Weights of emotions, of which those that suit the film are more probable."""
        weights = dict(weights)
        for emotion, films in self.world.fits_feeling.items():
            if emotion in weights and films[film]:
                weights[emotion] *= 6.0 if emotion == "nostalgia" else 2.0
        return weights

    def _rule_out(self, writer: Writer, taste: Taste) -> None:
        """Says what the seeker does not want."""
        if taste[0] == "genre":
            writer.say(phrases.AVERSIONS, PREFER, emotion="negative", slots=self._nouns(taste))
        else:
            writer.say(phrases.PERSON_AVERSIONS, PREFER, emotion="negative", slots={"person": person(str(taste[1]))})
        self.ground.ruled_out.append(taste)

    def _hated_person(self) -> Taste | None:
        """A well-known actor whom the seeker can do without: none of the films that fit have them."""
        world, rng = self.world, self.rng
        fitting = np.logical_and.reduce([world.fits(taste) for taste in self.tastes])
        names = [name for name in world.choices["actor"] if not (world.fits(("actor", name)) & fitting).any()]
        if not names:
            return None
        fame = np.array([world.fame[str(name)] for name in names], np.float64) ** 2
        return "actor", names[int(rng.choice(len(names), p=fame / fame.sum()))]

    def _dislike(self, writer: Writer, heard: Heard, asked: bool) -> None:
        """Says what the seeker does not like: their aversion, a person, a film, or, where they are asked, nothing."""
        rng = self.rng
        heard.about, heard.feeling = "taste", "negative"
        if self.aversion and self.aversion not in self.ground.ruled_out + self.ground.tastes:
            self._rule_out(writer, self.aversion)
        elif rng.random() < 0.4 and (hated := self._hated_person()) is not None:
            self._rule_out(writer, hated)
        elif not asked or rng.random() < 0.45:
            film = self._own_film(against=True)
            self.answers[film] = Feedback.DISLIKE
            writer.say(phrases.HATED_FILMS, PREFER, emotion="negative", slots={"film": self.ground.film(film)})
            self.ground.valence[film] = _VALENCE["negative"]
        else:
            writer.say(phrases.OPEN_MINDED + phrases.NOTHING, PREFER, emotion="neutral")
            heard.feeling = "neutral"

    def _change_mind(self, writer: Writer, heard: Heard, taste: Taste) -> None:
        """Takes back a wish, which is now ruled out."""
        writer.say(phrases.CHANGED_MIND, PREFER, emotion="neutral", slots=genre_slots(self.rng, str(taste[1])))
        self.ground.tastes.remove(taste)
        self.ground.ruled_out.append(taste)
        heard.about = "changed"

    # Reactions.

    def _draw_reaction(self, film: int, last: bool) -> str:
        weights = dict(_REACTIONS[self.feedback(film)])
        if last:
            weights |= {name: 0.0 for name in ("question", "why")}
            weights["seen"] *= 0.15
            weights["accept"] = 2.0 * weights.get("accept", 0.0)
        elif self.questions >= _MOST_QUESTIONS:
            weights |= {name: 0.0 for name in ("question", "why")}
        elif self.ground.turns[-1].acts and self.ground.turns[-1].acts[0].name in (ActName.ANSWER, ActName.EXPLAIN):
            # After an answer: seldom another question, and who asked has hardly seen it.
            weights |= {name: 0.4 * weights[name] for name in ("question", "why") if name in weights}
            weights["seen"] = 0.02
        return draw(self.rng, weights)

    def _it(self, film: int, alone: bool) -> Slot:
        if not alone or self.rng.random() < 0.22:
            return self.ground.film(film)
        return pick(self.rng, ("it", "it", "that one"))

    def _react_to(self, writer: Writer, heard: Heard, film: int, reaction: str, alone: bool) -> str:
        """Reacts to a film with an emotion that follows from the feedback; returns the emotion."""
        rng, ground = self.rng, self.ground
        feedback = self.feedback(film)
        emotion = draw(rng, self._suiting(_EMOTIONS[reaction, feedback], film))
        valence = _VALENCE[emotion]
        bank = {
            "seen": phrases.SEEN, "accept": phrases.ACCEPT, "reject": phrases.REJECT, "unsure": phrases.UNSURE,
        }[reaction][emotion]  # fmt: skip
        if reaction == "seen":
            acts = [SEEN, REJECT] if emotion == "negative" else [SEEN]
            if feedback == Feedback.LIKE:
                ground.liked.append(film)
                valence = max(valence, 0.6)
        elif reaction == "accept":
            acts, valence = [ACCEPT], max(valence, 0.3)
            heard.accepted = self.takes = film
        elif reaction == "reject":
            acts, valence = [REJECT], min(valence, -0.4)
        else:
            acts = [CHAT]
        genres = [g for g in self.world.pool[film].genres if g in _CAN_BE_REJECTED and ("genre", g) not in self.tastes]
        if reaction == "reject" and alone and genres and emotion == "neutral" and rng.random() < 0.35:
            genre = pick(rng, genres)
            writer.say(phrases.REJECT_GENRE, REJECT, PREFER, emotion=emotion, slots=genre_slots(rng, genre))
            ground.tastes = [taste for taste in ground.tastes if taste != ("genre", genre)]
            ground.ruled_out.append(("genre", genre))
        else:
            if not alone:  # of several films, each is named
                bank = [phrase for phrase in bank if "<it>" in phrase]
            it = self._it(film, alone)
            if reaction == "reject" and it == "it":
                it = "that one"
            writer.say(bank, *acts, emotion=emotion, slots={"it": it})
        ground.valence[film] = valence
        heard.about = {"seen": "film"}.get(reaction, reaction)
        heard.feeling = emotion
        return emotion

    def _reason(self, writer: Writer, film: int, reaction: str, emotion: str) -> None:
        """Says what the seeker liked or disliked in the film, which the recommender then knows."""
        against = emotion == "negative"
        if not against and not (reaction == "seen" and emotion in ("like", "happy")):
            return
        item, ground = self.world.pool[film], self.ground
        options: list[Taste] = [("director", name) for name in item.directors]
        options += [("actor", name) for name in self.world.known_cast[film][:4]]
        options += [("genre", name) for name in item.genres if name in _CAN_BE_REJECTED]
        if against:
            known = [*self.tastes, *ground.tastes, *ground.ruled_out]
            options = [taste for taste in options if taste not in known]
            options = [taste for taste in options if taste == self.aversion] or options
        else:
            options = [taste for taste in options if taste in self.tastes]
        if not options:
            return
        taste = pick(self.rng, options)
        bank = phrases.REASONS["negative" if against else "like"][taste[0]]
        writer.say(bank, PREFER, slots=ground.taste_slots(taste))
        if against:
            ground.ruled_out.append(taste)
        elif taste in self.unstated:
            self.unstated.remove(taste)
            ground.tastes.append(taste)

    def _go_on(self, writer: Writer, heard: Heard, reaction: str) -> None:
        """Goes on after a reaction: asks for another film, says more, or leaves it to the recommender."""
        rng = self.rng
        ways = {
            "more": 0.36, "taste": 0.16 * bool(self.unstated), "critique": 0.10, "several": 0.06, "rule out": 0.06,
            "question": 0.06, "chat": 0.03, "film": 0.04, "": 0.12,
        }  # fmt: skip
        if self.takes_back in self.ground.tastes:
            ways["change"] = 0.6
        if reaction in ("reject", "unsure"):
            ways["more"], ways["critique"] = 0.5, 0.16
        if reaction in ("", "accept"):  # nothing else would tell the recommender to go on
            ways[""] = 0.0
        if not writer.text:
            ways["more"], ways["chat"] = 0.6, 0.06
        way = draw(rng, ways)
        feeling, about = heard.feeling, heard.about
        if way == "more":
            writer.say(phrases.ELSE if reaction == "reject" else phrases.MORE, REQUEST, emotion="neutral")
        elif way == "several":
            heard.films = int(rng.choice([2, 3], p=[0.4, 0.6]))
            writer.say(phrases.SEVERAL[heard.films], REQUEST, emotion="neutral")
        elif way == "critique":
            self._critique(writer, heard)
        elif way == "taste":
            self._taste(writer, heard, self.unstated[:1], answering=False)
        elif way == "change" and self.takes_back is not None:
            self._change_mind(writer, heard, self.takes_back)
        elif way == "rule out":
            self._dislike(writer, heard, asked=False)
        elif way == "film":
            self._love_film(writer, heard, request=True)
        elif way == "chat":
            self._chat(writer, heard)
        elif way == "question":
            known = [film for film in self.ground.valence if film not in self.ground.recent]
            film = pick(rng, known) if known and rng.random() < 0.6 else self._any_film()
            self._ask(writer, heard, film, "question", named=True)
        if about and heard.about != "changed":  # the film comes first
            heard.about, heard.feeling = about, feeling

    def _any_film(self) -> int:
        """A film that the seeker asks about because they heard of it."""
        scores = self.world.log_known.copy()
        scores[list(self.ground.valence)] = -np.inf
        film = int(np.argmax(scores + self.rng.gumbel(size=len(scores))))
        self.answers[film] = Feedback.UNSAID
        return film

    def _critique(self, writer: Writer, heard: Heard) -> None:
        """Asks for a film that differs from those recommended, in a way that suits the seeker where there is one."""
        ground, rng = self.ground, self.rng
        era = next((int(value) for kind, value in self.tastes if kind == "era"), None)
        year = int(self.world.years[next(reversed(ground.valence))])
        barred = {value for _, value in ground.ruled_out} | {value for _, value in ground.tastes}
        if self.aversion:
            barred.add(self.aversion[1])
        ours = [value for kind, value in self.tastes if kind == "genre" and value in phrases.CRITIQUES]
        genres = [name for name in ours or phrases.CRITIQUES if name in self.world.of["genre"] and name not in barred]
        dates = []
        if year < 2005 and (era is None or era > year):
            dates.append("newer")
        if year > 1990 and (era is None or era + 9 < year):
            dates.append("older")
        options = dates * 3 + genres
        if not options:
            writer.say(phrases.MORE, REQUEST, emotion="neutral")
            return
        heard.critique = pick(rng, options)
        writer.say(phrases.CRITIQUES[heard.critique], REQUEST, PREFER, emotion="neutral")
        if heard.critique == "newer":
            ground.years = (year + _APART, 9999)
        elif heard.critique == "older":
            ground.years = (0, year - _APART)
        else:
            ground.tastes.append(("genre", heard.critique))
            self.unstated = [taste for taste in self.unstated if taste != ("genre", heard.critique)]

    # Questions.

    def _ask(self, writer: Writer, heard: Heard, film: int, reaction: str, named: bool) -> None:
        """Asks about a film, or why it was recommended."""
        rng, ground = self.rng, self.ground
        self.questions += 1
        named = named or rng.random() < 0.15
        it: Slot = ground.film(film) if named else pick(rng, ("it", "it", "that"))
        if reaction == "why":
            writer.say(phrases.WHY_NAMED if named else phrases.WHY, WHY, emotion="curious", slots={"it": it})
            heard.why = film
            return
        for turn in range(2 if rng.random() < 0.12 else 1):
            it = it if turn == 0 else "it"
            answered = {attribute for f, attribute in ground.stated if f == film}
            question, bank, slots = self._draw_question(film, named, answered | {q.kind for q in heard.questions})
            if named and turn == 0:
                bank = tuple(phrase for phrase in bank if "<it>" in phrase)
            writer.say(bank, question_act(question.kind), emotion="curious", slots={"it": it} | slots)
            heard.questions.append(question)

    def _draw_question(self, film: int, named: bool, asked: set[str]) -> tuple[Question, Bank, dict[str, Slot]]:
        rng, item = self.rng, self.world.pool[film]
        if rng.random() < 0.24:
            asked = asked - {"cast"} | ({"old", "new"} if "year" in asked else set())
            kind = draw(rng, {name: p for name, p in _YES_NO_QUESTIONS.items() if name not in asked})
            if kind in ("old", "new"):
                return Question(kind, film, named), phrases.IS_IT[kind], {}
            right = rng.random() < 0.5
            if kind == "genre":
                value = pick(rng, item.genres if right else [g for g in GENRES if g not in item.genres])
                return Question(kind, film, named, value), phrases.IS_IT[kind], genre_slots(rng, value)
            names = (self.world.known_cast[film] or item.cast)[:3] if kind == "cast" else item.directors
            if not right:
                liked = [str(v) for k, v in self.tastes if k == ("actor" if kind == "cast" else kind)]
                chosen = [str(pick(rng, self.world.choices["actor" if kind == "cast" else kind] or names))]
                names = liked or chosen
            value = pick(rng, names)
            return Question(kind, film, named, value), phrases.IS_IT[kind], {"person": person(value)}
        kind = draw(rng, {name: p for name, p in _QUESTIONS.items() if name not in asked})
        return Question(kind, film, named), phrases.ABOUT if kind == "about" else phrases.QUESTIONS[kind], {}

    # Leaving.

    def _leave(self, writer: Writer, heard: Heard) -> None:
        rng = self.rng
        content = heard.accepted is not None  # with the last film
        heard.leaves, heard.accepted = True, self.takes
        if heard.accepted is None:
            writer.say(phrases.NEVER_MIND["neutral"], THANK, emotion="neutral")
        elif not content or ("grateful" not in writer.emotions and rng.random() < 0.6):
            emotion = draw(rng, {"grateful": 0.7, "happy": 0.1, "neutral": 0.2})
            writer.say(phrases.THANKS[emotion], THANK, emotion=emotion)
            heard.thanks = emotion == "grateful"
