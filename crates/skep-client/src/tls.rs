//! TLS of `tcp://` endpoints: `--tls`, `--tlsverify` and the three files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{Error, Result};

/// Which certificates to use, and whether the server has to prove who it is.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority that signed the server's certificate.
    pub ca: PathBuf,
    /// Our certificate; used together with `key`, and only if both files exist.
    pub cert: PathBuf,
    /// Our key.
    pub key: PathBuf,
    /// `--tlsverify`: refuse a server that `ca` did not sign.
    pub verify: bool,
}

#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Tls(e.to_string()))?;
        let builder = if files.verify {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(&files.ca)? {
                roots.add(certificate).map_err(|e| Error::Tls(format!("{}: {e}", files.ca.display())))?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        };
        let config = if files.cert.exists() && files.key.exists() {
            let key = PrivateKeyDer::from_pem_file(&files.key)
                .map_err(|e| Error::Tls(format!("could not read TLS key {}: {e}", files.key.display())))?;
            builder
                .with_client_auth_cert(read_certificates(&files.cert)?, key)
                .map_err(|e| Error::Tls(format!("could not load X509 key pair: {e}")))?
        } else {
            builder.with_no_client_auth()
        };
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |e: &dyn std::fmt::Display| Error::Tls(format!("could not read CA certificate {path:?}: {e}"));
    let pem = fs::read(path).map_err(|e| unreadable(&e))?;
    CertificateDer::pem_slice_iter(&pem).collect::<std::result::Result<_, _>>().map_err(|e| unreadable(&e))
}

/// `--tls` without `--tlsverify`: encrypted, but with whoever answers. Signatures are still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
