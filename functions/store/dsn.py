"""The URL of the database is read before libpq sees it, and what libpq says of it is never passed
on: its errors quote the URL with the password. Here a mistake is named by its kind, with the
variable and what to write instead."""

import re
from typing import TYPE_CHECKING, Any

from psycopg._conninfo_attempts import conninfo_attempts
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Error

from functions.errors import StoreError

if TYPE_CHECKING:
    import psycopg

CODE_UNREADABLE = "dsn"
"""The code of the StoreError for a text that is no URL of PostgreSQL."""
CODE_REFUSED = "connect"
"""The code of the StoreError for a connection that the server refuses until somebody changes the
URL or the server."""
CODE_AWAY = "away"
"""The code of the StoreError for a connection that may be had later, with nothing changed."""
CONNECT_SECONDS = 10
"""For a command to connect. All addresses of the host share them."""
WRITE = "Write postgresql://user:password@host:5432/database."
ENCODE = "In the password % is written %25, @ is %40, / is %2F, : is %3A, ? is %3F and # is %23. "
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+\w+://")
"""SQLAlchemy names its driver in the scheme."""
OTHERS_OPTIONS = frozenset(
    {
        # Prisma
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
        # SQLAlchemy and asyncpg
        "command_timeout",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        # Rails, pgx, node-postgres and the clients of Supabase
        "default_query_exec_mode",
        "pool",
        "pool_max_conns",
        "pool_size",
        "prepared_statements",
        "statement_cache_mode",
        "supa",
        "uselibpqcompat",
        "workaround",
    }
)
"""Options in the URLs of other tools that mean nothing to PostgreSQL's own library. An option that
neither this list nor libpq has is refused: it may be a misspelt `sslmode`."""
_REFUSALS: tuple[tuple[str, str, bool], ...] = (
    (
        "password authentication failed|wrong password|SASL authentication failed",
        "the password is wrong for this user",
        False,
    ),
    ("no password supplied", "the server wants a password, and none is there", False),
    ("role .* does not exist", "the server has no such user", False),
    ("tenant or user not found", "the pooler knows no such user: it is postgres.REF there", False),
    ("database .* does not exist", "the server has no such database", False),
    ("pg_hba.conf", "the server does not let this user in from this address", False),
    ("certificate", "the certificate of the server is not accepted: see sslmode", False),
    ("SSL", "the server and the URL do not agree on encryption: see sslmode", False),
    ("too many|connection slots|max clients|maxclients", "the server has no connection left", True),
    ("database system is", "the server starts up, shuts down or recovers", True),
    ("could not translate host name|not known|resolve", "there is no host of that name", True),
    ("Connection refused", "nothing listens at this host and port", True),
    ("timeout|timed out", "no answer in time", True),
    ("No such file or directory", "there is no socket of a server at this place", True),
)
"""What libpq says when it cannot connect (a pattern, first match counts), what we say, and whether
it may pass."""


def readable(dsn: str, source: str = "DATABASE_URL") -> tuple[str, list[str]]:
    """The DSN as libpq takes it, and the names of the options of other tools that were left out.
    `source` is the variable or the option that it comes from. Raises StoreError, which shows
    nothing of it."""
    text = _DRIVER.sub(r"\1://", dsn.strip())
    is_url = text.startswith(("postgresql://", "postgres://"))
    mistake = _mistake_in_url(text) if is_url else _mistake_in_text(text)
    if mistake:
        raise _unreadable(source, mistake)
    ignored: list[str] = []
    if is_url:
        text, ignored = _without_others_options(text)
    try:
        options = conninfo_to_dict(text)
    except Error:
        hint = " (an option after the ? may be misspelt)" if is_url and "?" in text else ""
        raise _unreadable(source, f"it cannot be read{hint}") from None
    ports, hosts = (str(options.get(name) or "") for name in ("port", "host"))
    if not all(_is_port(port) for port in ports.split(",") if port):
        mistake = "its port is no number, or a / or : is in its password that is not encoded"
        raise _unreadable(source, mistake)
    if not all(_is_host(host) for host in hosts.split(",")):
        raise _unreadable(source, "its host is no name of a host")
    return text, ignored


def connect(
    dsn: str, source: str = "--dsn", **options: Any
) -> "psycopg.Connection[tuple[Any, ...]]":
    """Opens a connection. Raises StoreError, which shows nothing of the DSN."""
    import psycopg

    text, _ = readable(dsn, source)
    try:
        addresses = conninfo_attempts(conninfo_to_dict(text))
        share = max(2, CONNECT_SECONDS // len(addresses))  # psycopg waits no shorter
        return psycopg.connect(text, connect_timeout=share, **options)
    except Error as error:
        raise refused(error, source) from None


def refused(error: Error, source: str) -> StoreError:
    """Why a connection could not be opened, in our words: libpq's own may hold a part of the
    password that it takes for the host."""
    text = str(error)
    unknown = ("", f"{type(error).__name__}; the log of the server says more", True)
    matches = (row for row in _REFUSALS if re.search(row[0], text, re.IGNORECASE))
    _, sentence, passing = next(matches, unknown)
    advice = "See that it runs, and check" if passing else "Check"
    return StoreError(
        f"the database can't be reached: {sentence}. {advice} {source}.",
        retryable=passing,
        code=CODE_AWAY if passing else CODE_REFUSED,
    )


def _mistake_in_url(url: str) -> str:
    """Empty when there is none that can be told."""
    authority, slash, rest = url.partition("://")[2].partition("/")
    path = slash + rest.partition("?")[0]
    if re.search(r"[\x00-\x20\x7f]", url):
        return "a blank or a line end is in it"
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        return "a % is in it that is not encoded"
    if "YOUR-PASSWORD" in url:
        return "it has [YOUR-PASSWORD] in it: put the password of the database there"
    if authority.count("@") > 1:
        return "an @ is in its password or user that is not encoded"
    if "@" in path:
        return "a / is in its password that is not encoded"
    return ""


def _mistake_in_text(text: str) -> str:
    if not text:
        return "it is empty"
    if text[0] in "\"'`":
        return "it has quotes around it: remove them"
    if text.startswith("jdbc:"):
        return "it is a URL of JDBC: user and password stand before the host"
    if "://" in text:
        return "it has another scheme than postgresql://"
    if "=" not in text:
        return "it is neither a URL nor name=value"
    return ""


def _without_others_options(url: str) -> tuple[str, list[str]]:
    """The URL without the options that other tools put there, and their names. The rest of it is
    not touched."""
    start = url.find("?", url.find("@") + 1)
    if start < 0:
        return url, []
    options = [(part.partition("=")[0], part) for part in url[start + 1 :].split("&")]
    kept = [part for name, part in options if name not in OTHERS_OPTIONS]
    ignored = sorted({name for name, _ in options} & OTHERS_OPTIONS)
    return url[:start] + ("?" if kept else "") + "&".join(kept), ignored


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536


def _is_host(text: str) -> bool:
    """Whether it can be looked up: a socket, an address, or a name as DNS has them."""
    try:
        text.encode("idna")
    except UnicodeError:
        return text.startswith(("/", "@"))
    return text.isprintable()


def _unreadable(source: str, mistake: str) -> StoreError:
    encoding = ENCODE if mistake.endswith(("encoded", "encoded)")) else ""
    text = f"{source} is no PostgreSQL URL: {mistake}. {encoding}{WRITE}"
    return StoreError(text, retryable=False, code=CODE_UNREADABLE)
