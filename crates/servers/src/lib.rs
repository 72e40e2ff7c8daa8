//! Private Redis and PostgreSQL servers: start, adopt, stop.
