//! Builds that go on, what they handed out, and those that ended last.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skep_build::Built;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_buildkit::proto::moby::buildkit::v1::frontend::ReturnRequest;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Builder;
use super::containers::Made;
use super::failed::Ground;
use super::history::Records;
use super::progress::Progress;

/// How long a call waits for the build that it names: the calls of one client overtake each other.
const PATIENCE: Duration = Duration::from_secs(10);

/// One build.
pub(crate) struct Build {
    /// The client's name of it.
    pub(crate) id: String,
    /// What was asked for.
    pub(crate) request: wire::SolveRequest,
    pub(crate) progress: Progress,
    pub(crate) cancel: CancellationToken,
    /// What the client's gateway was given, by ref.
    handed: Mutex<HashMap<String, Handed>>,
    /// Refs that the client was given of what could not be built: it hears why when it needs their files.
    failures: Mutex<HashMap<String, Status>>,
    /// What else the client has ids of: a step that failed.
    grounds: Mutex<HashMap<String, Ground>>,
    /// Containers that the client made, by its names of them.
    pub(crate) containers: Mutex<HashMap<String, Arc<Made>>>,
    /// Manifests and indexes that were made of the result, with their media types.
    pub(crate) exported: Mutex<Vec<(String, bytes::Bytes)>>,
    /// Who waits for the gateway's answer.
    returned: Mutex<Option<oneshot::Sender<ReturnRequest>>>,
}

/// A result that a client was given.
#[derive(Clone)]
pub(crate) struct Handed {
    pub(crate) built: Arc<Built>,
    /// Which of its images.
    pub(crate) image: usize,
    /// What it was built for.
    pub(crate) request: Arc<skep_build::BuildRequest>,
}

impl Build {
    /// Remembers a result under a new ref.
    pub(crate) fn hand_out(&self, builds: &Builds, handed: Handed) -> String {
        let id = super::result::new_id();
        builds.results.lock().insert(id.clone(), (Arc::downgrade(&handed.built), handed.image));
        self.handed.lock().insert(id.clone(), handed);
        id
    }

    /// Remembers a failure under a new ref.
    pub(crate) fn hand_out_failure(&self, builds: &Builds, failure: Status) -> String {
        let id = super::result::new_id();
        builds.failures.lock().insert(id.clone(), failure.message().to_owned());
        self.failures.lock().insert(id.clone(), failure);
        id
    }

    /// Whether a ref is one of this build, of a result or of a failure.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.handed.lock().contains_key(id) || self.failures.lock().contains_key(id)
    }

    /// What a ref of this build stands for.
    pub(crate) fn handed(&self, id: &str) -> Result<Handed, Status> {
        if let Some(failure) = self.failures.lock().get(id) {
            return Err(failure.clone());
        }
        self.handed.lock().get(id).cloned().ok_or_else(|| Status::unknown(format!("no such ref: {id}")))
    }

    /// Remembers something under a new id, as long as the build goes on.
    pub(crate) fn know(&self, ground: Ground) -> String {
        let id = super::result::new_id();
        self.grounds.lock().insert(id.clone(), ground);
        id
    }

    /// What an id stands for that the client was given.
    pub(crate) fn ground(&self, id: &str) -> Result<Ground, Status> {
        let known = self.grounds.lock().get(id).cloned();
        known.map_or_else(|| self.handed(id).map(Ground::Result), Ok)
    }

    /// A container that the client made.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Made>, Status> {
        let found = self.containers.lock().get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("no such container: {id}")))
    }

    /// The gateway is done. Whoever waits is told; a second answer is refused.
    pub(crate) fn finish(&self, answer: ReturnRequest) -> Result<(), Status> {
        let waiting = self.returned.lock().take();
        let waiting = waiting.ok_or_else(|| Status::failed_precondition("the build has a result already"))?;
        waiting.send(answer).map_err(|_| Status::cancelled("context canceled"))
    }
}

/// All of them.
pub(crate) struct Builds {
    running: Mutex<HashMap<String, Arc<Build>>>,
    ended: Mutex<VecDeque<Arc<Build>>>,
    results: Mutex<HashMap<String, (Weak<Built>, usize)>>,
    /// Why there is no result, by the ref that stands for it.
    failures: Mutex<HashMap<String, String>>,
    classic: Mutex<HashMap<String, CancellationToken>>,
    changed: watch::Sender<()>,
    pub(crate) records: Records,
}

/// Builds whose progress can still be asked for.
const ENDED_MAX: usize = 16;

impl Builds {
    /// None yet, but those that the engine remembers.
    pub(crate) fn new(builder: Arc<dyn Builder>) -> Self {
        Builds {
            running: Mutex::default(),
            ended: Mutex::default(),
            results: Mutex::default(),
            failures: Mutex::default(),
            classic: Mutex::default(),
            changed: watch::Sender::default(),
            records: Records::new(builder),
        }
    }

    /// Adds a build.
    pub(crate) fn begin(
        &self,
        request: wire::SolveRequest,
    ) -> Result<(Arc<Build>, oneshot::Receiver<ReturnRequest>), Status> {
        let (sender, receiver) = oneshot::channel();
        let id = if request.r#ref.is_empty() { super::result::new_id() } else { request.r#ref.clone() };
        let build = Arc::new(Build {
            id: id.clone(),
            request,
            progress: Progress::default(),
            cancel: CancellationToken::new(),
            handed: Mutex::default(),
            failures: Mutex::default(),
            grounds: Mutex::default(),
            containers: Mutex::default(),
            exported: Mutex::default(),
            returned: Mutex::new(Some(sender)),
        });
        match self.running.lock().entry(id) {
            std::collections::hash_map::Entry::Occupied(taken) => {
                return Err(Status::already_exists(format!("job ID {} exists", taken.key())));
            }
            std::collections::hash_map::Entry::Vacant(free) => free.insert(build.clone()),
        };
        self.records.began(&build);
        self.changed.send_replace(());
        Ok((build, receiver))
    }

    /// The build has ended, however it did.
    pub(crate) fn end(&self, build: &Arc<Build>, result: &Result<wire::SolveResponse, Status>) {
        build.cancel.cancel();
        build.progress.finish();
        for made in std::mem::take(&mut *build.containers.lock()).into_values() {
            made.container.release();
        }
        build.grounds.lock().clear();
        self.running.lock().remove(&build.id);
        let handed = std::mem::take(&mut *build.handed.lock());
        for id in handed.keys() {
            self.results.lock().remove(id);
        }
        for id in std::mem::take(&mut *build.failures.lock()).into_keys() {
            self.failures.lock().remove(&id);
        }
        self.records.ended(build, handed.values().next().map(|handed| &*handed.built), result);
        let mut ended = self.ended.lock();
        ended.push_back(build.clone());
        if ended.len() > ENDED_MAX {
            ended.pop_front();
        }
    }

    /// The build of that name, running or ended; waits a while for one that is not there yet.
    pub(crate) async fn find(&self, id: &str) -> Result<Arc<Build>, Status> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(build) = self.find_now(id) {
                    return build;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let missing = |_| Status::not_found(format!("no such job {id}"));
        tokio::time::timeout(PATIENCE, found).await.map_err(missing)
    }

    /// The build of that name, if it is under way or has ended just now.
    pub(crate) fn find_now(&self, id: &str) -> Option<Arc<Build>> {
        let running = self.running.lock().get(id).cloned();
        running.or_else(|| self.ended.lock().iter().find(|build| build.id == id).cloned())
    }

    /// Ends a build.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        let build = self.running.lock().get(id).map(|build| build.cancel.clone());
        let token = build.or_else(|| self.classic.lock().get(id).cloned());
        token.inspect(CancellationToken::cancel).is_some()
    }

    /// Adds a classic build, which has a name only if its client gave it one; what is given back takes it out again.
    pub(crate) fn begin_classic(self: &Arc<Self>, id: &str, cancel: CancellationToken) -> impl Send + 'static {
        struct Entry(Arc<Builds>, String);
        impl Drop for Entry {
            fn drop(&mut self) {
                self.0.classic.lock().remove(&self.1);
            }
        }
        if !id.is_empty() {
            self.classic.lock().insert(id.to_owned(), cancel);
        }
        Entry(self.clone(), id.to_owned())
    }

    /// Why there is no result of that ref, if any running build failed to make it.
    pub(crate) fn failure(&self, id: &str) -> Option<String> {
        self.failures.lock().get(id).cloned()
    }

    /// A result that any running build handed out, and which of its images.
    pub(crate) fn handed_out(&self, id: &str) -> Option<(Arc<Built>, usize)> {
        self.results.lock().get(id).and_then(|(built, image)| Some((built.upgrade()?, *image)))
    }
}
