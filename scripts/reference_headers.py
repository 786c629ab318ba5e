"""scripts/reference_headers.py -- read the installed headers: groups of declarations, and what their comments say.

The headers are written for people; the few conventions that this relies on (CONTRIBUTING.md names them):

- a heading "/* ---- title ---- ... */" begins a group, "/* -- title. ... */" a group within it; more lines are its prose;
- a comment right above a declaration is about it, and about those that follow without a blank line and without a
  comment of their own; a comment behind a declaration is about that one;
- a comment may begin with the name: "wh_await() - wait for f ...";
- in the comment of a function the sentences that begin with Result, Errors, Thread, Cost or Source are about that; so is a
  paragraph whose lines are "WORD  text", at least two blanks apart, for those and for parameters;
- a comment with a blank line after it is prose of its group.
"""
import re

HEADING = re.compile(r"^-{4} *(?P<title>.*?) *-{3,}\s*?(?:\n|$)(?P<prose>.*)", re.DOTALL)
SUBHEADING = re.compile(r"^-- +(?P<title>[^.:\n]+)(?:[.:]\s*|\n|$)(?P<prose>.*)", re.DOTALL)
LEADING_NAMES = re.compile(r"^(?:wh_\w+\(\)(?:, )?)+ - ")
LABEL = re.compile(r"(Result|Errors?|Thread|Cost|Source):? ")
HIDDEN_MACROS = {"WH_API", "WH_MUST_USE"}


class HeaderError(Exception):
    pass


class Declaration:
    def __init__(self, kind, name, code, line):
        self.kind, self.name, self.code, self.line = kind, name, code, line
        self.result, self.parameters = "", []
        self.comment = ""  # behind the declaration

    def __repr__(self):
        return f"{self.kind} {self.name}"


class Entry:
    """What one comment is about."""

    def __init__(self, comment, declaration):
        self.comment, self.declarations = comment, [declaration]

    @property
    def functions(self):
        return [d for d in self.declarations if d.kind == "function"]

    def text(self):
        own = [self.comment] if self.comment else []
        own += [d.comment for d in self.declarations if d.comment]
        return LEADING_NAMES.sub("", "\n\n".join(own))


class Group:
    def __init__(self, header, title, prose, parent=None):
        self.header, self.title, self.prose, self.parent = header, title, [prose] if prose else [], parent
        self.entries = []
        self.slug = None

    @property
    def functions(self):
        return [d for entry in self.entries for d in entry.functions]


class Header:
    def __init__(self, path, summary, prose):
        self.path, self.name, self.summary = path, path.name, summary
        self.groups = [Group(self, "", prose)]  # the first: what stands before any heading


def comment_text(raw):
    """The words of a comment without its stars: paragraphs keep their line breaks."""
    lines = raw[2:-2].split("\n")
    out = [lines[0].strip()]
    for line in lines[1:]:
        out.append(re.sub(r"^\s*\*? ?", "", line).rstrip() if re.match(r"^\s*\*", line) else line.strip())
    return "\n".join(out).strip()


def tokens(text):
    """Yields (kind, text, first line, last line): comment, directive or code (one declaration)."""
    i, size = 0, len(text)
    line_of = lambda at: text.count("\n", 0, at) + 1
    while i < size:
        if text[i].isspace():
            i += 1
        elif text.startswith("/*", i):
            end = text.index("*/", i) + 2
            yield "comment", text[i:end], line_of(i), line_of(end - 1)
            i = end
        elif text[i] == "#":
            end = i
            while True:
                end = text.find("\n", end)
                end = size if end < 0 else end
                if end == size or text[end - 1] != "\\":
                    break
                end += 1
            behind = text.find("/*", i, end)
            yield "directive", text[i:behind if behind >= 0 else end], line_of(i), line_of(end - 1)
            i = behind if behind >= 0 else end
        else:
            end = declaration_end(text, i)
            yield "code", text[i:end], line_of(i), line_of(end - 1)
            i = end


def declaration_end(text, i):
    depth, begin = 0, i
    while i < len(text):
        if text.startswith("/*", i):
            i = text.index("*/", i) + 2
            continue
        c = text[i]
        if c in "({":
            depth += 1
        elif c in ")}":
            depth -= 1
            if depth == 0 and c == "}" and text.startswith("static inline", begin):
                return i + 1
        elif c == ";" and depth == 0:
            return i + 1
        i += 1
    raise HeaderError(f"a declaration does not end: {text[begin:begin + 60]!r}")


def without_cplusplus(text):
    """The parts for C++ compilers blanked, line by line, so that numbers of lines stay true."""
    def blank(match):
        return re.sub(r"[^\n]", "", match.group(0))
    return re.sub(r"^#ifdef __cplusplus\n.*?^#endif", blank, text, flags=re.MULTILINE | re.DOTALL)


def split_parameters(inside):
    parts, depth, current = [], 0, ""
    for c in inside:
        depth += c in "([" or -(c in ")]")
        if c == "," and not depth:
            parts.append(current.strip())
            current = ""
        else:
            current += c
    return parts + [current.strip()]


def parse_declaration(code, line):
    plain = re.sub(r"/\*.*?\*/", " ", code, flags=re.DOTALL)
    plain = re.sub(r"^#.*$", "", plain, flags=re.MULTILINE)
    plain = re.sub(r"__attribute__\s*\(\(.*?\)\)(?=\s|;|$)", " ", plain, flags=re.DOTALL)
    plain = re.sub(r"\b(WH_API|WH_MUST_USE)\b", " ", plain)
    flat = re.sub(r"\s+", " ", plain).strip()
    if flat.startswith("typedef"):
        pointer = re.search(r"\b(wh_\w+)\s*\([^()]*(?:\([^()]*\)[^()]*)*\)\s*;$", flat)
        name = pointer.group(1) if pointer else re.search(r"(\w+)\s*;$", flat).group(1)
        return Declaration("type", name, code, line)
    tagged = re.match(r"(struct|enum|union)\s*(\w*)\s*\{", flat)
    if tagged:
        return Declaration(tagged.group(1), tagged.group(2), code, line)
    if re.match(r"struct \w+;$", flat):
        return Declaration("type", flat[7:-1], code, line)
    body = flat.split("{")[0].strip().rstrip(";").strip()
    function = re.match(r"(?:static inline )?(?P<result>.*?)\b(?P<name>wh_\w+)\s*\((?P<inside>.*)\)$", body)
    if not function:
        raise HeaderError(f"line {line}: not understood: {flat[:80]}")
    found = Declaration("function", function.group("name"), code, line)
    found.result = function.group("result").strip()
    found.parameters = split_parameters(function.group("inside"))
    return found


def parse_directive(text, line):
    macro = re.match(r"#define\s+((?:WH|wh)_\w+)(\([^)]*\))?[ \t]+\S", text)
    if not macro or macro.group(1) in HIDDEN_MACROS or macro.group(1).startswith("WH__"):
        return None
    return Declaration("macro", macro.group(1), re.sub(r"\s+", " ", text.strip()), line)


def parse(path):
    text = without_cplusplus(path.read_text())
    stream = list(tokens(text))
    if not stream or stream[0][0] != "comment":
        raise HeaderError(f"{path}: does not begin with a comment")
    first = re.match(r"\S+ -- (?P<summary>[^\n]*(?:\n[^\n]+)*)(?:\n\n(?P<prose>.*))?$", comment_text(stream[0][1]), re.DOTALL)
    if not first:
        raise HeaderError(f"{path}: the first comment is not 'NAME -- SUMMARY', a blank line, and prose")
    header = Header(path, first.group("summary").replace("\n", " "), first.group("prose") or "")
    group, section = header.groups[0], None
    pending, pending_end = None, 0
    last, last_end = None, 0  # the declaration before, and its last line (its comment's included)

    def keep_pending():
        nonlocal pending
        if pending:
            group.prose.append(pending)
        pending = None

    for kind, raw, begin, end in stream[1:]:
        if kind == "comment":
            words = comment_text(raw)
            if last and begin == last_end and not pending:
                give_comment(group, last, words)
                last_end = end
                continue
            keep_pending()
            last = None
            heading, sub = HEADING.match(words), SUBHEADING.match(words)
            if heading or sub:
                match = heading or sub
                prose = re.sub(r"^(\w)", lambda m: m.group(1), match.group("prose").strip())
                group = Group(header, match.group("title").strip(), prose, section if sub else None)
                section = section if sub else group
                header.groups.append(group)
            else:
                pending, pending_end = words, end
            continue
        found = parse_directive(raw, begin) if kind == "directive" else parse_declaration(raw, begin)
        if not found:
            if last and not re.match(r"#(if|endif|else|elif|include|define|undef)", raw):
                raise HeaderError(f"{path}:{begin}: not understood: {raw[:60]}")
            continue
        if pending and begin == pending_end + 1:
            group.entries.append(Entry(pending, found))
            pending = None
        else:
            keep_pending()
            if last and begin == last_end + 1 and not last.comment and last.kind == found.kind != "struct":
                group.entries[-1].declarations.append(found)
            else:
                group.entries.append(Entry("", found))
        last, last_end = found, end
    keep_pending()
    return header


def give_comment(group, declaration, words):
    """A comment behind a declaration that shares the comment above with others makes it an entry of its own."""
    declaration.comment = words
    entry = group.entries[-1]
    if len(entry.declarations) > 1:
        entry.declarations.remove(declaration)
        group.entries.append(Entry("", declaration))


def undocumented(header):
    """Declarations about which nothing is said."""
    for group in header.groups:
        for entry in group.entries:
            if entry.text().strip():
                continue
            for found in entry.declarations:
                # What can only be pointed to is explained by the calls that take it.
                if re.match(r"typedef struct (\w+) \1;", found.code):
                    continue
                # A struct or enum whose every line speaks for itself needs no comment above.
                inside = re.search(r"\{(.*)\}", found.code, re.DOTALL)
                if found.kind in ("struct", "enum", "union", "type") and inside and "/*" in inside.group(1):
                    continue
                yield found


def sentences(text):
    """Split at full stops that end a sentence, not within parentheses."""
    out, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "." and depth <= 0 and (i + 1 == len(text) or text[i + 1] in " \n"):
            out.append(text[begin:i + 1].strip())
            begin = i + 1
    rest = text[begin:].strip()
    return out + ([rest] if rest else [])


def definitions(paragraph):
    """[(word, text)] of a paragraph of lines "WORD  text", whose further lines are indented; None for other paragraphs."""
    out = []
    for line in paragraph.split("\n"):
        match = re.match(r"(\w+(?:, \w+)*)\s{2,}(\S.*)", line)
        if match:
            out.append(list(match.groups()))
        elif out and line.startswith("  "):
            out[-1][1] += " " + line.strip()
        else:
            return None
    return [tuple(pair) for pair in out]


def labelled(text):
    """(prose paragraphs, [(label or parameter, text)]) of a function's comment."""
    prose, labels = [], []
    for paragraph in re.split(r"\n\s*\n", text):
        table = definitions(paragraph)
        if table:
            labels += table
            continue
        if re.search(r"^(  |\t|- )", paragraph, re.MULTILINE):
            prose.append(paragraph)
            continue
        kept = []
        for sentence in sentences(re.sub(r"\s*\n\s*", " ", paragraph)):
            match = LABEL.match(sentence)
            if match:
                labels.append((match.group(1), sentence[match.end():]))
            else:
                kept.append(sentence)
        if kept:
            prose.append(" ".join(kept))
    return prose, labels


def slug(title):
    title = re.sub(r"\(.*?\)", "", title).strip()
    title = re.sub(r"^the ", "", title)
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def name_groups(headers):
    """A page name for each group: whilst.h files -> files; http.h server, the request -> http-server-request."""
    for header in headers:
        base = header.path.stem
        prefix = "" if base == "whilst" else base + "-"
        heads = [slug(g.title.split(":")[0]) for g in header.groups]
        for group, head in zip(header.groups, heads):
            if not group.title:
                group.slug = "overview" if not prefix else base
            elif group.parent:
                group.slug = f"{group.parent.slug}-{head}"
            elif heads.count(head) > 1:
                group.slug = prefix + slug(group.title)
            elif head == base:
                group.slug = prefix + "calls"
            else:
                group.slug = prefix + head
    names = [g.slug for h in headers for g in h.groups]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise HeaderError(f"two groups of declarations are named {', '.join(sorted(twice))}")
