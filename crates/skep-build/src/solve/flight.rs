//! Steps with equal keys run once at a time, also those of different builds.
//!
//! ```text
//! join(key) ──▶ Runner    does the work; what it tells goes to all that wait. Dropped without a result: the others try again
//!           └─▶ Waiter    hears what the runner tells, then its result
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use skep_types::Digest;
use tokio::sync::watch;

use crate::error::BuildError;
use crate::event::BuildEvent;
use crate::worker::Layer;

/// How much of what a runner told is kept for those who come later.
const BACKLOG: usize = 1024;

/// What a flight ends with.
#[derive(Debug, Clone)]
pub(crate) enum Landed {
    /// The layer is there.
    Layer(Layer),
    /// It failed, and would fail for everyone.
    Failed(BuildError),
    /// The runner went away; somebody else has to do it.
    Abandoned,
}

/// All that is being done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights {
    flights: Arc<Mutex<HashMap<Digest, Arc<Flight>>>>,
}

#[derive(Debug)]
struct Flight {
    told: Mutex<Told>,
    /// Number of events so far, and the end.
    state: watch::Sender<(u64, Option<Landed>)>,
}

#[derive(Debug, Default)]
struct Told {
    /// Number of the first one that is kept.
    first: u64,
    events: VecDeque<BuildEvent>,
}

/// What has become of a wish to do something.
pub(crate) enum Joined {
    /// Do it.
    Run(Runner),
    /// Somebody does.
    Wait(Waiter),
}

/// Does the work.
pub(crate) struct Runner {
    key: Digest,
    flight: Arc<Flight>,
    flights: Flights,
    landed: bool,
}

/// Waits for the work to be done.
pub(crate) struct Waiter {
    flight: Arc<Flight>,
    state: watch::Receiver<(u64, Option<Landed>)>,
    seen: u64,
}

/// What a waiter hears.
pub(crate) enum Heard {
    /// News.
    Events(Vec<BuildEvent>),
    /// The end.
    Landed(Landed),
}

impl Flights {
    /// Joins the flight of this key, or begins it.
    pub(crate) fn join(&self, key: Digest) -> Joined {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            let state = flight.state.subscribe();
            return Joined::Wait(Waiter { flight: Arc::clone(flight), state, seen: 0 });
        }
        let flight = Arc::new(Flight { told: Mutex::default(), state: watch::Sender::new((0, None)) });
        flights.insert(key, Arc::clone(&flight));
        Joined::Run(Runner { key, flight, flights: self.clone(), landed: false })
    }
}

impl Runner {
    /// Lets the others hear it too.
    pub(crate) fn tell(&self, event: BuildEvent) {
        let mut told = self.flight.told.lock();
        told.events.push_back(event);
        if told.events.len() > BACKLOG {
            told.events.pop_front();
            told.first += 1;
        }
        let count = told.first + told.events.len() as u64;
        drop(told);
        self.flight.state.send_modify(|state| state.0 = count);
    }

    /// Ends the flight.
    pub(crate) fn land(mut self, landed: Landed) {
        self.landed = true;
        self.end(landed);
    }

    fn end(&self, landed: Landed) {
        self.flights.flights.lock().remove(&self.key);
        self.flight.state.send_modify(|state| state.1 = Some(landed));
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if !self.landed {
            self.end(Landed::Abandoned);
        }
    }
}

impl Waiter {
    /// What comes next.
    pub(crate) async fn next(&mut self) -> Heard {
        let seen = self.seen;
        let state = self.state.wait_for(|(count, landed)| *count > seen || landed.is_some()).await;
        let (count, landed) = state.map_or((seen, Some(Landed::Abandoned)), |state| state.clone());
        if count > seen {
            let told = self.flight.told.lock();
            let skip = seen.saturating_sub(told.first);
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            self.seen = told.first + told.events.len() as u64;
            return Heard::Events(told.events.iter().skip(skip).cloned().collect());
        }
        Heard::Landed(landed.unwrap_or(Landed::Abandoned))
    }
}
