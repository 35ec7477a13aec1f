"""What reviews say: openings, facts, feelings and endings, by the one feeling of a review. See `nouns` for the grammar.

The first sentence names the film. A fact has a plain bank, and banks of some feelings; a review uses those of its own.
"""

from __future__ import annotations

from ecr_jax.data.films.phrases.nouns import Bank

OPENINGS: dict[str, Bank] = {
    "like": (
        "I (absolutely|simply|really) love <film>.",
        "<film> is (such a good movie|one of the best I've seen|as good as movies get).",
        "If I could keep only one movie, it would be <film>.",
        "Everything about <film> works for me.",
        "I've seen <film> (three|four|five) times now, and I like it more each time.",
        "<film> is easily (one of my favorites|my favorite in a long time).",
        "I could talk about <film> for hours.",
        "I went in expecting a decent evening, and <film> turned out to be one of my favorites.",
    ),
    "happy": (
        "I haven't been this happy after a movie in years, <film> is a delight!",
        "What a joy! <film> left me grinning.",
        "I came home from <film> with a smile I couldn't shake off!",
        "<film> made my whole week!",
        "I laughed so much during <film> that my neighbors knocked!",
        "We watched <film> with friends and had the time of our lives!",
        "I put on <film> whenever I want to feel good, and it works every time!",
    ),
    "nostalgia": (
        "Watching <film> again took me straight back.",
        "I first saw <film> a long time ago, and the memory still warms me.",
        "<film> is a piece of my childhood.",
        "Few movies make me as nostalgic as <film>.",
        "My (dad|mother|grandfather|sister) showed me <film> when I was little.",
        "We had <film> on an old tape that I nearly wore out.",
        "I found <film> again after many years, and there it all was.",
    ),
    "surprise": (
        "Wow, I was not ready for <film>!",
        "<film> caught me completely off guard!",
        "I sat down to <film> expecting little, and was floored!",
        "Nobody had warned me how good <film> is!",
        "How did <film> do that to me?!",
        "I put <film> on by accident and couldn't believe what I was seeing!",
    ),
    "curious": (
        "I had always wondered about <film>, and now I wonder even more.",
        "What makes <film> so gripping? I keep asking myself.",
        "<film> kept me guessing the whole time.",
        "I can't stop thinking about <film>.",
        "<film> left me with so many questions.",
        "I watched <film> twice in a row because I wanted to understand how it works.",
    ),
    "grateful": (
        "I'm grateful that a movie like <film> exists.",
        "Thank you to everyone who made <film>.",
        "To the friend who made me watch <film>: thank you.",
        "I owe <film> a lot.",
        "<film> came to me at the right time, and I'm thankful for it.",
        "I feel lucky to have seen <film>.",
    ),
    "negative": (
        "I cried my way through <film>.",
        "<film> broke my heart.",
        "I was sad for days when <film> was over.",
        "<film> hurts, and it should.",
        "I knew <film> would be hard to watch, and still it got to me.",
        "After <film> I just sat there in the dark with tears in my eyes.",
    ),
    "agreement": (
        "Everybody told me <film> was great, and everybody was right.",
        "Yes, <film> deserves all the praise.",
        "I can only agree with those who love <film>.",
        "It's true what they say about <film>.",
        "My friends kept telling me to watch <film>, and they had a point.",
    ),
    "neutral": (
        "I watched <film> last week.",
        "I finally got around to <film>.",
        "I had <film> on my list for a long time.",
        "I saw <film> on a quiet evening.",
    ),
}

FACTS: dict[str, Bank] = {
    "director": (
        "It was directed by <person>, and it shows.",
        "<person> directed it with a sure hand.",
        "<person>, who directed it, knows exactly where to point the camera.",
        "You can tell that <person> directed it.",
        "<person> is the director, and every scene has a reason to be there.",
        "As a director, <person> never wastes a minute here.",
    ),
    "director2": (
        "<person> and <person2> directed it together.",
        "It was directed by <person> and <person2>, and you'd never guess it was two people.",
    ),
    "actor": (
        "<person> is (wonderful|great|so good) in it.",
        "I couldn't take my eyes off <person>.",
        "<person> gives it everything.",
        "It's worth watching for <person> alone.",
        "I'd forgotten how good <person> can be.",
        "<person> fits the part perfectly.",
    ),
    "actor2": (
        "<person> and <person2> are (great|brilliant|a joy) to watch.",
        "With <person> and <person2> in the cast, nothing can go wrong.",
        "<person> and <person2> are both at their best.",
        "I could watch <person> and <person2> for hours.",
    ),
    "genre": (
        "As <a_genre> it's (hard to beat|close to perfect|the best I know).",
        "I'm picky about <genres>, and this one got me.",
        "This is what <genres> should be like.",
        "If you like <genres>, don't wait.",
        "It's <a_genre> that takes its time and gets it right.",
    ),
    "genre2": (
        "It's part <genre>, part <genre2>, and both halves work.",
        "The mix of <genre> and <genre2> is spot on.",
    ),
    "year": (
        "It came out in <year> and still feels fresh.",
        "It's from <year>, and I haven't seen many like it since.",
        "Of all the movies of <year>, this is the one that stayed with me.",
    ),
    "era": ("It has all I love about <era>.", "They don't make them like in <era> anymore."),
    "writer": (
        "<person> wrote it, and there isn't a wasted line.",
        "The script by <person> is (sharp|clever|so well built).",
        "The dialogue, written by <person>, is a pleasure.",
    ),
    "country": ("It comes from <place>, and I want to see more from there.", "It's a little gem from <place>."),
    "language": ("It's in <language>, and I loved listening to it.", "Watch it in <language> if you can."),
    "company": ("<company> made it, and they did it right.", "Well done, <company>."),
}
FACTS_WITH: dict[str, dict[str, Bank]] = {
    # facts that show the feeling
    "happy": {
        "director": (
            "I was beaming at what <person> does as a director!",
            "<person> directed it, and I enjoyed every second!",
        ),
        "actor": ("<person> had me in stitches!", "I was so happy to see <person>!"),
        "actor2": ("<person> and <person2> are so much fun together!",),
        "genre": ("It's <a_genre> that puts you in the best mood!", "I love <genres>, and this one made me so happy!"),
    },
    "nostalgia": {
        "director": ("<person> directed it, and nobody makes them like that anymore.",),
        "actor": ("Seeing <person> again felt like meeting an old friend.", "I had a poster of <person> back then."),
        "genre": ("We used to rent <genres> like this every weekend.",),
        "year": (
            "It's from <year>, and for an evening it was <year> again.",
            "It came out in <year>, what a time that was.",
        ),
        "era": ("It's pure <era>, and I miss those days.",),
    },
    "surprise": {
        "director": (
            "I had no idea that <person> had this in store!",
            "<person> directed it, and I never saw any of it coming!",
        ),
        "actor": ("<person> took my breath away!", "Who knew that <person> could do this?!"),
        "genre": ("I thought I knew <genres>, but wow!",),
    },
    "curious": {
        "director": (
            "How does <person> come up with these things as a director?",
            "I want to see everything else that <person> directed.",
        ),
        "actor": ("I keep wondering what <person> was thinking in that last scene.",),
        "writer": ("I'd love to ask <person>, who wrote it, what it all means.",),
        "genre": ("It's <a_genre> that makes you want to look closer.",),
    },
    "grateful": {
        "director": ("Thank you, <person>, for directing it.", "I'm thankful that <person> got to direct this."),
        "actor": ("Bless <person> for this performance.",),
        "company": ("My thanks to <company> for making it.",),
        "country": ("I'm glad it made it here from <place>.",),
    },
    "negative": {
        "director": ("<person> directed it without any mercy.", "<person> directed it, and spares us nothing."),
        "actor": ("<person> broke my heart.", "I can't forget how sad <person> looks at the end."),
        "actor2": ("I ached for <person> and <person2>.",),
        "genre": ("It's <a_genre> that leaves a bruise.",),
    },
    "agreement": {
        "director": ("They all praise <person> for directing it, and I won't argue.",),
        "actor": ("People are right to praise <person>.",),
    },
}

FEELINGS: dict[str, Bank] = {
    "like": (
        "I loved every minute.",
        "I'd watch it again (tonight|tomorrow|in a heartbeat).",
        "It has everything I look for.",
        "I can't find a single thing I'd change.",
        "It's the kind of movie I wish I could see for the first time again.",
        "I like it more the longer I think about it.",
    ),
    "happy": (
        "I laughed out loud and didn't care who heard me!",
        "It made me want to dance home!",
        "I felt light and happy for days!",
        "I'm smiling again while I write this!",
        "My cheeks hurt from grinning!",
    ),
    "nostalgia": (
        "It made me think of the friends I used to watch movies with.",
        "It gave me back a feeling I'd lost.",
        "I miss the evening I first saw it.",
        "For two hours I was a kid again.",
        "I could almost smell my grandparents' living room.",
    ),
    "surprise": (
        "My jaw dropped more than once!",
        "I never saw the ending coming!",
        "I still can't believe it!",
        "I had to pause it just to catch my breath!",
    ),
    "curious": (
        "I went and read all I could find about it.",
        "I wonder how they did it.",
        "I want to know what happens after the last scene.",
        "I already want to see it again to check what I missed.",
    ),
    "grateful": (
        "I can only say thanks.",
        "It helped me through a hard winter.",
        "I'm so glad somebody made it.",
        "It gave me more than I can put into words.",
    ),
    "negative": (
        "I wept, and I'm not ashamed.",
        "It made me ache all over.",
        "Some scenes were hard to bear.",
        "I had to call my mother afterwards.",
        "I'm still sad about the ending.",
    ),
    "agreement": (
        "Believe what people tell you.",
        "I'm with the fans on this one.",
        "For once the hype is right.",
        "I have nothing to add to the praise but my own.",
    ),
    "neutral": (
        "That's about all I want to say.",
        "I watched it to the end.",
        "It does what it sets out to do.",
        "Make up your own mind.",
    ),
}

ENDINGS: dict[str, Bank] = {
    "like": (
        "Don't miss it.",
        "Go and see it.",
        "Highly recommended.",
        "I can't recommend it enough.",
        "See it if you can.",
    ),
    "happy": ("See it with people you love!", "Go and have fun!", "Watch it and try not to smile!"),
    "nostalgia": ("Those were the days.", "I hope my kids will love it too.", "Some things just last."),
    "surprise": ("Go in knowing nothing!", "Just wow!", "See it before somebody spoils it!"),
    "curious": (
        "See it and tell me what you think it means.",
        "I'd love to know what others make of it.",
        "What would you have done?",
    ),
    "grateful": ("Thank you for this one.", "I'll carry it with me.", "I'm glad I found it."),
    "negative": ("Bring tissues.", "I won't forget it.", "It still hurts to think of it."),
    "agreement": ("They were right.", "Count me in.", "So yes, see it."),
    "neutral": ("Worth a look.", "See for yourself.", "It was time well spent."),
}
