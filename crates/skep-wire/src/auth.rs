//! Registry credentials: the body of /auth and the header X-Registry-Auth.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::null::is_zero;

/// Credentials for one registry. Empty fields are left out.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    #[serde(skip_serializing_if = "is_zero")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "is_zero")]
    pub password: String,
    /// `user:password` in base64, as in `config.json`.
    #[serde(skip_serializing_if = "is_zero")]
    pub auth: String,
    /// The registry they are for.
    #[serde(skip_serializing_if = "is_zero")]
    pub serveraddress: String,
    /// OAuth2 refresh token, instead of user and password.
    #[serde(skip_serializing_if = "is_zero")]
    pub identitytoken: String,
    /// Bearer token to send as it is.
    #[serde(skip_serializing_if = "is_zero")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets must not reach a log by way of Debug.
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// Why a header isn't credentials.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Not base64.
    #[error("invalid X-Registry-Auth header: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not the JSON of [`AuthConfig`].
    #[error("invalid X-Registry-Auth header: {0}")]
    Json(#[from] crate::DecodeError),
}

impl AuthConfig {
    /// Reads the value of X-Registry-Auth: base64 of the JSON, in either alphabet, padded or not. An empty header and `{}`
    /// mean "no credentials".
    pub fn from_header(value: &str) -> Result<Self, AuthError> {
        let bytes = decode(value)?;
        if bytes.is_empty() {
            return Ok(AuthConfig::default());
        }
        Ok(crate::from_slice(&bytes)?)
    }

    /// The value for X-Registry-Auth.
    pub fn to_header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The credentials for several registries that a build may need (header X-Registry-Config), by server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuthConfigs(pub std::collections::BTreeMap<String, AuthConfig>);

impl AuthConfigs {
    /// Reads the value of X-Registry-Config, written as that of X-Registry-Auth.
    pub fn from_header(value: &str) -> Result<Self, AuthError> {
        let bytes = decode(value)?;
        if bytes.is_empty() {
            return Ok(AuthConfigs::default());
        }
        Ok(crate::from_slice(&bytes)?)
    }

    /// The value for X-Registry-Config.
    pub fn to_header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Base64 in either alphabet, padded or not.
fn decode(value: &str) -> Result<Vec<u8>, base64::DecodeError> {
    URL_SAFE
        .decode(value)
        .or_else(|_| URL_SAFE_NO_PAD.decode(value))
        .or_else(|_| STANDARD_NO_PAD.decode(value))
        .or_else(|_| STANDARD.decode(value))
}

/// Answer of POST /auth.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    /// `Login Succeeded`.
    pub status: String,
    /// A token to keep instead of the password, if the registry gave one.
    pub identity_token: String,
}

impl std::fmt::Debug for AuthResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_in_every_base64() {
        let auth = AuthConfig { username: "u?>".into(), password: "p~~".into(), ..AuthConfig::default() };
        assert_eq!(AuthConfig::from_header(&auth.to_header()).expect("own header"), auth);
        let json = serde_json::to_vec(&auth).expect("json");
        for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            assert_eq!(AuthConfig::from_header(&engine.encode(&json)).expect("header"), auth);
        }
        assert_eq!(AuthConfig::from_header("").expect("empty"), AuthConfig::default());
        assert!(AuthConfig::from_header("{").is_err());
        let all = AuthConfigs([("reg:5000".to_owned(), auth.clone())].into());
        assert_eq!(AuthConfigs::from_header(&all.to_header()).expect("own header"), all);
        assert!(!format!("{all:?}").contains("p~~"));
        assert!(!format!("{auth:?}").contains("p~~"));
    }
}
