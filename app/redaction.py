"""Blanks out credentials in text that other people's code wrote: a driver, a revision, the application."""

import re

# Greedy to the last @, since people forget to encode the one in their password; but a web page may have an @ too.
CREDENTIALS = re.compile(r"\b((?!https?:)[a-z][a-z0-9+]*)://\S*@|\b(https?)://[^\s/]*@", re.IGNORECASE)
"""Of a URL, from its scheme to the @."""
# `password=…`, `"password": "…"`, and SQL's `PASSWORD '…'`.
_NAMED = re.compile(
    r"((?:password|passwd|pwd|secret|token)(?:[\"']?\s*[=:]\s*|\s+(?=[\"'])))"
    r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\S+)",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Blank out what looks like credentials, for text that other people's code wrote."""
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate could not be sent
    text = CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}://***@", text)
    return _NAMED.sub(r"\1***", text)
