"""Everyday English words: a film with such a title ("Up", "Her") is only meant where it is written as a title."""

COMMON: frozenset[str] = frozenset(
    """
a about above absolute accident across act action actor actors adult adults adventure adventures affair afraid after
again against age ago air airplane alien aliens alive all almost alone along already also although always am america
american among an and angel angels angry animal animals animated animation anime another answer any anybody anymore
anyone anything anyway anywhere apart are area arm army around arrival art artist as ask at attack attention aunt
australia avenue away awesome babies baby back bad bag ball band bank bar base based basic bat be beach bear beast
beautiful beauty because become bed been before beginning behind being believe below best bet better between beyond
big bird birds birth birthday bit bite black blind block blood bloody blow blue board boat body bomb book books bored
boring born boss both bottom box boy boys brain brave bread break bridge bright bring british broken brother brothers
brown bug build burn business busy but buy by cake call called came camp can captain car care careful cars case cast
cat catch cats cause center central chain chair chance change character characters charge chase cheap check chicken
child childhood children chinese choice choose christmas church city class classic classical clean clear click climb
clock close closed closer clown club coach coast coat code cold college color come comedian comedies comedy coming
common community company complete concert confused contact control conversation cook cool cop cops copy corner could
count country couple course court cover cowboy cowboys crash crazy creature creatures creep crime criminal cross
crossing cruel cry cube culture curious current cut cute cycle dad daddy dance dancer dancing danger dangerous dark
date daughter dawn day days dead deadline deal dear death decent decision deep definitely delicious detective devil
did die died diet different dinner dinosaur direction dirty disaster disney do doctor documentary does dog dogs doing
doll dolls domestic done door doubt down downtown dragon drama dream dreamer dreams dress drive driven driver drop
drug drugs drunk dry duck due dull dumb during dying each eagle early earth east easter easy eat edge effect effects
eight eighteen either election elephant eleven else emotional empire empty end ending endless enemy energy english
enjoy enough entertainment epic equal escape especially even evening event ever every everybody everyone everything
evil ex exactly example excellent excited exciting experiment express extra eye eyes face faces facing fact factory
faith fall fallen falling falls false fame family famous fan fans fantasy far farm fast fat fate father fault
favorite fear feel feeling feelings fell female few fiction field fight fighter fighting film films final finally
find fine fire first fish fishing five fix flash flat flight float flower flowers fly flying focus follow food fool
foot football for force foreign forest forever forget forgotten former forward found four fourth fox frame free
freedom freeze french fresh friday friend friends friendship from front frozen full fun funny future gambler game
games gang gangster garden gas gate gay gear general genius gentle german get getting ghost ghosts giant gift gifted
girl girlfriend girls give given glad glass glory go god going gold golden gone good goodbye gorgeous got grace grand
grandma grandpa grass gravity gray great greatest greed greek green ground group grow grown guard guess guest guilty
gun guns guy guys had hair half hall halloween hand hands hang hangover happen happened happening happy hard has hat
hate have haven having he head hear heart heat heaven heist hell hello help her here hero heroes hers hey hi hidden
hide high hill him his history hit hitch hold hole holiday holidays home honey hook hope horn horror horse hospital
host hot hotel hour hours house how huge human humor hundred hunger hunt hunter hunting hurt husband i ice idea if ill
imagine important impossible in indeed indian infinite inn inside interested interesting interview into is island it
italian its jack jail january japanese jaws jazz job join joke joker journal journey joy judge jump jungle just justice
keep kid kidding kids kill killed killer killers killing kind king kings kingdom kiss kitchen knew knife knight knock
know known lady ladies land language last late later laugh law lawyer lead league learn least leave led left legend
legends less let letter letters liar lie lies life light like likely limit line list listen little live lives living
local lock london long look looking looks lost lot lots loud love loved lovely lover lovers loving low luck lucky lunch
machine mad made mafia magic magical main make male mama man manager many map mark market marriage married mask master
match mate matter may maybe maze me mean meet member memory men mental mercy mess met middle midnight might milk mind
mine minute miss missing mission mob model mom moment monday money monkey monster monsters month mood moon more morning
most mother mountain mouse mouth move moved movie movies moving much mud murder music musical must my mystery myself
naked name national native natural nature near need neighbor neighbors nerd never new news next nice night nightmare
nine no nobody noise none normal north not nothing notice novel now number nurse obsessed ocean of off office officer
official often oh oil okay old on once one only open opening or orange order original originals orphan other others our
out outside over own pack page pain paint painting pair panic paper parents paris park part partner party pass passed
passengers passion past path patient patriot pay peace people perfect perhaps period person pets phone piano pick
picture piece pilot pink place plan plane planes planet plant play player please pleasure plenty point police political
pool poor pop popcorn popular possible post potential power practical prank precious prefer pregnant premium present
president pretty price pride priest prime prince princess prison private probably problem professional project promise
proof proposal protest proud public pull punch pure purple push put puzzle quarantine queen question quick quiet quite
race radio rage rain raise ran random rare rat rather raw ray reach read reader ready real reality really reason recent
recommend record recovery red regular relate release remember rent rescue respect rest restaurant return revenge rich
ride right ring rings rise risk river road roads robot robots rock role romance romantic roof room rope rose rough
round rules run runner running rush russian sacred sad safe said sail saint sale salt same sand saturday save saved saw
say scare scared scary scene school science scream screen screwed sea search season seat second secret secretary
secrets see seek seem seems seen self send sense separate serial series serious serve service set seven several sex
sexy shadow shadows shame shape share she sheet shine shining ship shoot shop short shot should show shut sick side
sight sign silence silent silly similar simple since sing singer singing single sister sisters sit six skin sky slasher
sleep sleeper sleepers slow small smart smile smoke snake snatch snow so social society soft sold soldier some somebody
someone something sometimes somewhere son song songs soon sorry sort soul sound soundtrack source south space spanish
spark speak special species speed spider spirit splash split spoiled sport sports spring spy square stage stand star
stars start state station stay steal step steps stick still stolen stone stop store storm story straight strange
stranger strangers street strike strings strong student stuff stupid style subject such suicide sum summer sun sunday
super superhero sure surprise surprised suspect suspense sweet swim switch system table take taken taking tale talent
talk tall tape target taste taxi teach teacher team tears teen teenager tell ten terrible test thank thanks that the
theater theatre their them then there these they thief thing things think third thirteen this those though thought
thoughtful threat three thriller through thunder ticket tight time times tiny tired title to today together told
tomorrow tone tonight too took top total touch touching tough toward town toy toys track trade tragic train training
trance trap travel treasure tree trial trick tried trip trouble true trust truth try tuesday turn tv twelve twenty
twice twin twins twisted two type ugly uncle under understand unexpected unforgettable uninvited unique unit universe
unknown unless until up upon us use used usual vacation vampire vampires various very video view village violence
violent virus visit voice wait waiting wake walk walking wall want wanted war warm warning warrior was wash waste watch
watching water wave way we wedding week weekend weird welcome well went were west western what whatever when where
which while white who whole whom why wicked wide wife wild will win wind window winner winter wish wit witch witches
with within without wolf woman women won wonder wonderful wood word words work working world worry worst worth would
wow write writer wrong yeah year years yellow yes yesterday yet you young your yours yourself zero zombie zombies zone
""".split()
)

FUNCTION: frozenset[str] = frozenset(
    """
a about above after again all also always am an and any are as at be because been before but by can could did do does
done down for from get go good great had has have haven he hello her here hers hey hi him his hope how i if ill in into
is it its just like love loved may maybe me mine more most much must my never nice no none not now of off oh ok okay on
once one only or other others our out over own please same she should so some sorry sure take thank thanks that the
their them then there these they this those to too under up us very want was watch we well were what when where which
who why will with would wow yeah yes you your
""".split()
)
"""Words that, even with a capital, are a title only after a word like "seen"."""

PHRASES: frozenset[str] = frozenset(
    """
anything else,something else,something new,something different,nothing else,date night,movie night,old school,real life
all the time,good time,good times,this time,first time,next time,long time,big time,family time,last night,good luck
good morning,good night,good day,new year,happy new year,no problem,right now,true story,high school,best friend
best friends,little kids,young adult,big fan,best picture,check it out,checking out,two thumbs up,action movie
the best,the end,the one,the other,the last,the main event,the movie,the story,the book,the original,the ending
the show,the song,the cast,the actor
""".strip()
    .replace("\n", ",")
    .split(",")
)
"""Phrases that are usually not meant as a title, although there are films of these titles."""


def ordinary(word: str) -> bool:
    """Whether a folded word is an everyday word, or an inflected form of one ("checking", "cars")."""
    if word in COMMON or word.isdecimal() or len(word) < 2:
        return True
    return any(
        word.endswith(ending) and (word[: -len(ending)] in COMMON or word[: -len(ending)] + "e" in COMMON)
        for ending in ("s", "es", "ed", "ing", "er", "ly")
    )
