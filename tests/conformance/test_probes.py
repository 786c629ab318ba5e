#!/usr/bin/env python3
"""tests/conformance/test_probes.py LIBRARY DOCUMENT -- the static probes that the library has are those that are documented.

The notes that the tracers read are looked at with readelf(1): name and number of arguments of each.
"""
import re
import subprocess
import sys

library, document = sys.argv[1:]
notes = subprocess.run(["readelf", "-n", "-W", library], check=True, capture_output=True, text=True).stdout
found = {}
for provider, name, arguments in re.findall(r"Provider: (\S+)\n\s*Name: (\S+)\n.*\n\s*Arguments: *(.*)", notes):
    if provider == "whilst":
        found.setdefault(name, set()).add(len(arguments.split()))
if not found:
    print("no probes: the library was built without <sys/sdt.h>")
    sys.exit(77)

section = open(document, encoding="utf-8").read().split("## Static probes")[1]
documented = {name: len(arguments.split(",")) for name, arguments in re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.M)}
failed = 0
for name in sorted(set(found) | set(documented)):
    if found.get(name) != {documented.get(name)}:
        print(f"{name}: arguments in the library {found.get(name)}, in {document} {documented.get(name)}")
        failed = 1
print(f"{len(found)} probes")
sys.exit(failed)
