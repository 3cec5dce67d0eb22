"""Made-up names, titles and texts, drawn from a given random generator.

Some of the words hold quotes, accents, other scripts and emoji, and the longer texts hold tabs,
newlines and backslashes: whatever a person may type must pass through the chain unchanged.
"""

from __future__ import annotations

from random import Random

# A row over about 2 kB is stored out of line; reviews are compressed first, descriptions not.
DESCRIPTION_CHARS = (2_600, 6_000)
LONG_REVIEW_CHARS = (9_000, 14_000)

GENRES = (
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "IMAX", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western", "(no genres listed)",
)  # fmt: skip

COUNTRIES = ("AT", "BR", "CA", "DE", "ES", "FR", "GB", "IN", "IT", "JP", "MX", "PL", "SE", "US")
LANGUAGES = ("de", "en", "es", "fr", "hi", "it", "ja", "pl", "pt", "sv")
COUPONS = ("WELCOME10", "SPRING", "2-for-1", "O'CLOCK", "FRIENDS & FAMILY")

_FIRST = (
    "Ada", "Aiko", "Amélie", "Bruno", "Chiara", "Dmitri", "Elif", "Fatima", "Göran", "Hannah",
    "Ingrid", "João", "Kwame", "Łukasz", "Mei", "Noor", "Olga", "Priya", "Renée", "Søren",
    "Tariq", "Ursula", "Víctor", "Wanda", "Xiulan", "Yusuf", "Zoë",
)  # fmt: skip
_LAST = (
    "Abe", "Becker", "Castillo", "D'Angelo", "Eriksson", "Fischer", "García", "Haddad", "Ivanova",
    "Jensen", "Kowalski", "Lefèvre", "Müller", "Nakamura", "O'Brien", "Petrov", "Quinn", "Rossi",
    "Singh", "Tanaka", "Usman", "Vogel", "Weiß", "Xu", "Yılmaz", "Zimmermann", "山田",
)  # fmt: skip
_ADJECTIVES = (
    "Amber", "Broken", "Crimson", "Distant", "Endless", "Forgotten", "Gilded", "Hollow",
    "Invisible", "Joyless", "Kindred", "Last", "Midnight", "Northern", "Opal", "Paper", "Quiet",
    "Restless", "Silver", "Thirteenth", "Unspoken", "Velvet", "Wandering", "Yellow",
)  # fmt: skip
_NOUNS = (
    "Archipelago", "Bridge", "Carnival", "Delta", "Engine", "Forest", "Garden", "Harbour",
    "Island", "Journey", "Kingdom", "Lighthouse", "Mirror", "Notebook", "Orchestra", "Passage",
    "Quarry", "River", "Station", "Theatre", "Umbrella", "Voyage", "Winter", "Zeppelin",
)  # fmt: skip
_PLAIN = (
    "across", "again", "against", "almost", "always", "arrives", "before", "begins", "believes",
    "beneath", "brother", "carries", "child", "city", "comes", "crosses", "daughter", "decides",
    "disappears", "dream", "every", "family", "finds", "forgets", "friend", "frontier", "further",
    "heist", "hidden", "hope", "house", "inherits", "knows", "leaves", "letter", "lives", "loses",
    "mountain", "music", "must", "never", "night", "nobody", "old", "only", "past", "promise",
    "remembers", "returns", "road", "sea", "secret", "sister", "snow", "stranger", "summer",
    "tells", "through", "town", "truth", "under", "until", "village", "war", "when", "where",
    "without", "world", "writes", "young", "café", "naïve", "“quoted”", "50%", "C:\\films", "\t",
    "🎬", "東京", "its", "their", "one", "more", "than", "back", "into",
)  # fmt: skip


def full_name(rng: Random) -> str:
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def email(rng: Random, name: str) -> str:
    """An address that no other call returns (48 random bits)."""
    local = "".join(c for c in name.lower().replace(" ", ".") if c.isascii() and c not in "'")
    return f"{local.strip('.')}.{rng.getrandbits(48):012x}@example.com"


def title(rng: Random) -> str:
    shape = rng.randrange(4)
    if shape == 0:
        return f"The {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
    if shape == 1:
        return f"{rng.choice(_NOUNS)} of the {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
    if shape == 2:
        return f"{rng.choice(_FIRST)}'s {rng.choice(_NOUNS)}"
    return f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}: Part {rng.randint(2, 9)}"


def sentence(rng: Random) -> str:
    words = rng.choices(_PLAIN, k=rng.randint(7, 14))
    ending = rng.choice((". ", ". ", ". ", "? ", "! ", ".\n"))
    return " ".join(words).capitalize() + ending


def description(rng: Random) -> str | None:
    """A movie's text: mostly thousands of characters, sometimes a line, sometimes none."""
    kind = rng.random()
    if kind < 0.08:
        return None
    if kind < 0.25:
        return sentence(rng).strip()
    return long_text(rng, DESCRIPTION_CHARS)


def review(rng: Random) -> str | None:
    """A rating's text: mostly none, sometimes a few sentences, rarely an essay."""
    kind = rng.random()
    if kind < 0.80:
        return None
    if kind < 0.97:
        return "".join(sentence(rng) for _ in range(rng.randint(1, 4))).strip()
    return long_text(rng, LONG_REVIEW_CHARS)


def long_text(rng: Random, chars: tuple[int, int]) -> str:
    """A text of between `chars[0]` and `chars[1]` characters, roughly."""
    wanted = rng.randint(*chars)
    parts: list[str] = []
    length = 0
    while length < wanted:
        parts.append(sentence(rng))
        length += len(parts[-1])
    return "".join(parts).strip()


def tag(rng: Random) -> str:
    return f"{rng.choice(_ADJECTIVES)} {rng.choice(_PLAIN)}".lower().strip()
