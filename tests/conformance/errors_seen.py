#!/usr/bin/env python3
"""tests/conformance/errors_seen.py -- are the errors that the headers promise the ones that the calls give?

    errors_seen.py wrap WRAPPERS.c ARGUMENTS                  write a wrapper for each public function, and the linker's arguments
    errors_seen.py check [--newer-than FILE]... PROGRAM...    what the programs have given on $WHILST_ENGINE, compared

Every error that a header promises of a call (scripts/header_errors.py) must have been given by that call while the programs
ran, or tests/conformance/errors-elsewhere must say where else it is produced, or why it cannot be; and no call may have given
an error that is not promised of it. WHILST_ERRORS_LIST=FILE: write there what was given.

What a program gives is marked in the file PROGRAM.ENGINE.seen whenever it is run as a test of that engine and ends well
(errors_seen.c). Where there is none, or one that is older than the program or a FILE, the program is run now.

The engine "sim" has no headers of its own but sim.h: of the others only what calls give there is compared.
"""
import concurrent.futures
import errno
import fnmatch
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import header_errors  # noqa: E402

FUNCTIONS_MAX, CODES = 512, 8192  # as in errors_seen.c
OWN_WRAPPERS = ["wh_await", "wh_poll", "wh_then", "wh_deadline"]
# What these give is what somebody else has chosen.
ANYTHING = {"wh_task_self", "wh_promise", "wh_failed", "wh_work", "wh_ask", "wh_go", "wh_go_with", "wh_group_wait", "wh_group_close", "wh_all",
            "wh_any", "wh_all_settled", "wh_deadline", "wh_mark_wait", "wh_channel_receive", "wh_group_next"}
# A simulated machine may lose power, and fail as it was told to, at any call; where nothing more happens, nobody waits.
ON_SIM = {"WH_ESIM_POWER_CUT", "EDEADLK", "EIO", "ENOSPC", "ENOBUFS", "EOPNOTSUPP"}


def listed(promises):
    """The functions in the order of the table's rows."""
    kept = [f for f in promises.functions
            if f.name in OWN_WRAPPERS or (f.result in ("int", "int64_t", "wh_future") and "..." not in f.parameters)]
    kept.sort(key=lambda f: f.name)
    assert len(kept) < FUNCTIONS_MAX
    return kept


def wrap(wrappers, arguments):
    functions = listed(header_errors.Promises(ROOT / "include/whilst"))
    out = ["/* Written by tests/conformance/errors_seen.py. */", '#include "errors_seen.h"', ""]
    for index, f in enumerate(functions):
        if f.name in OWN_WRAPPERS:
            out.append(f"const int seen_{f.name[3:]} = {index};")
            continue
        inside = ", ".join(f.parameters) or "void"
        names = ", ".join(re.search(r"(\w+)(?:\[\d*\])?$", p).group(1) for p in f.parameters if p != "void")
        call = f"__real_{f.name}({names})"
        told = (f"seen_future({index}, {call})" if f.result == "wh_future" else f"({f.result})seen_result({index}, {call})")
        out += [f"{f.result} __real_{f.name}({inside});", f"{f.result} __wrap_{f.name}({inside});",
                f"{f.result} __wrap_{f.name}({inside})", "{", f"\treturn {told};", "}"]
    pathlib.Path(wrappers).write_text("\n".join(out) + "\n")
    pathlib.Path(arguments).write_text("".join(f"-Wl,--wrap={f.name}\n" for f in functions))


def codes_by_number():
    numbers = {number: name for number, name in errno.errorcode.items()}
    numbers |= {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK", errno.EAGAIN: "EAGAIN"}  # not by their other names
    at = 0
    for name, value in re.findall(r"\b(WH_E[A-Z_]+)(?: = (\d+))?,", (ROOT / "include/whilst/whilst.h").read_text()):
        at = int(value) if value else at + 1
        numbers[at] = name
    return numbers


def table_of(program, engine):
    return pathlib.Path(f"{program}.{engine}.seen")


def run(program, engine):
    """Runs a program of which nothing is known; what it has printed if it failed, else None."""
    done = subprocess.run([program], env={**os.environ, "WHILST_ERRORS_SEEN": str(table_of(program, engine))}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False)
    if done.returncode not in (0, 77):
        return f"{done.stdout}{done.stderr}{program} has failed: {done.returncode}"
    print(f"{program}: {'skipped' if done.returncode else 'run now'}")
    return None


def tables(programs, engine, newer_than):
    """The tables of all programs; those without one, or with an old one, are run first."""
    def is_old(program):
        table = table_of(program, engine)
        return not table.exists() or table.stat().st_mtime < max(os.stat(path).st_mtime for path in [program, *newer_than])
    with concurrent.futures.ThreadPoolExecutor(2 + (os.cpu_count() or 1)) as pool:
        failures = [text for text in pool.map(lambda program: run(program, engine), filter(is_old, programs)) if text]
    if failures:
        sys.exit("\n".join(failures))
    return [table_of(program, engine).read_bytes() for program in programs if table_of(program, engine).exists()]


def given(programs, engine, newer_than, functions):
    """{function: the numbers of the errors that it has given}"""
    seen = {f.name: set() for f in functions}
    for table in tables(programs, engine, newer_than):
        assert len(table) == FUNCTIONS_MAX * CODES
        for index, f in enumerate(functions):
            row = table[index * CODES:(index + 1) * CODES]
            at = row.find(1)
            while at >= 0:
                seen[f.name].add(at)
                at = row.find(1, at + 1)
    return seen


def exceptions():
    """[(functions, code, engines, line, need not be used)] of errors-elsewhere."""
    out = []
    for line in (ROOT / "tests/conformance/errors-elsewhere").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"(\S+) -(\S+?)(\?)?(?:@(\S+))?: (\S.*)", line)
            if not match:
                sys.exit(f"errors-elsewhere: not understood: {line}")
            out.append((match.group(1), match.group(2), (match.group(4) or "*").split(","), line, bool(match.group(3))))
    return out


def unpromised(function, promises, seen, engine):
    """What a call has given, and does not promise."""
    if function.name in ANYTHING:
        return []
    may = promises.may[function.name] | (ON_SIM if engine == "sim" else set())
    return [f"{function.header}: {function.name}() has given -{code}, which it does not promise" for code in sorted(seen - may)]


def check(arguments):
    engine = os.environ.get("WHILST_ENGINE", "")
    newer_than = []
    while arguments and arguments[0] == "--newer-than":
        newer_than.append(arguments[1])
        arguments = arguments[2:]
    promises = header_errors.Promises(ROOT / "include/whilst")
    functions, numbers = listed(promises), codes_by_number()
    seen = {name: {numbers.get(code, str(code)) for code in codes}
            for name, codes in given(arguments, engine, newer_than, functions).items()}
    if listing := os.environ.get("WHILST_ERRORS_LIST"):
        pathlib.Path(listing).write_text("".join(f"{name} -{code}\n" for name in sorted(seen) for code in sorted(seen[name])))
    elsewhere, used, wrong = exceptions(), set(), []
    count = 0
    for function in functions:
        name = function.name
        wrong += unpromised(function, promises, seen[name], engine)
        if (function.header == "sim.h") != (engine == "sim"):
            continue
        for code in sorted(promises.promised[name]):
            count += 1
            if code in seen[name]:
                continue
            rows = [row for row in elsewhere if fnmatch.fnmatchcase(name, row[0]) and fnmatch.fnmatchcase(code, row[1])
                    and (row[2] == ["*"] or engine in row[2])]
            used |= {row[3] for row in rows}
            if not rows:
                wrong.append(f"{function.header}: {name}() promises -{code}, and no test has had it")
    wrong += [f"errors-elsewhere: is not needed: {row[3]}" for row in elsewhere if row[3] not in used and not row[4] and
              (engine in row[2] or (row[2] == ["*"] and engine != "sim"))]
    print(f"{engine}: {count} errors are promised, {sum(map(len, seen.values()))} were given")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


def main():
    if sys.argv[1] == "wrap":
        wrap(*sys.argv[2:])
    else:
        check(sys.argv[2:])


if __name__ == "__main__":
    main()
