//! `image copy`: images from this engine to another one, without a registry. Only what the other side lacks is sent.

use std::collections::BTreeSet;
use std::io;

use futures_util::stream;
use skep_client::{Bytes, Client, Config, Endpoint, Method, Response, encode_query};
use skep_types::Digest;
use skep_wire::{CopiedImages, ImageOutline, LayerStacks, OutlinedLayer, Progress, ProgressDetail};
use tokio::sync::mpsc;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui::{self, progress};

flags! {
    struct CopyFlags {
        quiet: bool => "quiet" 'q', "Only print the images' IDs";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["image copy"],
    usage: "[OPTIONS] IMAGE [IMAGE...] ssh://[USER@]HOST[:PORT][/SOCKET]",
    about: "Copy images to another engine; only layers that it lacks are sent",
    args: Args::AtLeast(2),
    completion: Completion::Images,
    flags: CopyFlags::specs,
    run: runner!(CopyFlags, run),
};

/// Pieces that may wait between the two engines.
const PENDING: usize = 16;

async fn run(cli: &Cli, flags: CopyFlags, words: Vec<String>) -> Outcome {
    let Some((target, names)) = words.split_last() else { return Ok(()) };
    let endpoint = match Endpoint::parse(target, 0) {
        Ok(endpoint @ (Endpoint::Ssh { .. } | Endpoint::Unix(_))) => endpoint,
        _ => {
            return Err(Failure::message(format!(
                "cannot copy to {target}: must be ssh://[user@]host[:port][/socket]"
            )));
        }
    };
    let here = cli.client().await?;
    let there = Client::new(Config::new(endpoint))?;
    let mut outlines: Vec<ImageOutline> = Vec::new();
    for name in names {
        outlines.push(here.get(outline_path(name)?).await?);
    }
    let mut copy = Copy { here, there: &there, screen: progress::Screen::new(target_of(flags.quiet)) };
    let lacking = match copy.lacking(&outlines).await? {
        Some(lacking) => lacking,
        None => return copy.whole(names, target).await,
    };
    copy.layers(&outlines, &lacking).await?;
    for (outline, name) in outlines.iter().zip(names) {
        let copied: CopiedImages = there.post("/skep/images", outline).await?;
        match flags.quiet {
            true => copied.ids.iter().for_each(|id| ui::line(id)),
            false => ui::line(&format!("Copied {name} to {target}")),
        }
    }
    Ok(())
}

fn target_of(quiet: bool) -> progress::Target {
    if quiet { progress::Target::Nowhere } else { progress::Target::Stdout }
}

fn outline_path(name: &str) -> Result<String, Failure> {
    Ok(format!("/skep{}", reference::image(name, "/outline")?))
}

struct Copy<'a> {
    here: &'a Client,
    there: &'a Client,
    screen: progress::Screen,
}

impl Copy<'_> {
    /// The stacks that the other engine doesn't have; nothing if it is no skep, and can't be asked.
    async fn lacking(&self, outlines: &[ImageOutline]) -> Result<Option<BTreeSet<String>>, Failure> {
        let stacks: BTreeSet<String> = layers_of(outlines).map(|(layer, _)| layer.chain_id.clone()).collect();
        let asked = LayerStacks { layers: stacks.into_iter().collect() };
        match self.there.post::<_, LayerStacks>("/skep/layers/lacking", &asked).await {
            Ok(lacking) => Ok(Some(lacking.layers.into_iter().collect())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the layers that are lacking, each on top of those below it.
    async fn layers(&mut self, outlines: &[ImageOutline], lacking: &BTreeSet<String>) -> Outcome {
        let mut done = BTreeSet::new();
        for (layer, parent) in layers_of(outlines) {
            if !done.insert(layer.chain_id.clone()) {
                continue;
            }
            match lacking.contains(&layer.chain_id) {
                true => self.layer(layer, parent).await?,
                false => self.say(layer, "Already exists", None),
            }
        }
        Ok(())
    }

    async fn layer(&mut self, layer: &OutlinedLayer, parent: Option<&OutlinedLayer>) -> Outcome {
        self.say(layer, "Copying", Some(0));
        let path = format!("/skep/layers/{}", encode_query(&layer.chain_id));
        let archive = self.here.request(Method::GET, path).send().await?;
        let (sender, receiver) = mpsc::channel(PENDING);
        let request = self
            .there
            .request(Method::PUT, format!("/skep/layers/{}", encode_query(&layer.diff_id)))
            .query_opt("parent", parent.map(|parent| parent.chain_id.as_str()))
            .stream("application/zstd", pieces(receiver));
        // When the other side refuses, its answer says why, and the pump finds nobody to give to.
        let (sent, pumped) =
            tokio::join!(request.send(), pump(archive, sender, |bytes| self.say(layer, "Copying", Some(bytes))));
        sent?.bytes().await?;
        pumped?;
        self.say(layer, "Copied", None);
        Ok(())
    }

    /// To an engine that knows nothing of layers: an archive of everything.
    async fn whole(&mut self, names: &[String], target: &str) -> Outcome {
        ui::error_line(&format!("{target} is no skep engine and can't tell what it has: sending whole images"));
        let mut request = self.here.request(Method::GET, "/images/get");
        for name in names {
            request = request.query("names", name);
        }
        let archive = request.send().await?;
        let (sender, receiver) = mpsc::channel(PENDING);
        let request = self
            .there
            .request(Method::POST, "/images/load")
            .query("quiet", "1")
            .stream("application/x-tar", pieces(receiver));
        let (sent, pumped) = tokio::join!(request.send(), pump(archive, sender, |_| ()));
        progress::show(sent?, progress::Target::Stdout).await?;
        pumped
    }

    fn say(&mut self, layer: &OutlinedLayer, status: &str, bytes: Option<u64>) {
        let id = layer.diff_id.parse::<Digest>().map_or_else(|_| layer.diff_id.clone(), |digest| digest.short());
        let current = bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0);
        let progress_detail = Some(ProgressDetail { current, ..ProgressDetail::default() });
        self.screen.show(&Progress { progress_detail, ..Progress::status(id, status) });
    }
}

/// All layers, those of an image base first, each with the one below it.
fn layers_of(outlines: &[ImageOutline]) -> impl Iterator<Item = (&OutlinedLayer, Option<&OutlinedLayer>)> {
    outlines.iter().flat_map(|outline| &outline.images).flat_map(|image| {
        let below = std::iter::once(None).chain(image.layers.iter().map(Some));
        image.layers.iter().zip(below)
    })
}

fn pieces(receiver: mpsc::Receiver<io::Result<Bytes>>) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + Sync {
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// Hands on what comes. If it breaks off, so does what is handed on.
async fn pump(mut from: Response, to: mpsc::Sender<io::Result<Bytes>>, mut tell: impl FnMut(u64)) -> Outcome {
    let mut bytes = 0;
    loop {
        match from.chunk().await {
            Ok(Some(piece)) => {
                bytes += piece.len() as u64;
                tell(bytes);
                if to.send(Ok(piece)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                // Nobody to tell is no reason to hide the cause.
                let _ = to.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
                return Err(error.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_wire::OutlinedImage;

    #[test]
    fn layers_stand_on_each_other() {
        let layer = |name: &str| OutlinedLayer { chain_id: name.to_owned(), ..OutlinedLayer::default() };
        let image = |names: &[&str]| OutlinedImage {
            layers: names.iter().map(|name| layer(name)).collect(),
            ..OutlinedImage::default()
        };
        let outlines = [ImageOutline { images: vec![image(&["a", "b"]), image(&["c"])], ..ImageOutline::default() }];
        let seen: Vec<_> =
            layers_of(&outlines).map(|(l, below)| (l.chain_id.as_str(), below.map(|b| b.chain_id.as_str()))).collect();
        assert_eq!(seen, [("a", None), ("b", Some("a")), ("c", None)]);
    }
}
