//! Results as clients hold them: a ref, and a definition that stands for it, which comes back when another build uses the result.

use prost::Message;
use skep_buildkit::proto::pb;
use skep_types::Digest;

use super::llb;

/// The scheme of sources that are results of this server.
pub(crate) const SCHEME: &str = "skep-result";

/// A name that nobody can guess, in the form of BuildKit's.
pub(crate) fn new_id() -> String {
    let mut bytes = [0_u8; 16];
    // Cannot fail on a kernel that has the call, and skep's other calls are newer.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut number = u128::from_le_bytes(bytes);
    let mut id = String::with_capacity(25);
    for _ in 0..25 {
        id.push(char::from(LETTERS[usize::try_from(number % 32).unwrap_or(0)]));
        number /= 32;
    }
    id
}

/// The definition that stands for a ref.
pub(crate) fn definition(id: &str) -> pb::Definition {
    let source = pb::SourceOp { identifier: format!("{SCHEME}://{id}"), ..pb::SourceOp::default() };
    let source = pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() }.encode_to_vec();
    let digest = sha256(&source);
    let input = pb::Input { digest: digest.clone(), index: 0 };
    let end = pb::Op { inputs: vec![input], ..pb::Op::default() }.encode_to_vec();
    let metadata = [digest, sha256(&end)].map(|digest| (digest, pb::OpMetadata::default()));
    pb::Definition { def: vec![source, end], metadata: metadata.into(), source: None }
}

/// The ref that a definition stands for; none for any other definition.
pub(crate) fn of_definition(definition: &pb::Definition) -> Option<String> {
    match llb::target(definition)?.op? {
        pb::op::Op::Source(source) => Some(source.identifier.strip_prefix(SCHEME)?.strip_prefix("://")?.to_owned()),
        _ => None,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    Digest::from_bytes(digest).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_stands_for_its_ref() {
        let id = new_id();
        assert_eq!(id.len(), 25);
        assert_eq!(of_definition(&definition(&id)), Some(id));
        assert_eq!(of_definition(&pb::Definition::default()), None);
    }
}
