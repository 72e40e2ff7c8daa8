//! Encrypted sessions, where the address asks for them: `sslmode=require`. The server's certificate is then checked, name
//! and signature, against those that the system trusts, or those of SSL_CERT_FILE. With any other mode nothing is encrypted:
//! what is not checked protects from nobody.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::error::{ErrorKind, SlowError};

/// How sessions of this address are opened: the address for the driver, and what encrypts.
///
/// # Errors
/// Untrusted: the certificates that are to be trusted cannot be read.
pub(crate) fn of_address(config: &Config, doing: &str) -> Result<(Config, Encryption), SlowError> {
    let mut config = config.clone();
    if config.get_ssl_mode() != SslMode::Require {
        config.ssl_mode(SslMode::Disable);
        return Ok((config, Encryption { checked: None }));
    }
    let checked = trusting_the_system().map_err(|detail| {
        SlowError::new(ErrorKind::Untrusted, doing, detail.to_string()).with_cause(detail)
    })?;
    Ok((config, Encryption { checked: Some(Arc::new(checked)) }))
}

/// Whether it was not the connection that failed but what was to be said over it: the certificate, or a server without TLS.
pub(crate) fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    if error.to_string() != "error performing TLS handshake" {
        return false;
    }
    match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        Some(broken) => broken.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        None => true,
    }
}

#[derive(Debug, thiserror::Error)]
enum NoCertificates {
    #[error("the certificates that are to be trusted cannot be read: {0}")]
    Unreadable(String),
    #[error("this system has no certificates that are to be trusted")]
    None,
    #[error("{0}")]
    Unusable(#[from] rustls::Error),
}

fn trusting_the_system() -> Result<ClientConfig, NoCertificates> {
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) if trusted.is_empty() => return Err(NoCertificates::Unreadable(error.to_string())),
        None if trusted.is_empty() => return Err(NoCertificates::None),
        // One that cannot be read is no reason to refuse a server that another one vouches for.
        Some(error) => tracing::warn!(%error, "a certificate that is to be trusted cannot be read"),
        None => {}
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth())
}

/// Encrypts the sessions of an address that asks for it.
#[derive(Clone)]
pub(crate) struct Encryption {
    /// `None`: the address does not, and the driver never asks.
    checked: Option<Arc<ClientConfig>>,
}

impl<S> MakeTlsConnect<S> for Encryption
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        // A socket's path is no name; the driver refuses to encrypt it before the handshake.
        let name = match (&self.checked, host.is_empty()) {
            (Some(_), false) => Some(ServerName::try_from(host.to_owned())?),
            _ => None,
        };
        Ok(Handshake { checked: self.checked.clone(), name })
    }
}

/// One handshake.
pub(crate) struct Handshake {
    checked: Option<Arc<ClientConfig>>,
    name: Option<ServerName<'static>>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let (Some(checked), Some(name)) = (self.checked, self.name) else {
                return Err(io::Error::other("the address does not ask for encryption"));
            };
            Ok(Encrypted(Box::new(TlsConnector::from(checked).connect(name, stream).await?)))
        })
    }
}

/// An encrypted stream.
pub(crate) struct Encrypted<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate was checked, so nobody stands in between.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
