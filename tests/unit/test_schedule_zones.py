#!/usr/bin/env python3
"""tests/unit/test_schedule_zones.py -- when cron expressions are due in the zones of the world, minute by minute.

    test_schedule_zones.py schedule_due

What is due is found here by looking at every minute around the days on which clocks are set, with Python's own reader of the tz database and a rule
that is said in three lines; the program finds it by calculation, from both ends. $WHILST_TEST_SEED chooses expressions.
"""
import datetime
import os
import random
import subprocess
import sys
import zoneinfo

PROGRAM = sys.argv[1]
SEED = int(os.environ.get("WHILST_TEST_SEED", "1"))
UTC = datetime.timezone.utc
# of an hour, of half an hour, in the south, west of UTC, at midnight, once for all, never, ending at 24:00 or the day before, a day left out
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "America/Santiago", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Dublin",
         "America/Sao_Paulo", "Africa/Casablanca", "America/Nuuk", "Asia/Gaza", "Pacific/Apia", "Antarctica/Troll", "Asia/Beirut"]
YEARS = [(2023, 2028), (2036, 2039), (2049, 2050)]
SKIPPED = {"Pacific/Apia": [datetime.datetime(2011, 12, 30, 10, tzinfo=UTC)], "America/Sao_Paulo": [datetime.datetime(2018, 11, 4, 3, tzinfo=UTC)]}
EXPRESSIONS = ["0 * * * *", "*/15 * * * *", "30 2 * * *", "0 2 * * *", "0 3 * * *", "0 1,2,3 * * *", "*/5 2 * * *", "59 1 * * *", "0 0 * * *", "15 0 * * *",
               "0 */2 * * *", "0 0 30 * *", "45 1 * * sun", "30 2 * * sat", "0 0 1,15 * mon", "1-59/7 0-22 * * *", "0 0-23 * * *", "30 23 * * *"]


def field(text, low, high):
    values = set()
    for item in text.split(","):
        item, _, step = item.partition("/")
        first, last = (low, high) if item == "*" else (item.split("-") * 2)[:2]
        values |= set(range(int(first), int(last) + 1, int(step or 1)))
    return values


class Cron:
    def __init__(self, text):
        for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat")):
            text = text.replace(name, str(number))
        fields = text.split()
        self.minutes, self.hours, self.days, self.months = (field(f, *r) for f, r in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12))))
        self.weekdays = {d % 7 for d in field(fields[4], 0, 7)}
        self.either = not fields[2].startswith("*") and not fields[4].startswith("*")
        self.every_hour = len(self.hours) == 24

    def means(self, local):
        if local.minute not in self.minutes or local.hour not in self.hours or local.month not in self.months:
            return False
        day, weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return (day or weekday) if self.either else (day and weekday)


def minutes(zone, begin, end):
    """Every minute of a stretch: (instant, local time, shown before?, local times that the clock jumps over to come here)."""
    at, before = begin, (begin - datetime.timedelta(minutes=1)).astimezone(zone)
    while at < end:
        local = at.astimezone(zone)
        gap, shown = [], before.replace(tzinfo=None) + datetime.timedelta(minutes=1)
        while shown < local.replace(tzinfo=None):
            gap.append(shown)
            shown += datetime.timedelta(minutes=1)
        yield int(at.timestamp()), local, local.fold == 1, gap
        before = local
        at += datetime.timedelta(minutes=1)


def due(cron, stretch):
    for at, local, again, gap in stretch:
        # what the clock shows counts, the first time; what it jumps over counts at the jump; for every hour, only what it shows
        if cron.means(local) and (cron.every_hour or not again) or not cron.every_hour and any(cron.means(t) for t in gap):
            yield at


def changes(zone, first, last):
    """The hours in which the offset is another than an hour before."""
    at, end = datetime.datetime(first, 1, 1, tzinfo=UTC), datetime.datetime(last, 1, 1, tzinfo=UTC)
    offset = at.astimezone(zone).utcoffset()
    while at < end:
        at += datetime.timedelta(hours=1)
        now = at.astimezone(zone).utcoffset()
        if now != offset:
            yield at
        offset = now


def random_expression(chance):
    def one(low, high):
        a, b = sorted((chance.randint(low, high), chance.randint(low, high)))
        return chance.choice(["*", str(a), f"{a}-{b}", f"{a},{b}", f"*/{chance.randint(2, high)}", f"{a}-{b}/{chance.randint(1, min(high, 9))}"])
    return f"{one(0, 59)} {chance.choice([one(0, 23), one(0, 3), '*'])} {chance.choice(['*', '*', one(1, 28)])} {chance.choice(['*', '*', one(1, 12)])} {chance.choice(['*', '*', one(0, 7)])}"


def main():
    chance, problems, compared = random.Random(SEED), 0, 0
    for name in ZONES:
        path = os.path.join("/usr/share/zoneinfo", name)
        with open(path, "rb") as f:
            zone = zoneinfo.ZoneInfo.from_file(f, key=name)
        moments = [at for years in YEARS for at in changes(zone, *years)] + SKIPPED.get(name, [])
        moments = chance.sample(moments, min(len(moments), 5)) + [datetime.datetime(2024, 2, 29, tzinfo=UTC)] + SKIPPED.get(name, [])
        expressions = EXPRESSIONS + [random_expression(chance) for _ in range(8)]
        asked, wanted = [], []
        for moment in moments:
            begin, end = moment - datetime.timedelta(hours=26), moment + datetime.timedelta(hours=30)
            stretch = list(minutes(zone, begin, end))
            for text in expressions:
                asked.append(f"{stretch[0][0] - 1} {stretch[-1][0]} {text}\n")
                wanted.append(list(due(Cron(text), stretch)))
        answer = subprocess.run([PROGRAM, path], input="".join(asked), capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            print(f"{name}: {answer.stderr}")
            return 1
        lines = answer.stdout.splitlines()
        assert len(lines) == len(asked), (len(lines), len(asked))
        for question, line, want in zip(asked, lines, wanted):
            got = [int(word) for word in line.split()]
            compared += len(want)
            if got != want:
                problems += 1
                show = lambda ts: [datetime.datetime.fromtimestamp(t, zone).isoformat() for t in sorted(ts)]
                print(f"{name}, {question.strip()}: missing {show(set(want) - set(got))[:6]}, too many {show(set(got) - set(want))[:6]}")
    print(f"{compared} due times, {problems} questions answered wrongly")
    assert compared > 10000
    return 1 if problems else 0


sys.exit(main())
