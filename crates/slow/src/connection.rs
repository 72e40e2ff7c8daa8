//! Opening sessions.

use tokio_postgres::{Client, Config, NoTls};

use crate::error::SlowError;

/// Connects, drives the connection in a task of its own, and sets what every session of ours needs.
pub(crate) async fn connect(config: &Config, doing: &str, settings: &str) -> Result<Client, SlowError> {
    let (client, connection) =
        config.connect(NoTls).await.map_err(|error| SlowError::from_postgres(doing, error))?;
    tokio::spawn(async move {
        // The client's calls report the failure; here it is only logged.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a PostgreSQL connection ended");
        }
    });
    client.batch_execute(settings).await.map_err(|error| SlowError::from_postgres(doing, error))?;
    Ok(client)
}
