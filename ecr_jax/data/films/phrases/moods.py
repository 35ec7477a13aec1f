"""Moods: how seekers feel on the day, and what recommenders say to it. See `nouns` for the grammar."""

from __future__ import annotations

from typing import NamedTuple

from ecr_jax.data.films.phrases.nouns import Bank


class Mood(NamedTuple):
    """How a seeker feels today.

    Attributes:
      emotion: the label of what they say.
      says: they tell it.
      answers: the recommender reacts.
      tone: the label of the reaction; `negative` is sympathy.
      why: the recommender says why a film of `genres` fits.
      genres: that fit the mood.
    """

    emotion: str
    says: Bank
    answers: Bank
    tone: str
    why: Bank
    genres: tuple[str, ...]


MOODS: dict[str, Mood] = {
    "sad": Mood(
        "negative",
        (
            "I feel (terrible|awful|so sad|really down) (today|tonight|right now).",
            "I've had (a terrible|an awful|a really bad|such a rough) (day|week).",
            "I'm (so sad|really sad|pretty down|feeling low) (today|right now|).",
            "I just (broke up with my boyfriend|broke up with my girlfriend|got dumped) and I feel (awful|miserable).",
            "(My dog died|I lost my job|I failed my exam) (yesterday|this week) and I'm (heartbroken|so down).",
            "I've been crying all (day|evening).",
            "Everything went wrong today.",
            "I feel (so lonely|really alone) tonight.",
            "I can't stop feeling (sad|blue) today.",
            "Not a good day, honestly. I'm really down.",
            "I miss my (family|mom|best friend) so much today, it hurts.",
        ),
        (
            "I'm (so|really|very) sorry to hear that.",
            "Oh no, (I'm sorry|that sounds really hard).",
            "That sounds (rough|really tough|awful), I'm sorry.",
            "I'm sorry you're (having a hard time|feeling this way|going through that).",
            "Aw, I'm sorry. (I hope it gets better soon|Be kind to yourself tonight|Days like that are hard).",
            "Sorry to hear that, (I hope tomorrow is kinder|that must hurt).",
            "That must be (hard|so hard|painful). I'm with you.",
            "I hear you, (some days are just hard|that's a lot to carry).",
        ),
        "negative",
        (
            "It might (cheer you up|take your mind off things|lift your spirits) a little.",
            "It's <a_genre>, so it could (take your mind off things|be a small comfort).",
            "<a_genre> might (help a little|do you good|be a nice distraction) right now.",
            "I picked <a_genre> because (you sound like you could use a lift|it might brighten your day).",
        ),
        ("Comedy", "Family", "Animation", "Romance", "Musical", "Fantasy"),
    ),
    "stressed": Mood(
        "negative",
        (
            "I'm (so|really|completely) stressed (out|) (today|right now|from work|).",
            "Work (was hell|was a nightmare|is killing me) (today|this week).",
            "I'm exhausted and (everything annoys me|fed up with everything).",
            "I'm (so|really) angry (at|with) my (boss|roommate|landlord) (today|right now).",
            "I have (a horrible headache|the flu|a nasty cold) and feel (rotten|miserable).",
            "I can't sleep and I'm (worried|anxious) about (tomorrow|everything|my exam).",
            "The kids drove me up the wall today.",
            "Ugh, (what a day|this week is never going to end).",
            "I'm so frustrated with everything at the moment.",
        ),
        (
            "That sounds (exhausting|stressful|draining), I'm sorry.",
            "Ugh, I'm sorry. (You deserve a break|You've earned a quiet evening).",
            "Oh dear, that's (a lot|no fun at all).",
            "Sorry to hear that, (let's get you something to unwind with|you should get some rest).",
            "I'm sorry it's so (hard|stressful|much) right now.",
            "Poor you, that sounds (awful|really tiring).",
            "No wonder you're worn out, I'm sorry.",
        ),
        "negative",
        (
            "It should help you (unwind|switch off|relax).",
            "It's <a_genre>, nice for (switching off|unwinding) after a day like that.",
            "I thought <a_genre> would be (easy on you|a good way to switch off) tonight.",
            "With a day like yours, <a_genre> (seemed right|might be just the thing).",
        ),
        ("Comedy", "Family", "Animation", "Romance", "Adventure", "Fantasy", "Musical"),
    ),
    "bored": Mood(
        "negative",
        (
            "I'm (so|really|incredibly) bored(.| right now.| today.| tonight.)",
            "I'm bored (out of my mind|to death|stiff).",
            "There's nothing to do here and it's driving me crazy.",
            "I've been scrolling for an hour and everything looks (dull|boring|the same).",
            "Ugh, (another boring evening|stuck at home again).",
            "Stuck (on a train|at the airport|in bed) and bored.",
        ),
        (
            "(Boredom is the worst|Ugh, I know that feeling), let's (fix that|do something about it).",
            "Oh no, we can't have that.",
            "Sorry to hear that, let's find (something gripping|something to wake you up).",
            "That's no fun, (let me help|let's change that).",
            "Aw, evenings like that drag on forever.",
        ),
        "negative",
        (
            "It's <a_genre>, so you shouldn't be bored.",
            "<a_genre> should (wake you up|keep you on your toes|shake things up a bit).",
            "It's <a_genre>, and that might be the cure for boredom.",
        ),
        ("Action", "Adventure", "Thriller", "Sci-Fi", "Mystery", "Horror", "Crime"),
    ),
    "party": Mood(
        "happy",
        (
            "We're having a (party|movie night|girls' night|sleepover) (tonight|this weekend)!",
            "I'm in (such a good|a great|the best) mood (today|tonight)!",
            "It's my (birthday|day off|first day of vacation) and I'm (so happy|over the moon)!",
            "My friends are coming over tonight, yay!",
            "I just (got a promotion|passed my exam|got the job|got engaged), I'm so happy!",
            "(Finally the weekend|It's Friday), woohoo!",
            "I'm really excited, it's movie night!",
            "Best day ever, (I want to celebrate|let's celebrate)!",
            "We've got snacks, blankets and the whole evening, I can't wait!",
        ),
        (
            "(Yay|Woohoo|Oh, how lovely)! (That sounds like so much fun|I love that|Sounds like a great time)!",
            "That's (wonderful|fantastic|so great), (I'm so happy for you|congrats|enjoy every minute)!",
            "Love it! (Let's make it a great night|Let's find something to match)!",
            "Oh nice, that's (so exciting|awesome)!",
            "Yay, (good for you|what a great reason to watch something)!",
            "That makes me happy too!",
        ),
        "happy",
        (
            "It's <a_genre>, great for (a good mood|celebrating|a fun night)!",
            "<a_genre> goes well with (a good mood|a night like that)!",
            "I think <a_genre> would be (so much fun|a blast) tonight!",
        ),
        ("Comedy", "Musical", "Action", "Adventure", "Animation"),
    ),
    "nostalgic": Mood(
        "nostalgia",
        (
            "I'm feeling (nostalgic|a bit nostalgic|sentimental) (today|tonight).",
            "I was looking through old photos and miss those days.",
            "I want to feel like a kid again (tonight|for one evening).",
            "I'm at my parents' place, in my old room, so many memories here.",
            "I keep thinking of the movie nights we had when I was young.",
            "Rainy Sundays always make me think of my childhood.",
        ),
        (
            "(Aw|Ah), I know that feeling, (the old days are hard to beat|those memories stay with you).",
            "That's a lovely mood for an old film.",
            "Oh, those evenings back then were special.",
            "Nothing like (a trip down memory lane|a little nostalgia).",
            "What a sweet thought, (old memories are the best|I miss those days too).",
        ),
        "nostalgia",
        (
            "It came out in <year>, so it might take you back.",
            "It's from <year>, good for a trip down memory lane.",
            "I thought something from <era> would suit that mood.",
        ),
        (),
    ),
}
