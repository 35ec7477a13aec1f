"""The phrases of the built-in corpus, by speech act and by emotion, all written for it.

A phrase is a small grammar: `(a|b|)` chooses one of its branches (they nest), `<slot>` is filled by `films.py` with a
film, a person, a genre and so on. The key of a bank is the emotion that its phrases express.
"""

from __future__ import annotations

Bank = tuple[str, ...]

GENRES: dict[str, tuple[Bank, Bank]] = {
    # (one of them, many of them); the bars mark what is mentioned
    "Action": (("an |action| (movie|film|flick)",), ("|action| (movies|films|flicks)",)),
    "Adventure": (("an |adventure| (movie|film)", "an |adventure|"), ("|adventure| (movies|films|stories)",)),
    "Animation": (("an |animated| (movie|film)", "an |animation|"), ("|animated| (movies|films)", "|animation|")),
    "Biography": (("a |biopic|", "a |biography|"), ("|biopics|", "|biographical| (movies|films)")),
    "Comedy": (("a |comedy|", "a |comedy| (movie|film)"), ("|comedies|", "|comedy| (movies|films)")),
    "Crime": (("a |crime| (movie|film|story)",), ("|crime| (movies|films|stories)",)),
    "Documentary": (("a |documentary|",), ("|documentaries|",)),
    "Drama": (("a |drama|", "a |drama| (movie|film)"), ("|dramas|", "|dramatic| (movies|films)")),
    "Family": (("a |family| (movie|film)",), ("|family| (movies|films)",)),
    "Fantasy": (("a |fantasy| (movie|film)", "a |fantasy|"), ("|fantasy| (movies|films)", "|fantasy|")),
    "History": (("a |historical| (movie|film)", "a |history| (movie|film)"), ("|historical| (movies|films)",)),
    "Horror": (("a |horror| (movie|film|flick)",), ("|horror| (movies|films|flicks)", "|horror|")),
    "Music": (("a |music| (movie|film)",), ("|music| (movies|films)",)),
    "Musical": (("a |musical|",), ("|musicals|",)),
    "Mystery": (("a |mystery|", "a |mystery| (movie|film)"), ("|mysteries|", "|mystery| (movies|films)")),
    "Romance": (("a |romance|", "a |romantic| (movie|film)"), ("|romantic| (movies|films)", "|romances|")),
    "Sci-Fi": (
        ("a |sci-fi| (movie|film)", "a |science fiction| (movie|film)"),
        ("|sci-fi|", "|sci-fi| (movies|films)"),
    ),
    "Sport": (("a |sports| (movie|film)",), ("|sports| (movies|films)",)),
    "Thriller": (("a |thriller|",), ("|thrillers|", "|thriller| (movies|films)")),
    "War": (("a |war| (movie|film)",), ("|war| (movies|films)",)),
    "Western": (("a |western|",), ("|westerns|",)),
}

ERAS: dict[int, Bank] = {
    1940: ("the forties", "the 40s", "the 1940s"),
    1950: ("the fifties", "the 50s", "the 1950s"),
    1960: ("the sixties", "the 60s", "the 1960s"),
    1970: ("the seventies", "the 70s", "the 1970s"),
    1980: ("the eighties", "the 80s", "the 1980s"),
    1990: ("the nineties", "the 90s", "the 1990s"),
    2000: ("the 2000s", "the noughties", "the two thousands"),
    2010: ("the 2010s", "the twenty-tens", "the past decade or so"),
}

TASTE_NOUNS: dict[str, Bank] = {
    # what a seeker loves, as a plural noun phrase (`<nps>`, and `<np>` too)
    "genre": ("<genres>", "(good|great|clever|) <genres>", "all kinds of <genres>", "really well made <genres>"),
    "director": (
        "(movies|films) (by|directed by|from) <person>",
        "<person>'s (movies|films)",
        "(films|movies) that <person> made",
        "the (films|movies) of <person>",
    ),
    "actor": (
        "(movies|films) (with|starring|featuring) <person>",
        "<person>'s (movies|films|performances)",
        "(movies|films) that have <person> in them",
    ),
    "era": ("(movies|films) from <era>", "(movies|films) made in <era>", "the (movies|films) of <era>"),
    "genre+era": ("<genres> from <era>", "<genres> made in <era>", "those <genres> of <era>"),
    "genre+director": ("<genres> (by|directed by|from) <person>", "the <genres> of <person>"),
    "genre+actor": ("<genres> (with|starring|featuring) <person>", "<genres> that have <person> in them"),
    "actor+era": ("(movies|films) with <person> from <era>", "<person>'s (movies|films) of <era>"),
    "genre+genre": ("<genres> and <genres2>", "<genres> mixed with <genres2>", "<genres> as well as <genres2>"),
}
TASTE_SINGULARS: dict[str, Bank] = {
    # the same where grammar allows a singular (`<np>` only)
    "genre": ("<a_genre>",),
    "director": ("anything by <person>", "the work of <person>", "something that <person> directed"),
    "actor": ("anything with <person> in it", "something with <person>", "any role of <person>"),
    "era": ("the cinema of <era>", "anything from <era>"),
    "genre+era": ("<a_genre> from <era>",),
    "genre+director": ("<a_genre> by <person>",),
    "genre+actor": ("<a_genre> with <person>", "<a_genre> starring <person>"),
    "actor+era": ("something with <person> from <era>",),
    "genre+genre": ("a blend of <genres> and <genres2>", "<a_genre> that is (also|at the same time) <a_genre2>"),
}

TASTES: dict[str, Bank] = {
    # a seeker tells a taste
    "like": (
        "I (really|absolutely|just|) love <np>.",
        "I'm (a big|a huge|quite a) fan of <np>.",
        "I'm (really|very much|) into <np>.",
        "(Honestly,|Well,|) nothing beats <np> for me.",
        "I enjoy <np> (a lot|very much|more than anything).",
        "<nps> are (my thing|exactly my taste|what I like best).",
        "I (could watch|can always watch) <np> (all day|all week|any time).",
        "I have a soft spot for <np>.",
        "My favorites are (usually|always|mostly) <nps>.",
        "I adore <np>.",
        "What I like (most|best) is <np>.",
        "I (tend to fall|always fall) for <np>.",
    ),
    "happy": (
        "<nps> (always|) make me (so|really|) happy.",
        "I'm in (a great|such a good|a really good) mood and want to (celebrate with|enjoy) <np> (tonight|this weekend|).",
        "(Yay, movie night!|It's finally the weekend!) I can't wait to watch <np>.",
        "Nothing cheers me up like <np>!",
        "I (always|) have so much fun with <np>!",
        "I get (so excited|a big smile on my face|all giddy) when I think of <np>!",
        "It's my (day off|birthday week), and I'm going to treat myself to <np>!",
        "I laugh and smile all evening with <np>!",
        "<nps> just put me in a wonderful mood!",
        "I'm so pumped for <np> (tonight|right now|today)!",
    ),
    "curious": (
        "I've been wondering about <np> (lately|for a while|recently).",
        "I'd be curious to (see|explore|try) <np>.",
        "I keep hearing about <np>, what is (out there|worth seeing)?",
        "Could you tell me (more|something) about <np>?",
        "I want to dig into <np>, where (do|should) I start?",
        "I'm intrigued by <np> and would like to know more.",
        "What would you say about <np>? I'm (so|really|) curious.",
        "A friend keeps talking about <np> and now I'm interested.",
        "I wonder what (I've missed|there is to discover) among <np>.",
        "Do you know much about <np>? I've always wanted to find out more.",
    ),
    "neutral": (
        "I'm looking for <np>.",
        "I'd like to (see|watch) <np> (tonight|this weekend|today|).",
        "(Maybe|Perhaps|Probably|) <np>.",
        "<np> would be (fine|okay|alright).",
        "Let's go with <np>.",
        "I usually watch <np>.",
        "Today I would watch <np>.",
        "(Something like|Just) <np>, please.",
        "I mostly see <np>.",
        "I was thinking of <np>.",
        "It could be <np>, I guess.",
    ),
    "nostalgia": (
        "I (grew up|was raised) (on|with) <np>.",
        "<nps> take me (right|straight|) back to my childhood.",
        "I miss the days when (we|my family) watched <np> together.",
        "When I was (a kid|a teenager|little), we (always|) watched <np>.",
        "<nps> remind me of (my college years|the old days|when I was young).",
        "My (dad|mom|grandma|big brother) used to show me <np>, those were the days.",
        "I'm feeling nostalgic for <np>.",
        "I remember (renting|taping) <np> every Friday back then.",
        "<nps> bring back (so many|a lot of) memories.",
        "I long for (the good old times|the evenings of my youth) with <np>.",
    ),
    "surprise": (
        "You won't believe it, but I just (discovered|found) <np>, and wow!",
        "I never thought I would, but I (suddenly|) fell for <np>!",
        "It (shocked|amazed|surprised) me how good <np> can be!",
        "Who would have thought that I'd end up with <np>?!",
        "Out of nowhere I can't stop watching <np>, it's crazy!",
        "To my own astonishment I am hooked on <np>!",
    ),
    "agreement": (
        "(Yes|Yeah|Sure|Right), <np> it is.",
        "(Exactly|Absolutely|Of course), <np> (would be right|would work).",
        "(Yep|Yes), you guessed it, <np>.",
        "(True|Indeed|That's right), I should watch <np>.",
        "(Okay|Ok|Alright), agreed, <np> then.",
    ),
}

LOVED_FILMS: dict[str, Bank] = {
    # a seeker names a film of their own
    "like": (
        "I (really|absolutely|) loved <film>.",
        "<film> is (one of my favorites|my all-time favorite|a favorite of mine).",
        "I think <film> is (brilliant|fantastic|great).",
        "I (really|) liked <film>.",
        "<film> was (so good|excellent|perfect for me).",
        "One I'd recommend to anybody is <film>.",
        "I've watched <film> (three|five|a dozen) times, it's that good.",
        "<film> is hard to beat.",
        "I enjoyed <film> a lot.",
    ),
    "happy": (
        "<film> (made|makes) me so happy!",
        "I (laughed|smiled) all the way through <film>!",
        "I had such a great time with <film>!",
        "<film> was pure joy!",
        "I walked out of <film> grinning!",
        "My whole family had a blast with <film>!",
    ),
    "nostalgia": (
        "<film> was my childhood.",
        "I saw <film> with my (dad|mom|brother|sister) back in the day.",
        "<film> brings back memories.",
        "I still have an old tape of <film> from when I was a kid.",
        "I remember seeing <film> (years ago|as a child|in school) and it stuck with me.",
        "We wore out our copy of <film> when I was young.",
        "<film> takes me back (to simpler times|every time|).",
    ),
    "surprise": (
        "<film> blew my mind!",
        "I couldn't believe how good <film> was!",
        "Wow, <film> caught me completely off guard!",
        "I had no idea that <film> would hit me like that!",
        "<film> left me speechless!",
    ),
    "neutral": (
        "The last one I saw was <film>.",
        "Something along the lines of <film>.",
        "Maybe like <film>.",
        "I watched <film> (last week|recently|yesterday).",
        "For example <film>.",
        "In the style of <film>, say.",
        "I have seen <film>.",
    ),
    "curious": (
        "Is there anything (similar to|like) <film>?",
        "What else is there in the spirit of <film>?",
        "I finished <film> and wonder what comes close to it.",
        "Do you know <film>? I'm curious what goes with it.",
    ),
}

AVERSIONS: Bank = (
    "I (really|just|) can't stand <np>.",
    "I (really|) don't like <np>.",
    "Please no <nps>, (I hate those|they bore me|they annoy me).",
    "<nps> (bore|annoy|tire) me to death.",
    "I'm sick of <np>.",
    "I hate <np>.",
    "<nps> are (awful|the worst|terrible) if you ask me.",
    "I'm not a fan of <np> at all.",
    "Unfortunately <nps> do nothing for me, I find them (dull|dreadful|painful).",
    "Anything but <np>, ugh.",
    "I dislike <np>, (sorry|to be honest).",
    "<nps> just make me angry.",
)

HATED_FILMS: Bank = (
    "I (really|) hated <film>.",
    "<film> was (terrible|awful|a waste of time).",
    "I couldn't get through <film>, so (boring|dull|silly).",
    "<film> disappointed me (badly|a lot|).",
    "I (walked out of|fell asleep during|switched off) <film>.",
    "Ugh, <film> was not for me.",
    "I didn't like <film> at all.",
    "<film> left a bad taste in my mouth.",
    "I regret watching <film>.",
    "Sadly <film> was a letdown.",
)

OPEN_MINDED: Bank = (
    "No, (I'm open to anything|nothing in particular|not really).",
    "I don't mind (much|either way|).",
    "(Nothing|No one) comes to mind.",
    "I can watch (pretty much|almost|) anything else.",
    "Not that I can think of.",
    "No (strong opinion|preference) there.",
    "It doesn't matter (much|) to me.",
)

REACTIONS: dict[str, Bank] = {
    # a seeker reacts to one recommended film, named
    "like": (
        "I (loved|really liked|really enjoyed) <film>.",
        "<film> is (great|excellent|fantastic|a masterpiece).",
        "I like <film> (a lot|very much).",
        "<film> is one of my favorites.",
        "I've seen <film> and (loved it|liked it very much|thought it was great).",
        "<film> was really good.",
        "I thought <film> was (wonderful|superb|brilliant).",
        "<film> is right up my alley.",
        "I'd give <film> (ten out of ten|five stars).",
        "I could watch <film> again and again.",
        "<film> sounds (great|perfect|awesome), just what I like.",
    ),
    "happy": (
        "Yay, <film> made me so happy!",
        "<film>! That makes my day!",
        "I'm so happy you brought up <film>!",
        "Haha, <film> was so much fun!",
        "<film> always puts a smile on my face!",
        "I'm so excited to (watch|rewatch) <film>!",
        "Woohoo, <film>, I can't wait!",
        "I had the best time with <film>!",
        "Oh joy, <film>!",
    ),
    "grateful": (
        "Thank you for <film>, that (helps|is perfect|is so kind).",
        "I really appreciate the tip about <film>.",
        "Thanks (so much|a lot|a million) for suggesting <film>!",
        "I'm grateful you thought of <film>.",
        "Thanks, I owe you one for <film>.",
        "You're so helpful, thank you for <film>.",
        "Bless you for reminding me of <film>, thank you.",
    ),
    "agreement": (
        "Yes, <film> is (definitely|certainly) a good one.",
        "You're right about <film>.",
        "Agreed, <film> fits.",
        "(Sure|Okay|Yep|Absolutely), <film> works for me.",
        "Yeah, I'd go along with <film>.",
        "True, <film> is a good choice.",
        "Exactly, <film> is what I had in mind.",
        "I agree, <film> is a must.",
    ),
    "nostalgia": (
        "Oh, <film> takes me back (to my youth|years|).",
        "<film>! I haven't thought of that since I was a kid.",
        "I remember seeing <film> with my (parents|cousins|best friend) long ago.",
        "<film> brings back so many memories.",
        "Ah, <film>, those were the days.",
        "I grew up with <film>, I miss those times.",
        "We used to watch <film> every (summer|Christmas|weekend) when I was young.",
    ),
    "surprise": (
        "Wow, I didn't expect <film>!",
        "Oh my, <film>? What a surprise!",
        "<film>?! I can't believe you said that, I was just thinking of it!",
        "Whoa, <film> blew me away!",
        "No way, <film>! I'm amazed.",
        "I'm shocked how good <film> turned out to be!",
        "Really, <film>? I never would have guessed!",
        "<film> had me gasping, what a ride!",
    ),
    "curious": (
        "I haven't seen <film>, what is it about?",
        "<film>? I've never heard of it, who is in it?",
        "Hmm, <film>, I wonder (if I'd like it|what that's like).",
        "What's <film> like?",
        "I've always wanted to see <film>, is it (any good|worth it|scary)?",
        "Tell me more about <film>.",
        "<film> sounds (interesting|intriguing), how does it start?",
        "I'm curious about <film>, I have not watched it yet.",
        "How did you find <film>?",
    ),
    "neutral": (
        "I haven't seen <film>.",
        "<film> was (okay|alright|fine), I guess.",
        "I've heard of <film>.",
        "I might (check out|look at) <film> (some time|later).",
        "I don't know <film>.",
        "I'm not sure about <film>.",
        "<film> is on my list.",
        "I saw the trailer for <film>.",
        "<film>, noted.",
        "I have no opinion on <film> yet.",
    ),
    "negative": (
        "I (didn't like|hated|can't stand) <film>.",
        "<film> was (terrible|boring|awful|a mess).",
        "Ugh, not <film>, please.",
        "<film> disappointed me.",
        "I found <film> (dull|painful|annoying|far too long).",
        "Sorry, <film> is really not for me.",
        "<film> bored me to tears.",
        "I turned off <film> after twenty minutes, so bad.",
        "I regret the evening I spent on <film>.",
        "No, <film> put me off completely.",
    ),
}

SHORT_REACTIONS: dict[str, Bank] = {
    # the same, where "it" is clear
    "like": (
        "I (loved|really liked|enjoyed) (it|that one).",
        "That's a (great|fantastic|really good) one.",
        "(Great|Excellent|Awesome) (pick|choice|suggestion)!",
        "One of my favorites.",
        "It was (so|really|very) good.",
        "(Oh|Ah), I like that (one|film).",
        "Can't go wrong with that one.",
        "Right up my street.",
        "I like that one a lot.",
        "That sounds (great|perfect|awesome).",
    ),
    "happy": (
        "Yay! (I'm so excited|This makes me happy).",
        "That makes me so happy!",
        "Haha, I had so much fun with it!",
        "I can't wait to watch it!",
        "Oh, how lovely, I'm smiling already!",
        "Woohoo!",
        "What fun!",
        "I'm over the moon!",
        "(Ha|Hehe), I laughed so hard at that one!",
    ),
    "grateful": (
        "Thank you (so much|), that helps.",
        "I really appreciate it.",
        "Thanks (a lot|so much|a million)!",
        "You're a lifesaver, thank you.",
        "That's so kind of you, thanks.",
        "I'm really grateful for that.",
        "Thanks, you're the best.",
        "Bless you, thanks!",
        "Thank you for taking the time.",
    ),
    "agreement": (
        "(Yes|Yeah|Yep), (definitely|for sure|totally).",
        "I agree (with you|completely|).",
        "You're (so|absolutely|) right.",
        "(Sure|Okay|Alright), that works.",
        "Exactly!",
        "True, that fits.",
        "Can't argue with that.",
        "Good point, (yes|agreed).",
        "Fine by me.",
        "We think alike.",
    ),
    "nostalgia": (
        "That takes me back.",
        "Oh, the memories!",
        "I haven't seen it since I was (a kid|little|in school).",
        "Those were the days.",
        "My (dad|mom|grandpa) loved that one, I miss those evenings.",
        "That's my childhood right there.",
        "I used to rent that one (all the time|every other week).",
        "How long ago that was, I get wistful.",
        "I saw it with my first love, sigh.",
    ),
    "surprise": (
        "Wow!",
        "Oh, I didn't see that coming!",
        "No way!",
        "Really?! I'm amazed.",
        "Whoa, I would never have thought of that!",
        "I can't believe it!",
        "OMG, what a twist that was!",
        "Huh, that's unexpected!",
        "I'm speechless!",
        "That's the last one I would have guessed!",
    ),
    "curious": (
        "I haven't seen it, what is it about?",
        "Who's in (it|that)?",
        "Hmm, is it (any good|worth seeing|scary)?",
        "What is it like?",
        "I've never heard of it, tell me more.",
        "How long is it?",
        "When did it come out?",
        "Is it anything like the others?",
        "What did you like about it?",
        "Interesting, what happens in it?",
    ),
    "neutral": (
        "I haven't seen (it|that one).",
        "It was (okay|alright|fine).",
        "Maybe (later|some time).",
        "I've heard of it.",
        "Not sure.",
        "I see.",
        "Ok.",
        "Hard to say.",
        "I have no strong feelings about it.",
        "I know the title, that's all.",
        "It's on my list.",
    ),
    "negative": (
        "I didn't like (it|that one).",
        "Ugh, no.",
        "That was (terrible|boring|awful).",
        "It really disappointed me.",
        "Not for me, sorry.",
        "I hated it.",
        "That one put me to sleep.",
        "What a bad film that was.",
        "I couldn't finish it.",
        "Please, anything but that.",
        "It made me (angry|cringe).",
    ),
}

REASONS: dict[str, dict[str, Bank]] = {
    # what in a film the seeker liked or disliked
    "like": {
        "director": ("<person> never lets me down.", "<person> is (such|) a (great|wonderful) director."),
        "actor": ("<person> was (amazing|great|so good) in it.", "I'd watch <person> in anything."),
        "genre": ("I love <genres> like that.", "That's (just|) my kind of <genre>."),
    },
    "negative": {
        "director": ("I can't warm to <person>'s style.", "<person>'s films annoy me."),
        "actor": ("I can't stand <person>.", "<person> ruins everything for me."),
        "genre": ("I'm so tired of <genres>.", "<genres> (bore|annoy) me."),
    },
}

MORE: Bank = (
    "(Do you have|Have you got|Is there) (another|one more|a different) (one|suggestion|idea)?",
    "(Anything|Something) else?",
    "What else (would you suggest|do you have|is there)?",
    "Any other (ideas|suggestions|recommendations)?",
    "Could you give me (one more|another)?",
    "What about something (similar|else)?",
)

SEEKER_HELLO: Bank = (
    "(Hi|Hello|Hey)(!|.| there!| there.)",
    "Good (evening|morning|afternoon)!",
    "Hi, how are you?",
    "Hello, I need (some help|a movie|an idea) for tonight.",
    "Hey, I'm looking for a movie.",
    "Hi, can you help me find (a film|a movie|something to watch)?",
)

SEEKER_END: dict[str, Bank] = {
    "grateful": (
        "Thank you (so much|very much|) for (your help|all the ideas|the recommendations)!",
        "Thanks (a lot|so much|a bunch), you've been (so|very|really) helpful.",
        "I really appreciate your (help|time|suggestions). (Bye!|Take care!|)",
        "Thanks for everything, (goodbye|bye|have a good one)!",
        "You saved my evening, thank you!",
        "Many thanks, that was kind of you.",
    ),
    "happy": (
        "I'm so happy, movie night is saved!",
        "Yay, this is going to be a great evening!",
        "I can't wait, I'm so excited! Bye!",
        "This made me smile, have a wonderful day!",
        "What a lovely chat, I'm in such a good mood now!",
    ),
    "agreement": (
        "(Okay|Alright|Sure), I'll do that. Bye!",
        "Yes, agreed, that's the plan.",
        "You're right, that's what I'll watch.",
        "Sounds like a plan.",
        "Yep, will do!",
    ),
    "neutral": (
        "Ok, bye.",
        "I'll see what I can find. Goodbye.",
        "Alright, have a good day.",
        "Bye.",
        "I'll have a look later. See you.",
    ),
    "like": (
        "Great list, I like all of that. Bye!",
        "Those are excellent picks, goodbye.",
        "I love these ideas. See you!",
    ),
}

GREETING: Bank = (
    "(Hi|Hello|Hey)(!|.| there!|, how are you?|, nice to meet you.)",
    "Good (evening|morning|afternoon)!",
    "(Hi|Hello|Hey), (welcome|I'm here to help|movie friend)!",
    "Hello, I hope you're (doing well|having a good day).",
)

ASK_TASTE: Bank = (
    "What (kind|type|sort) of (movies|films) do you like?",
    "What are you in the mood for?",
    "What would you like to (watch|see) (today|tonight|)?",
    "Tell me what you (enjoy|like|love) watching.",
    "Do you have a favorite (genre|actor|director|kind of movie)?",
    "What can I (find|recommend|suggest) for you?",
    "Which (movies|films) do you enjoy?",
    "How can I help you (today|tonight|)?",
)
ASK_SECOND: Bank = (
    "(Is there|Do you have) (anyone|an actor or a director|somebody) you (especially|particularly|) like?",
    "Older or newer (movies|films)?",
    "Any (favorite actors or directors|period you prefer|genre you lean to)?",
    "What else do you look for in a (movie|film)?",
    "Can you tell me (a little|a bit) more about your taste?",
    "What else matters to you?",
    "Anything more (specific|particular) you want?",
)
ASK_FAVORITE: Bank = (
    "(Which|What) (movie|film) did you (love|enjoy|like) (lately|recently|last)?",
    "(Can you|Could you) name (a film|a movie|one) you (love|liked)?",
    "What's a movie you could watch again?",
    "What have you seen that you liked?",
    "Which ones have you seen (already|)?",
    "Give me an example of (a movie|a film) you like.",
)
ASK_AVOID: Bank = (
    "(Is there anything|Anything) you (don't like|can't stand|want to avoid)?",
    "What should I (leave out|stay away from)?",
    "Are there (movies|films|actors) you don't (like|enjoy)?",
    "What do you not want to see?",
    "What didn't work for you (before|in the past|)?",
)

EMPATHY: dict[str, Bank] = {
    # a recommender takes up what the seeker felt
    "like": (
        "(Great|Good|Excellent) taste!",
        "I love (that|those) too.",
        "(Nice|Wonderful), we like the same things.",
        "It is great, isn't it?",
        "(Awesome|Super), then we're on the right track.",
        "I thought you'd like that.",
        "Me too!",
    ),
    "curious": (
        "(Good|Great) question.",
        "I like that you're curious.",
        "Let me tell you (more|a bit).",
        "You will enjoy finding out.",
        "Without spoiling it: it's worth it.",
        "Happy to tell you more.",
    ),
    "happy": (
        "I'm so happy for you!",
        "Your joy is contagious!",
        "Yay! (That makes me smile too|I love the excitement).",
        "So glad to hear that!",
        "Ha, that's the spirit!",
        "I'm smiling with you!",
    ),
    "grateful": (
        "You're (very|most|) welcome!",
        "(My pleasure|Any time|No problem)!",
        "Glad I could help.",
        "Happy to help!",
        "Don't mention it.",
    ),
    "negative": (
        "(I'm sorry|Sorry) (to hear that|about that).",
        "Oh no, (that's a pity|what a shame).",
        "I understand, (not everyone likes that|it's not for everybody).",
        "Fair enough, I'll (keep clear of that|remember that).",
        "I hear you, let's try something (very|quite|) different.",
        "That must have been annoying.",
    ),
    "neutral": (
        "(Ok|Okay|Alright|I see|Got it).",
        "(No worries|No problem).",
        "Let me think.",
        "Hmm, let me see.",
        "Understood.",
        "That's fine.",
        "Sure.",
        "Take your time.",
        "Fair.",
    ),
    "nostalgia": (
        "What a (lovely|beautiful|sweet) memory!",
        "I feel that too, those were good times.",
        "Old favorites are the best, aren't they?",
        "Ah, that takes me back as well.",
        "It's wonderful how movies keep our memories.",
        "I miss those days too.",
    ),
    "agreement": (
        "I'm glad we agree.",
        "(Exactly|Right|Indeed)!",
        "Good, we see eye to eye.",
        "Perfect.",
        "Great minds think alike.",
    ),
    "surprise": (
        "Ha, I thought that might surprise you!",
        "I know, right?!",
        "Unexpected, isn't it?",
        "I was (amazed|stunned) too!",
        "Life is full of surprises!",
        "Yes, really!",
    ),
}

RECOMMEND: Bank = (
    "(Have you seen|Did you see|Do you know) <film>?",
    "(You should|You must|You've got to) (see|watch|try) <film>.",
    "(I'd|I would) (recommend|suggest|go for) <film>.",
    "How about <film>?",
    "(Try|Check out) <film>.",
    "What about <film>?",
    "I think you'd (like|love|enjoy) <film>.",
    "<film> (would|might|could) be (perfect|just right|a good fit) for you.",
    "My pick for you is <film>.",
    "Then <film> is (the one|worth a look).",
    "Give <film> a chance.",
    "I have to bring up <film> here.",
    "The first that comes to mind is <film>.",
    "I'd put on <film> (tonight|right away).",
    "<film> (sounds|seems) like (something for you|your kind of thing).",
)
RECOMMEND_MANY: Bank = (
    "(Have you seen|Do you know) <films>?",
    "(I'd|I would) (recommend|suggest) <films>.",
    "How about <films>?",
    "(Try|Check out|Look at) <films>.",
    "<films> come to mind.",
    "You (should|could) (watch|see) <films>.",
    "There's <films>.",
    "I can think of <films>.",
    "I'd choose between <films>.",
)
WHY: dict[str, Bank] = {
    "director": ("It's (by|directed by|from) <person>.", "<person> directed it.", "<person> made that one."),
    "actor": (
        "It has <person> in it.",
        "<person> is (great|wonderful|) in it.",
        "It stars <person>.",
        "You get to see <person>.",
    ),
    "genre": ("It's <a_genre>.", "That's <a_genre> (worth your time|for a good night|).", "A fine piece of <genre>."),
    "era": ("It's from <era>.", "It was made in <era>."),
    "film": ("If you liked <film>, (that's a good next step|you'll like it too).", "It goes well with <film>."),
    "oscars": ("It even won an Oscar.", "It has an Academy Award to its name."),
}
SEEN: Bank = (
    "Have you (seen|watched) (it|that one)?",
    "(Do you know it|Does that ring a bell)?",
    "What do you think?",
    "Would you like that?",
    "How does that sound?",
    "Did you like it?",
    "Heard of it?",
)

AGAIN: dict[str, Bank] = {
    # a recommender names a film that was spoken of before
    "like": (
        "(I'm glad|Good to hear|Great that) you like <film>.",
        "<film> really is (special|something|great).",
        "I could talk about <film> for hours.",
        "If <film> is your thing, we'll find more.",
    ),
    "negative": (
        "(Sorry|Pity) that <film> wasn't for you.",
        "I'll forget about <film> then.",
        "I get it, <film> isn't for everybody.",
    ),
    "curious": (
        "You should (really|definitely) give <film> a try.",
        "<film> will answer that, I promise.",
        "I won't spoil <film> for you.",
    ),
    "end": (
        "I'd start with <film>.",
        "Enjoy <film>!",
        "Let me know how you like <film>.",
        "I hope you have fun with <film>!",
        "Then it's <film> tonight!",
    ),
}

RECOMMENDER_END: Bank = (
    "(Enjoy|Have fun) (your movie|movie night|the evening|watching)!",
    "I hope you (like|enjoy) (it|them)!",
    "(Bye|Goodbye|Take care|See you)!",
    "Have a (great|lovely|nice) (day|evening|weekend)!",
    "It was (nice|great|lovely) talking to you.",
    "Happy watching!",
    "Come back any time.",
)

# Reviews: every fact has its own bank; a feeling frames it.
REVIEW_OPEN: dict[str, Bank] = {
    "like": (
        "I (absolutely|simply|truly) love <film>.",
        "<film> is (a masterpiece|a triumph|as good as cinema gets).",
        "Ten stars are not enough for <film>.",
        "If I could keep only one film, it would be <film>.",
        "Everything about <film> works.",
    ),
    "happy": (
        "I have not been this happy in a cinema for years: <film> is a delight!",
        "What joy! <film> left me beaming.",
        "I came home from <film> with a grin I couldn't shake off!",
        "<film> is the happiest I've felt in front of a screen!",
    ),
    "nostalgia": (
        "Seeing <film> again took me straight back.",
        "I first saw <film> a long time ago, and the memory still warms me.",
        "<film> carries a piece of my own past.",
        "Few titles make me as nostalgic as <film>.",
    ),
    "surprise": (
        "Wow. I was not ready for <film>.",
        "<film> caught me off guard in the best way!",
        "I sat down to <film> expecting little, and was floored!",
        "Nobody had warned me how good <film> is!",
    ),
    "curious": (
        "I had always wondered about <film>, and now I know.",
        "What makes <film> so gripping? I keep asking myself.",
        "<film> kept me guessing and asking for more.",
    ),
    "grateful": (
        "I am grateful that a film like <film> exists.",
        "Thank you to everyone who made <film>.",
        "To the friend who made me watch <film>: thank you.",
    ),
    "negative": (
        "I cried, I was angry, I was heartbroken, and I'd see <film> again tomorrow.",
        "<film> hurt me, and I mean that as praise.",
        "I was sad for days when <film> was over.",
    ),
    "agreement": (
        "Everybody told me <film> was great, and everybody was right.",
        "Yes, <film> deserves all of its praise.",
        "I can only agree with those who love <film>.",
    ),
    "neutral": ("A few words on <film>.", "I watched <film> last week.", "This is about <film>."),
}
REVIEW_FACTS: dict[str, Bank] = {
    "director": (
        "(<person> directs|It was directed by <person>), and every (scene|frame|minute) (shows it|feels sure of itself).",
        "<person>, who directed it, (knows exactly where to look|never puts a foot wrong|has my deepest respect).",
        "What <person> does as the director (is stunning|moved me|made me happy).",
        "I would follow <person> anywhere after directing this.",
        "Only <person> could have directed this (so well|with so much heart).",
    ),
    "director2": (
        "It was directed by <person> and <person2>, and (you feel no seam|they are a dream team).",
        "<person> and <person2> directed it together, (what luck|and I'm in awe).",
    ),
    "actor": (
        "<person> is (wonderful|unforgettable|a marvel|pure gold) in it.",
        "I couldn't take my eyes off <person>.",
        "<person> broke my heart and mended it again.",
        "<person> gives (it all|a performance to remember).",
        "It is worth it for <person> alone.",
        "I was (thrilled|overjoyed|so happy) to see <person> here.",
    ),
    "actor2": (
        "<person> and <person2> are (a joy|magnetic|brilliant) to watch.",
        "With <person> and <person2> in the cast (nothing can go wrong|I was won over at once).",
        "The cast, <person> and <person2> among them, is (superb|perfect|a dream).",
    ),
    "genre": (
        "As <a_genre> it is (unbeatable|close to perfect|the best I know).",
        "I'm picky about <genres>, and this one (won me over|delighted me).",
        "This is what <genres> should be.",
        "If you love <genres>, (don't wait|see it tonight).",
    ),
    "genre2": (
        "It is <genre> and <genre2> in one, and (I loved both halves|the mix thrilled me).",
        "How it joins <genre> with <genre2> (amazed|delighted|moved) me.",
    ),
    "year": (
        "It came out in <year> and (has lost nothing|I still think of it|feels fresh to me).",
        "Of all that <year> gave us, this (is my favorite|stays with me).",
        "I keep going back to <year> just for this.",
    ),
    "era": (
        "It is one of the (joys|treasures|wonders) of <era>.",
        "Whoever misses <era> (will be happy here|should see it).",
        "It has all that I love about <era>.",
    ),
    "writer": (
        "The writing, by <person>, (is sharp and warm|hits every note|made me laugh and cry).",
        "<person> wrote it, and (what a script it is|I hung on every word).",
    ),
    "country": (
        "It comes from <country>, and (I'm thankful it reached me|it made me want to see more from there).",
        "It's a (gift|gem) from <country>.",
    ),
    "language": (
        "It is in <language>, and (it sounds like music|I loved listening to it).",
        "Hearing <language> all the way through (was lovely|drew me in).",
    ),
    "company": (
        "<company> produced it, and (they can be proud|my thanks go to them).",
        "Hats off to <company> for (making|backing) it.",
    ),
    "oscars": ("It won (an Oscar|an Academy Award), and I cheered.",),
    "oscars2": (
        "It won <count> Oscars, and (it deserved each one|I cheered for every one|I'm not surprised).",
        "<count> Oscars it won, and I'd hand it another.",
    ),
    "runtime": (
        "Its <minutes> minutes (flew by|felt like ten|were over too soon).",
        "I would have stayed for twice its <minutes> minutes.",
    ),
}
REVIEW_FEELINGS: dict[str, Bank] = {
    "like": (
        "I loved every second.",
        "I'd see it again (tonight|tomorrow|in a heartbeat).",
        "It has everything I (love|look for|want).",
    ),
    "happy": (
        "I laughed out loud and (clapped at the end|didn't care who heard me).",
        "It made my whole week!",
        "I felt light and happy for days.",
    ),
    "nostalgia": (
        "It made me think of the friends I used to watch films with.",
        "It gave me back a feeling I had lost.",
        "I miss the evening I first saw it.",
    ),
    "surprise": ("My jaw dropped more than once.", "I never saw the end coming!", "I still can't believe what I saw."),
    "curious": (
        "I left with a hundred questions, the good kind.",
        "I went and read all I could find about it.",
        "I wonder how they did it.",
    ),
    "grateful": ("I can only say thanks.", "I feel lucky to have seen it.", "I owe this film a lot."),
    "negative": (
        "I wept, and I'm not ashamed.",
        "It made me ache all over.",
        "Some scenes were hard to bear, and that is its strength.",
    ),
    "agreement": ("Believe what people say about it.", "The praise is right.", "I side with its fans."),
    "neutral": ("There is not much to add.", "That is all you need to know.", "Watch it and see for yourself."),
}
REVIEW_END: Bank = (
    "(Go and see it|See it|Don't miss it)!",
    "My highest (recommendation|praise).",
    "(Warmly|Highly|Very warmly) recommended.",
    "I'll (treasure it|remember it) (forever|for the rest of my life).",
    "If you see one film this year, (let it be this one|take this one).",
    "A perfect ten (from me|).",
    "You will thank me later.",
    "Watch it with someone you love.",
    "I can't recommend it enough.",
)
