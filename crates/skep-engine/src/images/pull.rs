//! Pulling: from a reference to an image with its layers unpacked.
//!
//! ```text
//! connect ─► manifest (through indexes, by platform) ─► signature policy ─► configuration ─► layers ─► one commit of image and references
//!
//! layers, up to `max_concurrent_downloads` at once, each:
//!   there already ─────────────────────────────────────────────► Already exists
//!   another pull fetches it ─► wait for that one, look again
//!   download, hashed and unpacked aside as it comes ([`download`]) ─► visible when all below it are
//! ```
//! Nothing is visible before its digests are right. A pull that fails or is dropped takes back what it made, but for
//! layers that another operation claims.

use std::sync::Arc;

use skep_registry::{Credentials, Descriptor, FetchedManifest, ImageManifest, Manifest, Repository};
use skep_store::{ChainId, Partial};
use skep_types::{Digest, Platform, Reference, Selector};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::build::NewImage;
use super::change::{Claim, run_blocking};
use super::config::{ConfigFile, MAX_CONFIG_SIZE};
use super::download::{self, Downloaded, Listener, Wanted};
use super::inflight::{Lead, Role};
use super::target::{Member, Target};
use super::{ImageError, Inner, Result, platform};
use crate::model::image::{ImageId, LayerState, PullProgress};

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// Where progress goes. Nobody has to listen.
pub(super) type Progress = mpsc::Sender<PullProgress>;

/// A manifest that was chosen, and the documents that led to it, itself the last.
struct Chosen {
    manifest: ImageManifest,
    descriptor: Descriptor,
    documents: Vec<(Digest, Vec<u8>)>,
}

/// One layer to fetch.
#[derive(Clone)]
struct Plan {
    index: usize,
    chain: ChainId,
    diff_id: Digest,
    blob: Descriptor,
    /// The image is here: there is nothing to say about its layers.
    known: bool,
    report: Reporter,
}

/// What became of it.
enum Fetched {
    /// It is in the store.
    Exists,
    /// It waits for those below it.
    Staged(Box<Downloaded>, Lead),
}

/// An image that was pulled.
pub(super) struct Pulled {
    pub(super) id: ImageId,
    /// It was not here before, or not under this name.
    pub(super) news: bool,
}

/// The references to pull: the one that is given, or all tags of the repository if it names none.
pub(super) async fn references(
    inner: &Inner,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Vec<Reference>> {
    if reference.tag().is_some() || reference.digest().is_some() {
        return Ok(vec![reference.clone()]);
    }
    let repository = Repository::connect(&inner.registry, reference, credentials).await?;
    let tags = repository.tags().await?;
    tags.iter().map(|tag| Ok(reference.with_tag(tag)?)).collect()
}

/// Pulls one image.
pub(super) async fn pull(
    inner: &Arc<Inner>,
    reference: &Reference,
    wished: Option<&Platform>,
    credentials: Option<&Credentials>,
    progress: &Progress,
) -> Result<Pulled> {
    let reference = super::target::stored_form(reference);
    let repository = Repository::connect(&inner.registry, &reference, credentials).await?;
    let served = repository.manifest(&reference.selector()).await?;
    let tag = match reference.selector() {
        Selector::Tag(tag) => tag,
        Selector::Digest(digest) => digest.to_string(),
    };
    tell(progress, PullProgress::Started { tag, repository: reference.path().to_owned() }).await;
    let digest = served.digest;
    let top = describe(&served, None);
    let Chosen { manifest, descriptor, documents } = choose(&repository, served, wished).await?;
    let digests = documents.iter().map(|(digest, _)| *digest).collect();
    inner.guards.admit_pull(&repository, &reference, digests).await?;
    let (config, parsed) = configuration(inner, &repository, &manifest).await?;
    check_platform(&reference, &parsed, wished, progress).await?;
    let layers = parsed.rootfs.diff_ids.clone();
    let blobs: Vec<_> = layers.iter().copied().zip(manifest.layers.iter().cloned()).collect();
    let claim = Arc::new(Claim::on(inner, &ChainId::chain(&layers)));
    let known = inner.catalog.read().any_image(&manifest.config.digest).is_some();
    let plans = plan(&manifest, &layers, known, progress)?;
    let (layer_sizes, fetched) = fetch_layers(inner, &claim, &repository, plans).await?;
    tell(progress, PullProgress::Digest(digest)).await;

    let mut writer = inner.write().await;
    let known = writer.draft.catalog.target(&reference).cloned();
    let id = NewImage { config, parsed, layer_sizes, manifests: documents }.add_to(&mut writer);
    let now = chrono::Utc::now();
    let target = Target { descriptor: Some(top), images: vec![Member { id, manifest: Some(descriptor) }] };
    writer.draft.put_reference(&reference, target.clone(), now);
    writer.draft.put_reference(&reference.with_digest(digest), target, now);
    writer.commit_claimed(claim).await?;
    super::sources::remember_pulled(inner, &reference, blobs).await;
    let news = fetched || known.is_none_or(|target| !target.has(&id));
    Ok(Pulled { id, news })
}

/// What points to a document that was served, with the platform that an index gave it.
fn describe(served: &FetchedManifest, platform: Option<Platform>) -> Descriptor {
    let (media_type, size) = (served.media_type.clone(), served.raw.len() as u64);
    Descriptor { media_type, digest: served.digest, size, platform, annotations: Default::default() }
}

/// Follows indexes to the manifest for the platform.
async fn choose(repository: &Repository, served: FetchedManifest, wished: Option<&Platform>) -> Result<Chosen> {
    let host = Platform::host();
    let wanted = wished.unwrap_or(&host);
    let mut documents = Vec::new();
    let mut current = served;
    let mut said = None;
    for _ in 0..MAX_DEPTH {
        let descriptor = describe(&current, said.take());
        documents.push((current.digest, current.raw));
        let index = match current.manifest {
            Manifest::Image(manifest) => return Ok(Chosen { manifest, descriptor, documents }),
            Manifest::Index(index) => index,
        };
        let best = platform::choose(&index, wanted).ok_or_else(|| ImageError::NoSuchPlatform(wanted.clone()))?;
        current = repository.manifest(&Selector::Digest(best.digest)).await?;
        said.clone_from(&best.platform);
    }
    Err(ImageError::Invalid("indexes are nested too deep".to_owned()))
}

/// The configuration: from here if the image is here, else from the registry.
async fn configuration(
    inner: &Arc<Inner>,
    repository: &Repository,
    manifest: &ImageManifest,
) -> Result<(Vec<u8>, ConfigFile)> {
    let known = inner.catalog.read().any_image(&manifest.config.digest).is_some();
    let bytes = if known { inner.store.blobs().read(&manifest.config.digest).ok() } else { None };
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => repository.small_blob(&manifest.config, MAX_CONFIG_SIZE).await?,
    };
    let parsed = ConfigFile::parse(&bytes)?;
    Ok((bytes, parsed))
}

/// An image that isn't for Linux is refused; one that isn't for the platform that was asked for is pointed out.
async fn check_platform(
    reference: &Reference,
    file: &ConfigFile,
    wished: Option<&Platform>,
    progress: &Progress,
) -> Result<()> {
    let offered = file.platform();
    if offered.os != "linux" {
        return Err(ImageError::Invalid(format!(
            "image operating system {:?} cannot be used on this platform: operating system is not supported",
            offered.os
        )));
    }
    if let Some(wished) = wished.filter(|wished| !platform::suits(wished, &offered)) {
        let mismatch = ImageError::OtherPlatform { name: reference.familiar(), platform: wished.clone() };
        tell(progress, PullProgress::Notice(format!("WARNING: {mismatch}"))).await;
    }
    Ok(())
}

fn plan(manifest: &ImageManifest, diff_ids: &[Digest], known: bool, progress: &Progress) -> Result<Vec<Plan>> {
    let (blobs, wanted) = (manifest.layers.len(), diff_ids.len());
    if blobs != wanted {
        return Err(ImageError::Invalid(format!(
            "the manifest has {blobs} layers, the image's configuration {wanted}"
        )));
    }
    let chains = ChainId::chain(diff_ids);
    let layers = chains.into_iter().zip(diff_ids).zip(&manifest.layers).enumerate();
    Ok(layers
        .map(|(index, ((chain, diff_id), blob))| Plan {
            index,
            chain,
            diff_id: *diff_id,
            blob: blob.clone(),
            known,
            report: Reporter { progress: progress.clone(), id: blob.digest.short() },
        })
        .collect())
}

/// Brings all layers into the store. Returns their sizes, and whether any was fetched.
async fn fetch_layers(
    inner: &Arc<Inner>,
    claim: &Arc<Claim>,
    repository: &Repository,
    plans: Vec<Plan>,
) -> Result<(Vec<u64>, bool)> {
    let permits = Arc::new(Semaphore::new(inner.registry.max_concurrent_downloads.max(1)));
    let mut tasks = JoinSet::new();
    for plan in &plans {
        if inner.store.layers().get(&plan.chain)?.is_none() {
            plan.report.state(LayerState::Pulling).await;
        }
        let (inner, repository, permits) = (Arc::clone(inner), repository.clone(), Arc::clone(&permits));
        let plan = plan.clone();
        tasks.spawn(
            async move { Ok::<_, ImageError>((plan.index, fetch(&inner, &repository, &permits, &plan).await?)) },
        );
    }
    let mut slots: Vec<Option<Fetched>> = plans.iter().map(|_| None).collect();
    let mut next = 0;
    let mut fetched = false;
    while let Some(done) = tasks.join_next().await {
        let (index, result) = match done {
            Ok(result) => result?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(ImageError::Cancelled),
        };
        fetched |= matches!(result, Fetched::Staged(..));
        slots[index] = Some(result);
        let ready = slots[next..].iter().take_while(|slot| slot.is_some()).count();
        if ready > 0 {
            publish(claim, &plans[..next + ready], next, &mut slots[next..next + ready]).await?;
            next += ready;
        }
    }
    let sizes = plans.iter().map(|plan| layer_size(inner, &plan.chain));
    Ok((sizes.collect::<Result<_>>()?, fetched))
}

fn layer_size(inner: &Inner, chain: &ChainId) -> Result<u64> {
    Ok(inner.store.layers().get(chain)?.ok_or(skep_store::StoreError::NoLayer(*chain))?.size)
}

/// Makes layers visible that have all below them: those of `slots`, which belong to `plans[from..]`.
async fn publish(claim: &Arc<Claim>, plans: &[Plan], from: usize, slots: &mut [Option<Fetched>]) -> Result<()> {
    let mut leads: Vec<(usize, Lead)> = Vec::new();
    let mut at = 0;
    while at < slots.len() {
        // A run of staged layers goes in one commit.
        let start = from + at;
        let (mut run, mut kept) = (Vec::new(), Vec::new());
        while let Some(slot) = slots.get_mut(at) {
            match slot.take() {
                Some(Fetched::Staged(downloaded, lead)) => {
                    leads.push((from + at, lead));
                    run.push(downloaded.layer);
                    kept.extend(downloaded.kept);
                    at += 1;
                }
                Some(Fetched::Exists) | None => {
                    at += usize::from(run.is_empty());
                    break;
                }
            }
        }
        if !run.is_empty() {
            let parent = start.checked_sub(1).map(|below| plans[below].chain);
            // The claim lives as long as the commit, whatever becomes of the pull.
            let claim = Arc::clone(claim);
            run_blocking(move || {
                // Before the commit, so that its flush does not write out what is about to be deleted.
                kept.into_iter().for_each(Partial::discard);
                Ok(claim.layers().commit(parent.as_ref(), run)?)
            })
            .await?;
        }
    }
    for (index, lead) in leads {
        lead.tell(LayerState::Complete);
        plans[index].report.state(LayerState::Complete).await;
    }
    Ok(())
}

/// Gets one layer: finds it, waits for it, or downloads and unpacks it.
async fn fetch(inner: &Arc<Inner>, repository: &Repository, permits: &Semaphore, plan: &Plan) -> Result<Fetched> {
    let mut waited = false;
    loop {
        let role = inner.inflight.join(plan.chain);
        if inner.store.layers().get(&plan.chain)?.is_some() {
            match waited {
                true => plan.report.state(LayerState::Complete).await,
                false if plan.known => {}
                false => plan.report.state(LayerState::Exists).await,
            }
            return Ok(Fetched::Exists);
        }
        match role {
            Role::Leads(lead) => {
                let staged = download(inner, repository, permits, plan, &lead).await?;
                return Ok(Fetched::Staged(Box::new(staged), lead));
            }
            Role::Follows(mut states) => {
                waited = true;
                while states.changed().await.is_ok() {
                    let state = *states.borrow_and_update();
                    if state != LayerState::Complete {
                        plan.report.tick(state);
                    }
                }
            }
        }
    }
}

async fn download(
    inner: &Arc<Inner>,
    repository: &Repository,
    permits: &Semaphore,
    plan: &Plan,
    lead: &Lead,
) -> Result<Downloaded> {
    let listener = Audience { lead, report: &plan.report };
    if permits.available_permits() == 0 {
        listener.state(LayerState::Waiting).await;
    }
    let _permit = permits.acquire().await.map_err(|_| ImageError::Cancelled)?;
    let wanted = Wanted { blob: &plan.blob, diff_id: plan.diff_id, limits: inner.guards.limits };
    download::download(&inner.store, repository, &wanted, &listener).await
}

/// Those who hear about a layer: this pull's client, and the pulls that wait for it.
struct Audience<'a> {
    lead: &'a Lead,
    report: &'a Reporter,
}

impl Listener for Audience<'_> {
    async fn state(&self, state: LayerState) {
        self.lead.tell(state);
        self.report.state(state).await;
    }

    fn tick(&self, state: LayerState) {
        self.lead.tell(state);
        self.report.tick(state);
    }
}

pub(super) async fn tell(progress: &Progress, message: PullProgress) {
    // Nobody listening is no reason to stop.
    let _ = progress.send(message).await;
}

/// Tells about one layer.
#[derive(Clone)]
struct Reporter {
    progress: Progress,
    id: String,
}

impl Reporter {
    async fn state(&self, state: LayerState) {
        tell(&self.progress, PullProgress::Layer { id: self.id.clone(), state }).await;
    }

    /// A report that may get lost when the listener is slow.
    fn tick(&self, state: LayerState) {
        let _ = self.progress.try_send(PullProgress::Layer { id: self.id.clone(), state });
    }
}
