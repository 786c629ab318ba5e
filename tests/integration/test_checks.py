#!/usr/bin/env python3
"""tests/integration/test_checks.py -- the checks of layers and of server symbols find what they are for.

A check that finds nothing may be a check that looks at nothing: here each is given a house with known faults.
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class Layers(unittest.TestCase):
    def judge(self, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {"src/base/text.h": "", **files}.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return run(ROOT / "scripts/check-layers", folder)

    def check(self, path, line, words):
        code, output = self.judge({path: f"/* text */\n{line}\n"})
        self.assertEqual(code, 1, output)
        self.assertIn(f"{path}:2: ", output)
        self.assertIn(words, output)

    def test_the_project_itself(self):
        self.assertEqual(run(ROOT / "scripts/check-layers"), (0, ""))

    def test_arrows_that_point_down(self):
        code, output = self.judge({
            "src/runtime/loop.h": '#include "engine/engine.h"\n#include "base/text.h"\n#include <pthread.h>\n',
            "src/store/embedded.c": '#include "log/log.h"\n#include "job/job.h"\n#include "base/text.h"\n'
                                    '#include "whilst/whilst.h"\n#include <xxhash.h>\n#include <string.h>\n',
            "src/front/api.c": '# include "store/store.h"\n#include "whilst/http.h"\n',
        })
        self.assertEqual((code, output), (0, ""))

    def test_the_library_knows_nothing_of_the_server(self):
        self.check("src/http/server.c", '#include "store/store.h"', "knows nothing of the server")

    def test_the_server_does_not_reach_inside_the_library(self):
        self.check("src/log/log.c", '#include "runtime/loop.h"', "only through <whilst/*.h>")

    def test_nothing_points_up(self):
        self.check("src/base/text.c", '#include "runtime/op.h"', "src/base may include base")
        self.check("src/runtime/loop.c", '#include "engine/uring.h"', "src/runtime may include")
        self.check("src/store/embedded.c", '#include "front/api.h"', "src/store may include")
        self.check("src/log/log.c", '#include "job/job.h"', "src/log may include")

    def test_the_job_machine_is_pure(self):
        self.check("src/job/job.c", '#include "whilst/whilst.h"', "src/job may include none")

    def test_the_server_does_not_use_the_system(self):
        self.check("src/log/writer.c", "#include <pthread.h>", "wh_loop_start()")
        self.check("src/store/embedded.c", " #  include <time.h>", "wh_wall_now()")

    def test_names_are_written_in_full(self):
        self.check("src/log/log.c", '#include "log.h"', "folder/file.h")
        self.check("src/log/log.c", '#include "../log/log.h"', "folder/file.h")

    def test_a_folder_that_is_not_in_the_table(self):
        code, output = self.judge({"src/misc/all.c": ""})
        self.assertEqual(code, 1)
        self.assertIn("src/misc is not in the table", output)


class Symbols(unittest.TestCase):
    def judge(self, server, cli="int main(void) { return 0; }", archive=True):
        with tempfile.TemporaryDirectory() as folder:
            objects = pathlib.Path(folder, "src/whilst.p")
            objects.mkdir(parents=True)
            for name, text in (("log_writer.c", server), ("cli_main.c", cli)):
                source = pathlib.Path(folder, name)
                source.write_text(text)
                to = objects / "cli_main.c.o" if name.startswith("cli") else pathlib.Path(folder, name + ".o")
                subprocess.run(["cc", "-w", "-O0", "-c", "-o", str(to), str(source)], check=True)
            if archive:
                subprocess.run(["ar", "rcs", f"{folder}/src/libwhilst_server.a", f"{folder}/log_writer.c.o"],
                               check=True)
            return run(ROOT / "scripts/check-server-symbols", folder)

    def test_what_is_allowed(self):
        code, output = self.judge(
            "void *malloc(unsigned long); int wh_pread(void); int memcmp(); int XXH3_64bits(); int own(void) {"
            " return wh_pread() + memcmp() + XXH3_64bits() + (malloc(1) != 0); }",
            "int printf(); int own(void); int main(void) { return own() + printf(\"\"); }")
        self.assertEqual((code, output), (0, ""))

    def test_each_forbidden_symbol_is_named_with_its_place_and_a_way_out(self):
        names = {"open64": "wh_open", "pwrite": "wh_pwrite_all", "fdatasync": "wh_fsync", "clock_gettime": "wh_now",
                 "time": "wh_wall_now", "pthread_create": "wh_loop_start", "getrandom": "wh_random", "rand": "wh_random",
                 "socket": "wh_listen", "usleep": "wh_sleep", "rename": "wh_rename", "flock": "wh_lock",
                 "mmap": "malloc", "wh__op_new": "installed headers", "printf": "src/cli prints",
                 "__read_chk": "wh_pread", "epoll_wait": "wh_ready", "exit": "src/cli"}
        code, output = self.judge("".join(f"int {name}(); " for name in names) +
                                  "int own(void) { return " + " + ".join(f"{name}()" for name in names) + "; }")
        self.assertEqual(code, 1)
        place = "src/log/writer.c" if (ROOT / "src/log/writer.c").exists() else "log_writer.c"
        lines = output.splitlines()
        for name, instead in names.items():
            told = [line for line in lines if f": uses {name}: use instead: " in line]
            self.assertEqual(len(told), 1, name)
            self.assertIn(place, told[0])
            self.assertIn(instead, told[0])
        self.assertEqual(len(lines), len(names) + 1)

    def test_the_command_is_checked_too(self):
        code, output = self.judge("int own;", "int fsync(int); int main(void) { return fsync(1); }")
        self.assertEqual(code, 1)
        self.assertIn("src/cli/main.c" if (ROOT / "src/cli/main.c").exists() else "cli_main.c", output)
        self.assertIn("uses fsync", output)

    def test_nothing_built_is_not_nothing_wrong(self):
        code, output = self.judge("int own;", archive=False)
        self.assertEqual(code, 2)
        self.assertIn("build first", output)


if __name__ == "__main__":
    if subprocess.run(["which", "nm", "ar", "cc"], capture_output=True, check=False).returncode:
        print("needs nm, ar and cc")
        sys.exit(77)
    unittest.main()
