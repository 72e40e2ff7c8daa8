//! The two tiers as one: Writer, Syncer, restore, recovery, verify.
