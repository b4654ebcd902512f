"""The wordings of questions about a scene, several for each.

Wording 0 is the plain one, which evaluation uses. Gaps in braces are filled by questions.py.
"""

import random

DIRECTIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
WORDINGS = {
    "caption": (
        "Describe the image.",
        "What is in this picture?",
        "Describe this picture in one sentence.",
        "What do you see?",
        "What's in this image?",
        "What does the image show?",
        "Please describe the picture.",
        "Write a caption for this image.",
    ),
    "background": (
        "What color is the background?",
        "What is the color of the background?",
        "Which color does the background have?",
        "What background color does the image have?",
        "Name the background color.",
    ),
    "color": (
        "What color {be} {thing}?",
        "Which color {be} {thing}?",
        "What is the color of {thing}?",
        "Tell me the color of {thing}.",
    ),
    "shape": (
        "What shape {be} {thing}?",
        "Which shape {be} {thing}?",
        "What is the shape of {thing}?",
        "Tell me the shape of {thing}.",
    ),
    "count": (
        "How many {things} are there?",
        "How many {things} are in the picture?",
        "How many {things} do you see?",
        "How many {things} does the image show?",
        "Count the {things}.",
    ),
    "relation": (
        "What is {direction} {thing}?",
        "What do you see {direction} {thing}?",
        "What can be seen {direction} {thing}?",
        "Which thing is {direction} {thing}?",
    ),
    "side": (
        "Where is {thing} relative to {other}?",
        "Where is {thing} compared to {other}?",
        "On which side of {other} is {thing}?",
    ),
    "where": (
        "Where is {thing}?",
        "Where in the picture is {thing}?",
        "Where do you see {thing}?",
        "What is the position of {thing}?",
    ),
    "what at": ("What is {place}?", "What do you see {place}?", "Which thing is {place}?"),
    "size": (
        "How large is {thing}?",
        "How big is {thing}?",
        "What size is {thing}?",
        "What is the size of {thing}?",
    ),
    "is there": (
        "Is there {noun}?",
        "Is there {noun} in the picture?",
        "Do you see {noun}?",
        "Can you see {noun} in the image?",
        "Does the image show {noun}?",
    ),
    "is related": ("Is {thing} {direction} {other}?",),
    "is colored": ("{Be} {thing} {color}?",),
    "combined": (
        "How many {things} are there, and what color?",
        "How many {things} are there and what color are they?",
        "What number of {things} do you see, and in what color?",
    ),
    "both colors": (
        "What color {be} {thing} and what color is the background?",
        "Name the color of {thing} and of the background.",
    ),
}


def word(wording: str, slots: dict[str, str], rng: random.Random, plain: bool) -> str:
    ways = WORDINGS[wording]
    if plain:
        return ways[0].format(**slots)
    if "direction" in slots:
        slots = {**slots, "direction": rng.choice(DIRECTIONS[slots["direction"]])}
    text = rng.choices(ways, [2, *[1] * (len(ways) - 1)])[0].format(**slots)
    text = text.replace("of they", "of them")
    if rng.random() < 0.3:
        text = text.replace("color", "colour")
    if rng.random() < 0.25:
        text = text.rstrip("?.")
    return text[0].lower() + text[1:] if rng.random() < 0.3 else text
