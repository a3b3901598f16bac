//! Whose turn it is to download: the layers of a pull line up in their order, the base first, and so many download at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{ImageError, Result};

type Acquired = Result<OwnedSemaphorePermit, AcquireError>;

/// How many may download at once.
pub(super) struct Turns(Arc<Semaphore>);

/// A place in the line.
pub(super) struct Turn {
    permits: Arc<Semaphore>,
    place: Place,
}

enum Place {
    First(OwnedSemaphorePermit),
    Behind(Pin<Box<dyn Future<Output = Acquired> + Send>>),
    Left,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Turns(Arc::new(Semaphore::new(at_once.max(1))))
    }

    /// The next place in the line.
    pub(super) async fn line_up(&self) -> Turn {
        let mut acquiring: Pin<Box<dyn Future<Output = Acquired> + Send>> =
            Box::pin(Arc::clone(&self.0).acquire_owned());
        // Asked once, the semaphore knows the order.
        let place = match futures_util::poll!(acquiring.as_mut()) {
            std::task::Poll::Ready(Ok(permit)) => Place::First(permit),
            std::task::Poll::Ready(Err(_)) => Place::Left,
            std::task::Poll::Pending => Place::Behind(acquiring),
        };
        Turn { permits: Arc::clone(&self.0), place }
    }
}

impl Turn {
    /// Whether others come before.
    pub(super) fn must_wait(&self) -> bool {
        match self.place {
            Place::First(_) => false,
            Place::Behind(_) => true,
            Place::Left => self.permits.available_permits() == 0,
        }
    }

    /// Lets those behind pass.
    pub(super) fn leave(&mut self) {
        self.place = Place::Left;
    }

    /// Waits for the turn. It ends when the result is dropped.
    pub(super) async fn wait(self) -> Result<OwnedSemaphorePermit> {
        let permit = match self.place {
            Place::First(permit) => Ok(permit),
            Place::Behind(acquiring) => acquiring.await,
            Place::Left => self.permits.acquire_owned().await,
        };
        permit.map_err(|_| ImageError::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_the_order_of_the_line() {
        let turns = Turns::new(1);
        let (first, second, third) = (turns.line_up().await, turns.line_up().await, turns.line_up().await);
        assert!(!first.must_wait() && second.must_wait() && third.must_wait());
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        for (name, turn) in [(3, third), (2, second), (1, first)] {
            let told = told.clone();
            tasks.spawn(async move {
                let _permit = turn.wait().await.expect("a turn");
                told.send(name).expect("heard");
            });
        }
        tasks.join_all().await;
        drop(told);
        let mut order = Vec::new();
        while let Some(name) = heard.recv().await {
            order.push(name);
        }
        assert_eq!(order, [1, 2, 3]);
    }

    #[tokio::test]
    async fn who_leaves_the_line_lets_the_next_one_pass() {
        let turns = Turns::new(1);
        let (mut first, second) = (turns.line_up().await, turns.line_up().await);
        first.leave();
        let permit = second.wait().await.expect("a turn");
        assert!(first.must_wait());
        drop(permit);
        assert!(!first.must_wait());
        let _permit = first.wait().await.expect("a new place");
    }
}
