//! The fast tier: Redis key space, encoding, the atomic step, the outbox.
