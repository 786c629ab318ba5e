"""bench/harness.py -- what every section of bench/run uses: servers and peers, the load program, rounds, tables."""
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

PEER_PACKAGES = ["beanstalkd", "redis-server", "redis-tools", "nginx", "libjemalloc2", "liblzf1", "h2o",
                 "libyaml-0-2", "nats-server"]
PAYLOAD_BYTES = 128


class Server:
    """A process that announces its port on a line of standard output, or is given one."""

    def __init__(self, argv, port=None, announced="PORT", env=None, cwd=None):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE if port is None else self.log,
                                        stderr=self.log, stdin=subprocess.DEVNULL, env=env, cwd=cwd)
        self.port = port
        if port is None:
            for line in self.process.stdout:
                words = line.decode(errors="replace").strip()
                if announced in words:
                    digits = words.split(announced, 1)[1].strip().split()[0]
                    self.port = int(digits.rsplit(":", 1)[-1].strip("/,;"))
                    break
            else:
                self.fail()
        else:
            wait_for_port(port, self)

    def fail(self):
        self.log.seek(0)
        sys.exit(f"bench: {self.process.args[0]} did not start:\n{self.log.read().decode(errors='replace')}")

    def pids(self):
        """The process and its children: nginx answers from workers."""
        found = [self.process.pid]
        out = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return found + [int(p) for p in out.stdout.split()]

    def stop(self, seconds=10):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()

def wait_for_port(port, server):
    for _ in range(200):
        if server.process.poll() is not None:
            server.fail()
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    server.fail()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

class Bench:
    def __init__(self, args):
        self.build = pathlib.Path(args.build).resolve()
        self.seconds = args.seconds
        self.rounds = args.rounds
        self.warmup = args.warmup
        self.jobs = args.jobs
        self.peers = self.build / "peers"
        self.data = self.build / "bench-data"
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True)
        self.results = {}
        self.cleanup = []

    # -- peers ------------------------------------------------------------------------------------

    def unpack_peers(self):
        self.peers.mkdir(parents=True, exist_ok=True)
        missing = [p for p in PEER_PACKAGES if not list(self.peers.glob(f"{p}_*.deb"))]
        if missing:
            print("unpacking peers into", self.peers, flush=True)
            got = subprocess.run(["apt-get", "download", "-q", *missing], cwd=self.peers, capture_output=True, text=True,
                                 check=False)
            if got.returncode != 0:
                print("  some peers cannot be had:", got.stderr.strip().splitlines()[-1:], flush=True)
            for deb in self.peers.glob("*.deb"):
                subprocess.run(["dpkg", "-x", deb, self.peers / "root"], check=True)

    def peer(self, path):
        found = self.peers / "root" / path
        return found if found.exists() else None

    def peer_environment(self):
        libraries = [str(p) for p in (self.peers / "root/usr/lib").glob("*-linux-gnu")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}

    # -- measuring --------------------------------------------------------------------------------

    def load(self, server, protocol, request=None, connections=1, pipeline=1, per_request=1, expect=None, size=None,
             seconds=None, warmup=None, requests=None):
        argv = [self.build / "bench/load", "--connect", f"127.0.0.1:{server.port}", "--protocol", protocol,
                "--connections", connections, "--pipeline", pipeline, "--per-request", per_request,
                "--seconds", seconds or self.seconds, "--warmup", self.warmup if warmup is None else warmup]
        if requests:
            argv += ["--requests", requests]
        if request is not None:
            path = self.data / f"request-{len(os.listdir(self.data))}"
            path.write_bytes(request)
            argv += ["--request", path]
        if size:
            argv += ["--bytes", size]
        if expect:
            argv += ["--expect", expect]
        for pid in server.pids():
            argv += ["--pid", pid]
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=600, check=False)
        if request is not None:
            path.unlink()
        if done.returncode != 0:
            sys.exit(f"bench: load failed: {' '.join(map(str, argv))}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def interleave(self, title, cases, note=""):
        """cases: (name, function -> dict of figures); one call of each a round."""
        samples = {name: [] for name, _ in cases}
        for _ in range(self.rounds):
            for name, measure in cases:
                samples[name].append(measure())
        figures = {}
        for name, rows in samples.items():
            figures[name] = {key: spread([row[key] for row in rows]) for key in rows[0]}
        self.results[title] = figures
        show(title, figures, note, self.rounds)
        return figures

    # -- servers ----------------------------------------------------------------------------------

    def start_whilst(self, *arguments, folder=None):
        folder = folder or pathlib.Path(tempfile.mkdtemp(prefix="whilst-", dir=self.data))
        server = Server([self.build / "src/whilst", "serve", "--listen", "127.0.0.1:0", "--data", folder, *arguments],
                        announced="http://127.0.0.1")
        server.folder = folder
        return server

    def start_redis(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="redis-", dir=self.data))
        port = free_port()
        server = Server([self.peer("usr/bin/redis-server"), "--port", port, "--bind", "127.0.0.1", "--dir", folder,
                         "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"], port,
                        env=self.peer_environment())
        server.folder = folder
        return server

    def start_beanstalkd(self, *flags):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="beanstalkd-", dir=self.data))
        port = free_port()
        flags = flags or ("-f", "0")
        server = Server([self.peer("usr/bin/beanstalkd"), "-l", "127.0.0.1", "-p", port, "-b", folder, *flags], port,
                        env=self.peer_environment())
        server.folder = folder
        return server

    def start_nats(self):
        """A JetStream on disk. This version flushes every two minutes, and cannot be told otherwise."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="nats-", dir=self.data))
        port = free_port()
        server = Server([self.peer("usr/sbin/nats-server"), "-a", "127.0.0.1", "-p", port, "-js", "-sd", folder], port,
                        env=self.peer_environment())
        server.folder = folder
        return server

    def start_h2o(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="h2o-", dir=self.data))
        port = free_port()
        (folder / "file").write_text("x" * 100)
        (folder / "h2o.conf").write_text(f"""
listen: {{ host: 127.0.0.1, port: {port} }}
num-threads: 1
pid-file: {folder}/h2o.pid
error-log: {folder}/error.log
{'user: root' if os.geteuid() == 0 else ''}
hosts: {{ default: {{ paths: {{ /: {{ file.dir: {folder} }} }} }} }}
""")
        server = Server([self.peer("usr/bin/h2o"), "-m", "worker", "-c", folder / "h2o.conf"], port,
                        env=self.peer_environment())
        server.folder = folder
        return server

    def start_nginx(self, backend=None):
        """Answers 100 bytes; with a backend's port also passes /call/back/ on to it, over connections that it keeps."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="nginx-", dir=self.data))
        upstream = proxy = ""
        if backend:
            upstream = f"upstream back {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}"
            proxy = 'location /call/back/ { proxy_pass http://back/; proxy_http_version 1.1; proxy_set_header Connection ""; }'
        port = free_port()
        (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; {upstream}
  server {{ listen 127.0.0.1:{port} reuseport; root {folder}; location / {{ return 200 "{'x' * 99}\\n"; }}
    location /file {{ }} {proxy} }} }}
""")
        (folder / "file").write_text("x" * 100)
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        server = Server([self.peer("usr/sbin/nginx"), "-p", folder, "-c", folder / "nginx.conf", *user], port,
                        env=self.peer_environment())
        server.folder = folder
        return server


def drive(bench, program, server, **options):
    """One of the clients that print a line of JSON, with --pid for every process of the server."""
    argv = [bench.build / "bench" / program, "--connect", f"127.0.0.1:{server.port}"]
    for name, value in {"seconds": bench.seconds, "warmup": bench.warmup, **options}.items():
        argv += [f"--{name}", value]
    for pid in server.pids():
        argv += ["--pid", pid]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, argv))}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def metrics(server):
    """The sum of each family of /metrics."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60).read().decode()
    sums = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = line.split("{")[0].split()[0]
            sums[name] = sums.get(name, 0.0) + float(line.split()[-1])
    return sums


def pick(row, *keys):
    return {key: row[key] for key in keys}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(title, figures, note, rounds):
    print(f"\n== {title}   (median of {rounds}, least..most)")
    if note:
        print(f"   {note}")
    keys = list(next(iter(figures.values())))
    width = max(len(name) for name in figures)
    print(" " * width, *(f"{key:>30}" for key in keys))
    for name, row in figures.items():
        cells = []
        for key in keys:
            s = row[key]
            cells.append("-" if s["median"] != s["median"] else f"{human(s['median'])} ({human(s['min'])}..{human(s['max'])})")
        print(name.ljust(width), *(f"{cell:>30}" for cell in cells), flush=True)


def human(value):
    if value >= 10000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"
