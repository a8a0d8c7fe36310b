r"""Blanks out the passwords in SQL that people will read: only what stands in strings, so the rest is what runs.

A string may hold SQL itself, in which strings are looked for in turn: the body of a function, what EXECUTE is given.
Any other is taken for text, such as a connection string.

Sources: PostgreSQL manual, "Lexical Structure" (4.1.2.1 to 4.1.2.4, on strings), "Connection Strings" (libpq).
"""

import re
from collections.abc import Iterator

from app.lint.statements import GOES_ON, Token, split, tokens
from app.redaction import CREDENTIALS

_SUSPICIOUS = re.compile(r"password|passwd|pwd|secret|token|://", re.IGNORECASE)
"""Without one of these there is nothing to be found."""
_NAMED = re.compile(
    r"(?:password|passwd|pwd|secret|token)(?:\s*=\s*|[\"']\s*[=:]\s*|\s+(?=[\"']))"
    r"(?:\"(?P<double>(?:[^\"\\]|\\.)*)\"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<word>\S+))",
    re.IGNORECASE | re.DOTALL,
)
"""`password=…`, `"password": "…"` and `PASSWORD '…'` in a text."""

_BEGIN_STATEMENTS = {
    *("ALTER", "BEGIN", "CALL", "COMMENT", "COPY", "CREATE", "DECLARE", "DELETE", "DO", "DROP", "END", "EXECUTE"),
    *("GRANT", "INSERT", "MERGE", "PERFORM", "RETURN", "REVOKE", "SELECT", "SET", "TRUNCATE", "UPDATE", "WITH"),
}
_DEEPEST = 4
"""How many strings in strings are looked into; what is deeper and suspicious is blanked out as a whole."""

_LETTERS = re.compile(rf"(?P<gap>'{GOES_ON})|(?P<quote>'')|(?P<other>[^'])", re.DOTALL)
_ESCAPED_LETTERS = re.compile(rf"(?P<gap>'{GOES_ON})|(?P<quote>''|\\')|(?P<other>\\\\|[^'])", re.DOTALL)
"""The letters of a string as they are written; a `'` that is none of them ends it. With escapes, as in E''."""

_Blank = tuple[int, int, str]
"""Where it starts and ends, in characters, and what takes its place."""


def redacted_sql(sql: str) -> str:
    """Blank out the passwords of roles and user mappings, and those in connection strings; the rest stays SQL."""
    sql = sql.encode("utf-8", "replace").decode()  # a lone surrogate could not be sent
    parts, at = [], 0
    for start, end, instead in _in_sql(sql, 0):
        parts += [sql[at:start], instead]
        at = end
    return "".join([*parts, sql[at:]])


def _in_sql(sql: str, depth: int) -> Iterator[_Blank]:
    if not _SUSPICIOUS.search(sql):
        return
    is_password = False
    for token in tokens(sql):
        if token.kind == "string":
            yield from _in_string(token, depth, is_password=is_password)
        # U&'…' comes as three tokens.
        is_password = _names_a_password(token) or (is_password and token.keyword in {"U", "&"})


def _names_a_password(token: Token) -> bool:
    """Whether it is PASSWORD, as a keyword or as the name of an option; or `sslpassword`."""
    return token.kind in {"word", "quoted"} and token.name.lower().endswith("password")


def _in_string(token: Token, depth: int, *, is_password: bool) -> Iterator[_Blank]:
    if not (is_password or _SUSPICIOUS.search(token.text)):
        return
    content, places = _content(token)
    if is_password or depth == _DEEPEST:
        if token.text[0] in "eE":
            yield token.start, token.start + 1, ""
        yield places[0], places[-1], "***"
        return
    for start, end, instead in _in_sql(content, depth + 1) if _is_sql(content) else _in_text(content):
        yield places[start], places[end], instead


def _content(token: Token) -> tuple[str, list[int]]:
    """What a string stands for, and where each of its letters, and then its end, is written in the whole text."""
    if token.text.startswith("$"):
        delimiter = token.text[: token.text.index("$", 1) + 1]
        body = token.text[len(delimiter) :].removesuffix(delimiter)
        first = token.start + len(delimiter)
        return body, list(range(first, first + len(body) + 1))
    letters = _ESCAPED_LETTERS if token.text[0] in "eE" else _LETTERS
    content, places, at = list[str](), list[int](), token.text.index("'") + 1
    while found := letters.match(token.text, at):
        if found.lastgroup != "gap":
            content.append("'" if found["quote"] else found[0][0])
            places.append(token.start + at)
        at = found.end()
    return "".join(content), [*places, token.start + at]


def _is_sql(content: str) -> bool:
    return any(
        next((token.keyword for token in statement.tokens if token.kind == "word"), "") in _BEGIN_STATEMENTS
        for statement in split(content)
    )


def _in_text(text: str) -> Iterator[_Blank]:
    found = [(each.start() + each[0].index("://") + len("://"), each.end() - 1) for each in CREDENTIALS.finditer(text)]
    found += [each.span(each.lastgroup or 0) for each in _NAMED.finditer(text)]
    last = 0
    for start, end in sorted(found):
        if start >= last:
            yield start, end, "***"
            last = end
        # Of two that overlap, such as a password in a URL that reads `password=…`, the rest of the second.
        elif end > last:
            yield last, end, ""
            last = end
