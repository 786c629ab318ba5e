"""scripts/header_errors.py -- which errors the installed headers promise of each function.

A function promises what its comment names ("-EEXIST"), what its header names in a sentence about many calls ("Errors of all that
take a path: ..."; CLASSES says which calls are meant), and may give what calls give that its comment refers to ("those
of wh_lookup()") and the common errors of whilst.h.
"""
import re

import reference_headers

CODE = re.compile(r"-((?:WH_)?E[A-Z0-9][A-Z0-9_]*[A-Z0-9])(?![\w*])")
REFERENCE = re.compile(r"(?:those|[Ee]rrors) of ((?:wh_\w+\(\)(?:,\s+|\s+and\s+)?)+)")
# "-EINVAL (argument), ..." of whilst.h: of every operation, where it applies.
COMMON = {"EINVAL", "ENOMEM", "EPERM", "ECANCELED", "EAGAIN", "ENOSYS", "ESTALE", "EDEADLK"}


def parameters(function):
    return " ; ".join(function.parameters)


def takes_path(function):
    return re.search(r"const char \*(path|from|to)\b|char \*path\b", parameters(function)) and function.name != "wh_tls_connect"


def takes_descriptor(function):
    return re.search(r"\bint (fd|to|from)\b", parameters(function))


RECEIVING = re.compile(r"wh_(recv|recv_all|recvv|recv_buf|recv_from|recv_message|peek)$")
SENDING = re.compile(r"wh_(send|send_all|sendv_all|send_file|send_to|send_message)$")
CHANGING = re.compile(
    r"wh_(open|open_at|make_temporary|make_temporary_directory|copy_file|rename|rename_at|unlink|unlink_at|rmdir|mkdir|mkdir_at|link|"
    r"link_at|symlink|symlink_at|f?chmod|chmod_at|f?chown|chown_at|f?set_times|set_times_at)$")
AT_AN_OFFSET = re.compile(r"wh_(p(read|write)v?(_all|_buf|_blocking)?|append_durable)$")
ONE_AT_A_TIME = re.compile(r"wh_(recv|recv_all|recvv|recv_buf|peek|send|send_all|sendv_all)$")
WITH_ROOM = re.compile(
    r"wh_(open|open_at|make_temporary|make_temporary_directory|p?writev?(_all)?|append_durable|allocate|allocate_mode|copy_range|copy_file|"
    r"rename|rename_at|mkdir|mkdir_at|link|link_at|symlink|symlink_at|pwritev?_blocking|fsync|fsync_blocking)$")

# header: sentence of its prose, up to the list: the functions that it is about
CLASSES = {
    "file.h": {
        "Errors of all that take a path": takes_path,
        'Of the "_at" forms': lambda function: takes_path(function) and function.name.endswith("_at"),
        "Of those that take a descriptor": takes_descriptor,
        "Of those that change names, or what is known of a file": lambda function: CHANGING.match(function.name),
        "Of those that need room": lambda function: WITH_ROOM.match(function.name),
        "Errors at an offset": lambda function: AT_AN_OFFSET.match(function.name),
        "Of reading at one": lambda function: AT_AN_OFFSET.match(function.name) and "read" in function.name,
        "Of writing at one": lambda function: AT_AN_OFFSET.match(function.name) and "read" not in function.name,
    },
    "socket.h": {
        "Errors of all that take a socket": lambda function: takes_descriptor(function) and function.name != "wh_ready",
        "Of a second one": lambda function: ONE_AT_A_TIME.match(function.name),
        "Of receiving": lambda function: RECEIVING.match(function.name),
        "Of sending": lambda function: SENDING.match(function.name),
    },
    "tls.h": {
        "Errors of handshakes": lambda function: function.name in ("wh_tls_connect", "wh_tls_accept"),
        "Of what comes": lambda function: function.name.startswith("wh_tls_recv"),
        "Of what is sent": lambda function: re.match(r"wh_tls_(sendv?_all|shutdown)", function.name),
    },
}


class Promises:
    """What each function promises: {name: {code: the header's words are its own (True) or those of a class}}."""

    def __init__(self, folder):
        self.functions, self.promised, self.may = [], {}, {}
        references = {}
        for path in sorted(folder.glob("*.h")):
            header = reference_headers.parse(path)
            classes = self.classes_of(header)
            for group in header.groups:
                for entry in group.entries:
                    text = entry.text()
                    own = set(CODE.findall(text))
                    refers = {name for match in REFERENCE.findall(text) for name in re.findall(r"wh_\w+", match)}
                    for function in entry.functions:
                        function.header = header.name
                        self.functions.append(function)
                        references[function.name] = refers
                        codes = dict.fromkeys(own, True)
                        for applies, of_class in classes:
                            if applies(function):
                                for code in of_class:
                                    codes.setdefault(code, False)
                        self.promised[function.name] = codes
        # A connection that goes may show in one way or the other.
        of_peers = set(self.promised["wh_recv"]) | set(self.promised["wh_send"])
        for name in ("wh_tls_accept", "wh_tls_recv"):
            of_peers |= set(self.promised[name])
        of_peer = {function.name for function in self.functions if function.header in ("tls.h", "http.h", "client.h")}
        # "a request may fail as one of http.h does, too. What the server refuses is a code WH_ECALL_..."
        of_server = set(re.findall(r"\bWH_ECALL_[A-Z_]+", (folder / "whilst.h").read_text()))
        of_server |= {code for function in self.functions if function.header == "http.h" for code in self.promised[function.name]}
        of_server |= set(self.promised["wh_dial"]) | set(self.promised["wh_connect"])
        for name in self.promised:
            self.may[name], ahead, known = set(COMMON), [name], set()
            while ahead:
                other = ahead.pop()
                if other not in known:
                    known.add(other)
                    self.may[name] |= set(self.promised.get(other, ()))
                    ahead += references.get(other, ())
            if name in of_peer:
                self.may[name] |= of_peers
            if name.startswith(("wh_client_", "wh_worker_")):
                self.may[name] |= of_server

    @staticmethod
    def classes_of(header):
        prose = re.sub(r"\s+", " ", "\n".join(prose for group in header.groups for prose in group.prose))
        found = []
        for words, applies in CLASSES.get(header.name, {}).items():
            match = re.search(re.escape(words) + r": ((?:[^.(]|\([^)]*\))*)\.", prose)
            if not match:
                raise SystemExit(f"scripts/header_errors.py: {header.name} does not say \"{words}: ...\"")
            found.append((applies, set(CODE.findall(match.group(1)))))
        return found
