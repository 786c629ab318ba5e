"""scripts/reference_write.py -- what reference_headers read, written as Markdown and as manual pages (mdoc)."""
import errno
import os
import re

import reference_headers as headers

ERRNO_NAMES = set(errno.errorcode.values()) | {"EWOULDBLOCK", "EOPNOTSUPP"}
# What these mean here, where the system's words would mislead.
MEANINGS = {
    "ECANCELED": "cancelled, by wh_cancel() or because its loop was closed",
    "EAGAIN": "a limit is reached, or it would have to wait",
    "EDEADLK": "waiting here would stop the loop",
    "EPERM": "on a thread that may not, or in a forked child",
    "ENOSYS": "this engine, or this build, cannot do it",
    "ESTALE": "the future has been consumed already",
}
# Words of a text that are code, not language. The names of parameters that are no English words are among them.
TOKEN = re.compile(
    r"(?P<call>\b[a-z_][a-z0-9_]*\(\))"
    r"|(?P<manual>\b[a-z_][a-z0-9_+.]*\([1-8][a-z]*\))"
    r"|(?P<error>-?\b(?:WH_E[A-Z0-9_]*[A-Z0-9]|E[A-Z0-9]{3,})\b(?!\*))"
    r"|(?P<constant>\$?\b(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|NULL|SIG[A-Z]{2,}|POLL[A-Z]{2,})\b)"
    r"|(?P<page>\bdocs/[\w/-]+\.md\b)"
    r"|(?P<type>\b(?:(?:const )?(?:struct |enum ))?wh_\w+\b(?: \*+(?=[\s,.;:)]|$))?)"
    r"|(?P<name>\b(?:[a-z]+(?:_[a-z0-9]+)+|argv|buf|fd|len|off|arg|fn|iov|fs|ns|ptr|ret)\b|-?\berrno\b)")


def tokens(text):
    """Yields (kind, words) with kind None for what is language."""
    at = 0
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "error" and not (match.group().lstrip("-") in ERRNO_NAMES or "WH_E" in match.group()):
            continue
        if match.start() > at:
            yield None, text[at:match.start()]
        yield kind, match.group()
        at = match.end()
    if at < len(text):
        yield None, text[at:]


class Library:
    """All headers, and where each name is explained."""

    def __init__(self, parsed):
        self.headers = parsed
        self.groups = [group for header in parsed for group in header.groups if group.entries or group.prose]
        self.where, self.own_errors = {}, {}
        for group in self.groups:
            for entry in group.entries:
                for found in entry.declarations:
                    if found.name and (found.kind == "function" or found.name not in self.where):
                        self.where[found.name] = group
                    if found.kind == "enum":
                        self.own_errors.update(re.findall(r"(WH_E[A-Z0-9_]+)\b[^/\n]*/\* (.*?) \*/", found.code))

    def texts(self, group):
        """(functions, text) of a group: its prose, then its entries; the insides of structs count as text."""
        for prose in group.prose:
            yield [], prose
        for entry in group.entries:
            inside = " ".join(re.sub(r"[\s*]+", " ", words) for found in entry.declarations
                              for words in re.findall(r"/\*(.*?)\*/", found.code, re.DOTALL))
            yield entry.functions, entry.text() + " " + inside

    def errors(self, group):
        """[(code, meaning, functions that say so)]"""
        found = {}
        for functions, text in self.texts(group):
            for kind, word in tokens(text):
                if kind == "error":
                    names = found.setdefault(word.lstrip("-"), [])
                    names += [f.name for f in functions if f.name not in names]
        return [(code, self.meaning(code), found[code]) for code in sorted(found)]

    def meaning(self, code):
        if code in self.own_errors:
            return self.own_errors[code]
        if code.startswith("WH_"):
            raise SystemExit(f"scripts/reference: -{code} is mentioned in a header, but no enum with a comment has it")
        return MEANINGS.get(code) or os.strerror(getattr(errno, code))

    def mentioned(self, group):
        """(groups, manual pages) that a group's texts refer to."""
        groups, manuals = [], []
        for _, text in self.texts(group):
            for kind, word in tokens(text):
                aim = self.where.get(bare(word)) if kind in ("call", "type") else None
                if aim and aim is not group and aim not in groups:
                    groups.append(aim)
                if kind == "manual" and word not in manuals:
                    manuals.append(word)
        return groups, sorted(manuals)


def bare(word):
    """wh_names of "struct wh_names *" and of "wh_names()"."""
    return re.search(r"\w+(?=\(\)|[ *]*$)", word).group()


def title(group):
    if not group.title:
        if group.slug == "overview":
            return "libwhilst"
        return capital(re.split(r"[:.](?:\s|$)", group.header.summary)[0].rstrip("."))
    text = group.title if not group.parent else f"{group.parent.title}: {group.title}"
    base = group.header.path.stem
    if base != "whilst":
        text = f"{base.upper() if len(base) < 5 else base} {text}"
    return text[0].upper() + text[1:]


def laid_out(function, width=96):
    """A signature on one line, or a parameter list that is broken where it must be."""
    result = function.result + ("" if function.result.endswith("*") else " ")
    head = f"{result}{function.name}("
    line, lines = head, []
    for i, parameter in enumerate(function.parameters):
        piece = parameter + (");" if i + 1 == len(function.parameters) else ", ")
        if len(line) + len(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = " " * min(len(head), 16)
        line += piece
    return "\n".join(lines + [line])


def source(declaration):
    """A declaration that is no function: as it stands in the header."""
    if declaration.kind == "macro":
        return declaration.code
    return re.sub(r"\b(WH_API|WH_MUST_USE)\b ?", "", declaration.code)


def paragraphs(text):
    """Yields ("code" | "list" | "text", words) of a comment's text."""
    for paragraph in re.split(r"\n\s*\n", text.strip()) if text.strip() else []:
        lines = paragraph.split("\n")
        if all(line.startswith(("  ", "\t")) for line in lines):
            yield "code", paragraph
        elif lines[0].startswith("- "):
            yield "list", [re.sub(r"\s*\n\s*", " ", item) for item in re.split(r"\n- ", paragraph[2:])]
        else:
            yield "text", re.sub(r"\s*\n\s*", " ", paragraph)


# ---- Markdown

def anchor(declaration):
    return declaration.name if declaration.kind == "function" else f"{declaration.kind}-{declaration.name}"


class Markdown:
    def __init__(self, library):
        self.source = library

    def link(self, word, name, page):
        aim = self.source.where.get(name)
        if not aim:
            return f"`{word}`"
        anchors = {d.name: anchor(d) for e in aim.entries for d in e.declarations if d.name}
        functions = {d.name for d in aim.functions}
        part = name if name in functions else anchors[name]
        return f"[`{word}`]({'' if aim is page else aim.slug + '.md'}#{part})"

    def inline(self, text, page):
        out = ""
        for kind, word in tokens(text):
            if kind is None:
                out += re.sub(r"([*_<>|\[\]`\\])", r"\\\1", word)
            elif kind in ("call", "type"):
                out += self.link(word, bare(word), page)
            elif kind == "manual":
                out += manual_link(word)
            elif kind == "page":
                out += f"[{word}]({os.path.relpath(word, 'docs/reference/libwhilst')})"
            else:
                out += f"`{word}`"
        return out

    def prose(self, text, page):
        out = []
        for kind, words in paragraphs(text):
            if kind == "code":
                out.append("```\n" + words + "\n```")
            elif kind == "list":
                out.append("\n".join(f"- {self.inline(item, page)}" for item in words))
            else:
                out.append(self.inline(words, page))
        return out

    def entry(self, entry, page):
        out = []
        named = [d for d in entry.declarations if d.kind == "function"]
        if named:
            out.append("### " + ", ".join(f"`{d.name}()`" for d in named))
            if len(named) > 1:
                out.insert(0, "\n".join(f'<a id="{d.name}"></a>' for d in named))
            out.append("```c\n" + "\n".join(laid_out(d) for d in named) + "\n```")
            prose, labels = headers.labelled(entry.text())
            for words in prose:
                out += self.prose(stopped(capital(words)), page)
            if labels:
                out.append("\n".join(f"- {f'**{label}**' if label[0].isupper() else f'`{label}`'}: {stopped(self.inline(words, page))}" for label, words in labels))
            return out
        first = entry.declarations[0]
        names = ", ".join(f"`{d.kind + ' ' if d.kind in ('struct', 'enum', 'union') else ''}{d.name}`"
                          for d in entry.declarations if d.name)
        if names:
            out.append("\n".join(f'<a id="{anchor(d)}"></a>' for d in entry.declarations) + f"\n\n### {names}")
        elif first.kind == "enum":
            out.append("### Error codes of the library" if "WH_E" in first.code else "### Constants")
        out.append("```c\n" + "\n".join(source(d) for d in entry.declarations) + "\n```")
        for words in self.prose(stopped(capital(entry.text())), page):
            out.append(words)
        return out

    def page(self, group):
        out = [f"<!-- Written by scripts/reference from include/whilst/{group.header.name}. -->", f"# {title(group)}"]
        out.append(f"```c\n#include <whilst/{group.header.name}>\n```")
        if not group.title and group.header.summary.rstrip(".") != title(group)[0].lower() + title(group)[1:]:
            out += self.prose(stopped(capital(group.header.summary)), group)
        for text in group.prose:
            out += self.prose(capital(text), group)
        for entry in group.entries:
            out += self.entry(entry, group)
        errors = self.source.errors(group)
        if errors:
            out.append("## Errors\n\n| code | | said of |\n|---|---|---|\n" + "\n".join(
                f"| `-{code}` | {self.inline(meaning, group)} | "
                + ", ".join(self.link(name + "()", name, group) for name in names) + " |"
                for code, meaning, names in errors))
            if group.slug != "overview":
                out.append("Any call may also give the [common errors](overview.md).")
        groups, manuals = self.source.mentioned(group)
        also = [f"[{title(aim)}]({aim.slug}.md)" for aim in groups]
        also += [manual_link(word) for word in manuals]
        also.append(f"`man {manual_name(group)}`")
        out.append("## See also\n\n" + ", ".join(also) + ".")
        return "\n\n".join(out) + "\n"

    def index(self):
        out = ["<!-- Written by scripts/reference from include/whilst/. -->", "# libwhilst, call by call",
               "Each page is a group of calls, taken from the comments of the installed headers; `make install` brings the same "
               "as manual pages (`man wh_pread`). How they are used together: [the guide](../../guide/README.md)."]
        for header in self.source.headers:
            out.append(f"## `<whilst/{header.name}>`\n\n{self.inline(stopped(capital(header.summary)), None)}")
            rows = []
            for group in header.groups:
                if group not in self.source.groups:
                    continue
                names = ", ".join(self.link(d.name + "()", d.name, None) for d in group.functions)
                rows.append(f"| [{title(group)}]({group.slug}.md) | {names or 'types, errors, what all calls have in common'} |")
            out.append("| page | calls |\n|---|---|\n" + "\n".join(rows))
        types = sorted((d.name, d.kind, g) for g in self.source.groups for e in g.entries for d in e.declarations
                       if d.kind in ("type", "struct", "enum", "union") and d.name)
        out.append("## Types\n\n" + ", ".join(
            f"[`{kind + ' ' if kind != 'type' else ''}{name}`]({group.slug}.md#{kind}-{name})" for name, kind, group in types) + ".")
        return "\n\n".join(out) + "\n"


def capital(text):
    """A sentence that begins with a word begins with a capital; one that begins with a name stays as it is."""
    kind, word = next(tokens(text), (None, ""))
    if kind is None and not word.startswith("libwhilst") and re.match(r"(a|[a-z]{2,})[ ,;]|[a-z]{2,}: [a-z]", word):
        return text[0].upper() + text[1:]
    return text


def stopped(text):
    """Short comments go without a full stop; a page has them."""
    return text if not text or text.rstrip()[-1] in ".:;?!" or text.startswith(("  ", "\t")) else text + "."


def manual_link(word):
    name, section = re.match(r"(.*)\((.*)\)", word).groups()
    return f"[`{word}`](https://man7.org/linux/man-pages/man{section[0]}/{name}.{section}.html)"


# ---- manual pages

def manual_name(group):
    return "libwhilst" if group.slug == "overview" else f"whilst-{group.slug}"


CLOSING = ".,:;)]?!"


class Mdoc:
    def __init__(self, library, date):
        self.source, self.date = library, date

    def macro(self, kind, word, page):
        if kind == "call":
            name = word[:-2]
            return f"Xr {name} 3" if self.source.where.get(name) not in (None, page) else f"Fn {name}"
        if kind == "manual":
            name, section = re.match(r"(.*)\((.*)\)", word).groups()
            return f"Xr {name} {section}"
        if kind == "error":
            return f"Er {word.lstrip('-')}"
        if kind == "constant":
            return f"Ev {word[1:]}" if word[0] == "$" else f"Dv {word}"
        if kind == "page":
            return f"Pa {word}"
        return f"Vt {word}" if kind == "type" else f"Va {word.lstrip('-')}"

    def word_line(self, word, page):
        """A word that contains one token, as a macro line; None when it is better left text."""
        pieces = list(tokens(word))
        marked = [i for i, (kind, _) in enumerate(pieces) if kind]
        if len(marked) != 1:
            return None
        at = marked[0]
        before = "".join(text for _, text in pieces[:at])
        after = "".join(text for _, text in pieces[at + 1:])
        kind, text = pieces[at]
        if text[0] == "-":
            before += "-"
        if re.search(r"\w", before) or re.search(r"[^\w.,:;)\]?!'\"-]", after):
            return None
        line = self.macro(kind, text, page)
        if before:
            line = f"Pf {escape(before)} {line}"
        closing = re.match(r"[.,:;)\]?!]*", after).group()
        rest = after[len(closing):]
        if closing and rest:
            return None
        if closing:
            line += " " + " ".join(closing)
        elif rest:
            line += f" Ns {escape(rest)}"
        return "." + line

    def text(self, text, page):
        lines = []
        for sentence in headers.sentences(text):
            current = []

            def flush():
                if current:
                    words = " ".join(current)
                    lines.append(("\\&" if words[0] in ".'" else "") + words)
                    current.clear()
            for word in sentence.split():
                line = self.word_line(word, page)
                if not line and len(" ".join([*current, escape(word)])) > 78:
                    flush()
                if line:
                    flush()
                    lines.append(line)
                else:
                    current.append(escape(word))
            flush()
        return lines

    def literal(self, code):
        lines = [escape(line).replace("\t", "    ") for line in code.split("\n")]
        return [".Bd -literal", *(("\\&" if line.startswith((".", "'")) else "") + line for line in lines), ".Ed"]

    def prose(self, text, page, first):
        out = []
        for kind, words in paragraphs(text):
            if kind != "code" and not first:
                out.append(".Pp")
            first = False
            if kind == "code":
                out += self.literal(words)
            elif kind == "list":
                out.append(".Bl -dash -compact")
                for item in words:
                    out += [".It", *self.text(item, page)]
                out.append(".El")
            else:
                out += self.text(words, page)
        return out

    def synopsis(self, group):
        out = [".Sh SYNOPSIS", f".In whilst/{group.header.name}"]
        for found in group.functions:
            out += [f".Ft {quoted(found.result)}", f".Fo {found.name}"]
            out += [f".Fa {quoted(parameter)}" for parameter in found.parameters]
            out.append(".Fc")
        return out

    def entry(self, entry, page):
        functions = entry.functions
        if not functions:
            out = self.literal("\n".join(source(d) for d in entry.declarations))
            return out + (self.prose(stopped(capital(entry.text())), page, True) if entry.text() else [])
        if len(functions) == 1:
            out = [".Bl -tag -width Ds", f".It Fn {functions[0].name}"]
        else:
            out = [".Bl -tag -width Ds", ".It Xo", *interleave(functions), ".Xc"]
        prose, labels = headers.labelled(entry.text())
        first = True
        for words in prose:
            out += self.prose(stopped(capital(words)), page, first)
            first = False
        for label, words in labels:
            out += ([] if first else [".Pp"]) + [f".{'Em' if label[0].isupper() else 'Fa'} {label.replace(', ', ' , ')} :", *self.text(stopped(words), page)]
            first = False
        return out + [".El"]

    def page(self, group):
        name = manual_name(group)
        names = [name] + [f.name for f in group.functions]
        out = [f'.\\" Written by scripts/reference from include/whilst/{group.header.name}.', f".Dd {self.date}",
               f".Dt {name.upper()} 3", ".Os", ".Sh NAME"]
        out += [f".Nm {n}{' ,' if n != names[-1] else ''}" for n in names]
        summary = group.header.summary if not group.title else title(group)[0].lower() + title(group)[1:] + ", in libwhilst"
        out.append(f".Nd {escape(summary.rstrip('.'))}")
        out += [".Sh LIBRARY", "libwhilst (libwhilst, -lwhilst); flags:", ".Ql pkg-config --cflags --libs whilst"]
        out += self.synopsis(group)
        out.append(".Sh DESCRIPTION")
        first = True
        for text in group.prose:
            out += self.prose(capital(text), group, first)
            first = False
        for entry in group.entries:
            out += self.entry(entry, group)
        errors = self.source.errors(group)
        if errors:
            out += [".Sh ERRORS", "Besides the common errors of", ".Xr libwhilst 3 :"] if name != "libwhilst" else [".Sh ERRORS"]
            out.append(".Bl -tag -width Er")
            for code, meaning, said in errors:
                out += [f".It Bq Er {code}", *self.text(stopped(meaning[0].upper() + meaning[1:]), group)]
                if said:
                    out.append("Said of")
                    out += [f".Fn {n}{' ,' if n != said[-1] else ' .'}" for n in said]
            out.append(".El")
        out += self.see_also(group, name)
        return "\n".join(out) + "\n"

    def see_also(self, group, name):
        groups, manuals = self.source.mentioned(group)
        if name == "libwhilst":
            groups = [g for g in self.source.groups if g is not group]
        pages = {(int(re.match(r"(.*)\((\d).*\)", word).group(2)), re.match(r"(.*)\(", word).group(1)) for word in manuals}
        pages |= {(3, manual_name(aim)) for aim in groups} | {(3, "libwhilst")}
        pages.discard((3, name))
        pages = sorted(pages)
        return [".Sh SEE ALSO"] + [f".Xr {page} {section}{' ,' if (section, page) != pages[-1] else ''}"
                                   for section, page in pages]


def interleave(functions):
    out = []
    for i, found in enumerate(functions):
        out.append(f".Fn {found.name}" + (" ," if i + 1 < len(functions) else ""))
    return out


def escape(text):
    return text.replace("\\", "\\e").replace('"', "\\(dq")


def quoted(text):
    return '"' + text + '"' if " " in text else text
