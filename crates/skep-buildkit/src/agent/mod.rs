//! An ssh agent of the client's own, for `--ssh ID=KEYFILE`: it names its keys and signs with them, and nothing else of the protocol
//! (draft-ietf-sshm-ssh-agent). Keys can't be added, removed or read.
//!
//! ```text
//! length: u32, type: u8, ...
//! REQUEST_IDENTITIES ──▶ IDENTITIES_ANSWER   count, (blob, comment)*
//! SIGN_REQUEST       ──▶ SIGN_RESPONSE       blob, data, flags ──▶ signature
//! anything else      ──▶ FAILURE
//! ```

mod key;
mod wire;

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use key::Key;
use wire::{Reader, put_string};

pub use key::KeyError;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The largest question, as in OpenSSH.
const QUESTION_MAX: usize = 256 << 10;

/// Private keys.
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads files of keys that no passphrase protects.
    ///
    /// # Errors
    /// A file can't be read, or is no key.
    pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<Self, KeyError> {
        files.iter().map(|file| Key::read(file.as_ref())).collect::<Result<_, _>>().map(Keys)
    }

    /// Answers questions until there are no more, or one makes no sense.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Send) {
        let io = std::pin::pin!(io);
        let (mut questions, mut answers) = tokio::io::split(io);
        while let Ok(length) = questions.read_u32().await {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if !(1..=QUESTION_MAX).contains(&length) {
                return;
            }
            let mut question = vec![0; length];
            if questions.read_exact(&mut question).await.is_err() {
                return;
            }
            let mut answer = Vec::new();
            put_string(&mut answer, &self.answer(&question).unwrap_or_else(|| vec![FAILURE]));
            // Whoever asked may have gone.
            if answers.write_all(&answer).await.is_err() || answers.flush().await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (kind, rest) = question.split_first()?;
        match *kind {
            REQUEST_IDENTITIES => {
                let mut answer = vec![IDENTITIES_ANSWER];
                answer.extend(u32::try_from(self.0.len()).ok()?.to_be_bytes());
                for key in &self.0 {
                    put_string(&mut answer, &key.blob);
                    put_string(&mut answer, key.comment.as_bytes());
                }
                Some(answer)
            }
            SIGN_REQUEST => {
                let mut fields = Reader(rest);
                let (blob, data, flags) = (fields.string()?, fields.string()?, fields.number()?);
                let key = self.0.iter().find(|key| key.blob == blob)?;
                let mut answer = vec![SIGN_RESPONSE];
                put_string(&mut answer, &key.sign(data, flags)?);
                Some(answer)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_names_and_signatures_is_given_out() {
        let keys = Keys(Vec::new());
        assert_eq!(keys.answer(&[REQUEST_IDENTITIES]), Some(vec![IDENTITIES_ANSWER, 0, 0, 0, 0]));
        for question in [&[17u8, 0, 0][..], &[19], &[SIGN_REQUEST, 0, 0, 0, 9], &[]] {
            assert_eq!(keys.answer(question), None);
        }
    }
}
