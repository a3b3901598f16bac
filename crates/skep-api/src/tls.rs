//! TLS for tcp listeners, from files as dockerd takes them (`--tlscert`, `--tlskey`, `--tlscacert`, `--tlsverify`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The files of a server's identity.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities that sign clients. With it only clients with such a certificate are let in (`--tlsverify`).
    pub client_authorities: Option<PathBuf>,
}

/// Why the files make no identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not PEM.
    #[error("TLS file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key don't fit, or an authority is unusable.
    #[error("TLS: {0}")]
    Identity(#[from] rustls::Error),
    /// The authorities can't verify anybody.
    #[error("TLS client authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Reads the files. TLS 1.2 and 1.3, HTTP/1.1.
pub fn tls_config(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::File { path: files.key.clone(), source })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            for certificate in certificates(path)? {
                authorities.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |source| TlsError::File { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls_pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An authority, and somebody it signed.
    struct Signed {
        authority: String,
        certificate: String,
        key: String,
    }

    fn signed() -> Signed {
        let authority_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("an authority").pem();
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
        Signed { authority, certificate, key: key.serialize_pem() }
    }

    /// What a client gets to read after it has sent `hello`.
    async fn said(
        server: Arc<rustls::ServerConfig>,
        trusted: &Signed,
        client: Option<&Signed>,
    ) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).expect("pem")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let chain = vec![CertificateDer::from_pem_slice(client.certificate.as_bytes()).expect("pem")];
                let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).expect("pem");
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        };
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(async move {
            let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(theirs).await?;
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await?;
            stream.write_all(&heard).await?;
            stream.shutdown().await
        });
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, ours).await?;
        stream.write_all(b"hello").await?;
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        serving.await.expect("the server's task")?;
        read.map(|_| answer)
    }

    #[tokio::test]
    async fn only_clients_that_the_authority_signed_are_let_in() {
        let directory = tempfile::tempdir().expect("a directory");
        let (server, client, stranger) = (signed(), signed(), signed());
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let mut files = TlsFiles {
            certificate: file("cert.pem", &server.certificate),
            key: file("key.pem", &server.key),
            client_authorities: None,
        };
        let open = tls_config(&files).expect("a config");
        assert_eq!(said(open, &server, None).await.expect("an answer"), "hello");
        files.client_authorities = Some(file("ca.pem", &client.authority));
        let verifying = tls_config(&files).expect("a config");
        assert_eq!(said(verifying.clone(), &server, Some(&client)).await.expect("an answer"), "hello");
        assert!(said(verifying.clone(), &server, Some(&stranger)).await.is_err());
        assert!(said(verifying, &server, None).await.is_err());
        files.key = file("empty.pem", "");
        assert!(matches!(tls_config(&files), Err(TlsError::File { .. })));
    }
}
