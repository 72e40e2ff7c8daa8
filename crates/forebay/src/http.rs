//! The HTTP API of `forebay run --listen` and of `forebay api`: where it listens, and where the tiers are.

use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_api::{Api, ApiOptions, Listener, Locate, Server, TierOptions};
use forebay_servers::{PrivateServers, ServersError};
use forebay_store::Node;
use tokio_postgres::Config;

use crate::chain::Chain;
use crate::exit::Told;
use crate::home::{Brought, Home, parse};

/// Redis answers in a fraction of a millisecond, or something is wrong.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// A private server that is there says so at once; one that does not is looked for again, while requests are answered.
const LOCATE_MAX: Duration = Duration::from_millis(500);

/// Where it listens, before there is anything to serve: an address that cannot be had is known early.
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// `HOST:PORT` or `unix:PATH`, any number of them.
    ///
    /// # Errors
    /// Configuration: an address that cannot be read or had, certificates that cannot be used.
    pub async fn open(places: &[String], home: &Home) -> anyhow::Result<Self> {
        let tls = home.settings.api.tls()?;
        let mut listeners = Vec::with_capacity(places.len());
        for place in places {
            let opened = match place.strip_prefix("unix:") {
                Some(path) => Listener::unix(Path::new(path)),
                None => {
                    let address =
                        place.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(|| {
                            Told::configuration(
                                format!("\"{place}\" is no address to listen on"),
                                "Give HOST:PORT, such as 127.0.0.1:7000, or unix:PATH.",
                            )
                        })?;
                    Listener::tcp(address, tls.clone()).await
                }
            };
            listeners.push(opened.map_err(|error| Told::configuration(&error, error.remedy()))?);
        }
        Ok(Self(listeners))
    }

    /// As people write them.
    pub fn places(&self) -> Vec<String> {
        self.0.iter().map(|listener| listener.place().to_owned()).collect()
    }

    /// Serves; `None` where nobody is to be listened to. `node`: for writes. The API is for whoever watches it.
    ///
    /// # Errors
    /// Configuration: the token, PostgreSQL's address.
    pub async fn serve(
        self,
        home: &Home,
        chain: &Chain,
        node: Option<Node>,
    ) -> anyhow::Result<Option<(Api, Server)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let settings = &home.settings;
        let options = ApiOptions {
            chain: forebay_api::Chain {
                profile: Arc::clone(&chain.profile),
                genesis: Arc::clone(&chain.genesis),
            },
            tiers: tiers(home).await?,
            node,
            clock: clock(chain),
            writes: settings.api.writes()?,
            lag_operations_max: settings.limits.limits().lag_blocks_max as u64,
            limits: settings.api.limits(),
        };
        let api = Api::new(options);
        let server = Server::start(&api, self.0);
        Ok(Some((api, server)))
    }
}

fn clock(chain: &Chain) -> forebay_api::Clock {
    let profile = Arc::clone(&chain.profile);
    Arc::new(move || {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        profile.network_time(i64::try_from(unix).unwrap_or(i64::MAX))
    })
}

async fn tiers(home: &Home) -> anyhow::Result<TierOptions> {
    let settings = &home.settings;
    let (redis, postgres): (Locate<String>, Locate<Config>) = match &home.brought {
        Brought::Yours(connections) => {
            let reader = match &settings.api.postgres_url {
                Some(url) => parse("api.postgres_url", url, settings.connect_timeout())?,
                None => reader_of_yours(home, &connections.postgres)?,
            };
            (always(connections.redis_url.clone()), always(reader))
        }
        Brought::Private => {
            let servers = Arc::new(home.private_servers().await?);
            let names = home.names();
            (redis_of(Arc::clone(&servers)), postgres_of(servers, names.reader, names.database))
        }
    };
    Ok(TierOptions {
        redis,
        postgres,
        wait_max: settings.api.wait_max(),
        redis_timeout: REDIS_TIMEOUT,
        pool: settings.api.pool(),
    })
}

fn always<T: Clone + Send + Sync + 'static>(place: T) -> Locate<T> {
    Arc::new(move || {
        let place = place.clone();
        Box::pin(async move { Ok(place) })
    })
}

/// The writer's server and database, as the reader.
fn reader_of_yours(home: &Home, writer: &Config) -> anyhow::Result<Config> {
    let mut reader = writer.clone();
    reader.user(home.names().reader);
    if let Some(password) = home.settings.reader_password()? {
        reader.password(password);
    }
    Ok(reader)
}

fn redis_of(servers: Arc<PrivateServers>) -> Locate<String> {
    Arc::new(move || {
        let servers = Arc::clone(&servers);
        Box::pin(async move {
            let running = at_once("Redis", servers.running_redis()).await?;
            running.map(|redis| redis.redis_url()).ok_or_else(|| "the private Redis does not run".to_owned())
        })
    })
}

fn postgres_of(servers: Arc<PrivateServers>, role: String, database: String) -> Locate<Config> {
    Arc::new(move || {
        let (servers, role, database) = (Arc::clone(&servers), role.clone(), database.clone());
        Box::pin(async move {
            let running = at_once("PostgreSQL", servers.running_postgres()).await?;
            let running = running.ok_or_else(|| "the private PostgreSQL does not run".to_owned())?;
            let mut config = running.config(&role).map_err(|error| error.to_string())?;
            config.dbname(&database);
            Ok(config)
        })
    })
}

async fn at_once<T>(server: &str, look: impl Future<Output = Result<T, ServersError>>) -> Result<T, String> {
    match tokio::time::timeout(LOCATE_MAX, look).await {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the private {server} is there, and does not answer")),
    }
}
