"""The recommender of a generated dialogue: reacts, answers, explains, asks and recommends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.films.ground import Ground, Heard, Question, fact_slots
from ecr_jax.data.films.phrases import recommender as phrases
from ecr_jax.data.films.phrases.moods import MOODS
from ecr_jax.data.films.phrases.nouns import Bank
from ecr_jax.data.films.phrases.seeker import IS_IT
from ecr_jax.data.films.world import Taste
from ecr_jax.data.films.writing import Slot, Style, Writer, draw, genre_slots, person, pick, several
from ecr_jax.data.schema import Role, Turn

GREET, CHAT, ASK = Act(ActName.GREET), Act(ActName.CHAT), Act(ActName.ASK)
RECOMMEND, EXPLAIN, REACT, CLOSE = (
    Act(ActName.RECOMMEND), Act(ActName.EXPLAIN), Act(ActName.REACT), Act(ActName.CLOSE),
)  # fmt: skip

_FIT = {"director": 11.0, "actor": 11.0, "genre": 5.5, "era": 5.0}
_SIMILAR, _FEELING, _MOOD, _KNOWN = 2.4, 1.0, 1.5, 0.5
_FEWEST = 12
"""A limit that leaves fewer films than this is not kept: the last years that the seeker asked for."""
_SAD = ("sad", "stressed")
_OLD, _NEW = 1980, 2008
_YES_NO = {"cast": Attribute.CAST, "director": Attribute.DIRECTOR, "genre": Attribute.GENRE, "old": Attribute.YEAR,
           "new": Attribute.YEAR}  # fmt: skip
_INSTEAD = {"director": 0.3, "cast": 0.35, "genre": 0.25, "year": 0.1}
"""Attributes that a film always has, and how often they are told where nothing else is asked for."""


class Recommender:
    """Knows the films and what was said, and nothing else of the seeker."""

    def __init__(self, ground: Ground, style: Style):
        self.ground, self.style = ground, style
        self.rng, self.world = ground.rng, ground.world
        self.explained_mood = False
        self.compared: set[int] = set()  # films of the seeker to which one was compared

    def greet(self, ask: bool) -> Turn:
        """Opens the dialogue."""
        writer = self.ground.writer(self.style)
        tone = draw(self.rng, {"neutral": 0.6, "happy": 0.15, "curious": 0.25})
        writer.say(phrases.GREETING[tone], GREET, emotion=tone)
        if ask:
            self._ask(writer, draw(self.rng, {"": 0.55, "genre": 0.4, "film": 0.05}))
        return self.ground.finish(Role.RECOMMENDER, writer)

    def close(self, heard: Heard) -> Turn:
        """Ends the dialogue."""
        rng, writer = self.rng, self.ground.writer(self.style)
        if heard.thanks:
            writer.say(phrases.WELCOME, CLOSE, emotion="happy")
        elif heard.about == "accept":
            self._react_with(writer, phrases.REACT_ACCEPT, heard.feeling)
        elif heard.accepted is None:
            writer.say(phrases.NO_LUCK, CLOSE, emotion="neutral")
        tone = "plain" if heard.accepted is None else draw(rng, {"happy": 0.7, "neutral": 0.3})
        if self.ground.mood in _SAD and rng.random() < 0.6:
            writer.say(phrases.CLOSING_SAD["negative"], CLOSE, emotion="negative")
        elif heard.accepted is not None and rng.random() < 0.2:
            bank = phrases.CLOSING_FILM[tone]
            writer.say(bank, CLOSE, emotion=tone, slots={"film": self.ground.film(heard.accepted)})
        if CLOSE not in writer.acts or (writer.acts[-1] == CLOSE and not writer.mentions and rng.random() < 0.7):
            writer.say(phrases.CLOSING[tone], CLOSE, emotion="neutral" if tone == "plain" else tone)
        return self.ground.finish(Role.RECOMMENDER, writer)

    def reply(self, heard: Heard, ask: str | None) -> Turn:
        """Answers the seeker's last turn.

        Args:
          heard: what the seeker said.
          ask: the preference to ask for, a key of `phrases.recommender.ASK`; None recommends instead. Questions of the
            seeker come first.
        """
        rng, writer = self.rng, self.ground.writer(self.style)
        self._talk(writer, heard)
        if heard.questions or heard.why is not None:
            for question in heard.questions:
                self._answer(writer, question)
            if heard.why is not None:
                self._explain_why(writer, heard.why)
            if rng.random() < 0.25:
                bank = phrases.OFFER_KNOWN if writer.mentions else phrases.OFFER
                writer.say(bank, ASK, emotion="curious")
            return self.ground.finish(Role.RECOMMENDER, writer)
        self._react(writer, heard)
        if ask is not None:
            self._ask(writer, ask)
        else:
            self._recommend(writer, heard)
        return self.ground.finish(Role.RECOMMENDER, writer)

    # Talking.

    def _talk(self, writer: Writer, heard: Heard) -> None:
        if heard.talk == "how are you":
            writer.say(phrases.FINE, GREET, emotion="neutral" if heard.feeling == "negative" else "happy")
        elif heard.talk == "fine" and heard.feeling != "negative" and self.rng.random() < 0.6:
            writer.say(phrases.GLAD, GREET, emotion="happy")
        elif heard.talk == "greeting" and len(self.ground.turns) == 1:
            tone = draw(self.rng, {"neutral": 0.75, "happy": 0.25})
            writer.say(phrases.GREETING[tone], GREET, emotion=tone)
        elif heard.talk == "off topic":
            writer.say(phrases.OFF_TOPIC, CHAT, emotion="neutral")
        elif heard.talk == "nonsense":
            writer.say(phrases.NONSENSE, CHAT, emotion="neutral")
        elif heard.talk == "foreign":
            writer.say(phrases.FOREIGN, CHAT, emotion="neutral")

    def _ask(self, writer: Writer, what: str) -> None:
        if not what and len(self.ground.turns) < 2:
            writer.say(phrases.ASK_FIRST, ASK, emotion="curious")
            return
        attribute = Attribute(what) if what and what != "avoid" else None
        writer.say(phrases.ASK[what], Act(ActName.ASK, attribute), emotion="curious")

    def _react(self, writer: Writer, heard: Heard) -> None:
        """Reacts to what the seeker feels, in a tone that fits."""
        if heard.talk in ("off topic", "nonsense", "foreign"):
            return
        if heard.about == "mood":
            mood = MOODS[self.ground.mood]
            writer.say(mood.answers, REACT, emotion=mood.tone)
        elif heard.about == "changed":
            writer.say(phrases.REACT_CHANGED, REACT, emotion="neutral")
        elif heard.about and self.rng.random() < (0.4 if heard.feeling == "neutral" else 0.75):
            banks = {
                "own film": phrases.REACT_FILM | phrases.REACT_OWN_FILM,
                "taste": phrases.REACT_TASTE, "film": phrases.REACT_FILM, "accept": phrases.REACT_ACCEPT,
                "reject": phrases.REACT_REJECT, "unsure": phrases.REACT_UNSURE,
            }[heard.about]  # fmt: skip
            self._react_with(writer, banks, heard.feeling)

    def _react_with(self, writer: Writer, banks: Mapping[str, tuple[str, Bank]], feeling: str) -> None:
        tone, bank = banks[feeling]
        writer.say(bank, REACT, emotion=tone)

    # Recommending.

    def scores(self) -> np.ndarray:
        """[I] log-weights of the films given the dialogue so far; minus infinity for those that cannot be recommended.

        These are the films that were mentioned before, what the seeker ruled out, and other years than they asked for.
        """
        world, ground = self.world, self.ground
        scores = _KNOWN * world.log_known
        for taste in ground.tastes:
            scores = scores + _FIT[taste[0]] * world.fits(taste)
        for film, valence in ground.valence.items():
            scores = scores + _SIMILAR * valence * world.similar[film]
        last = ground.turns[-1].emotions if ground.turns and ground.turns[-1].role == Role.SEEKER else ()
        for emotion in last:
            if emotion in world.fits_feeling:
                scores = scores + _FEELING * world.fits_feeling[emotion]
        if ground.mood:
            scores = scores + _MOOD * world.fits_mood[ground.mood]
        barred = np.zeros(len(scores), bool)
        barred[list(ground.valence)] = True
        for taste in ground.ruled_out:
            barred |= world.fits(taste)
        first, last_year = ground.years
        dated = barred | (world.years < first) | (world.years > last_year)
        return np.where(dated if (~dated).sum() >= _FEWEST else barred, -np.inf, scores)

    def _recommend(self, writer: Writer, heard: Heard) -> None:
        ground, rng = self.ground, self.rng
        scores = self.scores()
        if ("genre", heard.critique) in ground.tastes:
            scores = scores + _FIT["genre"] * self.world.fits(("genre", heard.critique))
        count = heard.films or int(rng.choice([1, 2, 3], p=[0.68, 0.25, 0.07]))
        count = min(count, int(np.isfinite(scores).sum()))
        films = np.argsort(-(scores + rng.gumbel(size=len(scores))), kind="stable")[:count].tolist()
        if count > 1:
            self._recommend_several(writer, films, self._tone(heard, films[0], phrases.RECOMMEND_MANY))
        else:
            alike = self._alike(films[0]) if rng.random() < 0.3 else None
            if alike is not None and alike[0] not in self.compared:
                liked, kind, slots = alike
                self.compared.add(liked)
                names = {"liked": ground.film(liked), "film": ground.film(films[0])}
                writer.say(phrases.SIMILAR, EXPLAIN, RECOMMEND, emotion="neutral", slots=names)
                if rng.random() < 0.6:
                    writer.say(phrases.ALSO[kind], EXPLAIN, slots=slots)
            else:
                tone = self._tone(heard, films[0], phrases.RECOMMEND)
                writer.say(phrases.RECOMMEND[tone], RECOMMEND, emotion=tone, slots={"film": ground.film(films[0])})
                if rng.random() < 0.6:
                    self._explain(writer, films[0], heard)
            if "?" not in writer.text and rng.random() < 0.35:
                writer.say(phrases.CHECK, RECOMMEND)
        ground.recent = films

    def _recommend_several(self, writer: Writer, films: list[int], tone: str) -> None:
        """Recommends films, sometimes each with somebody who made it or is in it."""
        values: list[Slot] = [f"<f{i}>" for i in range(len(films))]
        slots: dict[str, Slot] = {f"f{i}": self.ground.film(film) for i, film in enumerate(films)}
        acts = [RECOMMEND]
        word = pick(self.rng, ("with", "by"))
        cast = [self.world.known_cast[film] or self.world.pool[film].cast for film in films]
        directors = [self.world.pool[film].directors for film in films]
        people = [names[0] for names in (cast if word == "with" else directors)]
        if len(set(people)) == len(films) and self.rng.random() < 0.45:
            for i, (film, name) in enumerate(zip(films, people, strict=True)):
                values[i] = f"<f{i}> {word} <who{i}>"
                slots[f"who{i}"] = person(name)
                self.ground.stated.add((film, "cast" if word == "with" else "director"))
            acts.append(EXPLAIN)
        slots |= several("films_and", values) | several("films_or", values, "or")
        writer.say(phrases.RECOMMEND_MANY[tone], *acts, emotion=tone, slots=slots)

    def _tone(self, heard: Heard, film: int, banks: Mapping[str, Bank]) -> str:
        weights = {"neutral": 0.62, "like": 0.28, "curious": 0.08}
        if heard.about == "mood" and self.ground.mood in _SAD:
            weights = {"neutral": 0.5, "negative": 0.5}
        elif heard.feeling == "happy":
            weights["happy"] = 0.6
        elif heard.feeling == "nostalgia" and self.world.fits_feeling["nostalgia"][film]:
            weights["nostalgia"] = 0.6
        return draw(self.rng, {tone: weight for tone, weight in weights.items() if tone in banks})

    # Explaining.

    def _alike(self, film: int) -> tuple[int, str, dict[str, Slot]] | None:
        """A film that the seeker likes, with what it shares with another: its kind and slots. None where nothing."""
        for liked in self.ground.liked[::-1]:
            if liked == film:
                continue
            one, two = self.world.pool[liked], self.world.pool[film]
            if shared := [name for name in one.directors if name in two.directors]:
                return liked, "director", {"person": person(shared[0])}
            if shared := [name for name in self.world.known_cast[liked] if name in self.world.known_cast[film]]:
                return liked, "actor", {"person": person(shared[0])}
            genres = [name for name in one.genres if name in two.genres and name != "Drama"]
            if genres:
                return liked, "genre", genre_slots(self.rng, pick(self.rng, genres))
        return None

    def _fitting_tastes(self, film: int) -> list[Taste]:
        return [taste for taste in self.ground.tastes if self.world.fits(taste)[film]]

    def _mood_reason(self, film: int) -> dict[str, Slot] | None:
        """The slots of why a film fits the seeker's mood; None where it does not."""
        ground, item = self.ground, self.world.pool[film]
        if not ground.mood or not self.world.fits_mood[ground.mood][film]:
            return None
        fitting = [genre for genre in item.genres if genre in MOODS[ground.mood].genres]
        slots: dict[str, Slot] = {"year": str(item.year)}
        if fitting:
            slots |= genre_slots(self.rng, pick(self.rng, fitting))
        return slots | ground.taste_slots(("era", item.era))

    def _explain(self, writer: Writer, film: int, heard: Heard) -> None:
        """Says why a film that was just named is recommended: what fits the seeker, or a fact."""
        rng, ground = self.rng, self.ground
        mood = None if self.explained_mood else self._mood_reason(film)
        tastes = self._fitting_tastes(film)
        if heard.critique in phrases.WHY_YEAR:
            writer.say(phrases.WHY_YEAR[heard.critique], EXPLAIN, slots={"year": str(self.world.pool[film].year)})
        elif heard.critique in self.world.pool[film].genres:
            self._state_taste(writer, film, ("genre", heard.critique))
        elif mood is not None and rng.random() < 0.7:
            self.explained_mood = True
            writer.say(MOODS[ground.mood].why, EXPLAIN, emotion=MOODS[ground.mood].tone, slots=mood)
        elif tastes and rng.random() < 0.45:
            self._state_taste(writer, film, pick(rng, tastes))
        else:
            self._state_new(writer, film)

    def _state_taste(
        self, writer: Writer, film: int, taste: Taste, banks: Mapping[str, Bank] = phrases.WHY_TASTE
    ) -> None:
        slots = self.ground.taste_slots(taste) | {"year": str(self.world.pool[film].year)}
        writer.say(banks[taste[0]], EXPLAIN, slots=slots)
        self.ground.stated.add((film, {"actor": "cast", "era": "year"}.get(taste[0], taste[0])))

    def _new_facts(self, film: int, said: str) -> list[str]:
        """The attributes that most people care about and that were not stated of a film, nor in the text."""
        new = [attribute for attribute in _INSTEAD if (film, attribute) not in self.ground.stated]
        return [attribute for attribute in new if attribute != "year" or str(self.world.pool[film].year) not in said]

    def _state_new(self, writer: Writer, film: int) -> None:
        """States a fact that was not stated before."""
        if new := self._new_facts(film, writer.text):
            attribute = draw(self.rng, {name: weight for name, weight in _INSTEAD.items() if name in new})
            self.ground.stated.add((film, attribute))
            if (known := fact_slots(self.world, film, attribute, self.rng, most=2)) is not None:
                writer.say(phrases.FACTS[known[0]], EXPLAIN, slots=known[1])

    def _explain_why(self, writer: Writer, film: int) -> None:
        """Answers "why that one?"."""
        options = []
        tastes, alike, mood = self._fitting_tastes(film), self._alike(film), self._mood_reason(film)
        options += ["taste"] * 2 * bool(tastes) + ["alike"] * bool(alike) + ["mood"] * bool(mood)
        chosen = pick(self.rng, options) if options else ""
        if chosen == "taste":
            self._state_taste(writer, film, pick(self.rng, tastes), phrases.BECAUSE)
        elif chosen == "alike" and alike is not None:
            liked, kind, slots = alike
            writer.say(phrases.WHY_ALIKE[kind], EXPLAIN, slots={"liked": self.ground.film(liked)} | slots)
        elif chosen == "mood" and mood is not None:
            writer.say(MOODS[self.ground.mood].why, EXPLAIN, emotion=MOODS[self.ground.mood].tone, slots=mood)
        else:
            writer.say(phrases.LIKELY, EXPLAIN)
            self._state_new(writer, film)
        if not writer.emotions:
            writer.emotions.append("neutral")
        if chosen and self.rng.random() < 0.3:
            self._state_new(writer, film)

    # Answering.

    def _answer(self, writer: Writer, question: Question) -> None:
        if not writer.emotions:
            writer.emotions.append("neutral")
        film = question.film
        it: Slot = self.ground.film(film) if self.rng.random() < (0.45 if question.named else 0.2) else "it"
        if question.kind in ("year", "old", "new"):  # the title may hold the year
            it = "it"
        if question.kind in IS_IT and question.value or question.kind in ("old", "new"):
            self._answer_yes_no(writer, question, it)
        elif question.kind == "about":
            new = self._new_facts(film, self.ground.turns[-1].text) or list(_INSTEAD)
            for attribute in self.rng.permutation(new)[:2].tolist():
                self._say_answer(writer, film, attribute, "it" if attribute == "year" else it)
                it = "it"
        elif not self._say_answer(writer, film, question.kind, it):
            attribute = Attribute(question.kind) if question.kind else None
            bank = phrases.UNKNOWN[question.kind if question.kind in phrases.UNKNOWN else ""]
            writer.say(bank, Act(ActName.ANSWER, attribute), slots={"it": it})
            new = self._new_facts(film, self.ground.turns[-1].text + writer.text)
            if new and self.rng.random() < 0.7:
                other = pick(self.rng, new)
                bank_and_slots = fact_slots(self.world, film, other, self.rng)
                if bank_and_slots is not None and bank_and_slots[0] in phrases.BUT:
                    self.ground.stated.add((film, other))
                    act = Act(ActName.ANSWER, Attribute(other))
                    writer.say(phrases.BUT[bank_and_slots[0]], act, slots=bank_and_slots[1])

    def _say_answer(self, writer: Writer, film: int, attribute: str, it: Slot) -> bool:
        """Answers with a fact; False where it is not known."""
        if attribute not in ("director", "cast", "writer", "year", "genre", "country", "language", "company"):
            return False
        known = fact_slots(self.world, film, attribute, self.rng)
        if known is None:
            return False
        self.ground.stated.add((film, attribute))
        writer.say(phrases.ANSWERS[known[0]], Act(ActName.ANSWER, Attribute(attribute)), slots={"it": it} | known[1])
        return True

    def _answer_yes_no(self, writer: Writer, question: Question, it: Slot) -> None:
        film, item, kind = question.film, self.world.pool[question.film], question.kind
        act = Act(ActName.ANSWER, _YES_NO[kind])
        slots: dict[str, Slot] = {"it": it, "year": str(item.year)}
        if kind in ("old", "new"):
            if _OLD <= item.year < _NEW:
                writer.say(phrases.MIDDLING, act, slots=slots)
            else:
                yes = item.year < _OLD if kind == "old" else item.year >= _NEW
                writer.say((phrases.YES if yes else phrases.NO)[kind], act, slots=slots)
            return
        names = {"cast": item.cast, "director": item.directors, "genre": item.genres}[kind]
        slots |= genre_slots(self.rng, question.value) if kind == "genre" else {"person": person(question.value)}
        yes = question.value in names
        writer.say((phrases.YES if yes else phrases.NO)[kind], act, slots=slots)
        if not yes and self.rng.random() < 0.8:
            self._say_answer(writer, film, kind, "it")
