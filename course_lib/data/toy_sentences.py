"""Sentences written for the chapters, few enough to read them all."""

# A sentence, a paraphrase that shares few words with it, and a contradiction that shares most of its words.
TRIPLES = (
    (
        "I laughed from start to finish.",
        "This is the funniest thing I have seen.",
        "I never laughed from start to finish.",
    ),
    ("The acting is superb.", "Every performance convinces.", "The acting is not superb."),
    ("The ending surprised me.", "I did not see that twist coming.", "The ending did not surprise me."),
    ("It is far too long.", "They should have cut an hour of it.", "It is not too long."),
    ("The photography is beautiful.", "Each shot could hang in a gallery.", "The photography is not beautiful."),
    ("My children loved it.", "The kids were delighted.", "My children hated it."),
    ("The plot makes no sense.", "I could not follow the story.", "The plot makes sense."),
    ("It bored me.", "I kept looking at my watch.", "It never bored me."),
    ("The music is dreadful.", "The soundtrack hurts one's ears.", "The music is not dreadful."),
    ("I would watch it again.", "Tomorrow I am buying another ticket.", "I would not watch it again."),
    ("The book was better.", "They spoiled the novel.", "The book was not better."),
    ("It frightened me to death.", "I slept with the lights on afterwards.", "It did not frighten me."),
    ("The hero is likeable.", "One roots for the main character.", "The hero is not likeable."),
    ("The jokes fall flat.", "Nobody in the audience chuckled.", "The jokes do not fall flat."),
    ("It made me cry.", "I was in tears.", "It did not make me cry."),
    ("The dialogue is clumsy.", "No human being talks like that.", "The dialogue is not clumsy."),
    ("The effects look cheap.", "You can see the strings on the spaceship.", "The effects do not look cheap."),
    ("It is a masterpiece.", "Few films reach this height.", "It is not a masterpiece."),
    (
        "The two leads have no chemistry.",
        "I never believed that the couple was in love.",
        "The two leads have chemistry.",
    ),
    (
        "It taught me something about history.",
        "I learned how people lived back then.",
        "It taught me nothing about history.",
    ),
    ("The sequel disappoints.", "Part two is a letdown.", "The sequel does not disappoint."),
    ("The villain steals the show.", "The bad guy is the best thing in it.", "The villain does not steal the show."),
    ("The pace is slow.", "It takes forever to get going.", "The pace is not slow."),
    ("I walked out halfway.", "We left before it was over.", "I did not walk out halfway."),
)

# Words with two meanings, and sentences for each.
SENSES = {
    "bank": {
        "of a river": (
            "We sat on the bank and watched the water go by.",
            "The boat drifted towards the muddy bank.",
            "Reeds grow along the bank of the stream.",
            "A heron was standing on the opposite bank.",
        ),
        "for money": (
            "The bank raised its interest rates again.",
            "She opened an account at the bank.",
            "He asked the bank for a loan.",
            "The bank closes at noon on Fridays.",
        ),
    },
    "match": {
        "a game": (
            "They won the match in the last minute.",
            "The tennis match lasted for five hours.",
            "Rain delayed the start of the match.",
            "He was injured during the match on Sunday.",
        ),
        "for a fire": (
            "She struck a match and lit the candle.",
            "Never leave a burning match on the table.",
            "He used his last match to start the fire.",
            "The damp match would not light.",
        ),
    },
    "spring": {
        "a season": (
            "The cherry trees bloom in spring.",
            "Every spring the swallows return.",
            "It rained a lot last spring.",
            "We sow the carrots in early spring.",
        ),
        "a coil": (
            "The spring in the old mattress broke.",
            "A steel spring pushes the lid open.",
            "Compress the spring before you close the case.",
            "The clock stopped because its spring was worn.",
        ),
    },
}
