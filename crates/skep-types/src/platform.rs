//! Platforms: `os/architecture[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The platform an image is made for, in Go's words (`linux/amd64`, `linux/arm64/v8`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, as in GOOS.
    pub os: String,
    /// Processor architecture, as in GOARCH.
    pub architecture: String,
    /// Variant of the architecture (`v7`, `v8`), empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// A part has characters that no part may have.
    #[error(
        "{0:?} is an invalid component of {1:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component(String, String),
    /// More than three parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Parts(String),
}

impl Platform {
    /// The platform of the machine that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// Whether an image of platform `offered` satisfies a wish for `self`. A missing variant of arm64 means v8.
    pub fn matches(&self, offered: &Platform) -> bool {
        let variant = |p: &Platform| match (p.architecture.as_str(), p.variant.as_str()) {
            ("arm64", "") => "v8".to_owned(),
            ("arm", "") => "v7".to_owned(),
            (_, v) => v.to_owned(),
        };
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.architecture == "amd64" || variant(self) == variant(offered))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Accepts `os/arch`, `os/arch/variant`, and an os or an architecture alone.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<String> = text.split('/').map(str::to_lowercase).collect();
        let good = |part: &String| {
            !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
        };
        if let Some(bad) = parts.iter().find(|part| !good(part)) {
            return Err(PlatformError::Component(bad.clone(), text.to_owned()));
        }
        let host = Platform::host();
        let (os, architecture, variant) = match parts.as_slice() {
            [os] if matches!(os.as_str(), "linux" | "windows" | "darwin" | "freebsd") => {
                (os.clone(), host.architecture, host.variant)
            }
            [architecture] => (host.os, architecture.clone(), String::new()),
            [os, architecture] => (os.clone(), architecture.clone(), String::new()),
            [os, architecture, variant] => (os.clone(), architecture.clone(), variant.clone()),
            _ => return Err(PlatformError::Parts(text.to_owned())),
        };
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            "i386" => "386".to_owned(),
            _ => architecture,
        };
        Ok(Platform { os, architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}
