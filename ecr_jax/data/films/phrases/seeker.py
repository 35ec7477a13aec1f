"""What seekers say, by act and by the emotion that they show. See `nouns` for the grammar.

`<it>` is the film that is spoken of: "it", "that one" or its title.
"""

from __future__ import annotations

from ecr_jax.data.films.phrases.nouns import Bank

# Greetings and small talk.

GREETING: Bank = (
    "(Hi|Hello|Hey)(!|.| there!| there.)",
    "Good (evening|morning|afternoon)!",
    "Hey, (hope|I hope) you're (well|doing well).",
    "Hi, nice to meet you.",
    "Hiya!",
    "Howdy!",
    "Evening!",
    "Hi, anyone there?",
    "Hello again!",
)
HOW_ARE_YOU: Bank = (
    "(Hi|Hello|Hey), how are you( today| doing|)?",
    "(Hi|Hey)! How's it going?",
    "Hello, how's your (day|evening|week)( going|)?",
    "Hey there, how are things?",
    "Hey, what's up?",
    "How are you?",
    "Good (evening|afternoon), how are you (today|doing)?",
    "Hi! Everything okay with you?",
)
FINE: Bank = (
    "(I'm good|Doing well|Pretty good|I'm fine|Not bad), thanks(!|.| for asking.)",
    "(Good|Great|All good), thanks. (And you?|You?|How about you?)",
    "I'm (great|doing great|alright), thank you!",
    "Can't complain.",
    "Good, good.",
    "I'm okay, (just got home|about to make dinner|nice and cozy here).",
    "Hi! (I'm well|Doing fine), thank you.",
)
OFF_TOPIC: Bank = (
    "(By the way, it's|It's) (pouring|raining cats and dogs|snowing|so hot) (outside|here|where I am).",
    "My (cat|dog) (is sitting on my keyboard|won't stop staring at me|just stole my sandwich|says hi).",
    "I should (really do the dishes|really be asleep by now|go for a run sometime).",
    "Do you (like|eat) pizza?",
    "What's the capital of (Mongolia|Nepal|Ecuador)?",
    "Do you ever sleep?",
    "Are you a (robot|real person|bot)?",
    "My neighbour is playing the (trumpet|drums) again.",
    "I had (pasta|tacos|leftovers|soup) for dinner.",
    "Can you do my homework?",
    "Hang on, someone's at the door.",
    "One sec, my tea is ready.",
    "The popcorn is (almost ready|in the microwave), by the way.",
    "Who's going to win the (match|game) tonight?",
    "Sorry, my phone (rang|died for a minute).",
    "My wifi is (so slow|acting up) today.",
    "What's 17 times 23?",
    "Tell me a joke.",
    "I'm typing this on the bus.",
    "My roommate says hello.",
)
NONSENSE: Bank = (
    "asdfghjkl",
    "Blah blah blah.",
    "Banana banana banana.",
    "42",
    "qwerty???",
    "Purple (monkeys|elephants) dance (on|under) the (moon|stairs).",
    "hmmmmm",
    "lol what",
    "???",
    "Beep boop.",
    "Spoon the window gently.",
    "fjdksla",
    "Yes no maybe potato.",
    "...",
    "(ha ha|haha) (ha|) cheese",
)
FOREIGN: Bank = (
    "¿Hablas español?",
    "Hola, busco una película.",
    "Bonjour, tu parles français ?",
    "Je cherche quelque chose à regarder ce soir.",
    "Hallo, ich suche einen guten Film.",
    "Sprichst du Deutsch?",
    "Ciao, parli italiano?",
    "Cerco un bel film per stasera.",
    "Olá, você fala português?",
    "Hej, pratar du svenska?",
    "Merhaba, film önerir misin?",
    "Cześć, szukam jakiegoś filmu.",
    "Hoi, ken je een leuke film?",
    "Quiero ver algo divertido esta noche.",
    "こんにちは、映画を探しています。",
    "Привет, посоветуй фильм.",
)

# Preferences and wishes. `<np>` is an object; `<nps>` is plural and may be a subject, and so is `<bare>`,
# which never begins with a possessive ("any Tom Hanks movies").

WISHES: dict[str, Bank] = {
    # asks for a film of a taste: prefer, request
    "neutral": (
        "I'm looking for <np>.",
        "I'd like to (see|watch) <np> (tonight|this weekend|today|).",
        "Can you recommend <np>?",
        "Could you (suggest|recommend) <np>(, please|)?",
        "I'm in the mood for <np>.",
        "I want to watch <np>.",
        "(Maybe|Perhaps) <np>?",
        "Do you have <np> for me?",
        "I (was thinking of|had in mind) <np>.",
        "I need <np> for (tonight|the weekend|a quiet evening).",
        "Got any <bare>?",
        "(Any|Do you know any) good <bare>?",
        "<np>, please.",
        "I could go for <np> (right now|tonight|).",
        "I'm trying to find <np>.",
        "How about <np>?",
        "Looking for <np> (tonight|if you have any ideas|).",
        "Let's go with <np>.",
        "I feel like watching <np>.",
        "What are some good <bare>?",
    ),
    "curious": (
        "I keep hearing about <nps>, (what's worth seeing|where should I start)?",
        "I've never really watched <nps>, where (do|should) I start?",
        "I'd like to (explore|get into) <nps>, what would you (suggest|start with)?",
        "I'm curious about <nps>, (what's out there|can you show me a good one)?",
        "A friend keeps (going on|telling me) about <nps>. What's a good one to try?",
        "I wonder if there are any <bare> I've missed?",
        "Which <bare> would you say are worth seeing?",
    ),
}

TASTES: dict[str, Bank] = {
    # tells a taste: prefer
    "like": (
        "I (really|absolutely|just|) love <nps>.",
        "I'm (a big|a huge|quite a) fan of <nps>.",
        "I'm (really|very much|) into <nps>.",
        "(Honestly,|Well,|) nothing beats <nps> (for me|if you ask me).",
        "I enjoy <nps> a lot.",
        "<nps> are (my thing|right up my alley|what I like best).",
        "I (could watch|can always watch) <nps> (all day|any time|on repeat).",
        "I have a soft spot for <nps>.",
        "I've always liked <nps>.",
        "I like <nps> (the most|best|a lot).",
        "I'll watch pretty much any <bare>, I love them.",
        "You can't go wrong with <nps>, I love those.",
        "Big fan of <nps> here.",
    ),
    "happy": (
        "<nps> (always|) make me (so|really) happy!",
        "Nothing cheers me up like <nps>!",
        "I (always|) have so much fun with <nps>!",
        "I get so excited about <nps>!",
        "<nps> always put me in a (great|good) mood!",
        "I'm so pumped for <nps> (tonight|right now|)!",
        "Watching <nps> is my favorite thing in the world!",
        "(Yay, movie night|Finally the weekend)! I can't wait to watch some <bare>!",
        "I smile the whole time when I watch <nps>!",
    ),
    "neutral": (
        "I (usually|mostly|often) watch <nps>.",
        "<nps> (would be fine|are okay with me|work for me).",
        "(Probably|Mostly|Usually) <nps>.",
        "<nps>, I guess.",
        "I tend to watch <nps>.",
        "I watch <nps> now and then.",
        "I've mainly been watching <nps> lately.",
        "These days it's mostly <nps>.",
        "I'd say <nps>.",
    ),
    "curious": (
        "I've been wondering about <nps> (lately|for a while|recently).",
        "I'd be curious to try some <bare>.",
        "I'm intrigued by <nps> and would like to know more.",
        "I've heard so much about <nps>, now I'm curious.",
        "I'm getting curious about <nps>.",
        "I'd love to find out why everybody loves <nps>.",
        "I've never given <nps> a chance, but now I'm interested.",
    ),
    "nostalgia": (
        "I grew up (on|with) <nps>.",
        "<nps> take me (right|straight|) back to my childhood.",
        "I miss the days when (we|my family and I) watched <nps> together.",
        "When I was (a kid|a teenager|little), we (always|) watched <nps>.",
        "<nps> remind me of (college|the old days|when I was young|home).",
        "My (dad|mom|grandma|big brother) used to show me <nps>, those were the days.",
        "I'm feeling nostalgic for <nps>.",
        "I remember renting <nps> every Friday back then.",
        "<nps> bring back (so many|a lot of) memories.",
    ),
    "surprise": (
        "You won't believe it, but I just discovered <nps>, and wow!",
        "I never thought I would, but I'm suddenly hooked on <nps>!",
        "It (shocked|amazed|surprised) me how much I enjoy <nps> lately!",
        "Who would have thought that I'd end up loving <nps>?!",
        "Out of nowhere I can't stop watching <nps>, it's crazy!",
        "Wow, I had no idea how good <bare> can be!",
    ),
    "agreement": (
        "(Yes|Yeah|Sure|Right), <nps> it is.",
        "(Exactly|Absolutely|Of course), <nps> would (be right|work).",
        "(Yep|Yes), you guessed it, <nps>.",
        "(Okay|Ok|Alright), (agreed|deal), <nps> then.",
        "Sure, I like <nps> too.",
        "Yeah, <nps> sound about right.",
    ),
}

SHORT_TASTES: Bank = (
    # a neutral answer to the question about tastes
    "<nps>.",
    "<nps>, mostly.",
    "<nps> I think.",
    "Hmm, <nps>.",
    "(Oh|Well), <nps>.",
)

VAGUE: Bank = (
    # a request that says nothing about what
    "Can you (recommend|suggest) (a good movie|a movie|something good|something to watch)?",
    "I need something to watch (tonight|this evening|on the train|).",
    "(What should|What can) I watch (tonight|today|)?",
    "I'm looking for a (good movie|movie|film).",
    "Any (suggestions|ideas|recommendations) for (tonight|movie night|a lazy Sunday)?",
    "Surprise me!",
    "Help me (pick|find|choose) a movie(, please|).",
    "(Idk|I don't know|No idea), just something good.",
    "Recommend me something(.|, anything really.)",
    "I want to watch something but I don't know what.",
    "Got anything good?",
    "What's good these days?",
)

LIKE_FILM: dict[str, Bank] = {
    # asks for a film like another: prefer, request
    "neutral": (
        "Something (like|similar to|along the lines of) <film>(, maybe|, please|).",
        "I'm looking for something (like|similar to) <film>.",
        "I'd like something in the style of <film>.",
        "More movies like <film>, please.",
        "Got anything like <film>?",
    ),
    "curious": (
        "Is there anything (similar to|like) <film>?",
        "What else is there like <film>? I just saw it and want more.",
        "I finished <film> yesterday and wonder what to watch after that.",
        "Do you know any movies that feel like <film>?",
        "What should I watch if I liked <film>?",
    ),
}

LOVED_FILMS: dict[str, Bank] = {
    # names a film of their own: prefer
    "like": (
        "I (really|absolutely|) loved <film>.",
        "<film> is (one of my favorites|my all-time favorite|a favorite of mine).",
        "I think <film> is (brilliant|fantastic|great).",
        "I (really|) liked <film>.",
        "<film> was (so good|excellent|really well done).",
        "I've watched <film> (three|five|a dozen) times, it's that good.",
        "<film> is hard to beat.",
        "I enjoyed <film> a lot.",
        "Probably <film>, I love that one.",
        "I'd have to say <film>, such a great movie.",
    ),
    "happy": (
        "<film> (made|makes) me so happy!",
        "I (laughed|smiled) all the way through <film>!",
        "I had such a great time with <film>!",
        "<film> was pure joy!",
        "I walked out of <film> grinning!",
        "We had a blast watching <film> last (week|weekend|month)!",
    ),
    "nostalgia": (
        "<film> was my childhood.",
        "I saw <film> with my (dad|mom|brother|sister) back in the day.",
        "<film> brings back (so many|) memories.",
        "I still have my old copy of <film> from when I was a kid.",
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
        "I watched <film> (last week|recently|yesterday).",
        "<film>, for example.",
        "Maybe <film>.",
        "Hmm, <film> I suppose.",
        "<film> was decent.",
        "I've seen <film>, that one was alright.",
    ),
}

HATED_FILMS: Bank = (
    "I (really|) hated <film>.",
    "<film> was (terrible|awful|a waste of time).",
    "I couldn't get through <film>, it was so (boring|dull|silly).",
    "<film> (really|) disappointed me.",
    "I (walked out of|fell asleep during|switched off) <film>.",
    "Ugh, <film> was not for me.",
    "I didn't like <film> at all.",
    "I (kind of|) regret watching <film>.",
    "Sadly <film> was a letdown.",
    "Nothing like <film>, please, I couldn't stand it.",
)

AVERSIONS: Bank = (
    "I (really|just|) can't stand <nps>.",
    "I (really|) don't like <nps>.",
    "No more <bare>, please.",
    "Please no <bare>, (I hate those|they bore me|they annoy me).",
    "<nps> (bore|annoy) me (to death|so much|).",
    "I'm (so|) sick of <nps>.",
    "I (really|) hate <nps>.",
    "<nps> are (awful|the worst) if you ask me.",
    "I'm not a fan of <nps> at all.",
    "Anything but <nps>, ugh.",
    "<nps> do nothing for me, sorry.",
    "I dislike <nps>, to be honest.",
    "Just no <bare>, I can't deal with those.",
    "I'm (tired of|done with) <nps>.",
)
PERSON_AVERSIONS: Bank = (
    "I (really|just|) can't stand <person>.",
    "Nothing with <person>, please.",
    "I'm not a fan of <person> at all.",
    "<person> (gets|really gets) on my nerves.",
    "Anyone but <person>, please.",
    "I (really|) don't like <person>, sorry.",
    "No more <person>, please.",
    "I've had enough of <person>.",
)
CHANGED_MIND: Bank = (
    # takes back a wish
    "Actually, no <genres> after all, I changed my mind.",
    "Wait, scratch that, I don't want <a_genre> tonight.",
    "Hmm, I know I asked for <genres>, but I'd rather not.",
    "On second thought, anything but <a_genre>.",
    "Sorry, I changed my mind, no <genres>.",
    "Forget what I said about <genres>, I can't handle one tonight.",
    "Actually I hate <genres>, I don't know why I said that.",
)
OPEN_MINDED: Bank = (
    "I'm open to anything.",
    "I don't mind (much|either way|).",
    "Nothing (special|in particular) comes to mind.",
    "I'm not picky.",
    "I'm easy.",
    "I'll watch anything.",
    "No preference.",
    "Doesn't (really|) matter to me.",
    "Honestly, anything goes.",
    "I have no idea, you choose.",
)
NOTHING: Bank = (
    # there is nothing that the seeker wants to avoid
    "No, (not really|nothing in particular|I like most things).",
    "Not that I can think of.",
    "Not really.",
    "Nope, I'm easy.",
    "Nothing at all.",
)

# Reactions to a recommended film.

SEEN: dict[str, Bank] = {
    "like": (
        "I've seen <it>, (I loved it|it was great|it's one of my favorites).",
        "I (loved|really liked|really enjoyed) <it>.",
        "(Oh|Ah|Yes), I (loved|really liked) <it>.",
        "I've already seen <it>, really good.",
        "Seen it (twice|three times), love it.",
        "I've seen <it> and thought it was (great|excellent|brilliant).",
        "<it> was (really|so) good when I saw it.",
        "I watched <it> (last year|a while ago|last month) and loved it.",
        "Already seen it, it's (fantastic|brilliant|a great one).",
        "I've seen that one, (ten out of ten|so good).",
        "<it> is one of my favorites.",
        "I like <it> a lot, seen it many times.",
    ),
    "happy": (
        "Haha, I had so much fun with <it>!",
        "I've seen <it>, it made me so happy!",
        "Ha, I laughed so hard at <it>!",
        "<it> always puts a smile on my face!",
        "Yay, I love <it>, I watch it whenever I can!",
        "I had the best time when I saw <it>!",
        "I saw <it> with my friends and we had a blast!",
    ),
    "nostalgia": (
        "<it> takes me back (to my youth|years|).",
        "Oh, the memories! I haven't seen <it> since I was (a kid|little|in school).",
        "I remember seeing <it> with my (parents|cousins|best friend) long ago.",
        "<it> brings back so many memories.",
        "I grew up with <it>, I miss those times.",
        "We used to watch <it> every (summer|Christmas|weekend) when I was young.",
        "I saw <it> with my first love, sigh.",
        "My (dad|mom|grandpa) loved <it>, I miss those evenings.",
        "I used to rent <it> all the time, those were the days.",
    ),
    "surprise": (
        "Wow, I saw <it> just last (night|week)! What a coincidence!",
        "No way, I was just thinking of <it>!",
        "I've seen <it>, the ending shocked me!",
        "Whoa, <it> blew me away when I saw it!",
        "I couldn't believe how good <it> was!",
        "Are you reading my mind?! I just watched <it>!",
    ),
    "agreement": (
        "Yes, I've seen <it>, you're right, it's a good one.",
        "I agree, <it> is great, but I've seen it.",
        "True, <it> fits perfectly, I just know it already.",
        "Exactly my taste, but I've seen <it> already.",
        "You're right about <it>, I saw it in the theater.",
    ),
    "neutral": (
        "(I've seen|Seen|Already seen) <it>.",
        "I've (already|) seen <it>, it was (okay|alright|fine).",
        "I saw <it> a while ago.",
        "I know <it> already.",
        "I watched <it> (last month|ages ago|on a plane).",
        "Seen it.",
        "Yeah, I saw that.",
    ),
    "negative": (
        "I've seen <it>, (I didn't like it|it wasn't for me|I hated it).",
        "I (hated|didn't like|really didn't like) <it>.",
        "<it> was (terrible|boring|awful|a mess) when I saw it.",
        "I saw <it> and it really disappointed me.",
        "I turned <it> off after twenty minutes.",
        "<it> put me to sleep when I watched it.",
        "I couldn't finish <it>.",
        "Ugh, I've seen <it>, what a waste of time.",
        "Sadly I've seen <it>, and I found it (dull|painful|far too long).",
        "Saw it, hated it.",
    ),
}

ACCEPT: dict[str, Bank] = {
    "like": (
        "<it> sounds (great|perfect|awesome|really good).",
        "(Great|Excellent|Awesome|Perfect) (pick|choice|suggestion)!",
        "That sounds (great|perfect|awesome), I'll (watch it|check it out|take it).",
        "I like the sound of that.",
        "<it> sounds right up my alley.",
        "That's just what I was looking for.",
        "Ooh, <it> sounds like my kind of movie.",
        "Perfect, just what I like.",
        "That sounds good to me.",
        "Love it, that's what I'll watch.",
    ),
    "happy": (
        "Yay! I can't wait to watch <it>!",
        "I'm really excited to watch <it>!",
        "Woohoo, I'll put <it> on right now!",
        "That makes my day!",
        "Oh, how lovely, I'm smiling already!",
        "Yes!! I'm really excited to see <it>!",
        "Perfect, movie night is saved!",
        "I'm so happy you brought that up!",
    ),
    "grateful": (
        "Thank you (so much|), I'll watch <it>.",
        "I really appreciate it, I'll give <it> a try.",
        "Thanks (a lot|so much|a million), <it> sounds good!",
        "You're a lifesaver, thank you.",
        "That's so kind of you, thanks, I'll watch <it>.",
        "Thanks, you're the best.",
        "Thank you, that's perfect.",
        "Thanks for the tip, I'll check <it> out.",
    ),
    "agreement": (
        "(Yes|Yeah|Yep), (definitely|for sure), let's do that.",
        "(Sure|Okay|Alright), that works.",
        "(Sure|Okay|Yep|Alright), I'll go with <it>.",
        "Fine by me.",
        "Good point, I'll go with <it>.",
        "Can't argue with that, I'll watch it.",
        "(Ok|Okay|Alright), I'll give <it> a try.",
        "Sounds like a plan.",
        "Deal.",
        "You convinced me.",
        "Yeah, I'd go along with <it>.",
    ),
    "surprise": (
        "Wow, I would never have thought of that! I'll watch it.",
        "Oh, I didn't expect <it>, but yes!",
        "Whoa, I had no idea that existed! I have to see it.",
        "Really?! How have I never heard of <it>? I'm watching it tonight!",
        "No way, that's perfect!",
        "Huh, that's unexpected, but I'm in!",
    ),
    "curious": (
        "Interesting, I'm curious about <it> now, I'll check it out.",
        "Hmm, <it> sounds (interesting|intriguing), I'd like to see it.",
        "I've always wanted to see <it>, I'll try it.",
        "Ooh, now I'm curious. I'll look it up.",
        "I wonder what that's like, I'll give it a go.",
    ),
    "neutral": (
        "(Ok|Okay), I'll (look it up|have a look|put it on the list).",
        "<it> is going on my list.",
        "I might (check it out|watch it later).",
        "I guess I could watch <it>.",
        "Noted.",
        "Alright, I'll see if I can find it.",
    ),
}

REJECT: dict[str, Bank] = {
    "negative": (
        "(Ugh, no|No, please), not <it>.",
        "<it> sounds (terrible|boring|awful|dreadful).",
        "Not for me, sorry. (I hate that kind of thing|That's not my thing at all).",
        "No, I really don't want to watch <it>.",
        "Please, anything but that.",
        "I can't stand that sort of thing.",
        "Ew, no.",
        "Nope, the trailer for <it> already annoyed me.",
        "Oh no, I'd hate <it>.",
    ),
    "neutral": (
        "(Nah|No|Hmm, no), not (today|tonight|that one|in the mood).",
        "Not that one.",
        "I'd rather not watch <it>(.| tonight.)",
        "Not really what I'm looking for.",
        "<it> isn't (really|quite) what I had in mind.",
        "Nah, I'll pass on <it>.",
        "No thanks.",
        "Hmm, not feeling <it>.",
        "Maybe some other time, not tonight.",
        "I'll skip <it>.",
    ),
}
REJECT_GENRE: Bank = (
    "(Nah|No), I'm not in the mood for <a_genre>.",
    "Not <a_genre>, please.",
    "I don't feel like <a_genre> (tonight|today).",
    "I'm not up for <genres> right now.",
    "No <genres> (tonight|today|for me), sorry.",
)

UNSURE: dict[str, Bank] = {
    "neutral": (
        "I haven't seen <it>.",
        "I've (only|) heard of <it>.",
        "I don't know <it>.",
        "I'm not sure about <it>.",
        "Never heard of it.",
        "Hmm, hard to say.",
        "I've never seen <it>.",
        "No, I haven't.",
        "Hmm.",
        "Maybe.",
    ),
    "curious": (
        "I've never heard of <it>, interesting.",
        "Hmm, I wonder if I'd like <it>.",
        "I'm curious about <it>, I haven't seen it.",
        "Interesting, I don't know <it>.",
    ),
}

REASONS: dict[str, dict[str, Bank]] = {
    # what in a film the seeker likes or dislikes: prefer
    "like": {
        "director": (
            "<person> never lets me down.",
            "<person> is such a great director.",
            "I love how <person> makes movies.",
        ),
        "actor": ("<person> was (amazing|great|so good) in it.", "I'd watch <person> in anything.", "I love <person>."),
        "genre": ("I love <genres> like that.", "I just love a good <one_genre>."),
    },
    "negative": {
        "director": ("I can't warm to <person>'s style.", "<person>'s movies annoy me.", "I just don't get <person>."),
        "actor": ("I can't stand <person>.", "<person> ruins everything for me.", "<person> annoys me so much."),
        "genre": ("I'm so tired of <genres>.", "I can't stand <genres>.", "<genres> just aren't for me."),
    },
}

# Requests.

MORE: Bank = (
    "(Do you have|Have you got|Is there) (another|a different) (one|suggestion|idea)?",
    "Anything else?",
    "What else (would you suggest|do you have|is there)?",
    "Any other (ideas|suggestions|recommendations)?",
    "Could you give me (one more|another)?",
    "Another one, please.",
    "Got any more?",
    "What else?",
    "One more?",
    "(More|Anything) like that?",
    "Keep them coming.",
)
ELSE: Bank = (
    "Something else(, please|)?",
    "What else (have you got|is there)?",
    "Do you have (something else|anything else|a different one)?",
    "Something different, please.",
    "Can you suggest something else?",
    "Try again.",
    "Next.",
    "Got anything else?",
    "Another one, please.",
    "Any other ideas?",
)
SEVERAL: dict[int, Bank] = {
    2: (
        "Give me two.",
        "Could you suggest a couple of movies?",
        "Can I have two options to choose from?",
        "Got a couple of ideas?",
        "We need two movies for tonight.",
        "Two suggestions, please.",
    ),
    3: (
        "Give me three(.|, please.)",
        "Can you list a few?",
        "Could you give me three suggestions?",
        "I'd like a few to choose from.",
        "Can you name three?",
        "Show me a few options.",
        "What are three good ones?",
        "I need three movies for the weekend.",
    ),
}
CRITIQUES: dict[str, Bank] = {
    # asks for another film by how it should differ: request, prefer
    "newer": (
        "Anything newer?",
        "Something (newer|more recent), maybe?",
        "Do you have something more recent?",
        "Got anything more modern?",
        "That's a bit old, anything newer?",
    ),
    "older": (
        "Anything older?",
        "Something older, maybe?",
        "Do you have something from before that?",
        "Maybe (an older one|something more classic)?",
        "I'd prefer something older.",
    ),
    "Comedy": (
        "Anything funnier?",
        "Something (funnier|lighter), please.",
        "Do you have something that makes me laugh?",
        "Maybe something with more humor?",
    ),
    "Horror": ("Anything scarier?", "Something scarier, please.", "I want something that really scares me."),
    "Romance": ("Anything more romantic?", "Something with more of a love story?", "Got something more romantic?"),
    "Action": (
        "Anything with more action?",
        "Something faster, with more action?",
        "I want something with more explosions.",
    ),
    "Thriller": ("Anything more suspenseful?", "Something more thrilling?", "I'd like something with more tension."),
    "Sci-Fi": ("Anything more futuristic?", "Something set in space or the future?"),
    "Fantasy": ("Anything more magical?", "Something with a bit more magic?"),
}

# Questions.

QUESTIONS: dict[str, Bank] = {
    "director": (
        "Who (directed|made) <it>?",
        "Who's the director( of <it>|)?",
        "Who directed that?",
        "Who is <it> by?",
        "Do you know who directed <it>?",
        "Director?",
        "And who directed it?",
        "Whose film is <it>?",
    ),
    "cast": (
        "Who's in <it>?",
        "Who (stars|plays) in <it>?",
        "Who's in it?",
        "Who are the actors( in <it>|)?",
        "Who plays in that?",
        "Anyone (famous|I'd know) in it?",
        "What's the cast like?",
        "Who's the lead?",
        "Which actors are in <it>?",
        "And who's in it?",
    ),
    "writer": (
        "Who wrote <it>?",
        "Who wrote the (script|screenplay)( for <it>|)?",
        "Do you know who wrote <it>?",
        "Who's the writer?",
        "Who came up with the story?",
    ),
    "year": (
        "When did <it> come out?",
        "What year is <it> from?",
        "How old is <it>?",
        "When was <it> made?",
        "When was that?",
        "What year?",
        "Which year did it come out?",
        "When is <it> from?",
    ),
    "genre": (
        "What kind of movie is <it>?",
        "What genre is <it>?",
        "What sort of film is that?",
        "Is <it> funny or serious or what?",
        "What type of movie is it?",
        "Genre?",
        "What kind of film are we talking about?",
    ),
    "country": (
        "Where is <it> from?",
        "Which country is <it> from?",
        "Where was <it> made?",
        "What country is it from?",
        "Is <it> an American movie or from somewhere else?",
    ),
    "language": (
        "What language is <it> in?",
        "Is <it> in English?",
        "Do I need subtitles for <it>?",
        "Which language do they speak in it?",
        "What language is it in?",
    ),
    "company": (
        "Who produced <it>?",
        "Which studio made <it>?",
        "What studio is <it> from?",
        "Which company is behind <it>?",
        "Who's the studio?",
    ),
    "composer": (
        "Who wrote the music( for <it>|)?",
        "Who did the (soundtrack|score)?",
        "Who composed the music for <it>?",
        "Whose music is in <it>?",
    ),
    "runtime": (
        "How long is <it>?",
        "Is <it> (long|very long)?",
        "What's the runtime?",
        "How many minutes is <it>?",
        "Is it more than two hours?",
        "How long does it run?",
    ),
    "plot": (
        "What's <it> about?",
        "What is <it> about?",
        "What happens in <it>?",
        "What's the story?",
        "What's the plot( of <it>|)?",
        "How does <it> end?",
        "I haven't seen <it>, what is it about?",
        "Never heard of it, what's it about?",
    ),
    "": (
        "Is <it> any good?",
        "Is <it> on Netflix?",
        "Where can I watch <it>?",
        "Did <it> win any awards?",
        "Is <it> okay for kids?",
        "Did you like <it>?",
        "Is <it> worth watching?",
        "What's the rating?",
    ),
}
ABOUT: Bank = (
    # asks for anything about the film
    "Tell me more about <it>.",
    "Can you tell me (more|a bit more|something) about <it>?",
    "What do you know about <it>?",
    "What's <it> like?",
    "I've never heard of <it>, tell me more.",
    "What can you tell me about <it>?",
)
IS_IT: dict[str, Bank] = {
    # yes or no
    "cast": (
        "Is <person> in <it>?",
        "Is that the one with <person>?",
        "Does <person> play in <it>?",
        "Isn't <person> in it?",
        "That's with <person>, right?",
    ),
    "director": (
        "Did <person> direct <it>?",
        "Is <it> by <person>?",
        "Is that a <person> movie?",
        "Isn't that by <person>?",
    ),
    "genre": ("Is <it> <a_genre>?", "Is that <a_genre>?", "It's <a_genre>, right?", "Would you call it <a_genre>?"),
    "old": (
        "Is <it> an old one?",
        "Is <it> old?",
        "Is that an older movie?",
        "Is it really old?",
        "It's not too old, is it?",
    ),
    "new": ("Is <it> new?", "Is that a recent one?", "Is <it> a new movie?", "Did it come out recently?"),
}
WHY: Bank = (
    "Why (that one|that|this one)?",
    "Why do you (recommend|suggest) <it>?",
    "What makes you think I'd like <it>?",
    "How come you (picked|chose) <it>?",
    "Why would I like <it>?",
    "Why that one in particular?",
    "What's the reason you picked that one?",
    "Hmm, why?",
    "How is that like what I asked for?",
)
WHY_NAMED: Bank = ("Why <it>?", *(phrase for phrase in WHY if "<it>" in phrase))

# Leaving.

THANKS: dict[str, Bank] = {
    "grateful": (
        "Thank you (so much|very much|) for (your help|all the ideas|the recommendations)!",
        "Thanks (a lot|so much|a bunch), you've been (so|very|really) helpful.",
        "I really appreciate your (help|time|suggestions).",
        "Thanks for everything(, bye|, goodbye|)!",
        "You saved my evening, thank you!",
        "Many thanks, that was kind of you.",
        "Thanks!",
        "Thank you, have a good one!",
        "Cheers, thanks for the help.",
        "Great, thanks for the help!",
    ),
    "happy": (
        "I'm so happy, this is going to be a great evening!",
        "Yay, thanks, I can't wait! Bye!",
        "This made my day, thank you!",
        "Perfect, thanks! I'm off to make popcorn!",
    ),
    "neutral": (
        "(Ok|Okay|Alright), bye.",
        "Bye.",
        "See you.",
        "I have to go, bye.",
        "That's all for (today|now), thanks.",
        "Okay, that's it from me. Goodbye.",
        "Talk to you later.",
        "No, that's all, thanks.",
    ),
}
NEVER_MIND: dict[str, Bank] = {
    "neutral": (
        "Never mind, I'll look around some more. Thanks anyway.",
        "I'll think about it. Thanks, bye.",
        "Maybe I'll just read a book tonight. Thanks though.",
        "I'll leave it for today, thanks.",
        "I have to run, bye.",
    ),
}
BYE: dict[str, Bank] = {
    "neutral": ("Bye!", "See you!", "Goodbye.", "You too, bye.", "Good night.", "Take care.", "Bye now."),
    "grateful": ("Thanks again, bye!", "You too, thank you!", "Thanks, you too.", "Thank you, good night!"),
    "happy": ("Yay, I'm off to watch it!", "I will, I'm really excited! Bye!", "You too, this was fun!"),
    "agreement": ("Will do!", "Yep, will do. Bye!", "I sure will. Bye!"),
}
