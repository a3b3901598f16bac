//! Public keys in PEM, and whether a signature is theirs.
//!
//! cosign signs with SHA-256 whatever the curve; newer releases take the hash that fits the curve. Both are accepted. RSA is PKCS #1
//! v1.5 with SHA-256 and at least 2048 bits.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

static ALGORITHMS: [&dyn VerificationAlgorithm; 5] =
    [&ECDSA_P256_SHA256_ASN1, &ECDSA_P384_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1, &RSA_PKCS1_2048_8192_SHA256, &ED25519];

/// A public key, with each algorithm that it can be used with.
#[derive(Debug)]
pub struct PublicKey(Vec<ParsedPublicKey>);

impl PublicKey {
    /// Reads a key (`BEGIN PUBLIC KEY`); what is wrong with it, otherwise. There has to be exactly one.
    pub fn from_pem(pem: &[u8]) -> Result<PublicKey, String> {
        let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem);
        let der = match (keys.next(), keys.next()) {
            (Some(Ok(der)), None) => der,
            (Some(Err(error)), _) => return Err(format!("parsing public key: {error}")),
            (None, _) => return Err("parsing public key: no PEM block \"PUBLIC KEY\"".to_owned()),
            (Some(Ok(_)), Some(_)) => return Err("parsing public key: more than one key".to_owned()),
        };
        let fits = ALGORITHMS.iter().filter_map(|algorithm| ParsedPublicKey::new(*algorithm, &der[..]).ok());
        match fits.collect::<Vec<_>>() {
            parsed if parsed.is_empty() => {
                Err("parsing public key: neither ECDSA P-256 or P-384, RSA of 2048 bits or \
                                                more, nor Ed25519"
                    .to_owned())
            }
            parsed => Ok(PublicKey(parsed)),
        }
    }

    /// Whether `signature` is this key's of `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| key.verify_sig(message, signature).is_ok())
    }
}
