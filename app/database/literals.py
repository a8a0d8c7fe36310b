"""Values and names written into SQL text, since the simple query protocol has no parameters."""

import datetime as dt
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""In JSON: jsonb refuses it. An even number of backslashes before it is text about backslashes."""


def identifier(name: str) -> str:
    """Write a name into SQL text, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """Write a value into SQL text, since the simple protocol has no parameters.

    Strings in the manner of libpq's PQescapeLiteral, so that `standard_conforming_strings` does not matter.

    Raises:
        TypeError: for a type that has no rule here.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            # PostgreSQL's text has no NUL; a lone surrogate cannot be sent as UTF-8.
            text = value.replace("\0", "").encode("utf-8", "replace").decode().replace("'", "''")
            return "E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"
        case uuid.UUID():
            return f"'{value}'::uuid"
        case dt.datetime():
            return f"'{value.isoformat()}'::timestamptz"
        case list() | tuple():
            return "ARRAY[" + ", ".join(map(literal, value)) + "]::text[]"
        case _:
            raise TypeError(f"no SQL literal for {type(value).__name__}")


def json_literal(value: Mapping[str, Any] | Sequence[Any] | None) -> str:
    """Write a JSON object or array into SQL text, for a column of type json or jsonb."""
    if value is None:
        return "NULL"
    # Not ASCII: jsonb refuses half of a surrogate pair too, which `literal` replaces where it is not escaped.
    text = json.dumps(value, default=str, ensure_ascii=False)
    return literal(_ESCAPED_NUL.sub(r"\1", text))
