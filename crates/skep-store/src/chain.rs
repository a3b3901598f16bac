//! Chain ids: the name of a layer together with all below it (OCI image spec, "Layer ChainID").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use skep_types::{Digest, DigestError};

/// The digest of a stack of layers, which names its topmost layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);

impl ChainId {
    /// The chain of `parent` with a layer of diff id `diff_id` on top; without a parent the diff id itself.
    pub fn of(parent: Option<&ChainId>, diff_id: &Digest) -> ChainId {
        match parent {
            None => ChainId(*diff_id),
            Some(parent) => ChainId(sha256(format!("{parent} {diff_id}").as_bytes())),
        }
    }

    /// The chains of a stack of layers, lowest first, one for each diff id.
    pub fn chain(diff_ids: &[Digest]) -> Vec<ChainId> {
        let mut below = None;
        diff_ids.iter().map(|diff_id| *below.insert(ChainId::of(below.as_ref(), diff_id))).collect()
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ChainId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(ChainId)
    }
}

/// The sha256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    finish(digest_context(), bytes)
}

pub(crate) fn digest_context() -> aws_lc_rs::digest::Context {
    aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256)
}

fn finish(mut context: aws_lc_rs::digest::Context, last: &[u8]) -> Digest {
    context.update(last);
    finished(context)
}

/// A sha256 that is being computed.
#[derive(Clone)]
pub struct Sha256(aws_lc_rs::digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Sha256(digest_context())
    }
}

impl Sha256 {
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(self) -> Digest {
        finished(self.0)
    }
}

/// The digest of all that a context has seen.
pub(crate) fn finished(context: aws_lc_rs::digest::Context) -> Digest {
    let mut bytes = [0u8; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_those_of_the_specification() {
        // sha256("sha256:<a> sha256:<b>") by sha256sum.
        let a = Digest::from_hex(&"a".repeat(64)).expect("a");
        let b = Digest::from_hex(&"b".repeat(64)).expect("b");
        let chain = ChainId::chain(&[a, b]);
        assert_eq!(chain[0].digest(), &a);
        assert_eq!(*chain[1].digest(), sha256(format!("sha256:{} sha256:{}", a.hex(), b.hex()).as_bytes()));
        assert_eq!(sha256(b"").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
