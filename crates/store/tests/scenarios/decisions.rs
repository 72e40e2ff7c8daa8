//! What follows from each failure of Redis: one pure function says. Those of PostgreSQL are decided by its codes, which
//! `slow/src/error.rs` tests one by one; the rows of this binary show what comes of them.

use forebay_fast::{FastError, Position, State};
use forebay_ledger::ids::BlockId;
use forebay_store::{Decision, StoreError, decide};

fn doing() -> String {
    "do something".to_owned()
}

fn source() -> redis::RedisError {
    redis::RedisError::from(std::io::Error::other("a failure"))
}

#[test]
fn each_failure_of_redis_has_its_decision_and_a_remedy() {
    let position = Position { epoch: 1, seq: 1 };
    let (doing, detail) = (doing(), String::new);
    let cases = [
        (FastError::Unavailable { doing: doing.clone(), source: source() }, Decision::Retry),
        (FastError::OutcomeUnknown { doing: doing.clone(), source: source() }, Decision::Ask),
        (FastError::OutOfMemory { doing: doing.clone(), source: source() }, Decision::RetrySlowly),
        (
            FastError::Fenced { doing: doing.clone(), epoch: 1, found: Some(2), released: false },
            Decision::Stop,
        ),
        (FastError::SeqConflict { doing: doing.clone(), expected: 1, found: 2 }, Decision::Stop),
        (FastError::NotReady { state: State::Empty }, Decision::Stop),
        (FastError::Stale { floor: position, found: position }, Decision::Stop),
        (FastError::Misconfigured { doing: doing.clone(), detail: detail() }, Decision::Stop),
        (FastError::ReadOnlyReplica { doing: doing.clone(), source: source() }, Decision::Stop),
        (FastError::Corrupt { key: "a key".to_owned(), detail: detail() }, Decision::Stop),
        (FastError::UnexpectedAnswer { doing, detail: detail() }, Decision::Stop),
    ];
    for (error, decision) in cases {
        let error = StoreError::from(error);
        assert_eq!(decide(&error), decision, "{error}");
        assert!(error.remedy().ends_with('.'), "{error}: {}", error.remedy());
    }
}

#[test]
fn a_full_disk_of_redis_slows_down_as_full_memory_does() {
    let error = StoreError::from(FastError::Persistence { doing: doing(), source: source() });
    assert_eq!(decide(&error), Decision::RetrySlowly);
}

#[test]
fn what_a_caller_asked_wrongly_is_refused_and_what_could_damage_stops() {
    let height = 7;
    let other = StoreError::OtherBranch { height, ours: BlockId(1), theirs: BlockId(2) };
    for error in [other, StoreError::Request("nonsense".to_owned())] {
        assert_eq!(decide(&error), Decision::Refuse, "{error}");
    }
    for error in [StoreError::Disagreement(String::new()), StoreError::TooFarBehind(String::new())] {
        assert_eq!(decide(&error), Decision::Stop, "{error}");
    }
}
