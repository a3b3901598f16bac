//! BuildKit's `ExecProcess`: one stream that carries all processes which a client starts in its containers.
//!
//! ```text
//!   client                                server
//!     │ Init{container, program, tty} ─────▶ │ starts it
//!     │ ◀─────────────────────────── Started │ (or the stream ends with the error)
//!     │ File{0, ..}, Resize, Signal ───────▶ │
//!     │ ◀───────────────────── File{1, 2, ..}│
//!     │ ◀─────────────────── Exit{code}, Done│
//! ```
//! The processes belong to the call: when it ends, so do the containers that they were the first of.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use skep_buildkit::proto::google::rpc;
use skep_buildkit::proto::moby::buildkit::v1::frontend as wire;
use skep_buildkit::proto::moby::buildkit::v1::frontend::exec_message::Input;
use skep_engine::build::{BuildProcess, Pieces, ProcessControl};
use skep_types::Signal;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status, Streaming};

use super::builds::Build;
use super::containers::{Made, process};
use super::error;

/// Messages that wait for the client, and input that waits for a process.
const QUEUE: usize = 64;

type Answer = Result<wire::ExecMessage, Status>;

/// What is known of a process that runs.
struct Running {
    control: ProcessControl,
    input: Option<mpsc::Sender<Vec<u8>>>,
    _owner: Owner,
}

/// Ends the container with the call.
struct Owner(Arc<Made>, bool);

impl Drop for Owner {
    fn drop(&mut self) {
        if self.1 {
            self.0.container.release();
        }
    }
}

/// Serves one call.
pub(crate) fn serve(
    build: Arc<Build>,
    incoming: Streaming<wire::ExecMessage>,
) -> Pin<Box<dyn Stream<Item = Answer> + Send>> {
    let (answers, receiver) = mpsc::channel(QUEUE);
    // The work is part of the answer: it ends when the client no longer reads.
    let work = futures_util::stream::once(async move { drive(&build, incoming, answers).await.err() });
    let work = work.filter_map(|error| error.map(Err));
    Box::pin(ReceiverStream::new(receiver).merge(work))
}

async fn drive(
    build: &Build,
    mut incoming: Streaming<wire::ExecMessage>,
    answers: mpsc::Sender<Answer>,
) -> Result<(), Status> {
    let mut running: HashMap<String, Running> = HashMap::new();
    // Its tasks end when it is dropped.
    let mut attended: JoinSet<String> = JoinSet::new();
    loop {
        tokio::select! {
            message = incoming.message() => {
                let Some(wire::ExecMessage { process_id, input: Some(input) }) = message? else { return Ok(()) };
                match input {
                    Input::Init(init) => {
                        if running.contains_key(&process_id) {
                            return Err(Status::already_exists(format!("process {process_id} exists")));
                        }
                        let (process, owner) = start(build, &init).await?;
                        let (input, taken) = mpsc::channel(QUEUE);
                        let input = init.fds.contains(&0).then_some(input);
                        let control = process.control.clone();
                        running.insert(process_id.clone(), Running { control, input, _owner: owner });
                        let answers = Answers { id: process_id, answers: answers.clone() };
                        attended.spawn(attend(process, taken, init.fds, answers));
                    }
                    other => tell(running.get_mut(&process_id), other).await,
                }
            }
            Some(ended) = attended.join_next() => {
                if let Ok(id) = ended {
                    running.remove(&id);
                }
            }
            () = build.cancel.cancelled() => return Err(Status::cancelled("context canceled")),
        }
    }
}

async fn start(build: &Build, init: &wire::InitMessage) -> Result<(BuildProcess, Owner), Status> {
    let made = build.container(&init.container_id)?;
    let process = process(build, init)?;
    let started = made.container.start(process).await.map_err(|error| error::status(&error))?;
    let owns = started.is_first();
    Ok((started, Owner(made, owns)))
}

/// Passes on what the client has for a process. One that has just ended needs nothing any more.
async fn tell(process: Option<&mut Running>, input: Input) {
    let Some(process) = process else { return };
    let done = match input {
        Input::File(wire::FdMessage { fd: 0, data, eof }) => {
            if let Some(input) = process.input.as_ref().filter(|_| !data.is_empty()) {
                // A process that has closed its input takes no more.
                let _ = input.send(data).await;
            }
            if eof {
                process.input = None;
            }
            Ok(())
        }
        Input::Resize(wire::ResizeMessage { rows, cols }) => {
            let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
            process.control.resize(side(rows), side(cols)).await
        }
        Input::Signal(wire::SignalMessage { name }) => match name.parse::<Signal>() {
            Ok(signal) => process.control.signal(signal).await,
            Err(_) => Ok(()),
        },
        Input::Init(_) | Input::File(_) | Input::Started(_) | Input::Exit(_) | Input::Done(_) => Ok(()),
    };
    if let Err(error) = done {
        tracing::debug!(%error, "telling a process of a build's container");
    }
}

/// What a process says.
struct Answers {
    id: String,
    answers: mpsc::Sender<Answer>,
}

impl Answers {
    async fn send(&self, input: Input) {
        let message = wire::ExecMessage { process_id: self.id.clone(), input: Some(input) };
        // Nobody has to listen.
        let _ = self.answers.send(Ok(message)).await;
    }

    async fn output(&self, mut pieces: Pieces<impl AsyncRead + Unpin>, fds: &[u32]) {
        while let Ok(Some((stream, data))) = pieces.next().await {
            let fd = u32::from(stream);
            if fds.contains(&fd) {
                self.send(Input::File(wire::FdMessage { fd, data: data.into(), eof: false })).await;
            }
        }
        for fd in [1, 2].into_iter().filter(|fd| fds.contains(fd)) {
            self.send(Input::File(wire::FdMessage { fd, data: Vec::new(), eof: true })).await;
        }
    }
}

/// Carries what a process reads and writes, and says how it ended. Returns its id.
async fn attend(process: BuildProcess, mut taken: mpsc::Receiver<Vec<u8>>, fds: Vec<u32>, answers: Answers) -> String {
    let BuildProcess { output, mut input, mut end, control: _ } = process;
    answers.send(Input::Started(wire::StartedMessage {})).await;
    let feed = async {
        while let Some(data) = taken.recv().await {
            if input.write_all(&data).await.is_err() {
                break;
            }
        }
        // Half-closing ends an input that is no terminal's.
        let _ = input.shutdown().await;
        std::future::pending::<()>().await
    };
    let life = async { tokio::join!(answers.output(output, &fds), end.wait()).1 };
    let exit = tokio::select! {
        exit = life => exit,
        () = feed => return answers.id, // it never ends
    };
    let (code, error) = match exit {
        Ok(exit) => (u32::from(exit.code), (exit.code != 0).then(|| format!("exit code: {}", exit.code))),
        // BuildKit's number for a process whose end is not known.
        Err(error) => (255, Some(error.message)),
    };
    let error = error.map(|message| rpc::Status { code: Code::Unknown.into(), message, details: Vec::new() });
    answers.send(Input::Exit(wire::ExitMessage { code, error })).await;
    answers.send(Input::Done(wire::DoneMessage {})).await;
    answers.id
}
