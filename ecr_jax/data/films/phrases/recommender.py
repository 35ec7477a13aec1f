"""What recommenders say, by act and by the tone that they show. See `nouns` for the grammar.

`<it>` is the film that is spoken of: "it", "that one" or its title. Every fact has a slot, so that it is true.
"""

from __future__ import annotations

from ecr_jax.data.films.phrases.nouns import Bank

# Greetings, small talk and closing.

GREETING: dict[str, Bank] = {
    "neutral": (
        "(Hi|Hello|Hey)(!|.| there!|, nice to meet you.)",
        "Good (evening|morning|afternoon)!",
        "Hello and welcome!",
        "Hi, (welcome|thanks for stopping by)!",
        "Hey, (good|nice) to see you.",
        "Hi, I can help you find a movie.",
        "Hello, I'm here to help you pick a film.",
    ),
    "happy": (
        "Hi, so nice to (meet you|have you here)!",
        "Hey, what a nice (evening|day) for a movie!",
        "Hello hello, movie time!",
        "Hi there, (I'm happy to help|I love talking about movies)!",
    ),
    "curious": (
        "(Hi|Hello|Hey), how are you( today| doing|)?",
        "(Hi|Hey)! How's it going?",
        "Hello, how's your (day|evening) (going|so far)?",
        "Hey there, how are things?",
    ),
}
FINE: Bank = (
    # answers "how are you?"
    "I'm (doing well|good|great|fine), (thanks|thank you)(!|.| for asking.)",
    "(Great|All good|Pretty good), thanks(!|.| for asking.)",
    "Doing great, thank you!",
    "(Very well|Can't complain), thanks.",
    "I'm always good when I can talk about movies.",
)
GLAD: Bank = (
    # the seeker is fine
    "(Glad|Good|Nice|Happy) to hear (that|it).",
    "That's (good|great) to hear!",
    "(Lovely|Wonderful|Great)!",
    "Same here.",
    "I'm well too, thanks.",
)
OFF_TOPIC: Bank = (
    # small talk that does not concern films
    "Ha, (movies are really my thing|I only know about movies), (sorry|I'm afraid).",
    "Haha, (I can't help with that|that's beyond me), but I do know movies.",
    "Oh, I see! (Anyway, back to movies|Let's get you a film to go with that).",
    "Sounds like quite a scene. (Back to movies|Now, about that movie).",
    "I wouldn't know, I'm afraid, (I'm only good with films|films are all I do).",
    "No idea about that one, but movies I can do.",
    "Fair enough. (Let's talk movies|Shall we get back to movies).",
    "(No problem|No worries), take your time.",
    "Ha, good one.",
)
NONSENSE: Bank = (
    "Sorry, I (didn't|don't quite) (get|understand|follow) that.",
    "Hmm, (I'm not sure what you mean|you lost me there).",
    "I didn't catch that, sorry.",
    "Haha, I'm not sure how to read that.",
    "Could you say that again in other words?",
    "That one went over my head, sorry.",
)
FOREIGN: Bank = (
    "Sorry, I only (speak|understand) English(, I'm afraid|).",
    "I'm afraid my English is better than my other languages. Could we go on in English?",
    "I'm sorry, I can only (chat|help) in English.",
    "Sorry, English only for me, but I'm happy to help.",
    "I wish I spoke more languages! Could you tell me in English?",
    "I'm sorry, I didn't understand that. Is English okay?",
)

CLOSING: dict[str, Bank] = {
    "happy": (
        "Enjoy (the movie|your movie|movie night|the evening|it)!",
        "Have fun (watching|tonight|with it)!",
        "Have a (great|lovely|wonderful) (day|evening|weekend)!",
        "I hope you (like|enjoy|love) it!",
        "It was (nice|great|lovely) talking to you!",
        "Happy watching!",
        "Have a great time!",
    ),
    "neutral": (
        "(Bye|Goodbye|Take care|See you).",
        "Come back any time.",
        "Let me know how you liked it next time.",
        "Bye, have a good night.",
        "Talk to you soon.",
        "Alright, take care.",
    ),
    "plain": (
        # where no film was found
        "(Bye|Goodbye|Take care|See you).",
        "Come back any time.",
        "Have a (good|nice) (day|evening|weekend) anyway.",
        "Talk to you soon.",
        "Until next time.",
    ),
}
CLOSING_FILM: dict[str, Bank] = {
    "happy": (
        "Enjoy <film>!",
        "I hope you have fun with <film>!",
        "Have a great time with <film>!",
        "Then it's <film> tonight, enjoy!",
    ),
    "neutral": (
        "Let me know how you like <film>.",
        "I'd start with <film>.",
        "Tell me what you thought of <film> next time.",
    ),
}
CLOSING_SAD: dict[str, Bank] = {
    # for a seeker in a bad mood
    "negative": (
        "I hope you feel better soon.",
        "Take care of yourself.",
        "I hope tomorrow is a better day for you.",
        "Be kind to yourself tonight.",
    ),
}
WELCOME: Bank = (
    # answers thanks
    "You're (very|most|) welcome!",
    "(My pleasure|Any time|No problem)!",
    "(Glad|Happy) I could help(.|!)",
    "Don't mention it.",
    "Happy to help!",
    "Sure thing!",
)
NO_LUCK: Bank = (
    # the seeker leaves without a film
    "Sorry I couldn't find the right one.",
    "No worries, maybe next time.",
    "That's okay, (I'll be here|come back whenever you like).",
    "Sorry (none of those fit|that I wasn't more help).",
)

# Asking for preferences.

ASK: dict[str, Bank] = {
    "genre": (
        "What (kind|type|sort) of (movies|films) do you like?",
        "Do you have a favorite genre?",
        "Which genres do you (like|enjoy|usually watch)?",
        "Are you more into light or serious stuff?",
        "Something funny, something scary, something sad?",
        "What genre are you (in the mood for|after)?",
        "What do you usually watch?",
    ),
    "cast": (
        "(Do you have a favorite actor|Any favorite actors|Do you have any favorite actors)?",
        "Is there an actor you (like|always enjoy|would watch in anything)?",
        "Any actors you're fond of?",
        "Who do you like to see on screen?",
    ),
    "director": (
        "Is there a director you (like|admire)?",
        "Do you have a favorite director?",
        "Any directors you're a fan of?",
        "Whose films do you usually like?",
    ),
    "year": (
        "Older or newer (movies|films)?",
        "Do you prefer (older|classic) (movies|films) or (newer|recent) ones?",
        "From which decade, if you could choose?",
        "Something recent, or are classics okay too?",
        "Is there a period you prefer?",
    ),
    "film": (
        "(Which|What) (movie|film) did you (love|enjoy|like) (lately|recently)?",
        "(Can you|Could you) name (a film|a movie|one) you (love|liked)?",
        "What's a movie you could watch again and again?",
        "What have you seen (lately|recently) that you liked?",
        "What's your favorite (movie|film)?",
        "Can you give me an example of a movie you like?",
        "What was the last good film you saw?",
    ),
    "avoid": (
        "(Is there anything|Anything) you (don't like|can't stand|want to avoid)?",
        "What should I (leave out|stay away from)?",
        "Is there any kind of movie you don't like?",
        "Anything you'd rather not see?",
        "Any no-gos?",
    ),
    "": (
        "What are you in the mood for?",
        "What would you like to (watch|see) (today|tonight|)?",
        "What do you feel like watching?",
        "Tell me (a bit about|something about) what you like.",
        "What are you looking for?",
        "Can you tell me (a little|a bit) more about your taste?",
        "What matters most to you in a movie?",
        "Anything more specific?",
    ),
}
ASK_FIRST: Bank = (
    # the same at the beginning
    *(phrase for phrase in ASK[""] if "more" not in phrase),
    "What can I (find|recommend) for you?",
    "So, what are we looking for?",
    "How can I help you (today|tonight|)?",
    "What brings you here (today|tonight|)?",
)
OFFER: Bank = (
    # asks what next, after an answer
    "Would you like to (watch it|give it a try)?",
    "Shall I look for something else?",
    "Do you want to go with that one?",
    "Want me to suggest another one?",
)
OFFER_KNOWN: Bank = (
    # the same after a fact
    *OFFER,
    "Does that sound like (something for you|your kind of thing)?",
    "Would that be okay for you?",
    "Is that a plus for you?",
    "How does that sound?",
)

# Reactions, by what they answer and by the seeker's emotion; in brackets the tone that they show.

REACT_TASTE: dict[str, tuple[str, Bank]] = {
    "like": (
        "like",
        (
            "(Great|Good|Excellent|Nice) taste!",
            "(Great|Good|Nice) choice, I like those too.",
            "Oh, I love those as well.",
            "(Nice|Cool|Awesome), (I can work with that|that helps|there's plenty to choose from).",
            "You have good taste.",
            "Those are always a good idea.",
            "Me too, honestly.",
            "A fellow fan, great!",
        ),
    ),
    "happy": (
        "happy",
        (
            "(Yay|Ha), I love the excitement!",
            "That's the spirit!",
            "Your good mood is contagious!",
            "So nice to hear, that makes me smile!",
            "Woohoo, let's do this!",
            "I love how excited you are!",
        ),
    ),
    "curious": (
        "curious",
        (
            "Good question, (let's see|there's a lot to discover)!",
            "Oh, there's so much to discover there.",
            "Nice, let's explore that a bit.",
            "I like that you're curious.",
            "(Ooh|Oh), interesting, let's find out.",
            "A great thing to get into.",
        ),
    ),
    "neutral": (
        "neutral",
        (
            "(Ok|Okay|Alright|Got it|Sure)(.|, let me think.|, let me see.)",
            "(Hmm|Alright), let me see.",
            "Let me think.",
            "No problem.",
            "Sure thing.",
            "I might have something.",
            "That I can do.",
            "(Okay|Right), that narrows it down.",
        ),
    ),
    "nostalgia": (
        "nostalgia",
        (
            "What a (lovely|sweet) memory!",
            "Ah, those were good times.",
            "Old favorites are the best, aren't they?",
            "I miss those days too.",
            "It's lovely how movies keep our memories.",
            "That takes me back as well.",
        ),
    ),
    "surprise": (
        "surprise",
        (
            "Oh wow, I didn't expect that!",
            "Ha, isn't it great when that happens?!",
            "Wow, what a discovery!",
            "Really? That's a surprise!",
            "Whoa, welcome to the club!",
        ),
    ),
    "agreement": (
        "agreement",
        (
            "(Exactly|Right|Perfect).",
            "I'm glad we agree.",
            "Good, we see eye to eye.",
            "Deal.",
            "Great minds think alike.",
        ),
    ),
    "negative": (
        "neutral",
        (
            "(Fair enough|Understood|Got it|Noted), I'll (leave those out|keep that in mind|remember that).",
            "Okay, none of that then.",
            "No problem, we'll skip that.",
            "I get it, that's not for everybody.",
            "Good to know.",
            "Alright, I'll steer clear of that.",
            "That's fine, there's plenty of other stuff.",
        ),
    ),
}
REACT_FILM: dict[str, tuple[str, Bank]] = {
    # a film that the seeker named or has seen
    "like": (
        "like",
        (
            "(Oh yes|Yes|Ah), that's a (great|really good|fantastic) one.",
            "(Great|Good|Excellent) taste!",
            "It's great, isn't it?",
            "I love that one too.",
            "Glad you liked it.",
            "(Nice|Awesome|Cool), then we're on the right track.",
            "It really is good.",
        ),
    ),
    "happy": (
        "happy",
        (
            "Haha, (it's so much fun|I'm glad you had a good time)!",
            "Yay, (that makes me smile too|I'm so glad)!",
            "Ha, love that!",
            "So happy to hear that!",
            "That's wonderful, movies like that are the best!",
        ),
    ),
    "nostalgia": (
        "nostalgia",
        (
            "What a (lovely|beautiful|sweet) memory!",
            "Ah, that takes me back as well.",
            "I feel that too, those were good times.",
            "Isn't it lovely how films bring it all back?",
            "Aw, I miss those days too.",
            "That sounds like a memory to keep.",
        ),
    ),
    "surprise": (
        "surprise",
        (
            "I know, right?!",
            "Ha, what a coincidence!",
            "Wow, really?!",
            "Oh, I didn't see that coming!",
            "I was amazed too!",
        ),
    ),
    "neutral": (
        "neutral",
        (
            "(Ah, ok|Okay|I see|Alright|Oh okay).",
            "(No worries|No problem).",
            "Hmm, let me think of another one.",
            "Oh, you know that one already.",
            "Alright, let me find you one you haven't seen.",
            "Got it.",
        ),
    ),
    "curious": (
        "curious",
        (
            "Oh, nice starting point.",
            "(Ooh|Oh), let me think what goes with that.",
            "Good question, let me see.",
            "Interesting choice!",
            "I like that as a starting point.",
        ),
    ),
    "agreement": (
        "agreement",
        (
            "Right, (I should have guessed|of course you'd know it).",
            "Exactly.",
            "Glad we agree on that one.",
            "Good, then I'm getting closer.",
        ),
    ),
    "negative": (
        "negative",
        (
            "(Oh no|Aw), (that's a pity|that's a shame|sorry about that).",
            "Sorry to hear that, (not every film works for everyone|I'll find you a better one).",
            "Oh, sorry about that one.",
            "What a shame.",
            "I'm sorry, that must have been a long evening.",
            "That's too bad, let's forget about it.",
            "Ouch, sorry. (Let me make up for it|I'll do better this time).",
        ),
    ),
}
REACT_OWN_FILM: dict[str, tuple[str, Bank]] = {
    # the same of a film that the seeker named
    "neutral": (
        "neutral",
        (
            "(Okay|Alright|Ah|I see), that gives me an idea.",
            "Good to know.",
            "Got it, (something in that direction then|that helps).",
            "Hmm, let me think what goes with that.",
            "(Ah|Oh), I know that one.",
        ),
    ),
}
REACT_REJECT: dict[str, tuple[str, Bank]] = {
    "negative": (
        "negative",
        (
            "(Sorry|I'm sorry), that one missed the mark.",
            "Oh, my bad, sorry.",
            "Sorry about that, let's try something (very|quite|) different.",
            "Okay, sorry, I'll drop it.",
            "I hear you, sorry. Not that one then.",
            "Oops, sorry, wrong guess.",
        ),
    ),
    "neutral": (
        "neutral",
        (
            "(Fair enough|No problem|No worries|Alright|Okay|Sure thing)(.|, let's try something else.|, let me think again.)",
            "Okay, not that one.",
            "Got it, something else then.",
            "Let me try again.",
            "That's fine, there's more.",
            "Understood.",
        ),
    ),
}
REACT_ACCEPT: dict[str, tuple[str, Bank]] = {
    "like": (
        "like",
        (
            "(Great|Perfect|Wonderful|Good), (I think you'll like it|glad it fits).",
            "I thought you'd like that.",
            "(Nice|Awesome|Cool), good choice.",
            "Glad I found something for you.",
        ),
    ),
    "happy": (
        "happy",
        (
            "Yay, (I'm so glad|that makes me happy too)!",
            "Your joy is contagious!",
            "So happy to hear that!",
            "Woohoo, love it!",
        ),
    ),
    "grateful": ("happy", WELCOME),
    "agreement": (
        "agreement",
        (
            "(Perfect|Great|Good|Deal).",
            "Good, we have a plan.",
            "I'm glad we agree.",
            "Excellent, that was easy.",
            "Great minds think alike.",
        ),
    ),
    "surprise": (
        "surprise",
        (
            "Ha, I thought that might surprise you!",
            "Isn't it nice to find something new?!",
            "Yes, really!",
            "I love a good surprise too!",
        ),
    ),
    "curious": (
        "curious",
        (
            "I'm curious what you'll think of it.",
            "Interesting one, isn't it?",
            "You'll have to tell me what it's like.",
        ),
    ),
    "neutral": ("neutral", ("(Ok|Okay|Alright|Sure|Cool).", "Sounds good.", "No pressure.", "Take your time.")),
}
REACT_UNSURE: dict[str, tuple[str, Bank]] = {
    "neutral": (
        "neutral",
        (
            "No problem, (here's another|let me try another).",
            "That's okay.",
            "Not sure about it? (That's fine|No worries).",
            "Take your time.",
        ),
    ),
    "curious": (
        "curious",
        ("It might be worth a look.", "Then there's something new for you.", "I'm curious how you'd find it."),
    ),
}
REACT_CHANGED: Bank = (
    "(No problem|No worries|Sure|Okay), (we can change that|people change their minds|let's switch).",
    "Ha, alright, (I'll forget about that|scrap that).",
    "Got it, change of plan.",
    "Of course, let me rethink.",
)

# Recommending.

RECOMMEND: dict[str, Bank] = {
    "neutral": (
        "(Have you seen|Did you see|Do you know) <film>?",
        "(You could|You might want to) (watch|try|check out) <film>.",
        "(I'd|I would) (recommend|suggest) <film>.",
        "How about <film>?",
        "(Try|Check out) <film>.",
        "What about <film>?",
        "Maybe <film>?",
        "There's <film>.",
        "My pick for you is <film>.",
        "The first one that comes to mind is <film>.",
        "In that case, (try|maybe) <film>.",
        "In that case, how about <film>?",
        "<film> (might|could) (work|be a good fit|be what you're looking for).",
        "Let me suggest <film>.",
        "Have you ever watched <film>?",
        "Then maybe <film>.",
        "You could give <film> a try.",
    ),
    "like": (
        "(You should|You have to|You've got to) (see|watch) <film>, (it's great|I love it|it's so good).",
        "I really like <film>, (maybe you will too|give it a try).",
        "I think you'd (like|love|enjoy) <film>.",
        "<film> is (a great one|really good|one of my favorites).",
        "I love <film>, have you seen it?",
        "<film> would be (perfect|just right) for you.",
        "You can't go wrong with <film>.",
        "I'd go for <film>, I think it's great.",
        "One I really enjoy is <film>.",
    ),
    "happy": (
        "Oh, I know just the one: <film>!",
        "<film>! You'll have so much fun with it!",
        "Then it has to be <film>, what a fun one!",
        "I'm so happy I get to recommend <film>!",
        "Put on <film> and enjoy every minute!",
    ),
    "curious": (
        "I wonder what you'd think of <film>.",
        "Have you heard of <film>? I'm curious if you'd like it.",
        "I'd be curious to hear what you think of <film>.",
    ),
    "nostalgia": (
        "Remember <film>? (Such good times|That one takes me back).",
        "<film> would take you right back.",
        "How about a trip back in time with <film>?",
    ),
    "negative": (
        # gently, to a seeker who feels bad
        "Maybe <film> would (help a little|do you some good).",
        "How about curling up with <film>?",
        "<film> might be (good company|a comfort) tonight.",
        "Would you like to try <film>? It might make the evening a bit easier.",
    ),
}
RECOMMEND_MANY: dict[str, Bank] = {
    "neutral": (
        "(Have you seen|Do you know) <films_or>?",
        "(I'd|I would) (recommend|suggest) <films_and>.",
        "How about <films_or>?",
        "(Try|Check out) <films_or>.",
        "There's <films_and>.",
        "I can think of <films_and>.",
        "I'd choose between <films_and>.",
        "You (could|might) (watch|try) <films_or>.",
        "What about <films_or>?",
        "Here are a few: <films_and>.",
        "Maybe <films_or>?",
        "Some ideas: <films_and>.",
    ),
    "like": (
        "I really like <films_and>.",
        "I think you'd (like|enjoy) <films_and>.",
        "You'd have a good time with <films_or>, I'm sure.",
        "You can't go wrong with <films_or>.",
    ),
    "happy": (
        "Oh, so many good ones: <films_and>!",
        "Easy, <films_and>, you'll have a blast!",
    ),
}
SIMILAR: Bank = (
    # recommends because of a film that the seeker likes
    "(Since|If) you liked <liked>, (try|you might like|I'd suggest) <film>.",
    "(Since|If) you liked <liked>, (how about|what about) <film>?",
    "You liked <liked>, so (you might enjoy|I'd suggest|try) <film>.",
    "If <liked> is your thing, <film> could be too.",
    "As a fan of <liked>, you (might|should) enjoy <film>.",
)
CHECK: Bank = (
    # part of a recommendation
    "Have you (seen|watched) it?",
    "(Do you know it|Does that ring a bell)?",
    "What do you think?",
    "How does that sound?",
    "Would you like that?",
    "Have you heard of it?",
    "Seen it?",
    "Interested?",
)

# Explaining. `FACTS` are said of a film that was just named.

WHY_TASTE: dict[str, Bank] = {
    "genre": (
        "You (said you like|asked for|mentioned) <genres>, and (this is one|it's one).",
        "It's <a_genre>, (just what you asked for|like you wanted|so it should suit you).",
        "You like <genres>, so I thought of it.",
        "Since you're into <genres>, it seemed like a good match.",
    ),
    "director": (
        "You (said you like|mentioned|asked for) <person>, who directed it.",
        "It's by <person>, (like you wanted|who you mentioned).",
        "<person> directed it, and you're a fan.",
        "You like <person>'s movies, and this is one of them.",
    ),
    "actor": (
        "You (said you like|mentioned|asked for) <person>, who is in it.",
        "<person> is in it, (as you wanted|and you're a fan).",
        "It has <person> in it, who you mentioned.",
        "You like <person>, so I thought of it.",
    ),
    "era": (
        "You wanted something from <era>, and it came out in <year>.",
        "It's from <year>, so it fits <era>.",
        "It came out in <year>, right in the decade you asked for.",
    ),
}
BECAUSE: dict[str, Bank] = {
    # answers "why that one?"
    "genre": (
        *WHY_TASTE["genre"],
        "Because it's <a_genre>, and you (said you like|asked for) <genres>.",
        "Mostly because you're into <genres>.",
        "You told me you like <genres>, that's why.",
    ),
    "director": (
        *WHY_TASTE["director"],
        "Because <person> made it, and you (like|mentioned) <person>.",
        "Because it's by <person>.",
        "You mentioned <person>, that's why. It's one of <person>'s.",
    ),
    "actor": (
        *WHY_TASTE["actor"],
        "Because <person> is in it, and you (like|mentioned) <person>.",
        "Because of <person>, who is in it.",
        "You told me you like <person>, that's why.",
    ),
    "era": (
        *WHY_TASTE["era"],
        "Because it's from <year>, and you asked for something from <era>.",
        "Mostly because it's from <era>, as you wanted.",
    ),
}
WHY_YEAR: dict[str, Bank] = {
    # answers "anything newer?"
    "newer": ("It's from <year>, so it's newer.", "That one came out in <year>.", "It's more recent, from <year>."),
    "older": ("It's from <year>, so it's older.", "That one came out in <year>.", "It's an older one, from <year>."),
}
WHY_ALIKE: dict[str, Bank] = {
    # what it has in common with a film that the seeker likes
    "director": (
        "You liked <liked>, and <person> directed both.",
        "<person>, who made <liked>, directed it too.",
        "It's by the same director as <liked>, <person>.",
    ),
    "actor": (
        "You liked <liked>, and <person> is in this one too.",
        "<person> from <liked> is in it as well.",
        "It has <person> in it, just like <liked>.",
    ),
    "genre": (
        "Like <liked>, it's <a_genre>.",
        "You enjoyed <liked>, and this is <a_genre> too.",
        "It's <a_genre>, and so is <liked>.",
    ),
}
ALSO: dict[str, Bank] = {
    # the same behind `SIMILAR`, where the other film was named just before
    "director": (
        "It's by <person> too.",
        "<person> directed both.",
        "It's also by <person>.",
        "Same director, <person>.",
    ),
    "actor": ("It has <person> in it too.", "<person> is in both.", "It also stars <person>."),
    "genre": ("It's <a_genre> too.", "They're both <genres>.", "It's also <a_genre>."),
}
FACTS: dict[str, Bank] = {
    "director": (
        "It's (by|directed by|from) <people>.",
        "<people> directed it.",
        "It's a <people> movie.",
        "<people> made it.",
        "It was directed by <people>.",
    ),
    "cast": (
        "It stars <people>.",
        "It has <people> in it.",
        "It's with <people>.",
        "You get to see <people> in it.",
        "<people> are in it.",
        "The cast includes <people>.",
    ),
    "cast1": ("It stars <people>.", "It has <people> in it.", "<people> is in it."),
    "genre": ("It's <a_genre>.", "It's <a_genre> from <year>.", "That's <a_genre>."),
    "genre2": (
        "It's a mix of <genre> and <genre2>.",
        "It's <a_genre> with some <genre2>.",
        "It's part <genre>, part <genre2>.",
    ),
    "year": ("It came out in <year>.", "It's from <year>.", "It's a <year> movie."),
    "writer": ("<people> wrote it.", "It was written by <people>.", "The script is by <people>."),
    "country": ("It's from <places>.", "It was made in <places>."),
    "language": ("It's in <languages>.",),
    "company": ("<companies> produced it.", "It was produced by <companies>."),
}
LIKELY: Bank = (
    # where nothing is known of the seeker
    "I thought it might be a good place to start.",
    "I had to start somewhere, and you hadn't told me much yet.",
    "Just a first guess, to be honest.",
    "You left it open, so I picked one I like.",
)

# Answers.

ANSWERS: dict[str, Bank] = {
    "director": (
        "<it> was directed by <people>.",
        "<people> directed <it>.",
        "That was <people>.",
        "<it> is by <people>.",
        "The director is <people>.",
        "That would be <people>, who directed <it>.",
        "It's a <people> movie.",
        "It was made by <people>.",
    ),
    "cast": (
        "<it> stars <people>.",
        "It has <people> in it.",
        "<people> are in it.",
        "You'll see <people> in <it>.",
        "The cast includes <people>.",
        "It's with <people>, among others.",
        "<people>, to name a few.",
        "You might know <people> from it.",
    ),
    "cast1": (
        "<it> stars <people>.",
        "It has <people> in it.",
        "<people> is in it, among others.",
    ),
    "writer": (
        "<it> was written by <people>.",
        "<people> wrote <it>.",
        "The script is by <people>.",
        "The screenplay was written by <people>.",
        "That was <people>.",
    ),
    "year": (
        "<it> came out in <year>.",
        "<it> is from <year>.",
        "It was released in <year>.",
        "That was <year>.",
        "In <year>.",
        "It's from <year>.",
        "It's a <year> film.",
    ),
    "genre": (
        "<it> is <a_genre>.",
        "It's <a_genre>.",
        "I'd call it <a_genre>.",
        "That one is <a_genre>.",
    ),
    "genre2": (
        "<it> is a mix of <genre> and <genre2>.",
        "It's part <genre>, part <genre2>.",
        "It's <a_genre> with some <genre2> in it.",
        "Something between <genre> and <genre2>.",
        "It's <a_genre>, but there's <genre2> in it as well.",
    ),
    "country": (
        "<it> is from <places>.",
        "It was made in <places>.",
        "<it> comes from <places>.",
        "It's from <places>.",
    ),
    "language": (
        "<it> is in <languages>.",
        "It's in <languages>.",
        "They speak <languages> in it.",
        "The language is <languages>.",
    ),
    "languages": (
        "They speak <languages> in it.",
        "You'll hear <languages> in it.",
        "<languages> are spoken in it.",
    ),
    "company": (
        "<it> was produced by <companies>.",
        "It's from <companies>.",
        "<companies> produced it.",
        "<companies> made it.",
    ),
}
UNKNOWN: dict[str, Bank] = {
    # the answer is not known
    "runtime": (
        "I'm not sure how long <it> is(, sorry|).",
        "I don't know the runtime, sorry.",
        "Sorry, I don't know how long it runs.",
        "I can't tell you how long <it> is.",
        "No idea how long it is, to be honest.",
    ),
    "plot": (
        "I don't want to guess at the story.",
        "I'm afraid I don't know the plot well enough.",
        "I can't really tell you the story of <it>.",
        "I don't know what happens in <it>, sorry.",
        "I couldn't tell you what it's about, sorry.",
    ),
    "composer": (
        "I don't know who wrote the music( for <it>|).",
        "I'm not sure who composed the score.",
        "Sorry, I don't know whose music that is.",
        "No idea about the soundtrack, sorry.",
    ),
    "company": ("I don't know which studio made <it>.", "I'm not sure who produced it, sorry."),
    "writer": ("I don't know who wrote <it>, sorry.", "I'm not sure who the writer is."),
    "": (
        "I can't say(, sorry|).",
        "I don't know, to be honest.",
        "That I don't know, sorry.",
        "I'm not sure about that.",
        "I couldn't tell you that, I'm afraid.",
        "Hard to say from here.",
    ),
}
BUT: dict[str, Bank] = {
    # what is known instead; follows `UNKNOWN`
    "director": (
        "But I know that <people> directed it.",
        "What I do know is that it was directed by <people>.",
        "I can tell you it's by <people>, though.",
    ),
    "cast": (
        "But it stars <people>.",
        "What I can tell you is that <people> (star|act) in it.",
        "I do know that it has <people> in it.",
    ),
    "genre": ("But it's <a_genre>.", "What I know is that it's <a_genre>.", "All I can say is that it's <a_genre>."),
    "year": (
        "But it came out in <year>.",
        "I do know that it's from <year>.",
        "I can tell you it's from <year>, though.",
    ),
}
YES: dict[str, Bank] = {
    "cast": (
        "Yes, <person> is in <it>.",
        "(Yes|Yep|Yeah), <person> is in it.",
        "That's right, <person> is in the cast.",
        "(Yes|Right), it's the one with <person>.",
    ),
    "director": (
        "Yes, <person> directed <it>.",
        "(Yes|Yep|Right), it's by <person>.",
        "That's right, <person> directed it.",
    ),
    "genre": ("Yes, <it> is <a_genre>.", "(Yes|Yep|Yeah), it's <a_genre>.", "That's right, it's <a_genre>."),
    "old": ("Yes, <it> is from <year>.", "(Yes|Yep), it came out in <year>.", "Pretty old, yes, it's from <year>."),
    "new": ("Yes, <it> is from <year>.", "(Yes|Fairly new, yes), it came out in <year>."),
}
NO: dict[str, Bank] = {
    "cast": (
        "No, <person> isn't in <it>.",
        "(No|Nope), <person> isn't in it.",
        "I don't see <person> in the cast, no.",
    ),
    "director": ("No, <person> didn't direct <it>.", "(No|Nope), that's not by <person>."),
    "genre": ("No, <it> isn't <a_genre>.", "(No|Not really), it isn't <a_genre>."),
    "old": ("No, <it> came out in <year>.", "Not really, it's from <year>.", "Not that old, it's from <year>."),
    "new": ("No, <it> is from <year>.", "Not really, it came out in <year>.", "It's not new, no. It's from <year>."),
}
MIDDLING: Bank = (
    "It's from <year>, so neither very old nor very new.",
    "Well, it came out in <year>.",
    "It depends what you call old, it's from <year>.",
)
