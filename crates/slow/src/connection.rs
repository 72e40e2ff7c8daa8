//! Opening sessions.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::error::{ErrorKind, SlowError};
use crate::session::within;

/// How long a server may take to let us in: the driver's own limit covers the socket only, not the login. 10 s, or what
/// the address says.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects, drives the connection in a task of its own, and sets what every session of ours needs.
pub(crate) async fn connect(config: &Config, doing: &str, settings: &str) -> Result<Client, SlowError> {
    let failed = |error| SlowError::from_postgres(doing, error);
    let limit = config.get_connect_timeout().copied().unwrap_or(LOGIN_TIMEOUT);
    let login = async { config.connect(NoTls).await.map_err(failed) };
    let (client, connection) = within(limit, doing, ErrorKind::Unavailable, login).await?;
    tokio::spawn(async move {
        // The client's calls report the failure; here it is only logged.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a PostgreSQL connection ended");
        }
    });
    client.batch_execute(settings).await.map_err(failed)?;
    Ok(client)
}
