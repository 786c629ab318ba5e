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


class Reference(unittest.TestCase):
    HEADER = '''/* whilst.h -- a library of one call.
 *
 * What all of it has in common.
 */
/* ---- numbers ---- */

/* wh_add() - a sum.
 *
 * Result a + b, or -ERANGE. Thread: any. See also read(2).
 */
WH_API int wh_add(int a, int b);
'''

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name in ["scripts/reference", "scripts/reference_headers.py", "scripts/reference_write.py", "man/whilst.1"]:
            self.write(name, (ROOT / name).read_text())
        self.write("include/whilst/whilst.h", self.HEADER)
        self.write("examples/sum.c", "/* Adds. */\nstatic int sum(int a)\n{\n\treturn a;\n}\n\nint main(void)\n{\n}\n")
        self.write("page.md", "# A page\n\n<!-- code: examples/sum.c sum -->\n```c\n```\n\nThe end.\n")
        run("git", "-C", self.root, "init", "-q")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def reference(self, *arguments):
        return run(sys.executable, self.root / "scripts/reference", *arguments)

    def test_writes_once_and_finds_what_is_stale(self):
        code, output = self.reference("--check")
        self.assertEqual(code, 1, output)
        code, output = self.reference()
        self.assertEqual(code, 0, output)
        page = (self.root / "docs/reference/libwhilst/numbers.md").read_text()
        for words in ["int wh_add(int a, int b);", "A sum.", "- **Result**: a + b, or `-ERANGE`.", "- **Thread**: any.", "man2/read.2"]:
            self.assertIn(words, page)
        manual = (self.root / "man/man3/whilst-numbers.3").read_text()
        for words in [".Nm wh_add", ".Fo wh_add\n.Fa \"int a\"", ".Xr read 2", "Bq Er ERANGE"]:
            self.assertIn(words, manual)
        self.assertIn("'wh_add': 'whilst-numbers'", (self.root / "man/man3/meson.build").read_text())
        self.assertIn("```c\n/* Adds. */\nstatic int sum(int a)\n{\n\treturn a;\n}\n```\n\nThe end.", (self.root / "page.md").read_text())
        self.assertEqual(self.reference(), (0, ""))
        self.assertEqual(self.reference("--check"), (0, ""))

        self.write("include/whilst/whilst.h", self.HEADER.replace("a sum", "the sum"))
        self.write("examples/sum.c", (self.root / "examples/sum.c").read_text().replace("return a", "return a + 1"))
        code, output = self.reference("--check")
        self.assertEqual(code, 1, output)
        for name in ["docs/reference/libwhilst/numbers.md", "man/man3/whilst-numbers.3", "page.md"]:
            self.assertIn(f"{name}: stale", output)

    def test_a_group_that_went_away_takes_its_pages_along(self):
        self.reference()
        self.write("include/whilst/whilst.h", self.HEADER.replace("numbers", "sums"))
        self.assertIn("numbers.md: no longer written", self.reference("--check")[1])
        self.reference()
        self.assertFalse((self.root / "docs/reference/libwhilst/numbers.md").exists())

    def test_nothing_public_without_a_word(self):
        self.write("include/whilst/whilst.h", self.HEADER + "\nWH_API int wh_secret(void);\n")
        code, output = self.reference()
        self.assertEqual(code, 1)
        self.assertIn("include/whilst/whilst.h:13: nothing is said about wh_secret", output)

    def test_what_it_does_not_understand_it_says(self):
        self.write("include/whilst/whilst.h", self.HEADER + "\nint wh_strange = 1;\n")
        self.assertIn("not understood: int wh_strange", self.reference()[1])
        self.write("include/whilst/whilst.h", self.HEADER)
        self.write("page.md", "<!-- code: examples/sum.c none -->\n```c\n```\n")
        self.assertIn("0 definitions of none", self.reference()[1])


if __name__ == "__main__":
    if subprocess.run(["which", "nm", "ar", "cc"], capture_output=True, check=False).returncode:
        print("needs nm, ar and cc")
        sys.exit(77)
    unittest.main()
