//! TLS for the listener, from files in PEM: the registry's identity, and whose clients it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The files of the registry's identity.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Its certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities: only clients with a certificate of theirs are served. Everybody, without.
    pub client_authorities: Option<PathBuf>,
}

/// Why the files make no identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not PEM.
    #[error("TLS file {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key don't fit.
    #[error("TLS: {0}")]
    Identity(#[from] rustls::Error),
    /// No client could show a certificate of these authorities.
    #[error("TLS file {path}: {source}", path = path.display())]
    Authorities {
        /// Which.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
}

/// The registry's identity. Connections keep the one that they began with when it is exchanged.
#[derive(Debug)]
pub(crate) struct Identity {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Identity {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let config = RwLock::new(config(&files)?);
        Ok(Identity { files, config })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.read().clone())
    }

    /// What the files hold now.
    pub(crate) fn read_again(&self) -> Result<Arc<ServerConfig>, TlsError> {
        config(&self.files)
    }

    pub(crate) fn replace(&self, config: Arc<ServerConfig>) {
        *self.config.write() = config;
    }
}

/// Reads the files. TLS 1.2 and 1.3, HTTP/1.1.
fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let bundle = |path: &Path| {
        let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        all.map_err(fail(path))
    };
    let chain = bundle(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(fail(&files.key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in bundle(path)? {
                roots.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let failed = |source| TlsError::Authorities { path: path.clone(), source };
            builder.with_client_cert_verifier(verifier.map_err(failed)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
