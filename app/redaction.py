"""Blanks out credentials in text that other people's code wrote: a driver, a revision, the application."""

import re

# Greedy to the last @, since people forget to encode the one in their password; but a web page may have an @ too.
_CREDENTIALS = re.compile(r"\b((?!https?:)[a-z][a-z0-9+]*)://\S*@|\b(https?)://[^\s/]*@", re.IGNORECASE)
# `password=…`, `"password": "…"`, and SQL's `PASSWORD '…'`.
_NAMED = re.compile(
    r"((?:password|passwd|pwd|secret|token)(?:[\"']?\s*[=:]\s*|\s+(?=[\"'])))"
    r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\S+)",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Blank out what looks like credentials, for text that other people's code wrote."""
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate could not be sent
    text = _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}://***@", text)
    return _NAMED.sub(r"\1***", text)


_SQL_PASSWORD = re.compile(
    r"(\bpassword\s+)(?:e'(?:[^'\\]|''|\\.)*'|(?P<dollar>\$\w*\$).*?(?P=dollar)"
    r"|(?P<nested>'')(?=[^'\s,;)])(?:[^']|'{4})*''|'(?:[^']|'')*')",
    re.IGNORECASE | re.DOTALL,
)
"""The string after PASSWORD; nested where it is in a string itself, such as one that is handed to EXECUTE."""
_SQL_STRING = re.compile(r"'(?:[^']|'')*'")
_IN_A_STRING = re.compile(r"(\bpassword=)(?:''(?:[^'\\]|\\.)*''|[^\s']+)", re.IGNORECASE)
"""A keyword of libpq's, as in CREATE SUBSCRIPTION; SQL's own `password = …` stands outside of strings."""


def redacted_sql(sql: str) -> str:
    """Blank out the passwords of roles and user mappings, and those in connection strings; the rest stays SQL."""
    sql = sql.encode("utf-8", "replace").decode()
    sql = _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}://***@", sql)
    sql = _SQL_PASSWORD.sub(lambda found: f"{found[1]}''***''" if found["nested"] else f"{found[1]}'***'", sql)
    return _SQL_STRING.sub(lambda found: _IN_A_STRING.sub(r"\1***", found[0]), sql)
