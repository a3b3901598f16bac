//! The end of a container's process, and what comes after it: answers to those who asked for the end, the next start, the
//! removal.

use std::time::Duration;

use chrono::Utc;
use skep_runtime::protocol::Exit;
use tokio::time::Instant;

use super::restart;
use super::task::{Reply, Task, answer};
use crate::engine::blocking;
use crate::model::request::{Change, RemoveContainer};
use crate::model::status::{Exited, Status};
use crate::{Error, Result};

/// What is to happen when the process that was told to end has ended.
pub(super) enum Then {
    /// Answer that there was nothing to stop.
    AnswerStop(Reply<Change>),
    /// Answer that it was stopped.
    Done(Reply<Change>),
    Start(Reply<()>),
    Remove(RemoveContainer, Reply<()>),
}

impl Then {
    /// The same after a process has really ended.
    pub(super) fn into_done(self) -> Self {
        match self {
            Then::AnswerStop(reply) => Then::Done(reply),
            other => other,
        }
    }

    pub(super) fn fail(self, error: Error) {
        match self {
            Then::AnswerStop(reply) | Then::Done(reply) => answer(reply, Err(error)),
            Then::Start(reply) | Then::Remove(_, reply) => answer(reply, Err(error)),
        }
    }

    /// The container was removed by itself.
    fn removed(self, removal: &Result<()>) {
        match (self, removal) {
            (then, Err(error)) => then.fail(Error::Conflict(error.to_string())),
            (Then::AnswerStop(reply) | Then::Done(reply), Ok(())) => answer(reply, Ok(Change::Done)),
            (Then::Start(reply) | Then::Remove(_, reply), Ok(())) => answer(reply, Ok(())),
        }
    }
}

/// A process that was told to end.
#[derive(Default)]
pub(super) struct Stopping {
    /// When it is killed, or when the callers are told that killing did not help.
    pub(super) deadline: Option<Instant>,
    pub(super) killed: bool,
    pub(super) then: Vec<Then>,
}

impl Task {
    /// The process is gone: `None` if its shim went without a word, as when someone killed it.
    pub(super) async fn ended(&mut self, exit: Option<Exit>) {
        let Some(mut running) = self.running.take() else { return };
        let started_at = running.facts.started_at;
        let was_paused = matches!(self.status, Status::Paused(_));
        let exited = match exit {
            Some(exit) => Exited {
                code: i32::from(exit.code),
                oom_killed: exit.oom_killed,
                error: String::new(),
                started_at: Some(started_at),
                finished_at: chrono::DateTime::from_timestamp_nanos(exit.finished_at),
            },
            None => Exited {
                code: 137,
                oom_killed: false,
                error: "the container's shim was killed".to_owned(),
                started_at: Some(started_at),
                finished_at: Utc::now(),
            },
        };
        self.unplugging = running.tear_down(&self.engine, exit.is_none() || was_paused).await;
        self.stale_bundle = Some(running.bundle);
        let ran = (exited.finished_at - started_at).to_std().unwrap_or_default();
        self.engine.execs.container_ended(self.record.id);
        self.record.running = None;
        self.leave_networks().await;
        self.record.last_exit = Some(exited.clone());
        self.exits += 1;
        self.after_exit(exited, Some(ran)).await;
    }

    /// Tells who listens, unless no process ran. Who then asks for the container's state finds it ended.
    fn tell_end(&self, exited: &Exited, ran: Option<Duration>) {
        let Some(ran) = ran else { return };
        if exited.oom_killed {
            self.event("oom", []);
        }
        self.network_events("disconnect");
        self.event("die", [("exitCode", exited.code.to_string()), ("execDuration", ran.as_secs().to_string())]);
    }

    /// What comes after an end. `ran` is how long the process ran; none if it could not be started.
    async fn after_exit(&mut self, exited: Exited, ran: Option<Duration>) {
        let stopping = self.stopping.take();
        let asked = stopping.is_some();
        let then = stopping.map(|stopping| stopping.then).unwrap_or_default();
        let again = !asked
            && restart::wanted(
                self.record.host.restart_policy,
                exited.code,
                self.record.restart_count,
                self.record.stopped_by_user,
            );
        if again {
            self.restart_at = Some(Instant::now() + self.back_off.next(ran.unwrap_or_default()));
            self.status = Status::Restarting(exited.clone());
            self.save_and_publish().await;
            self.tell_end(&exited, ran);
            return;
        }
        self.status = Status::Exited(exited.clone());
        let starts_again = then.iter().any(|then| matches!(then, Then::Start(_)));
        if self.record.host.auto_remove && !starts_again {
            self.publish();
            self.tell_end(&exited, ran);
            if asked {
                self.event("stop", []);
            }
            let removal = self.remove_now(RemoveContainer { force: true, volumes: true }).await;
            for then in then {
                then.removed(&removal);
            }
            return;
        }
        self.save_and_publish().await;
        self.tell_end(&exited, ran);
        if asked && !starts_again {
            self.event("stop", []);
        }
        self.proceed(then.into_iter().map(Then::into_done).collect()).await;
    }

    /// Does what was to come after the end.
    pub(super) async fn proceed(&mut self, then: Vec<Then>) {
        for then in then {
            match then {
                Then::AnswerStop(reply) => answer(reply, Ok(Change::Already)),
                Then::Done(reply) => answer(reply, Ok(Change::Done)),
                Then::Start(reply) => {
                    let result = self.start_asked().await.map(drop);
                    if result.is_ok() {
                        self.event("restart", []);
                    }
                    answer(reply, result);
                }
                Then::Remove(options, reply) => {
                    let result = self.remove_now(options).await;
                    answer(reply, result);
                }
            }
        }
    }

    /// Starts it because its restart policy says so; if that fails, the policy is asked again.
    pub(super) async fn start_by_policy(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Err(error) = self.start().await {
            tracing::warn!(container = %self.record.id, %error, "starting again");
            let exited = Exited {
                code: self.record.last_exit.as_ref().map_or(128, |exit| exit.code),
                oom_killed: false,
                error: error.to_string(),
                started_at: None,
                finished_at: Utc::now(),
            };
            self.record.last_exit = Some(exited.clone());
            self.after_exit(exited, None).await;
        }
    }

    /// Removes a container that does not run. The user has the answer once nobody can find it any more; files go afterwards.
    pub(super) async fn remove_now(&mut self, options: RemoveContainer) -> Result<()> {
        self.restart_at = None;
        self.status = Status::Removing;
        self.publish();
        let engine = self.engine.clone();
        let record = self.record.clone();
        let removed = blocking(move || super::bundle::remove(&engine, &record)).await;
        if let Err(error) = removed {
            self.status = Status::Dead;
            self.publish();
            return Err(error);
        }
        self.delete_bundle();
        self.engine.images.touch(self.record.image_id);
        self.engine.containers.remove(self.record.id, &self.record.name);
        self.event("destroy", []);
        self.done = true;
        if options.volumes {
            self.remove_anonymous_volumes().await;
        }
        crate::Engine::from_inner(self.engine.clone()).tidy().await;
        Ok(())
    }

    async fn remove_anonymous_volumes(&self) {
        let engine = crate::Engine::from_inner(self.engine.clone());
        for mount in self.record.mounts.iter().filter(|mount| mount.anonymous && !mount.point.name.is_empty()) {
            let Ok(volume) = engine.volume(&mount.point.name) else { continue };
            if engine.volume_users(&mount.point.name).is_empty()
                && let Err(error) = engine.delete_volume(volume).await
            {
                tracing::warn!(container = %self.record.id, %error, "removing an anonymous volume");
            }
        }
    }

    /// Deletes the few files of a run whose end is stored.
    pub(super) fn delete_bundle(&mut self) {
        let deleted = self.stale_bundle.take().map_or(Ok(()), |bundle| super::bundle::delete(&bundle));
        if let Err(error) = deleted {
            tracing::warn!(container = %self.record.id, %error, "deleting its bundle");
        }
    }
}
