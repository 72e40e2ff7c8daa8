//! Which faults may be done at the same time.
//!
//! A second fault is a light one: it breaks a server or what leads to it, and leaves files and nodes alone. It never takes
//! what the first one relies on: of node and Redis, one keeps what PostgreSQL lacks.

use crate::kind::FaultKind;
use crate::servers::Server;

use FaultKind as Kind;

/// Which server a light fault is about; `None`: it is not a light one.
pub fn light_on(kind: FaultKind) -> Option<Server> {
    match kind {
        Kind::KillRedis
        | Kind::RestartRedis
        | Kind::PauseRedis
        | Kind::FlushRedis
        | Kind::RedisMemory
        | Kind::CutRedis
        | Kind::CutRedisAnswer
        | Kind::CutRedisQuestion
        | Kind::DelayRedis
        | Kind::BlackHoleRedis
        | Kind::RefuseRedis => Some(Server::Redis),
        Kind::KillPostgres
        | Kind::RestartPostgres
        | Kind::KillSession
        | Kind::PausePostgres
        | Kind::CutPostgres
        | Kind::CutPostgresAnswer
        | Kind::CutPostgresQuestion
        | Kind::DelayPostgres
        | Kind::BlackHolePostgres
        | Kind::RefusePostgres
        | Kind::TerminateSessions
        | Kind::RivalLocks
        | Kind::AdministratorLock => Some(Server::Postgres),
        _ => None,
    }
}

/// Whether `second` may be done while `first` is.
pub fn may_join(first: FaultKind, second: FaultKind) -> bool {
    let Some(broken) = light_on(second) else { return false };
    match first {
        // Redis is the only one that has what PostgreSQL lacks; it may be away, but not lose it.
        Kind::KillNode | Kind::KillNodeStarting => !loses_volatile_data(second),
        Kind::PauseNode | Kind::ClockForward | Kind::ClockBackward => true,
        Kind::OlderRedis | Kind::OlderRdb | Kind::RedisDiskFull | Kind::PauseRedisLong => {
            broken == Server::Postgres
        }
        Kind::PostgresDiskFull | Kind::PausePostgresLong => broken == Server::Redis,
        _ => light_on(first).is_some_and(|server| server != broken),
    }
}

/// Whether Redis is emptied by it if it keeps nothing on disk.
fn loses_volatile_data(kind: FaultKind) -> bool {
    matches!(kind, Kind::FlushRedis | Kind::KillRedis | Kind::RestartRedis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_fault_never_takes_what_the_first_one_relies_on() {
        assert!(may_join(Kind::KillNode, Kind::PauseRedis) && may_join(Kind::KillNode, Kind::KillPostgres));
        assert!(!may_join(Kind::KillNode, Kind::FlushRedis));
        assert!(may_join(Kind::FlushRedis, Kind::KillPostgres));
        assert!(!may_join(Kind::OlderPostgres, Kind::KillRedis));
        for first in Kind::ALL {
            for second in Kind::ALL.into_iter().filter(|second| may_join(first, *second)) {
                let (first, second) = (light_on(first), light_on(second));
                assert!(second.is_some() && first != second, "both break {second:?}");
            }
        }
    }
}
