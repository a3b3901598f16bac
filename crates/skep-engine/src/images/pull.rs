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
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::artifact::{Attached, NewArtifact, NewAttached};
use super::build::NewImage;
use super::change::{Claim, Writer, run_blocking};
use super::config::{ConfigFile, MAX_CONFIG_SIZE};
use super::download::{self, Downloaded, Listener, Wanted};
use super::inflight::{Lead, Role};
use super::target::{Member, Target};
use super::turns::{Turn, Turns};
use super::{ImageError, Inner, Result, attach, platform};
use crate::model::image::{ImageId, LayerState, PullImage, PullProgress};

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// Where progress goes. Nobody has to listen.
pub(super) type Progress = mpsc::Sender<PullProgress>;

/// A manifest that was chosen, and the documents that led to it, itself the last.
pub(super) struct Chosen {
    pub(super) served: FetchedManifest,
    pub(super) descriptor: Descriptor,
    pub(super) documents: Vec<(Digest, Vec<u8>)>,
}

/// One layer to fetch.
#[derive(Clone)]
pub(super) struct Plan {
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
    options: &PullImage,
    credentials: Option<&Credentials>,
    progress: &Progress,
) -> Result<Pulled> {
    let wished = options.platform.as_ref();
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
    let chosen = choose(&repository, served, wished).await?;
    let digests: Vec<Digest> = chosen.documents.iter().map(|(digest, _)| *digest).collect();
    inner.guards.admit_pull(&repository, &reference, digests.clone()).await?;
    let job = Job { inner, repository: &repository, reference: &reference, wished, progress };
    let attached = job.attached(&chosen, digests, options.referrers);
    let Chosen { served, descriptor, documents } = &chosen;
    let (made, attached) = match &served.manifest {
        Manifest::Image(manifest) => {
            let (image, attached) = tokio::try_join!(job.image(manifest), attached)?;
            (Made::Image(Box::new(image)), attached)
        }
        Manifest::Artifact(_) => {
            let (artifact, attached) = tokio::try_join!(job.artifact(served.clone()), attached)?;
            (Made::Artifact(Box::new(artifact)), attached)
        }
        Manifest::Index(_) => return Err(ImageError::Invalid("an index where a manifest was".to_owned())),
    };
    tell(progress, PullProgress::Digest(digest)).await;

    let mut writer = inner.write().await;
    let known = writer.draft.catalog.target(&reference).cloned();
    let (documents, descriptor) = (documents.clone(), descriptor.clone());
    let (id, fetched, done) = made.add_to(documents, attached, &mut writer);
    let target = Target { descriptor: Some(top), images: vec![Member { id, manifest: Some(descriptor) }] };
    writer.draft.put_reference(&reference, target.clone(), None);
    writer.draft.put_reference(&reference.with_digest(digest), target, None);
    match done {
        Some((claim, blobs)) => {
            writer.commit_claimed(claim).await?;
            super::sources::remember_pulled(inner, &reference, blobs).await;
        }
        None => drop(writer.commit().await?),
    }
    let news = fetched || known.is_none_or(|target| !target.has(&id));
    Ok(Pulled { id, news })
}

/// What every part of one pull needs.
struct Job<'a> {
    inner: &'a Arc<Inner>,
    repository: &'a Repository,
    reference: &'a Reference,
    wished: Option<&'a Platform>,
    progress: &'a Progress,
}

/// What was fetched, but for what is attached to it.
enum Made {
    Image(Box<FetchedImage>),
    Artifact(Box<NewArtifact>),
}

/// An image whose layers are in the store.
struct FetchedImage {
    config: Vec<u8>,
    parsed: ConfigFile,
    layer_sizes: Vec<u64>,
    /// A layer of it was not here before.
    news: bool,
    claim: Arc<Claim>,
    blobs: Vec<(Digest, Descriptor)>,
}

/// What keeps the layers of an image until it is there, and their blobs.
type Layers = (Arc<Claim>, Vec<(Digest, Descriptor)>);

impl Made {
    fn add_to(
        self,
        manifests: Vec<(Digest, Vec<u8>)>,
        attached: Vec<NewAttached>,
        writer: &mut Writer,
    ) -> (ImageId, bool, Option<Layers>) {
        match self {
            Made::Image(image) => {
                let FetchedImage { config, parsed, layer_sizes, news, claim, blobs } = *image;
                let id = NewImage { config, parsed, layer_sizes, manifests, attached }.add_to(writer);
                (id, news, Some((claim, blobs)))
            }
            Made::Artifact(artifact) => (artifact.add_to(manifests, attached, writer), false, None),
        }
    }
}

impl Job<'_> {
    /// Brings the layers of an image into the store.
    async fn image(&self, manifest: &ImageManifest) -> Result<FetchedImage> {
        let Job { inner, repository, reference, wished, progress } = *self;
        let (config, parsed) = configuration(inner, repository, manifest).await?;
        check_platform(reference, &parsed, wished, progress).await?;
        let layers = parsed.rootfs.diff_ids.clone();
        let blobs: Vec<_> = layers.iter().copied().zip(manifest.layers.iter().cloned()).collect();
        let claim = Arc::new(Claim::on(inner, &ChainId::chain(&layers)));
        let known = inner.catalog.read().any_image(&manifest.config.digest).is_some();
        let plans = plan(manifest, &layers, known, progress)?;
        let (layer_sizes, news) = fetch_layers(inner, &claim, repository, plans).await?;
        Ok(FetchedImage { config, parsed, layer_sizes, news, claim, blobs })
    }

    async fn artifact(&self, served: FetchedManifest) -> Result<NewArtifact> {
        attach::artifact(self.inner, self.repository, served, |blob| Some(self.report(blob))).await
    }

    /// What is said about what was chosen: what the indexes list, and what refers to it if that is wanted.
    async fn attached(&self, chosen: &Chosen, subjects: Vec<Digest>, referrers: bool) -> Result<Vec<NewAttached>> {
        let Chosen { descriptor, documents, .. } = chosen;
        let known: Vec<Attached> = {
            let catalog = self.inner.catalog();
            let records = catalog.images().map(|(_, record)| record);
            let of = records.filter(|record| record.manifests.contains(&descriptor.digest));
            of.flat_map(|record| record.attached.iter().cloned()).collect()
        };
        let mut found = attach::attestations(self.inner, self.repository, documents, &descriptor.digest, &known).await;
        if referrers {
            let report = |blob: &Descriptor| Some(self.report(blob));
            found.extend(attach::referrers(self.inner, self.repository, subjects, report).await?);
        }
        Ok(found)
    }

    fn report(&self, blob: &Descriptor) -> Reporter {
        Reporter { progress: self.progress.clone(), id: blob.digest.short() }
    }
}

/// What points to a document that was served, with the platform that an index gave it.
fn describe(served: &FetchedManifest, platform: Option<Platform>) -> Descriptor {
    let (media_type, size) = (served.media_type.clone(), served.raw.len() as u64);
    Descriptor { media_type, digest: served.digest, size, platform, annotations: Default::default() }
}

/// Follows indexes to the manifest for the platform.
pub(super) async fn choose(
    repository: &Repository,
    served: FetchedManifest,
    wished: Option<&Platform>,
) -> Result<Chosen> {
    let host = Platform::host();
    let wanted = wished.unwrap_or(&host);
    let mut documents = Vec::new();
    let mut current = served;
    let mut said = None;
    for _ in 0..MAX_DEPTH {
        let descriptor = describe(&current, said.take());
        documents.push((current.digest, current.raw.clone()));
        let index = match &current.manifest {
            Manifest::Image(_) | Manifest::Artifact(_) => return Ok(Chosen { served: current, descriptor, documents }),
            Manifest::Index(index) => index,
        };
        let best = platform::choose(index, wanted).ok_or_else(|| ImageError::NoSuchPlatform(wanted.clone()))?;
        said.clone_from(&best.platform);
        let next = Selector::Digest(best.digest);
        current = repository.manifest(&next).await?;
    }
    Err(ImageError::Invalid("indexes are nested too deep".to_owned()))
}

/// The configuration: from here if the image is here, else from the registry.
pub(super) async fn configuration(
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

pub(super) fn plan(
    manifest: &ImageManifest,
    diff_ids: &[Digest],
    known: bool,
    progress: &Progress,
) -> Result<Vec<Plan>> {
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
pub(super) async fn fetch_layers(
    inner: &Arc<Inner>,
    claim: &Arc<Claim>,
    repository: &Repository,
    plans: Vec<Plan>,
) -> Result<(Vec<u64>, bool)> {
    let turns = Turns::new(inner.registry.max_concurrent_downloads);
    let mut tasks = JoinSet::new();
    for plan in &plans {
        if inner.store.layers().get(&plan.chain)?.is_none() {
            plan.report.state(LayerState::Pulling).await;
        }
        let (inner, repository, turn, plan) =
            (Arc::clone(inner), repository.clone(), turns.line_up().await, plan.clone());
        tasks.spawn(async move { Ok::<_, ImageError>((plan.index, fetch(&inner, &repository, turn, &plan).await?)) });
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
async fn fetch(inner: &Arc<Inner>, repository: &Repository, mut turn: Turn, plan: &Plan) -> Result<Fetched> {
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
                let staged = download(inner, repository, turn, plan, &lead).await?;
                return Ok(Fetched::Staged(Box::new(staged), lead));
            }
            Role::Follows(mut states) => {
                waited = true;
                turn.leave();
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
    turn: Turn,
    plan: &Plan,
    lead: &Lead,
) -> Result<Downloaded> {
    let listener = Audience { lead, report: &plan.report };
    if turn.must_wait() {
        listener.state(LayerState::Waiting).await;
    }
    let _permit = turn.wait().await?;
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

/// Tells about one layer or blob.
#[derive(Clone)]
pub(super) struct Reporter {
    progress: Progress,
    id: String,
}

impl Reporter {
    pub(super) async fn state(&self, state: LayerState) {
        tell(&self.progress, PullProgress::Layer { id: self.id.clone(), state }).await;
    }

    /// A report that may get lost when the listener is slow.
    pub(super) fn tick(&self, state: LayerState) {
        let _ = self.progress.try_send(PullProgress::Layer { id: self.id.clone(), state });
    }
}
