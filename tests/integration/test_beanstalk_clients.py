#!/usr/bin/env python3
"""tests/integration/test_beanstalk_clients.py -- beanstalkd's Node clients, unchanged, against beanstalkd and whilst.

The packages of tests/clients/package-lock.json are installed by npm, without their scripts, into the build folder. Each client runs each
scenario of tests/clients/scenarios.js against both servers and must see the same.
"""
import json
import os
import re
import subprocess
import sys
import unittest

import beanstalkd
import clients
import harness

CLIENTS = ["jackd", "node-beanstalk", "fivebeans", "beanstalkd", "nodestalker"]


class Clients(unittest.TestCase):
    maxDiff = None

    def run_scenario(self, world, client, scenario):
        with world:
            process = subprocess.Popen(["node", "--no-deprecation", clients.SOURCE / "scenarios.js", client, str(world.port), scenario],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       env=dict(os.environ, NODE_PATH=str(clients.FOLDER / "node_modules")))
            try:
                line = process.stdout.readline()
                if line == "restart\n":
                    port = world.port
                    world.stop()
                    world.fixed_port = port
                    world.start()
                    process.stdin.write("go on\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                _, errors = process.communicate(timeout=60)
            finally:
                process.kill()
                process.wait()
            self.assertEqual(process.returncode, 0, f"{client}, {scenario}, {world.kind}: {errors}")
            return json.loads(line)

    def compare(self, client, scenario, **options):
        theirs = self.run_scenario(beanstalkd.Beanstalkd(**options), client, scenario)
        ours = self.run_scenario(beanstalkd.Whilst(**options), client, scenario)
        self.assertEqual(theirs, ours)
        self.assertNotIn("error", json.dumps(ours))
        return ours


def add(client):
    def basics(self):
        self.compare(client, "basics")

    def bodies(self):
        for size, same_id, length, same_body in self.compare(client, "bodies", max_job_size=2 << 20):
            self.assertEqual((same_id, length, same_body), (True, size, True))

    def workers(self):
        self.assertEqual(self.compare(client, "workers"), [["jobs", 1200], ["once", True], ["released", 120]])

    def restart(self):
        self.compare(client, "restart", durable=True)

    name = re.sub(r"\W", "_", client)
    for function in (basics, bodies, workers, restart):
        setattr(Clients, f"test_{name}_{function.__name__}", function)


for each in CLIENTS:
    add(each)

if __name__ == "__main__":
    beanstalkd.Beanstalkd.binary = beanstalkd.beanstalkd_binary()
    if not beanstalkd.Beanstalkd.binary or not clients.install():
        sys.exit(77)
    harness.main()
