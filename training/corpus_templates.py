"""Sentences of our own making: what a voice agent says, with numbers, names, dates and letters."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Makers = Mapping[str, Callable[[random.Random], str]]

FIRST = (
    "Aaron Abigail Adam Aisha Alan Alice Amy Andrew Angela Anna Anthony Ben Brian Carla Carlos "
    "Charlotte Chen Chris Claire Daniel David Diana Edward Elena Emily Emma Eric Fatima Frank "
    "Gabriel George Grace Hannah Henry Ian Irene Isaac Jack James Jane Jason Jennifer Joan John "
    "Jonathan Joseph Julia Karen Kate Kevin Laura Leo Liam Linda Lisa Lucas Luke Maria Mark "
    "Martha Martin Mary Matthew Megan Michael Mohammed Monica Nancy Natalie Nathan Nicholas "
    "Nina Noah Olivia Omar Oscar Patricia Paul Peter Philip Priya Rachel Ralph Rebecca Richard "
    "Robert Rosa Ruth Ryan Sam Samuel Sandra Sarah Simon Sophia Stephen Susan Theo Thomas Tina "
    "Victor Victoria Walter Wei William Yuki Zoe"
).split()
LAST = (
    "Adams Allen Anderson Baker Bell Bennett Brooks Brown Campbell Carter Clark Collins Cooper "
    "Cox Davis Diaz Edwards Evans Fisher Foster Garcia Gomez Gray Green Hall Harris Hill Howard "
    "Hughes Jackson Jenkins Johnson Jones Kelly Khan Kim King Lee Lewis Long Lopez Martinez "
    "Miller Mitchell Moore Morgan Morris Murphy Nelson Nguyen Novak Parker Patel Perez Peterson "
    "Phillips Powell Price Reed Reyes Richardson Roberts Robinson Rodriguez Rogers Ross Russell "
    "Sanders Schmidt Scott Silva Simmons Smith Stewart Suzuki Taylor Thompson Torres Turner "
    "Walker Ward Watson White Williams Wilson Wood Wright Young"
).split()
CITIES = (
    "Amsterdam Athens Atlanta Austin Baltimore Barcelona Beijing Berlin Boston Brussels Cairo "
    "Chicago Cleveland Copenhagen Dallas Delhi Denver Detroit Dublin Edinburgh Florence Geneva "
    "Hamburg Helsinki Houston Istanbul Jakarta Kyoto Lisbon London Madrid Manchester Melbourne "
    "Memphis Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Oslo Ottawa Paris "
    "Philadelphia Phoenix Portland Prague Rome Sacramento Seattle Seoul Shanghai Singapore "
    "Stockholm Sydney Tokyo Toronto Vancouver Vienna Warsaw Zurich"
).split()
STREETS = (
    "Main Oak Maple Cedar Elm Washington Lake Hill Park Pine River Church Spring Mill Market "
    "Queen King Station Victoria Franklin Highland Sunset Jefferson Madison Broad Chestnut "
    "Willow"
).split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
THINGS = (
    "order package appointment meeting reservation ticket payment invoice account flight train "
    "delivery prescription subscription refund booking application report table room car "
    "battery thermostat alarm timer reminder message password document printer camera"
).split()
PLURALS = (
    "apples boxes tickets chairs people books cups hours minutes days miles pages letters "
    "students cars houses dollars samples tokens servers requests questions bottles cookies "
    "steps weeks"
).split()
UNITS = "km kg m cm mph GB MB lbs ft ml Hz GHz kWh mg miles °F °C ms seconds minutes %".split()
ACRONYMS = (
    "FBI CIA API CPU GPU USB URL IBM BBC CNN HTML PDF DVD ATM CEO CFO IRS MRI DNA VIP FAQ GPS "
    "LED SQL SSH TCP UDP UK USA EU UN IT HR PR AI ID TV PC NBA NFL HTTP XML CSV PHP DNS VPN SMS"
).split()
SHORT = (
    "yes; no; okay; sure; thanks; thank you; hello; hi there; goodbye; good morning; good "
    "night; of course; not yet; maybe; maybe later; I see; I agree; no problem; you're welcome; "
    "excuse me; I'm sorry; please wait; one moment; hold on; go ahead; come in; stop; help; "
    "never mind; that's right; that's wrong; well done; good luck; take care; see you soon; see "
    "you tomorrow; let's go; right away; not at all; absolutely; exactly; certainly; indeed; "
    "really; why not; what; who; where; when; how; how much; how many; how come; what now; "
    "who's there; are you sure; is that all; anything else; say that again; I don't know; I "
    "think so; I hope so; me too; same here; all right; ready; done; cancel; continue; repeat; "
    "next; back; louder; quieter; pause; resume; play; mute; wake up; be careful; watch out; "
    "hurry up; slow down; sit down; stand up; turn left; turn right; keep going; try again; "
    "call me; tell me more; leave a message; welcome back; happy birthday; congratulations; "
    "cheers; bless you; fine; great; perfect; wonderful; terrible; wow; oh no; oops; hmm; well; "
    "so what; never; always; sometimes; often; today; tomorrow; yesterday"
).split("; ")
ACTIONS = (
    "turn on the {room} lights; turn off the {room} light; set a timer for {n} minutes; play "
    "some {genre} music; remind me to call {first} at {time}; what's the weather like in "
    "{city}; open the {thing} settings; cancel my {thing}; call {first} {last}; send {first} a "
    "message; navigate to {n3} {street} Street; add {plural} to the shopping list; lower the "
    "volume to {n} percent; lock the {room} door; show me the {thing}; check my {thing}; read "
    "my last message; book a table for {n} at {time}; schedule a meeting with {first} on {day} "
    "at {time}; wake me up at {time}"
).split("; ")
SENTENCES = (
    "your {thing} will arrive on {day}, {month} {ordinal}.",
    "the total comes to {money}, including tax.",
    "your balance is {money}, and the payment is due on {month} {ordinal}.",
    "I've booked a table for {n} people at {time} on {day}.",
    "the train to {city} leaves at {time} from platform {n}.",
    "flight {n3} from {city} to {city2} has been delayed by {n} minutes.",
    "my name is {first} {last}, and I live at {house} {street} {road}.",
    "please call {first} {last} at {phone}.",
    "you can reach us at {phone} between {time} and {time2}.",
    "the code is {code}.",
    "your confirmation number is {code}.",
    "it's {time} in {city} and {time2} in {city2}.",
    "on {month} {ordinal}, {year}, {first} moved from {city} to {city2}.",
    "in {year}, the company had {n4} employees.",
    "between {year} and {year2}, prices rose by {n} percent.",
    "the temperature in {city} is {n} degrees, with a {n2} percent chance of rain.",
    "that's {quantity} away.",
    "we sold {n4} {plural} in {month}.",
    "she counted {n} {plural}, then {n2} more.",
    "did you say {n}, or {n2}?",
    "{first}, did you get the {thing} that {first2} sent on {day}?",
    "is the {thing} ready, or should I come back at {time}?",
    "can you spell that? it's {letters}.",
    "my last name is {last}, spelled {spelled}.",
    "the {acronym} and the {acronym2} signed an agreement in {year}.",
    "does it have a {acronym} port?",
    "the {acronym} said on {day} that {n3} {plural} were missing.",
    "Dr. {last} will see you at {time}.",
    "Mr. {last} and Mrs. {last2} arrived from {city} on {day}.",
    "Prof. {last} teaches in room {n3} on {day}s.",
    "{first} {last} was born on {month} {ordinal}, {year}.",
    "the meeting with {first} has been moved to {day} at {time}.",
    "it costs {money}.",
    "{money}.",
    "{money}, please.",
    "{n4}.",
    "{quantity}.",
    "{time}.",
    "{month} {ordinal}.",
    "{day}, {month} {ordinal}, {year}.",
    "{phone}.",
    "{first} {last}.",
    "{city}.",
    "{city}, {month} {year}.",
    "{letters}.",
    "{acronym}.",
    "{frac} of the {plural} are gone.",
    "add {frac} of a cup, then wait {n} minutes.",
    "the score was {n} to {n2}.",
    "version {n}.{n2} needs {quantity} of memory.",
    "pi is about {decimal}, give or take {decimal2}.",
    "the answer is {decimal}.",
    "{n} plus {n2} makes {n3}.",
    "{n3} minus {n} is not {n2}.",
    "it is {nth} in line, right behind the {nth2}.",
    "the {nth} {thing} was better than the {nth2}.",
    "send it to {email}.",
    "visit {site} for details.",
    "I'm sorry, {first}, I can't find that {thing}.",
    "sure, I'll set a reminder for {time}.",
    "okay, your {thing} is confirmed for {day} at {time}.",
    "thank you for calling {last} and {last2}, how can I help you today?",
    "just a moment, {first}, I'm looking up your {thing}.",
    "would you like to pay {money} now, or {money2} later?",
    "your {thing} number is {code}, is that correct?",
    "are you {first} {last}, or {first2} {last2}?",
    "where is the {thing}, and who has the {thing2}?",
    "why is my {thing} late again?",
    "how long does it take from {city} to {city2}?",
    "what time does the {thing} from {city} arrive?",
    "which of the {n} {plural} would you like?",
    "who was it that called at {time}, {first} or {first2}?",
    "{city} is {quantity} north of {city2}.",
    "{first} weighs {quantity}, and {first2} ran {quantity2}.",
)

# For names of people and places from a word list: any name may stand in any of them.
NAME_SENTENCES = (
    "{name} and {name2} moved from {name3} to {name4}.",
    "have you met {name}, the new gardener from {name2}?",
    "please forward this to {name} {name2} in accounting.",
    "Professor {name} sailed around {name2} in a small boat.",
    "Dr. {name} will join us from {name2} on {day}.",
    "Mr. {name}, your room is on the third floor.",
    "Mrs. {name} teaches history in {name2}.",
    "Captain {name} and Sergeant {name2} left for {name3} at dawn.",
    "we flew from {name} to {name2} by way of {name3}.",
    "{name} plays chess with {name2} every {day}.",
    "my uncle {name} owns a bookshop in {name2}.",
    "the winner is {name} {name2} of {name3}.",
    "tell {name} that {name2} is waiting in the lobby.",
    "did {name} or {name2} answer the phone?",
    "I am calling for {name} {name2}, is she in?",
    "the {name}s bought a cottage near {name2}.",
    "{name} wrote her first book about {name2}.",
    "send the flowers to {name} {name2}, please.",
    "between {name} and {name2}, {name3} fell asleep.",
    "{name}'s dog is called {name2}.",
    "Mount {name} looked blue in the morning light.",
    "the river {name} was frozen when {name2} crossed it.",
    "{name}, this is my cousin {name2} from {name3}.",
    "{name} {name2} keeps the keys, not {name3}.",
    "Lieutenant {name} asked {name2} about the missing map.",
    "{name} and {name2} opened a small theater in {name3}.",
    "is {name} closer to {name2} or to {name3}?",
    "the bridge in {name} was painted by {name2}.",
    "good morning {name}, {name2} speaking.",
    "nobody in {name} remembers {name2} {name3}.",
    "{name}!",
    "{name} {name2}.",
    "{name}, {name2} and {name3}.",
    "who is {name} {name2}?",
)


def named(names: list[str], rng: random.Random, count: int) -> list[str]:
    """Make ``count`` sentences that go through all the names evenly."""
    deck: list[str] = []

    def draw(rng: random.Random) -> str:
        if not deck:
            deck.extend(rng.sample(names, len(names)))
        return deck.pop()

    makers = {**_MAKERS, "name": draw}
    patterns = (NAME_SENTENCES[i % len(NAME_SENTENCES)] for i in range(count))
    return [_fill(pattern, rng, i, makers) for i, pattern in enumerate(patterns)]


def templates(rng: random.Random, count: int) -> list[str]:
    """Make ``count`` sentences, some of them twice."""
    patterns = [*SENTENCES, *ACTIONS]
    return [_fill(patterns[i % len(patterns)], rng, i) for i in range(count)]


def short_answers() -> list[str]:
    """Give the short answers, plain, asked and exclaimed."""
    return [f"{text}{mark}" for text in SHORT for mark in ".?!"]


def _fill(pattern: str, rng: random.Random, index: int, makers: Makers | None = None) -> str:
    makers = makers or _MAKERS
    text = pattern
    while "{" in text:
        start = text.index("{")
        end = text.index("}", start)
        name = text[start + 1 : end].rstrip("0123456789")
        maker = makers.get(text[start + 1 : end]) or makers[name]
        text = text[:start] + maker(rng) + text[end + 1 :]
    if pattern in ACTIONS:
        please = ("", "please ", "could you ", "can you ", "I want to ")[index % 5]
        text = f"{please}{text}{'?' if please.endswith('you ') else '.'}"
    return text[0].upper() + text[1:]


def _money(rng: random.Random) -> str:
    sign = rng.choice("$$$$\u00a3\u20ac")
    whole = rng.choice((rng.randint(0, 99), rng.randint(1, 999), rng.randint(1000, 99999)))
    if rng.random() < 0.1:
        return (
            f"{sign}{rng.randint(1, 99)}.{rng.randint(1, 9)} {rng.choice(('million', 'billion'))}"
        )
    return f"{sign}{whole:,}" if rng.random() < 0.4 else f"{sign}{whole:,}.{rng.randint(1, 99):02d}"


def _time(rng: random.Random) -> str:
    minute = rng.choice(("00", "05", "15", "30", "45", f"{rng.randint(0, 59):02d}"))
    tail = rng.choice((" am", " pm", " a.m.", " p.m.", ""))
    return f"{rng.randint(1, 12)}:{minute}{tail}"


def _code(rng: random.Random) -> str:
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
    if rng.random() < 0.4:
        return " ".join(rng.choice("abcdefghjklmnpqrstuvwxyz") for _ in range(2)) + " " + digits
    return " ".join(digits)


def _letters(rng: random.Random) -> str:
    return " ".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))


def _email(rng: random.Random) -> str:
    company = rng.choice(LAST).lower()
    return f"{rng.choice(FIRST).lower()}.{rng.choice(LAST).lower()}@{company}.{_tld(rng)}"


def _tld(rng: random.Random) -> str:
    return rng.choice(("com", "org", "net", "edu"))


def _pick(choices: list[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(choices)


def _range(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.randint(low, high))


_MAKERS: Makers = {
    "first": _pick(FIRST),
    "last": _pick(LAST),
    "city": _pick(CITIES),
    "street": _pick(STREETS),
    "road": _pick(["Street", "Avenue", "Road", "Lane", "Drive"]),
    "month": _pick(MONTHS),
    "day": _pick(DAYS),
    "thing": _pick(THINGS),
    "plural": _pick(PLURALS),
    "acronym": _pick(ACRONYMS),
    "room": _pick("kitchen bedroom hallway garage bathroom garden front back office".split()),
    "genre": _pick("jazz classical rock folk quiet dance piano summer party".split()),
    "n": lambda rng: str(rng.choice((rng.randint(2, 20), rng.randint(2, 99)))),
    "n3": _range(100, 999),
    "n4": lambda rng: f"{rng.choice((rng.randint(100, 9999), rng.randint(1000, 9999999))):,}",
    "year": lambda rng: str(rng.choice((rng.randint(1700, 1999), rng.randint(1950, 2039)))),
    "house": _range(1, 2500),
    "ordinal": lambda rng: str(rng.randint(1, 31)),
    "nth": lambda rng: f"{rng.choice((rng.randint(1, 20), rng.randint(20, 120)))}th".replace(
        "1th", "1st"
    ),
    "quantity": lambda rng: f"{_MAKERS['decimal'](rng)} {rng.choice(UNITS)}",
    "decimal": lambda rng: rng.choice(
        (str(rng.randint(2, 500)), f"{rng.randint(0, 99)}.{rng.randint(1, 99)}")
    ),
    "frac": lambda rng: rng.choice("1/2 1/3 2/3 1/4 3/4 1/5 2/5 1/8 3/8 5/8 7/8 1/10".split()),
    "money": _money,
    "time": _time,
    "code": _code,
    "letters": _letters,
    "spelled": lambda rng: " ".join(rng.choice(LAST).lower()),
    "phone": lambda rng: (
        f"{rng.randint(201, 989)}-{rng.randint(200, 999)}-{rng.randint(0, 9999):04d}"
    ),
    "email": _email,
    "site": lambda rng: f"www.{rng.choice(LAST).lower()}.{_tld(rng)}",
}
