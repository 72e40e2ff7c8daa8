//! The slow tier: PostgreSQL migrations, triggers, COPY in and out, SQL reads, roles.
