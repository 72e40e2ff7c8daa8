//! Opening sessions.

use std::time::Duration;

use tokio_postgres::{Client, Config};

use crate::error::{ErrorKind, SlowError};
use crate::session::within;
use crate::tls;

/// How long a server may take to let us in: the driver's own limit covers the socket only, not the login. 10 s, or what
/// the address says.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects as the address says, encrypted if it asks for it, and drives the connection in a task of its own: for what has no
/// reader or writer.
///
/// # Errors
/// Unavailable, untrusted, permission, wrong database.
pub async fn open_session(config: &Config, doing: &str) -> Result<Client, SlowError> {
    let limit = config.get_connect_timeout().copied().unwrap_or(LOGIN_TIMEOUT);
    let (config, encryption) = tls::of_address(config, doing)?;
    let login =
        async { config.connect(encryption).await.map_err(|error| SlowError::from_postgres(doing, error)) };
    let (client, connection) = within(limit, doing, ErrorKind::Unavailable, login).await?;
    tokio::spawn(async move {
        // The client's calls report the failure; here it is only logged.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a PostgreSQL connection ended");
        }
    });
    Ok(client)
}

/// The same, with what every session of ours needs.
pub(crate) async fn connect(config: &Config, doing: &str, settings: &str) -> Result<Client, SlowError> {
    let client = open_session(config, doing).await?;
    client.batch_execute(settings).await.map_err(|error| SlowError::from_postgres(doing, error))?;
    Ok(client)
}
