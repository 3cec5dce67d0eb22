"""Defines the movie store: ten tables with keys, constraints and indexes of a real application.

All of them are in schema `public` and have a primary key; `movie_genres`, `ratings` and
`order_lines` have composite ones, `invoices` has a natural one. The column types are the
everyday ones on purpose, so that the demo carries each of them through the whole chain.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Sequence,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, REAL, UUID

ORDER_STATES = ("pending", "paid", "shipped", "delivered", "cancelled")
PAYMENT_METHODS = ("card", "transfer", "voucher", "wallet")

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

order_status = ENUM(*ORDER_STATES, name="order_status", metadata=metadata)
payment_method = ENUM(*PAYMENT_METHODS, name="payment_method", metadata=metadata)

# One number a workload run, so that a second run with the same seed makes new names and ids.
workload_run = Sequence("workload_run", metadata=metadata)

_NOW = func.now()
_TIMESTAMPTZ = DateTime(timezone=True)


customers = Table(
    "customers",
    metadata,
    Column("customer_id", BigInteger, Identity(always=False), primary_key=True),
    Column("public_id", UUID(as_uuid=True), nullable=False, unique=True),
    Column("email", Text, nullable=False, unique=True),
    Column("full_name", Text, nullable=False),
    Column("country", String(2), nullable=False),
    Column("birth_date", Date),
    Column("newsletter", Boolean, nullable=False, server_default=text("false")),
    Column("call_after", Time, comment="earliest time of day for a phone call"),
    Column("preferences", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("avatar", LargeBinary, comment="a small icon"),
    Column("movielens_user_id", Integer, unique=True),
    Column("created_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    Column("updated_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    CheckConstraint("position('@' in email) > 1", name="email"),
    CheckConstraint("country = upper(country) and length(country) = 2", name="country"),
    CheckConstraint("octet_length(avatar) <= 4096", name="avatar"),
    Index(None, "country"),
)

movies = Table(
    "movies",
    metadata,
    Column("movie_id", BigInteger, Identity(always=False), primary_key=True),
    Column("sku", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("tagline", Text),
    Column("description", Text, comment="long: stored out of line (TOAST), not compressed"),
    Column("release_year", SmallInteger),
    Column("released_on", Date),
    Column("runtime_minutes", SmallInteger),
    Column("languages", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("price", Numeric(10, 2), nullable=False),
    Column("popularity", Double, nullable=False, server_default=text("0")),
    Column("available", Boolean, nullable=False, server_default=text("true")),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("imdb_id", Integer),
    Column("tmdb_id", Integer),
    Column("movielens_id", Integer, unique=True),
    Column("created_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    Column("updated_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    CheckConstraint("price >= 0", name="price"),
    CheckConstraint("release_year between 1870 and 2100", name="release_year"),
    CheckConstraint("runtime_minutes > 0", name="runtime_minutes"),
    Index(None, "release_year"),
    Index("movies_title_idx", text("lower(title)")),
)

genres = Table(
    "genres",
    metadata,
    Column("genre_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", String(40), nullable=False, unique=True),
)

movie_genres = Table(
    "movie_genres",
    metadata,
    Column("movie_id", ForeignKey(movies.c.movie_id, ondelete="CASCADE"), primary_key=True),
    Column("genre_id", ForeignKey(genres.c.genre_id), primary_key=True, autoincrement=False),
    Index(None, "genre_id"),
)

ratings = Table(
    "ratings",
    metadata,
    Column("customer_id", ForeignKey(customers.c.customer_id), primary_key=True),
    Column("movie_id", ForeignKey(movies.c.movie_id), primary_key=True),
    Column("stars", Numeric(2, 1), nullable=False),
    Column("review", Text, comment="sometimes long enough to be stored out of line (TOAST)"),
    Column("rated_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    CheckConstraint("stars between 0.5 and 5.0 and stars * 2 = trunc(stars * 2)", name="stars"),
    Index(None, "movie_id"),
)

tags = Table(
    "tags",
    metadata,
    Column("tag_id", BigInteger, Identity(always=False), primary_key=True),
    Column("customer_id", ForeignKey(customers.c.customer_id), nullable=False),
    Column("movie_id", ForeignKey(movies.c.movie_id), nullable=False),
    Column("tag", Text, nullable=False),
    Column("relevance", REAL),
    Column("tagged_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    UniqueConstraint("customer_id", "movie_id", "tag"),
    CheckConstraint("length(tag) between 1 and 500", name="tag"),
    Index(None, "movie_id"),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", BigInteger, Identity(always=False), primary_key=True),
    Column("customer_id", ForeignKey(customers.c.customer_id), nullable=False),
    Column("status", order_status, nullable=False, server_default=text("'pending'")),
    Column("total", Numeric(12, 2), nullable=False),
    Column("coupons", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("shipping", JSONB, nullable=False),
    Column("note", Text),
    Column("placed_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    Column("updated_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    CheckConstraint("total >= 0", name="total"),
    Index(None, "customer_id"),
    Index(None, "placed_at"),
    Index(
        "orders_open_idx",
        "order_id",
        postgresql_where=text("status in ('pending', 'paid', 'shipped')"),
    ),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ForeignKey(orders.c.order_id), primary_key=True),
    Column("line_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("movie_id", ForeignKey(movies.c.movie_id), nullable=False),
    Column("quantity", SmallInteger, nullable=False),
    Column("unit_price", Numeric(10, 2), nullable=False),
    CheckConstraint("line_no > 0", name="line_no"),
    CheckConstraint("quantity > 0", name="quantity"),
    Index(None, "movie_id"),
)

invoices = Table(
    "invoices",
    metadata,
    Column("invoice_number", Text, primary_key=True),
    Column("order_id", ForeignKey(orders.c.order_id), nullable=False, unique=True),
    Column("issued_on", Date, nullable=False),
    Column("due_on", Date, nullable=False),
    Column("net", Numeric(12, 2), nullable=False),
    Column("tax_rate", Numeric(5, 4), nullable=False),
    Column("gross", Numeric(12, 2), nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the printed invoice"),
    CheckConstraint("due_on >= issued_on", name="due_on"),
    CheckConstraint("gross >= net", name="gross"),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
)

payments = Table(
    "payments",
    metadata,
    Column("payment_id", UUID(as_uuid=True), primary_key=True),
    Column(
        "invoice_number",
        ForeignKey(invoices.c.invoice_number, onupdate="CASCADE"),
        nullable=False,
    ),
    Column("amount", Numeric(12, 2), nullable=False),
    Column("method", payment_method, nullable=False),
    Column("paid_at", _TIMESTAMPTZ, nullable=False, server_default=_NOW),
    Column("booked_at", DateTime(timezone=False), comment="the bank's clock, without a zone"),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    CheckConstraint("amount > 0", name="amount"),
    Index(None, "invoice_number"),
    Index(None, "paid_at"),
)

# In an order that satisfies the foreign keys.
TABLES: tuple[Table, ...] = (
    genres,
    customers,
    movies,
    movie_genres,
    ratings,
    tags,
    orders,
    order_lines,
    invoices,
    payments,
)
TABLE_NAMES: frozenset[str] = frozenset(table.name for table in TABLES)
