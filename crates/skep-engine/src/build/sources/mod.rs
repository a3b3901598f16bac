//! Where files come from that no step has made: directories of the client, web servers, git repositories, images.

pub(super) mod caches;
pub(super) mod git;
pub(super) mod http;
pub(super) mod image;
pub(super) mod layout;
pub(super) mod local;
mod slots;

pub(super) use slots::{Slots, remove_if_empty};

use std::future::Future;
use std::time::Duration;

use skep_build::{BuildError, without_password};
use skep_types::ErrorKind;

/// How long fetching something may take. A server that sends a byte now and then is stopped by nothing else.
const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);

/// What `fetching` from an address comes to, if it ends in time.
async fn in_time<T>(address: &str, fetching: impl Future<Output = Result<T, BuildError>>) -> Result<T, BuildError> {
    match tokio::time::timeout(LONGEST, fetching).await {
        Ok(fetched) => fetched,
        Err(_) => {
            let (address, hours) = (without_password(address), LONGEST.as_secs() / 3600);
            let text = format!("{address}: not fetched within {hours} hours");
            Err(BuildError::new(ErrorKind::Unavailable, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_trickles_is_left() {
        let forever = std::future::pending::<Result<(), BuildError>>();
        let error = in_time("https://me:word@h/f", forever).await.expect_err("left");
        assert_eq!(error.message, "https://h/f: not fetched within 2 hours");
    }
}
