#!/usr/bin/env python3
"""tests/integration/test_beanstalk.py -- every command, answer, refusal and subtle behaviour of the beanstalkd protocol.

Each scenario is written from docs/reference/beanstalk.md and runs against the real beanstalkd and against whilst; what both
said is compared. Where they may differ the scenario says so by a name of the table in docs/migrate-from-beanstalkd.md.
"""
import concurrent.futures
import sys
import unittest

import beanstalkd
import harness
from beanstalkd import wait_a_little

SCENARIOS = []
OK = ["WATCHING 1"]


def scenario(**options):
    def add(function):
        SCENARIOS.append((function, options))
        return function
    return add


# ---- put ---------------------------------------------------------------------------------------

@scenario()
def put_reserve_delete(w):
    c = w.connection()
    c.ask("put 0 0 60 5\r\nhello\r\n", "INSERTED A")
    c.ask("reserve\r\n", ("RESERVED A 5", b"hello"))
    c.ask("delete {A}\r\n", "DELETED")
    c.ask("delete {A}\r\n", "NOT_FOUND")
    c.ask("put 0 0 60 0\r\n\r\n", "INSERTED B")
    c.ask("reserve\r\n", ("RESERVED B 0", b""))


@scenario()
def put_of_any_bytes(w):
    c = w.connection()
    body = bytes(range(256)) + b"\r\nput 0 0 1 1\r\n\0"
    c.ask(b"put 0 0 60 %d\r\n%s\r\n" % (len(body), body), "INSERTED A")
    c.ask("reserve\r\n", (f"RESERVED A {len(body)}", body))


@scenario()
def put_of_the_greatest_numbers(w):
    c = w.connection()
    c.ask("put 4294967295 0 4294967295 1\r\nx\r\n", "INSERTED A")
    c.statistics("stats-job {A}\r\n", pri=4294967295, delay=0, ttr=4294967295, state="ready")
    c.ask("put 4294967295 4294967295 21600 1\r\nx\r\n", "INSERTED B")
    c.statistics("stats-job {B}\r\n", pri=4294967295, delay=4294967295, ttr=21600, state="delayed")


@scenario()
def put_with_numbers_that_are_none(w):
    c = w.connection()
    for line in ("put 4294967296 0 1 1", "put -1 0 1 1", "put x 0 1 1", "put 0 -1 1 1", "put 0 4294967296 1 1",
                 "put 0 0 -1 1", "put 0 0 4294967296 1", "put 0 0 1 4294967296", "put 0 0 1 -1", "put 0 0 1 x",
                 "put 0 0 1", "put 0 0", "put ", "put 1x 0 1 1", "put 0 0 1 10b", "put 0 0 1 1 "):
        c.ask(line + "\r\n", "BAD_FORMAT")
    c.ask("put\r\n", "UNKNOWN_COMMAND")
    c.ask("put  0  0  1  1\r\nx\r\n", "INSERTED A")


@scenario()
def put_with_garbage_behind_the_size_sends_its_body_as_commands(w):
    w.connection().ask("put 0 0 1 4b\r\nstat\r\n", "BAD_FORMAT", "UNKNOWN_COMMAND")


@scenario()
def put_of_ttr_0_gets_1(w):
    c = w.connection()
    c.ask("put 0 0 0 1\r\nx\r\n", "INSERTED A")
    c.statistics("stats-job {A}\r\n", ttr=1)


@scenario()
def put_with_a_bad_trailer(w):
    c = w.connection()
    c.ask("put 0 0 10 1\r\nx\r\n", "INSERTED A")
    c.ask("put 0 0 10 1\r\nabc\r\n", "EXPECTED_CRLF", "UNKNOWN_COMMAND")
    c.ask("put 0 0 10 3\r\nabcd\r\n", "EXPECTED_CRLF")
    c.ask("\r\n", "UNKNOWN_COMMAND")
    c.ask("list-tube-used\r\n", "USING default")
    first = int(w.names["A"])
    c.send("put 0 0 10 1\r\nx\r\n")
    c.differ("ids", [f"INSERTED {chr(ord('B'))}"], ["INSERTED B"])
    gap = int(w.names["B"]) - first
    assert gap == (3 if w.kind == "beanstalkd" else 1), gap


@scenario(max_job_size=10)
def put_that_is_too_big(w):
    c = w.connection()
    c.ask("put 0 0 60 11\r\n01234567890\r\n", "JOB_TOO_BIG")
    c.ask("put 0 0 60 11 garbage\r\n01234567890\r\n", "JOB_TOO_BIG")
    c.ask("put 0 0 60 10\r\n0123456789\r\n", "INSERTED A")
    c.send("put 0 0 60 1000000\r\n")
    for _ in range(100):
        c.send(b"0123456789" * 1000)
    c.ask("\r\nput 0 0 60 1\r\nx\r\n", "JOB_TOO_BIG", "INSERTED B")
    c.statistics("stats\r\n", max_job_size=10)


@scenario()
def put_of_the_default_limit(w):
    c = w.connection()
    body = b"0" * 65535
    c.ask(b"put 0 0 60 65535\r\n" + body + b"\r\n", "INSERTED A")
    c.ask(b"put 0 0 60 65536\r\n" + body + b"0\r\n", "JOB_TOO_BIG")
    c.ask("reserve\r\n", ("RESERVED A 65535", body))


@scenario(max_job_size=4 << 20)
def bodies_of_megabytes(w):
    c = w.connection()
    for size in (65536, 1 << 20, (1 << 20) + 1, 3 << 20, 4 << 20):
        body = (b"%d " % size) * (size // 4)
        body = body[:size]
        c.send(b"put 0 0 60 %d\r\n" % size)
        for at in range(0, size, 300000):
            c.send(body[at:at + 300000])
        c.ask("\r\n", "INSERTED " + chr(ord("A") + len(w.ids)))
        c.send("reserve\r\n")
        got = c.answer()
        assert got[1] == body and got[0].startswith("RESERVED "), got[0]
        c.ask("delete {%s}\r\n" % got[0].split()[1], "DELETED")


@scenario()
def put_in_drain_mode(w):
    c = w.connection()
    c.ask("put 0 0 60 1\r\nx\r\n", "INSERTED A")
    w.refuse_puts()

    def draining():
        values = beanstalkd.parse_yaml(c.send("stats\r\n").answer()[1])
        return values["draining"] == "true"
    harness.eventually(draining, "drain mode")
    c.ask("put 0 0 60 1\r\nx\r\nput 0 0 60 1\r\nxyz\r\n", "DRAINING", "EXPECTED_CRLF", "UNKNOWN_COMMAND")
    c.ask("reserve\r\n", ("RESERVED A 1", b"x"))
    c.ask("release {A} 0 0\r\n", "RELEASED")
    c.ask("delete {A}\r\n", "DELETED")


# ---- lines -------------------------------------------------------------------------------------

@scenario()
def lines_that_are_no_commands(w):
    c = w.connection()
    for line in ("", "foo", "PUT 0 0 1 1", "Stats", "use", "peek", "kick", "watch", "ignore", "delete", "release", "bury",
                 "touch", " stats", "kick-job", "stats\0".replace("\0", "")[:4]):
        c.ask(line + "\r\n", "UNKNOWN_COMMAND")
    for line in ("reserve-with-timeout", "reservex", "statsx", "stats ", "peek-readyx", "peek-delayed ", "peek-buriedx",
                 "list-tubesx", "list-tubes-watchedx", "list-tube-usedx", "reserve ", "use a b", "use ", "use -a", "use a\tb",
                 "watch ", "watch a b", "ignore ", "pause-tube", "pause-tube default", "pause-tube default x",
                 "pause-tube default -1", "pause-tube default 4294967296", "kick x", "kick ", "stats-job x", "stats-job 1 2",
                 "stats-job ", "stats-tube ", "stats-tube a b", "stats-tube -a"):
        c.ask(line + "\r\n", "BAD_FORMAT")
    c.send("reserve-with-timeout x\r\n").differ("reserve-timeout", ["TIMED_OUT"], ["BAD_FORMAT"])
    for number in ("-1", "2147483648"):
        d = w.connection("d").send(f"reserve-with-timeout {number}\r\n")
        if w.kind == "beanstalkd":
            d.silent(0.2, noted=False)
        d.differ("reserve-timeout", [], ["BAD_FORMAT"])
    c.ask("stats\0\r\n", "BAD_FORMAT")
    c.ask("fo\0o\r\n", "BAD_FORMAT")
    c.ask("put 0 0 1 1\0\r\n", "BAD_FORMAT")


@scenario()
def numbers_of_jobs_that_are_none(w):
    c = w.connection()
    for command in ("peek", "delete", "touch", "kick-job", "reserve-job"):
        for number in ("x", "-1", "1x", "18446744073709551616", "", "1 1"):
            c.ask(f"{command} {number}\r\n", "BAD_FORMAT")
        for number in ("0", "18446744073709551615", " 1", "9007199254740992"):
            c.ask(f"{command} {number}\r\n", "NOT_FOUND")
    for line in ("release x 0 0", "release 1 x 0", "release 1 0 x", "release 1 0", "release 1", "release 1 0 0 0",
                 "release 1 -1 0", "release 1 0 -1", "release 1 4294967296 0", "bury x 0", "bury 1", "bury 1 x", "bury 1 0 0",
                 "bury 1 -1"):
        c.ask(line + "\r\n", "BAD_FORMAT")
    c.ask("release 1 0 0\r\n", "NOT_FOUND")
    c.ask("bury 1 0\r\n", "NOT_FOUND")
    c.ask("stats-job 1\r\n", "NOT_FOUND")


@scenario()
def what_is_accepted_although_it_is_loose(w):
    c = w.connection()
    c.ask("kick 1abc\r\n", "KICKED 0")
    c.ask("kick -1\r\n", "KICKED 0")
    c.ask("reserve-with-timeout 0abc\r\n", "TIMED_OUT")
    c.ask("pause-tubedefault 0\r\n", "PAUSED")
    c.ask("pause-tube   default   0\r\n", "PAUSED")
    c.ask("put 0 0 1 1\r\nx\r\n", "INSERTED A")
    c.ask("peek  {A}\r\n", ("FOUND A 1", b"x"))


@scenario()
def lines_of_every_length(w):
    c = w.connection()
    c.ask("pause-tube " + "a" * 200 + " 4294967295\r\n", "NOT_FOUND")
    for length in (222, 223, 224):
        c.ask("x" * (length - 2) + "\r\n", "UNKNOWN_COMMAND")
    for length in (226, 227, 300, 448, 450, 500, 5000):
        c.ask("x" * (length - 2) + "\r\n", "BAD_FORMAT")
        c.ask("list-tube-used\r\n", "USING default")
    c.ask("use " + "b" * 200 + "\r\n", "USING " + "b" * 200)
    c.ask("use " + "b" * 201 + "\r\n", "BAD_FORMAT")


@scenario()
def a_line_of_225_bytes(w):
    c = w.connection()
    c.send("x" * 223 + "\r\n" + "list-tube-used\r\n" + "list-tube-used\r\n")
    c.differ("line-225", ["BAD_FORMAT", "USING default"], ["BAD_FORMAT", "USING default", "USING default"])


@scenario()
def a_page_that_sends_commands(w):
    put = "put 0 0 60 1\r\nx\r\n"
    head = f"Host: 127.0.0.1:11300\r\nContent-Type: text/plain\r\nContent-Length: {len(put)}\r\n\r\n"
    for job, first in zip("ABCD", ("POST / HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "POST /" + "a" * 300 + " HTTP/1.1\r\n", "")):
        c = w.connection()
        c.send(first + head + put)
        known = ["BAD_FORMAT" if len(first) > 224 else "UNKNOWN_COMMAND"] if first else []
        c.differ("http", known + ["UNKNOWN_COMMAND"] * 4 + [f"INSERTED {job}"], (known if len(first) > 224 else []) + [None])
    w.connection().ask("host\r\nHTTP/1.1\r\nx HTTP/1\r\n", "UNKNOWN_COMMAND", "UNKNOWN_COMMAND", "UNKNOWN_COMMAND")


@scenario()
def a_cr_within_a_line(w):
    c = w.connection()
    c.send("foo\rbar\r\n")
    if w.kind == "beanstalkd":
        c.silent(0.3, noted=False)
    c.differ("bare-cr", [], ["BAD_FORMAT"])


@scenario()
def names_of_tubes(w):
    c = w.connection()
    for name in ("a", "A9", "a-b", "+", "/", ";", ".", "$", "_", "(", ")", "a" * 200, "_x", "0"):
        c.ask(f"use {name}\r\n", f"USING {name}")
        c.ask("list-tube-used\r\n", f"USING {name}")
    for name in ("-", "-a", "a*b", "a,b", "é", "a\\b", "a:b", "a=b", "a@b", "a'b"):
        c.send(f"use {name}\r\n".encode()).expect("BAD_FORMAT")
    c.ask("use DEFAULT\r\n", "USING DEFAULT")


@scenario()
def pipelined_and_in_pieces(w):
    c = w.connection()
    c.ask("list-tube-used\r\nuse a\r\nlist-tube-used\r\nfoo\r\nuse b\r\n", "USING default", "USING a", "USING a",
          "UNKNOWN_COMMAND", "USING b")
    whole = b"put 3 0 60 7\r\n12\r\n345\r\nlist-tube-used\r\nwatch b\r\nignore default\r\nreserve\r\n"
    for at in range(len(whole)):
        c.send(whole[at:at + 1])
        if at % 7 == 0:
            wait_a_little(0.001)
    c.expect("INSERTED A", "USING b", "WATCHING 2", "WATCHING 1", ("RESERVED A 7", b"12\r\n345"))
    c.ask("delete {A}\r\n", "DELETED")
    c.ask("".join(f"put {i % 3} 0 60 1\r\n{i % 10}\r\n" for i in range(20)),
          *[f"INSERTED {chr(ord('B') + i)}" for i in range(20)])
    order = [i for pri in range(3) for i in range(20) if i % 3 == pri]
    c.ask("reserve\r\n" * 10 + "reserve-with-timeout 1\r\n" * 10,
          *[(f"RESERVED {chr(ord('B') + i)} 1", str(i % 10).encode()) for i in order])
    c.ask("delete {B}\r\ndelete {C}\r\ndelete {B}\r\ndelete {D}\r\nrelease {D} 0 0\r\nrelease {E} 7 0\r\nreserve\r\n",
          "DELETED", "DELETED", "NOT_FOUND", "DELETED", "NOT_FOUND", "RELEASED", ("RESERVED E 1", b"3"))


@scenario()
def quit(w):
    c = w.connection()
    c.ask("list-tube-used\r\nquit\r\nlist-tube-used\r\n", "USING default", None)
    w.connection("d").ask("quitx\r\n", None)


@scenario(unix=True)
def over_a_unix_socket(w):
    c = w.connection()
    c.ask("put 0 0 60 1\r\na\r\n", "INSERTED A")
    c.ask("peek {A}\r\n", ("FOUND A 1", b"a"))
    w.connection("d").ask("peek {A}\r\n", ("FOUND A 1", b"a"))


# ---- order and reserving -----------------------------------------------------------------------

@scenario()
def lowest_priority_then_lowest_id(w):
    c = w.connection()
    c.ask("put 5 0 60 1\r\na\r\nput 1 0 60 1\r\nb\r\nput 5 0 60 1\r\nc\r\nput 1 0 60 1\r\nd\r\nput 0 0 60 1\r\ne\r\n",
          "INSERTED A", "INSERTED B", "INSERTED C", "INSERTED D", "INSERTED E")
    for job, body in zip("EBDAC", b"ebdac"):
        c.ask("reserve\r\n", (f"RESERVED {job} 1", bytes([body])))
    # what comes back takes its place by its id, not behind the others
    c.ask("release {C} 9 0\r\n", "RELEASED").ask("release {A} 9 0\r\n", "RELEASED").ask("release {B} 9 0\r\n", "RELEASED")
    for job in "ABC":
        c.ask("reserve\r\n", (f"RESERVED {job} 1", job.lower().encode()))


@scenario()
def several_tubes(w):
    c = w.connection()
    c.ask("use a\r\nput 9999 0 60 1\r\na\r\nuse b\r\nput 2 0 60 1\r\nb\r\nuse c\r\nput 2 0 60 1\r\nc\r\n", "USING a",
          "INSERTED A", "USING b", "INSERTED B", "USING c", "INSERTED C")
    c.ask("watch a\r\nwatch b\r\nwatch c\r\nwatch a\r\n", "WATCHING 2", "WATCHING 3", "WATCHING 4", "WATCHING 4")
    for job in "BCA":
        c.ask("reserve\r\n", (f"RESERVED {job} 1", job.lower().encode()))
    c.ask("reserve-with-timeout 0\r\n", "TIMED_OUT")


@scenario()
def watching_and_ignoring(w):
    c = w.connection()
    c.ask("ignore default\r\n", "NOT_IGNORED")
    c.ask("ignore nowhere\r\n", "WATCHING 1")
    c.ask("watch a\r\n", "WATCHING 2").ask("ignore default\r\n", "WATCHING 1").ask("ignore a\r\n", "NOT_IGNORED")
    c.ask("list-tubes-watched\r\n", ("OK 8", b"---\n- a\n"))
    c.ask("list-tubes\r\n", ("OK 18", b"---\n- default\n- a\n"))
    c.ask("watch default\r\n", "WATCHING 2")
    c.ask("list-tubes-watched\r\n", ("OK 18", b"---\n- a\n- default\n"))
    c.ask("put 0 0 60 1\r\nx\r\n", "INSERTED A")
    c.ask("ignore default\r\n", "WATCHING 1").ask("reserve-with-timeout 0\r\n", "TIMED_OUT")


@scenario()
def a_tube_comes_and_goes(w):
    c, d = w.connection(), w.connection("d")
    c.ask("stats-tube t\r\n", "NOT_FOUND").ask("pause-tube t 0\r\n", "NOT_FOUND")
    d.ask("use t\r\n", "USING t")
    c.ask("list-tubes\r\n", ("OK 18", b"---\n- default\n- t\n"))
    c.statistics("stats-tube t\r\n", current_using=1, current_watching=0, current_jobs_ready=0)
    d.ask("put 0 0 60 1\r\nx\r\n", "INSERTED A").ask("use default\r\n", "USING default")
    c.statistics("stats-tube t\r\n", current_using=0, current_jobs_ready=1)
    c.ask("list-tubes\r\n", ("OK 18", b"---\n- default\n- t\n"))
    c.ask("delete {A}\r\n", "DELETED").ask("stats-tube t\r\n", "NOT_FOUND")
    c.ask("list-tubes\r\n", ("OK 14", b"---\n- default\n"))
    c.statistics("stats-tube default\r\n", current_watching=2, current_using=2)


@scenario()
def waiting_with_a_time_limit(w):
    c, d = w.connection(), w.connection("d")
    c.ask("reserve-with-timeout 0\r\n", "TIMED_OUT")
    c.send("reserve-with-timeout 1\r\n").silent(0.7)
    c.expect("TIMED_OUT")
    c.send("reserve-with-timeout 5\r\n")
    d.ask("put 0 0 60 1\r\nx\r\n", "INSERTED A")
    c.expect(("RESERVED A 1", b"x"))
    # another one that watches the same tube makes nobody wait longer
    d.send("reserve-with-timeout 3\r\n")
    c.ask("watch t\r\nreserve-with-timeout 1\r\n", "WATCHING 2", "TIMED_OUT")


@scenario()
def who_waits_longest_is_served_first(w):
    waiters = [w.connection(f"w{i}") for i in range(5)]
    for c in waiters:
        c.ask("list-tube-used\r\n", "USING default").send("reserve\r\n")
        seen = 0
    d = w.connection("d")

    def all_wait():
        return beanstalkd.parse_yaml(d.send("stats\r\n").answer()[1])["current-waiting"] == "5"
    harness.eventually(all_wait, "five that wait")
    for i, c in enumerate(waiters):
        job = chr(ord("A") + i)
        d.ask("put 0 0 60 1\r\nx\r\n", f"INSERTED {job}")
        c.expect((f"RESERVED {job} 1", b"x"))


@scenario()
def deadline_soon(w):
    c, d = w.connection(), w.connection("d")
    c.ask("put 0 0 1 1\r\nx\r\nreserve\r\n", "INSERTED A", ("RESERVED A 1", b"x"))
    c.ask("reserve\r\n", "DEADLINE_SOON")
    c.ask("reserve-with-timeout 0\r\n", "DEADLINE_SOON").ask("reserve-with-timeout 9\r\n", "DEADLINE_SOON")
    c.ask("reserve-job 9999\r\n", "NOT_FOUND")
    c.statistics("stats-job {A}\r\n", state="reserved")
    d.ask("put 0 0 60 1\r\ny\r\n", "INSERTED B")
    c.ask("reserve\r\n", ("RESERVED B 1", b"y"))
    c.ask("delete {A}\r\n", "DELETED")


@scenario()
def deadline_soon_while_waiting(w):
    c = w.connection()
    c.ask("put 0 0 2 1\r\nx\r\nreserve\r\n", "INSERTED A", ("RESERVED A 1", b"x"))
    c.send("reserve\r\n").silent(0.6)
    c.expect("DEADLINE_SOON")
    c.ask("touch {A}\r\n", "TOUCHED")
    c.send("reserve-with-timeout 10\r\n").silent(0.6)
    c.expect("DEADLINE_SOON")
    c.ask("delete {A}\r\n", "DELETED").ask("reserve-with-timeout 0\r\n", "TIMED_OUT")


def becomes_ready(c):
    """Asked by its owner: beanstalkd may notice the end of a lease only when its owner says something."""
    def ready():
        return beanstalkd.parse_yaml(c.send("stats-job {A}\r\n").answer()[1])["state"] == "ready"
    harness.eventually(ready, "the end of a lease")


@scenario()
def a_lease_passes(w):
    c, d = w.connection(), w.connection("d")
    c.ask("put 7 0 1 1\r\nx\r\nreserve\r\n", "INSERTED A", ("RESERVED A 1", b"x"))
    becomes_ready(c)
    d.ask("reserve-with-timeout 3\r\n", ("RESERVED A 1", b"x"))
    c.ask("delete {A}\r\n", "NOT_FOUND").ask("release {A} 0 0\r\n", "NOT_FOUND").ask("bury {A} 0\r\n", "NOT_FOUND")
    c.ask("touch {A}\r\n", "NOT_FOUND")
    d.statistics("stats-job {A}\r\n", state="reserved", timeouts=1, reserves=2, releases=0, pri=7)
    d.statistics("stats\r\n", job_timeouts=1)
    d.ask("delete {A}\r\n", "DELETED")


@scenario()
def many_leases_pass(w):
    c = w.connection()
    c.ask("put 0 0 1 1\r\nx\r\n", "INSERTED A")
    for i in range(3):
        c.ask("reserve\r\n", ("RESERVED A 1", b"x"))
        becomes_ready(c)
        c.statistics("stats-job {A}\r\n", state="ready", timeouts=i + 1, reserves=i + 1)


@scenario()
def touch(w):
    c, d = w.connection(), w.connection("d")
    c.ask("put 0 0 2 1\r\nx\r\nreserve\r\n", "INSERTED A", ("RESERVED A 1", b"x"))
    d.ask("touch {A}\r\n", "NOT_FOUND")
    for _ in range(3):
        wait_a_little(1)
        c.ask("touch {A}\r\n", "TOUCHED")
    c.statistics("stats-job {A}\r\n", state="reserved", timeouts=0, time_left=1)
    c.ask("release {A} 0 0\r\n", "RELEASED").ask("touch {A}\r\n", "NOT_FOUND")


@scenario()
def reserve_job(w):
    c, d = w.connection(), w.connection("d")
    c.ask("put 0 0 60 1\r\na\r\nput 0 100 60 1\r\nb\r\nput 0 0 60 1\r\nc\r\n", "INSERTED A", "INSERTED B", "INSERTED C")
    c.ask("reserve-job {C}\r\n", ("RESERVED C 1", b"c"))
    c.ask("reserve-job {C}\r\n", "NOT_FOUND")
    d.ask("reserve-job {C}\r\n", "NOT_FOUND")
    c.ask("reserve-job {B}\r\n", ("RESERVED B 1", b"b"))
    c.statistics("stats-job {B}\r\n", state="reserved", delay=100, reserves=1)
    c.ask("release {B} 3 0\r\n", "RELEASED")
    c.statistics("stats-job {B}\r\n", state="ready", delay=0, releases=1, pri=3)
    c.ask("bury {C} 4\r\n", "BURIED").ask("reserve-job {C}\r\n", ("RESERVED C 1", b"c"))
    c.statistics("stats-job {C}\r\n", state="reserved", buries=1, pri=4)
    c.ask("release {C} 4 0\r\nreserve-job {A}\r\ndelete {A}\r\n", "RELEASED", ("RESERVED A 1", b"a"), "DELETED")
    c.ask("reserve\r\nreserve\r\n", ("RESERVED B 1", b"b"), ("RESERVED C 1", b"c"))


@scenario()
def reserve_job_of_a_delayed_one_passes_into_ready(w):
    c = w.connection()
    c.ask("put 0 100 1 1\r\nx\r\nreserve-job {A}\r\n".split("reserve-job")[0], "INSERTED A")
    c.ask("reserve-job {A}\r\n", ("RESERVED A 1", b"x"))
    c.ask("reserve-with-timeout 1\r\n", "DEADLINE_SOON")
    becomes_ready(c)
    c.statistics("stats-job {A}\r\n", state="ready", timeouts=1)


# ---- delete, release, bury, kick ---------------------------------------------------------------

@scenario()
def delete_in_every_state(w):
    c, d = w.connection(), w.connection("d")
    c.ask("put 0 0 60 1\r\na\r\nput 0 9 60 1\r\nb\r\nput 0 0 60 1\r\nc\r\n", "INSERTED A", "INSERTED B", "INSERTED C")
    d.ask("delete {A}\r\n", "DELETED").ask("delete {B}\r\n", "DELETED")
    c.ask("reserve\r\n", ("RESERVED C 1", b"c"))
    d.ask("delete {C}\r\n", "NOT_FOUND")
    c.ask("bury {C} 0\r\n", "BURIED")
    d.ask("delete {C}\r\n", "DELETED")
    for job in "ABC":
        c.ask("peek {%s}\r\n" % job, "NOT_FOUND").ask("stats-job {%s}\r\n" % job, "NOT_FOUND")
    c.statistics("stats-tube default\r\n", cmd_delete=3, total_jobs=3, current_jobs_ready=0)


@scenario()
def release_with_priority_and_delay(w):
    c = w.connection()
    c.ask("put 5 0 60 1\r\nx\r\nreserve\r\n", "INSERTED A", ("RESERVED A 1", b"x"))
    c.ask("release {A} 77 1\r\n", "RELEASED").ask("release {A} 77 1\r\n", "NOT_FOUND")
    c.statistics("stats-job {A}\r\n", state="delayed", pri=77, delay=1, releases=1)
    c.ask("reserve-with-timeout 0\r\n", "TIMED_OUT")
    c.ask("reserve-with-timeout 3\r\n", ("RESERVED A 1", b"x"))
    c.statistics("stats-job {A}\r\n", state="reserved", delay=1, reserves=2)
    c.ask("release {A} 4294967295 0\r\n", "RELEASED")
    c.statistics("stats-job {A}\r\n", state="ready", pri=4294967295, delay=0, releases=2, time_left=0)


@scenario()
def bury_and_kick(w):
    c = w.connection()
    c.ask("put 0 0 60 1\r\na\r\nput 0 0 60 1\r\nb\r\nput 0 100 60 1\r\nc\r\n", "INSERTED A", "INSERTED B", "INSERTED C")
    c.ask("bury {A} 0\r\n", "NOT_FOUND").ask("kick-job {A}\r\n", "NOT_FOUND")
    c.ask("reserve\r\nreserve\r\n", ("RESERVED A 1", b"a"), ("RESERVED B 1", b"b"))
    c.ask("bury {B} 9\r\n", "BURIED").ask("bury {A} 2000\r\n", "BURIED")
    c.ask("peek-buried\r\n", ("FOUND B 1", b"b"))
    c.statistics("stats\r\n", current_jobs_buried=2, current_jobs_delayed=1, current_jobs_ready=0, current_jobs_urgent=0)
    c.ask("kick 1\r\n", "KICKED 1").ask("peek-buried\r\n", ("FOUND A 1", b"a"))
    c.statistics("stats-job {B}\r\n", state="ready", kicks=1, buries=1, pri=9)
    # as long as there are buried ones, only those are kicked
    c.ask("kick 100\r\n", "KICKED 1").ask("peek-buried\r\n", "NOT_FOUND")
    c.statistics("stats-job {C}\r\n", state="delayed")
    c.statistics("stats-tube default\r\n", current_jobs_urgent=1, current_jobs_ready=2)
    c.ask("kick 100\r\n", "KICKED 1").ask("kick 100\r\n", "KICKED 0").ask("kick 0\r\n", "KICKED 0")
    c.statistics("stats-job {C}\r\n", state="ready", kicks=1, delay=100)


@scenario()
def kick_takes_the_soonest_of_the_used_tube(w):
    c = w.connection()
    c.ask("put 0 300 60 1\r\na\r\nput 0 100 60 1\r\nb\r\nput 0 200 60 1\r\nc\r\n", "INSERTED A", "INSERTED B", "INSERTED C")
    c.ask("use t\r\nput 0 50 60 1\r\nd\r\nkick 1\r\nuse default\r\n", "USING t", "INSERTED D", "KICKED 1", "USING default")
    c.ask("peek-delayed\r\n", ("FOUND B 1", b"b")).ask("kick 2\r\n", "KICKED 2")
    c.ask("peek-delayed\r\n", ("FOUND A 1", b"a")).ask("peek-ready\r\n", ("FOUND B 1", b"b"))


@scenario()
def kick_job(w):
    c = w.connection()
    c.ask("put 0 100 60 1\r\na\r\nkick-job 99999\r\n", "INSERTED A", "NOT_FOUND")
    c.ask("kick-job {A}\r\n", "KICKED").ask("kick-job {A}\r\n", "NOT_FOUND")
    c.ask("reserve\r\n", ("RESERVED A 1", b"a")).ask("kick-job {A}\r\n", "NOT_FOUND")
    c.ask("bury {A} 3\r\nkick-job {A}\r\n", "BURIED", "KICKED")
    c.statistics("stats-job {A}\r\n", state="ready", kicks=2, buries=1, reserves=1)


@scenario()
def peek(w):
    c = w.connection()
    for line in ("peek-ready", "peek-delayed", "peek-buried", "peek 1"):
        c.ask(line + "\r\n", "NOT_FOUND")
    c.ask("put 5 0 60 1\r\na\r\nput 1 0 60 1\r\nb\r\nput 0 9 60 1\r\nc\r\n", "INSERTED A", "INSERTED B", "INSERTED C")
    c.ask("peek-ready\r\n", ("FOUND B 1", b"b")).ask("peek-delayed\r\n", ("FOUND C 1", b"c"))
    c.ask("use t\r\n", "USING t").ask("peek-ready\r\n", "NOT_FOUND").ask("peek-delayed\r\n", "NOT_FOUND")
    c.ask("peek {A}\r\n", ("FOUND A 1", b"a")).ask("reserve\r\n", ("RESERVED B 1", b"b"))
    c.ask("peek {B}\r\n", ("FOUND B 1", b"b"))


@scenario()
def a_delay_passes(w):
    c = w.connection()
    c.ask("put 0 1 60 1\r\nx\r\n", "INSERTED A")
    c.statistics("stats-tube default\r\n", current_jobs_delayed=1, current_jobs_ready=0)
    c.ask("reserve-with-timeout 3\r\n", ("RESERVED A 1", b"x"))
    c.statistics("stats-tube default\r\n", current_jobs_delayed=0, current_jobs_reserved=1)
    c.statistics("stats-job {A}\r\n", delay=1)


# ---- connections -------------------------------------------------------------------------------

def held_until(w, how):
    c, d = w.connection(), w.connection("d")
    c.ask("put 0 0 100 1\r\nx\r\nreserve\r\n", "INSERTED A", ("RESERVED A 1", b"x"))
    d.ask("reserve-with-timeout 0\r\n", "TIMED_OUT").send("reserve-with-timeout 5\r\n")
    how(c)
    d.expect(("RESERVED A 1", b"x"))
    d.statistics("stats-job {A}\r\n", timeouts=0, reserves=2, releases=0)


@scenario()
def closing_gives_back(w):
    held_until(w, lambda c: c.close())


@scenario()
def quitting_gives_back(w):
    held_until(w, lambda c: c.ask("quit\r\n", None))


@scenario()
def half_closed_and_waiting(w):
    import socket
    c, d = w.connection(), w.connection("d")
    c.send("reserve\r\n").silent(0.2)
    c.socket.shutdown(socket.SHUT_WR)
    c.expect("TIMED_OUT", None)
    d.ask("put 0 0 60 1\r\nx\r\n", "INSERTED A")
    d.statistics("stats-job {A}\r\n", state="ready", reserves=0)
    for name in "efghijklmn":  # the end comes right behind
        e = w.connection(name)
        e.send("reserve\r\nlist-tube-used\r\n")
        e.socket.shutdown(socket.SHUT_WR)
        e.expect(("RESERVED A 1", b"x"), "USING default", None)
        e.close()


# ---- pausing -----------------------------------------------------------------------------------

@scenario()
def pausing(w):
    c, d = w.connection(), w.connection("d")
    c.ask("put 0 0 60 1\r\nx\r\npause-tube default 1\r\n", "INSERTED A", "PAUSED")
    values = c.statistics("stats-tube default\r\n", pause=1, cmd_pause_tube=1, current_jobs_ready=1)
    assert values["pause-time-left"] in ("0", "1")
    c.ask("peek-ready\r\n", ("FOUND A 1", b"x"))
    d.send("reserve\r\n").silent(0.7)
    d.expect(("RESERVED A 1", b"x"))
    c.statistics("stats-tube default\r\n", pause=0, pause_time_left=0)


@scenario()
def ending_a_pause(w):
    c, d = w.connection(), w.connection("d")
    c.ask("pause-tube default 100\r\nput 0 0 60 1\r\nx\r\n", "PAUSED", "INSERTED A")
    d.send("reserve\r\n").silent(0.3)
    c.ask("pause-tube default 0\r\n", "PAUSED")
    d.expect(("RESERVED A 1", b"x"))
    c.statistics("stats-tube default\r\n", cmd_pause_tube=2, pause=0)


# ---- statistics --------------------------------------------------------------------------------

@scenario()
def statistics_of_the_server(w):
    c = w.connection()
    c.ask("put 0 0 60 1\r\na\r\nput 2000 0 60 1\r\nb\r\nput 0 99 60 1\r\nc\r\nreserve\r\nuse t\r\n", "INSERTED A", "INSERTED B",
          "INSERTED C", ("RESERVED A 1", b"a"), "USING t")
    c.ask("peek {A}\r\npeek-ready\r\npeek-delayed\r\npeek-buried\r\nreserve-with-timeout 0\r\nrelease {B} 0 0\r\nbury {B} 0\r\n"
          "touch {A}\r\nwatch x\r\nignore x\r\nkick 1\r\nstats-job {A}\r\nstats-tube t\r\n".split("stats-job")[0],
          ("FOUND A 1", b"a"), "NOT_FOUND", "NOT_FOUND", "NOT_FOUND", ("RESERVED B 1", b"b"), "RELEASED", "NOT_FOUND",
          "TOUCHED", "WATCHING 2", "WATCHING 1", "KICKED 0")
    c.statistics("stats-job {A}\r\n")
    c.statistics("stats-tube t\r\n")
    values = c.statistics("stats\r\n", cmd_put=3, cmd_peek=1, cmd_peek_ready=1, cmd_peek_delayed=1, cmd_peek_buried=1,
                          cmd_reserve=1, cmd_reserve_with_timeout=1, cmd_release=1, cmd_bury=1, cmd_touch=1, cmd_use=1,
                          cmd_watch=1, cmd_ignore=1, cmd_kick=1, cmd_stats=1, cmd_stats_job=1, cmd_stats_tube=1,
                          cmd_list_tubes=0, cmd_delete=0, cmd_pause_tube=0, current_jobs_urgent=1, current_jobs_ready=1,
                          current_jobs_reserved=1, current_jobs_delayed=1, current_jobs_buried=0, total_jobs=3,
                          job_timeouts=0, current_tubes=2, current_connections=1, current_producers=1, current_workers=1,
                          current_waiting=0, max_job_size=65535, draining="false")
    figures = {"version", "pid", "rusage-utime", "rusage-stime", "uptime", "binlog-oldest-index", "binlog-current-index",
               "binlog-records-migrated", "binlog-records-written", "binlog-max-size", "id", "total-connections"}
    assert figures < set(values)
    assert len(values["id"]) == 16
    float(values["rusage-utime"])
    for key in ("hostname", "os", "platform"):
        w.note("host", (key, values[key]))
    w.differences.add("figures")


@scenario()
def statistics_of_a_job(w):
    c = w.connection()
    c.ask("use t\r\nput 12 0 60 4\r\nbody\r\n", "USING t", "INSERTED A")
    values = c.statistics("stats-job {A}\r\n", tube="t", state="ready", pri=12, delay=0, ttr=60, time_left=0, reserves=0,
                          timeouts=0, releases=0, buries=0, kicks=0)
    assert values["id"] == w.names["A"] and values["age"] in ("0", "1")
    assert (values["file"] == "0") == (w.kind == "beanstalkd"), values["file"]
    c.ask("watch t\r\nreserve\r\n", "WATCHING 2", ("RESERVED A 4", b"body"))
    c.statistics("stats-job {A}\r\n", state="reserved", time_left=59, reserves=1)
    c.ask("release {A} 13 50\r\n", "RELEASED")
    values = c.statistics("stats-job {A}\r\n", state="delayed", delay=50, releases=1, pri=13)
    assert values["time-left"] in ("49", "50")
    c.ask("stats-job {A} x\r\n", "BAD_FORMAT").ask("stats-job 99999\r\n", "NOT_FOUND")


@scenario()
def statistics_of_a_tube(w):
    c, d = w.connection(), w.connection("d")
    c.statistics("stats-tube default\r\n", name="default", current_jobs_urgent=0, current_jobs_ready=0, current_jobs_reserved=0,
                 current_jobs_delayed=0, current_jobs_buried=0, total_jobs=0, current_using=2, current_watching=2,
                 current_waiting=0, cmd_delete=0, cmd_pause_tube=0, pause=0, pause_time_left=0)
    c.ask("use t\r\nput 0 0 60 1\r\nx\r\nput 1024 0 60 1\r\ny\r\n", "USING t", "INSERTED A", "INSERTED B")
    d.ask("watch t\r\nignore default\r\nreserve\r\ndelete {A}\r\nreserve\r\n".replace("{A}", w.names["A"]), "WATCHING 2",
          "WATCHING 1", ("RESERVED A 1", b"x"), "DELETED", ("RESERVED B 1", b"y"))
    d.send("reserve\r\n").silent(0.2)
    c.statistics("stats-tube t\r\n", name="t", current_jobs_urgent=0, current_jobs_reserved=1, total_jobs=2, current_using=1,
                 current_watching=1, current_waiting=1, cmd_delete=1)
    c.statistics("stats-tube default\r\n", current_using=1, current_watching=1, current_waiting=0, total_jobs=0)


# ---- restarts ----------------------------------------------------------------------------------

@scenario(durable=True)
def jobs_survive_a_restart(w):
    c = w.connection()
    c.ask("use t\r\nput 1 0 100 1\r\na\r\nput 2 0 100 1\r\nb\r\nput 3 1000 100 1\r\nc\r\nput 4 0 100 1\r\nd\r\nput 5 0 100 1\r\ne\r\n",
          "USING t", *[f"INSERTED {job}" for job in "ABCDE"])
    c.ask("watch t\r\nreserve\r\nreserve\r\nreserve\r\n", "WATCHING 2", ("RESERVED A 1", b"a"), ("RESERVED B 1", b"b"),
          ("RESERVED D 1", b"d"))
    c.ask("delete {A}\r\nbury {B} 22\r\n", "DELETED", "BURIED")
    w.restart()
    c = w.connection()
    c.ask("use t\r\nwatch t\r\npeek {A}\r\n", "USING t", "WATCHING 2", "NOT_FOUND")
    values = c.statistics("stats-job {B}\r\n", state="buried", pri=22, tube="t", ttr=100)
    c.differ("restart-counts", [], [])
    assert values["buries"] == ("2" if w.kind == "beanstalkd" else "1")
    c.statistics("stats-job {C}\r\n", state="delayed", pri=3, delay=1000)
    # what was reserved is ready, without waiting for its time to run
    c.ask("reserve\r\nreserve\r\nreserve-with-timeout 0\r\n", ("RESERVED D 1", b"d"), ("RESERVED E 1", b"e"), "TIMED_OUT")
    c.ask("kick 1\r\ndelete {B}\r\ndelete {C}\r\ndelete {D}\r\ndelete {E}\r\n", "KICKED 1", *["DELETED"] * 4)
    w.restart()
    c = w.connection()
    c.ask("list-tubes\r\n", ("OK 14", b"---\n- default\n"))
    c.send("put 0 0 1 1\r\nx\r\n").differ("ids", ["INSERTED A"], ["INSERTED F"])


@scenario(durable=True)
def a_release_without_delay_and_a_restart(w):
    c = w.connection()
    c.ask("put 1 0 100 1\r\na\r\nput 2 0 100 1\r\nb\r\nreserve\r\n", "INSERTED A", "INSERTED B", ("RESERVED A 1", b"a"))
    c.ask("release {A} 9 0\r\n", "RELEASED")
    w.restart()
    c = w.connection()
    c.send("reserve\r\n")
    c.differ("restart-release", [("RESERVED A 1", b"a")], [("RESERVED B 1", b"b")])


@scenario(durable=True)
def an_empty_log_restarts(w):
    w.connection().ask("list-tube-used\r\n", "USING default")
    w.restart()
    w.connection().ask("put 0 0 1 1\r\nx\r\n", "INSERTED A")


# ---- the comparison ----------------------------------------------------------------------------

KINDS = (beanstalkd.Beanstalkd, beanstalkd.Whilst)
# Scenarios mostly wait, for time itself: several are played at once, each with servers of its own.
POOL = concurrent.futures.ThreadPoolExecutor(16)
STARTED = {}


def play(kind, function, options):
    with kind(**options) as world:
        function(world)
        return world.transcript, world.differences


def start(function, options):
    if function.__name__ not in STARTED:
        STARTED[function.__name__] = [POOL.submit(play, kind, function, options) for kind in KINDS]
    return STARTED[function.__name__]


class Conformance(unittest.TestCase):
    maxDiff = None
    used = set()

    def compare(self, function, options):
        played = [future.result() for future in start(function, options)]
        for _, differences in played:
            Conformance.used |= differences
        theirs, ours = (transcript for transcript, _ in played)
        self.assertEqual(theirs, ours)

    def test_zz_every_listed_difference_is_seen(self):
        """The page lists nothing that no scenario shows; quotes are what parse_yaml() takes off."""
        if len(SCENARIOS) == len(Conformance.ran):
            self.assertEqual(beanstalkd.listed_differences() - {"quotes"}, Conformance.used)

    ran = set()


for each, its_options in SCENARIOS:
    def test(self, each=each, its_options=its_options):
        Conformance.ran.add(each.__name__)
        self.compare(each, its_options)
    setattr(Conformance, f"test_{each.__name__}", test)


def load_tests(_loader, tests, _pattern):
    """All that were asked for are begun; each test then waits for its own."""
    asked = {test.id().rsplit(".test_", 1)[-1] for suite in tests for test in suite}
    for function, options in SCENARIOS:
        if function.__name__ in asked:
            start(function, options)
    return tests


if __name__ == "__main__":
    beanstalkd.Beanstalkd.binary = beanstalkd.beanstalkd_binary()
    if not beanstalkd.Beanstalkd.binary:
        sys.exit(77)
    harness.main()
