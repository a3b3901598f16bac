//! What is installed in an image, from the databases of dpkg and apk, as an SPDX document.
//!
//! rpm's database is a binary file of one of three kinds and is not read; a document of an image with only that says so by having no
//! package.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::builder::Attestation;
use crate::error::{BuildError, Result};
use crate::worker::{Tree, Worker};

const PREDICATE: &str = "https://spdx.dev/Document";
/// The largest database that is read, in bytes.
const MAX_DATABASE: u64 = 64 << 20;
const DPKG: &str = "/var/lib/dpkg/status";
const APK: &str = "/lib/apk/db/installed";
const APK_USR: &str = "/usr/lib/apk/db/installed";
const RELEASE: &str = "/etc/os-release";

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    kind: &'static str,
    name: String,
    version: String,
    architecture: String,
    license: String,
    maintainer: String,
}

/// The packages of an image.
#[derive(Debug)]
pub(crate) struct Sbom {
    packages: Vec<Package>,
    distribution: String,
}

/// Reads the databases of a tree.
pub(crate) async fn read_packages<W: Worker>(worker: &W, tree: &Tree) -> Result<Sbom> {
    let mut packages = Vec::new();
    for (path, read) in [(DPKG, dpkg as fn(&str) -> Vec<Package>), (APK, apk), (APK_USR, apk)] {
        if let Some(bytes) = worker.read(tree, path, MAX_DATABASE).await? {
            packages.append(&mut read(&String::from_utf8_lossy(&bytes)));
        }
    }
    packages.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    packages.dedup();
    let release = worker.read(tree, RELEASE, 1 << 16).await?.unwrap_or_default();
    let release = String::from_utf8_lossy(&release).into_owned();
    let id = release.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or_default();
    Ok(Sbom { packages, distribution: id.trim_matches('"').to_owned() })
}

fn dpkg(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|entry| {
            let field = |name: &str| {
                let value = entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value.map(|value| value.trim().to_owned())
            };
            field("Status").filter(|status| status.ends_with(" installed"))?;
            Some(Package {
                kind: "deb",
                name: field("Package")?,
                version: field("Version")?,
                architecture: field("Architecture").unwrap_or_default(),
                license: String::new(),
                maintainer: field("Maintainer").unwrap_or_default(),
            })
        })
        .collect()
}

fn apk(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|entry| {
            let field = |letter: &str| entry.lines().find_map(|line| line.strip_prefix(letter)).map(str::to_owned);
            Some(Package {
                kind: "apk",
                name: field("P:")?,
                version: field("V:")?,
                architecture: field("A:").unwrap_or_default(),
                license: field("L:").unwrap_or_default(),
                maintainer: field("m:").unwrap_or_default(),
            })
        })
        .collect()
}

impl Sbom {
    /// The document. `name` is what is described, `id` makes the document's own name one of a kind.
    pub(crate) fn attestation(&self, name: &str, id: &str, now: DateTime<Utc>) -> Result<Attestation> {
        let spdx_id = |number: usize| format!("SPDXRef-Package-{number}");
        let packages: Vec<Value> =
            self.packages.iter().enumerate().map(|(number, package)| self.package(package, spdx_id(number))).collect();
        let relationships: Vec<Value> = (0..packages.len())
            .map(|number| {
                json!({"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": spdx_id(number), "relationshipType": "DESCRIBES"})
            })
            .collect();
        let document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": name,
            "documentNamespace": format!("https://spdx.org/spdxdocs/skep-{id}"),
            "creationInfo": {
                "created": now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                "creators": [format!("Tool: skep-{}", env!("CARGO_PKG_VERSION"))],
            },
            "packages": packages,
            "relationships": relationships,
        });
        let system = |error: serde_json::Error| BuildError::new(skep_types::ErrorKind::System, error.to_string());
        let predicate = serde_json::to_vec(&document).map_err(system)?;
        Ok(Attestation {
            predicate_type: PREDICATE.to_owned(),
            predicate,
            file: "sbom.spdx.json".to_owned(),
            inline_only: false,
        })
    }

    fn package(&self, package: &Package, id: String) -> Value {
        let place = match self.distribution.as_str() {
            "" => String::new(),
            distribution => format!("{distribution}/"),
        };
        let purl = format!(
            "pkg:{}/{place}{}@{}?arch={}",
            package.kind,
            package.name.replace('+', "%2B"),
            package.version.replace('+', "%2B").replace(':', "%3A"),
            package.architecture
        );
        let or_nothing = |text: &str| if text.is_empty() { "NOASSERTION".to_owned() } else { text.to_owned() };
        let supplier = match package.maintainer.as_str() {
            "" => "NOASSERTION".to_owned(),
            maintainer => format!("Person: {maintainer}"),
        };
        json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": package.version,
            "supplier": supplier,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": or_nothing(&package.license),
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases() {
        let found = dpkg(
            "Package: libc6\nStatus: install ok installed\nMaintainer: A <a@example.com>\nArchitecture: amd64\nVersion: 2.36-9+deb12u4\nDescription: x\n more: y\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("libc6", "2.36-9+deb12u4"));
        let found = apk("C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3\n\n");
        assert_eq!(found.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["musl", "zlib"]);
        assert_eq!(found[0].license, "MIT");
    }

    #[test]
    fn a_document() {
        let sbom = Sbom {
            packages: dpkg("Package: g++\nStatus: install ok installed\nVersion: 1:2\nArchitecture: all\n"),
            distribution: "debian".to_owned(),
        };
        let time = DateTime::from_timestamp(0, 0).expect("a time");
        let attestation = sbom.attestation("image", "1", time).expect("a document");
        let document: Value = serde_json::from_slice(&attestation.predicate).expect("JSON");
        assert_eq!(
            document["packages"][0]["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/g%2B%2B@1%3A2?arch=all"
        );
        assert_eq!(document["relationships"][0]["relatedSpdxElement"], "SPDXRef-Package-0");
        assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    }
}
