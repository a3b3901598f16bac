//! Parsers of what images bring along return, whatever they get: the fuzz targets' checks, on a few hundred inputs.

use proptest::collection::vec;
use proptest::prelude::*;
use skep_engine::images::fuzzing;
use skep_evil::archives;
use skep_evil::canary::Canary;

/// A document of the corpus with some bytes changed, and perhaps cut.
fn damaged(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(corpus), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, changes, end, cut)| {
            if !bytes.is_empty() {
                changes.into_iter().for_each(|(at, byte)| {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                });
                if cut {
                    bytes.truncate(end.index(bytes.len()));
                }
            }
            bytes
        },
    )
}

fn configs() -> Vec<Vec<u8>> {
    let all = skep_evil::documents::configs(&skep_evil::digest(b""));
    all.into_iter().map(|document| document.bytes).filter(|bytes| bytes.len() < 100_000).collect()
}

fn small_archives() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a directory");
    let canary = Canary::new(dir.path());
    archives::all(canary.dir()).into_iter().map(|archive| archive.bytes).filter(|b| b.len() < 50_000).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn configurations(bytes in damaged(configs())) {
        fuzzing::config(&bytes);
    }

    #[test]
    fn changes(text in "((CMD|ENV|LABEL|EXPOSE|USER|VOLUME|ONBUILD|HEALTHCHECK|cmd) [\\[\\]\"'$\\{\\}:\\-+=a-b \\\\]{0,20}\n?){0,4}") {
        fuzzing::change(&text);
    }

    #[test]
    fn changes_of_any_text(text in ".{0,200}") {
        fuzzing::change(&text);
    }

    #[test]
    fn archives_of_images(bytes in damaged(small_archives())) {
        fuzzing::load(&bytes);
    }
}
