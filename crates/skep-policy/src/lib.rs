//! Which images may come in: `policy.json` as containers-policy.json(5) describes it, and the decision.
//!
//! | module | what it owns |
//! |---|---|
//! | [`file`](mod@file) | the document, read strictly: an unknown, repeated or missing key makes all of it invalid |
//! | [`scope`] | where an image comes from, and which requirements are for it |
//! | [`identity`] | whether the name in a signature is the one that is being pulled |
//! | [`payload`] | what a cosign signature signs |
//! | [`key`] | public keys, and whether a signature is theirs |
//! | [`evaluate`] | all requirements together: the decision |
//!
//! Pure: files (keys) are read through a function that the caller gives, signatures are fetched by the caller. Whatever is not
//! understood is refused, never passed over: GPG, Fulcio, PKI and Rekor requirements may stand in a policy, and no image meets
//! them. Refusals are worded as `podman` words them.
#![warn(missing_docs)]

pub mod evaluate;
pub mod file;
pub mod identity;
pub mod key;
pub mod payload;
pub mod scope;
mod strict;

pub use evaluate::{Candidate, Rejection, Signature, evaluate};
pub use file::{IdentityMatch, KeySource, Policy, PolicyError, Requirement};
pub use scope::Source;
