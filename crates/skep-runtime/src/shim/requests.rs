//! What is done when somebody asks.

use std::fs;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal as RawSignal};
use skep_types::Signal;

use super::event_loop::{INIT, Shim};
use super::poll::ProcessKey;
use super::process::InputEnd;
use super::streams::{self, Wanted};
use super::{failed, now, refused};
use crate::container::{self, ExecTarget};
use crate::protocol::{
    Attach, Exec, ExecState, Failure, FailureKind, Phase, Reply, Request, SPEC, Scope, State, Target,
};
use crate::spec::{ConsoleSize, Spec};

impl Shim {
    /// Does what a connection asks for.
    pub(super) fn on_request(&mut self, number: u32, request: Request) -> Reply {
        let answer = match request {
            Request::Start => self.start(),
            Request::State => Ok(Reply::State(self.state())),
            Request::Subscribe => Ok(Reply::State(self.subscribe(number))),
            Request::Attach(streams) => self.attach(number, streams),
            Request::Exec(exec) => self.exec(number, &exec),
            Request::Resize { target, size } => self.resize(target, size),
            Request::Signal { target, signal, scope } => self.signal(target, signal, scope),
        };
        answer.unwrap_or_else(Reply::Failed)
    }

    fn start(&mut self) -> Result<Reply, Failure> {
        let Some(mut init) = self.at_gate.take() else {
            return Err(refused(FailureKind::WrongPhase, "start", "the container was started already"));
        };
        let started_at = now();
        match init.start() {
            Ok(()) => {
                self.started_at = Some(started_at);
                self.phase = Phase::Running { started_at };
                Ok(Reply::Started)
            }
            Err(e) => {
                let failure = Failure::from(e);
                self.failure = Some(failure.clone());
                // It is about to end by itself; this makes sure.
                let _ = rustix::process::pidfd_send_signal(&init.pidfd, RawSignal::KILL);
                Err(failure)
            }
        }
    }

    fn state(&self) -> State {
        let execs = self.processes.values().filter_map(|p| match p.target {
            Target::Exec(id) if !p.told => Some(ExecState { id, pid: p.pid, exit: p.exit }),
            _ => None,
        });
        let execs = execs.collect();
        let init = self.processes.get(&INIT);
        State {
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: init.map_or(0, |p| p.pid),
            start_time: init.map_or(0, |p| p.start_time),
            phase: self.phase,
            execs,
        }
    }

    fn subscribe(&mut self, number: u32) -> State {
        let state = self.state();
        for process in self.processes.values_mut().filter(|p| p.key != INIT && p.exit.is_some()) {
            process.told = true;
        }
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.subscribed = true;
        }
        state
    }

    fn attach(&mut self, number: u32, streams: Attach) -> Result<Reply, Failure> {
        let socket = self.connections.get_mut(&number).and_then(|c| c.take_fd());
        let socket = socket.ok_or_else(|| refused(FailureKind::Other, "attach", "no socket came along"))?;
        let init = self.processes.get_mut(&INIT).filter(|p| p.exit.is_none());
        let init = init.ok_or_else(|| refused(FailureKind::NoTarget, "attach", "the container has ended"))?;
        init.attach(&self.poller, socket, streams);
        Ok(Reply::Attached)
    }

    fn exec(&mut self, number: u32, exec: &Exec) -> Result<Reply, Failure> {
        let socket = match exec.attach {
            Some(_) => self.connections.get_mut(&number).and_then(|c| c.take_fd()),
            None => None,
        };
        let not_running = || refused(FailureKind::WrongPhase, "exec", "the container is not running");
        if !matches!(self.phase, Phase::Running { .. }) {
            return Err(not_running());
        }
        let target = Target::Exec(exec.id);
        if self.processes.values().any(|p| p.target == target) {
            return Err(refused(FailureKind::WrongPhase, "exec", "this exec was started already"));
        }
        // Born into a frozen cgroup, the process would never reach its gate, and the shim would wait for it.
        if self.cgroup.as_ref().is_some_and(|c| c.is_frozen().unwrap_or(false)) {
            return Err(refused(FailureKind::WrongPhase, "exec", "the container is paused, unpause it before exec"));
        }
        let key = self.free_key().ok_or_else(|| refused(FailureKind::Other, "exec", "too many processes"))?;
        let init = self.processes.get(&INIT).filter(|p| p.exit.is_none()).ok_or_else(not_running)?;

        let wanted = exec.attach.map_or(Wanted { stdin: false, stdout: false, stderr: false }, |a| Wanted {
            stdin: a.stdin,
            stdout: a.stdout,
            stderr: a.stderr,
        });
        let (stdio, ours) = streams::make(&exec.process, wanted).map_err(|e| failed("pipe", e))?;
        let spec = self.read_spec()?;
        let id = self.config.id.to_string();
        let into = ExecTarget {
            pid: init.pid,
            pidfd: init.pidfd.as_fd(),
            cgroup: self.cgroup.as_ref(),
            spec: &spec,
            id: &id,
            preserve_fds: 0,
        };
        let mut launched = container::exec(&into, &exec.process, stdio)?;
        // From here on the child is reaped as any other, also if it never gets to its program.
        let process = ours.join(&self.poller, &mut launched, (key, target), InputEnd::ClosesInput, None);
        let mut process = process.map_err(|e| failed("dup", e))?;
        if let (Some(streams), Some(socket)) = (exec.attach, socket) {
            process.attach(&self.poller, socket, streams);
        }
        launched.start()?;
        let reply = Reply::ExecStarted { pid: process.pid, start_time: process.start_time };
        self.processes.insert(key, process);
        self.waiters.insert(key, number);
        Ok(reply)
    }

    /// The specification, read anew: an exec is rare, and the shim's memory is not.
    fn read_spec(&self) -> Result<Spec, Failure> {
        let text = fs::read(self.bundle.path.join(SPEC)).map_err(|e| failed("read config.json", e))?;
        Spec::from_slice(&text).map_err(|e| refused(FailureKind::Other, "read config.json", &e.to_string()))
    }

    /// A number for a new process.
    fn free_key(&mut self) -> Option<ProcessKey> {
        for _ in 0..ProcessKey::MAX {
            self.next_process = self.next_process.checked_add(1).unwrap_or(INIT + 1);
            if !self.processes.contains_key(&self.next_process) {
                return Some(self.next_process);
            }
        }
        None
    }

    fn resize(&mut self, target: Target, size: ConsoleSize) -> Result<Reply, Failure> {
        let process = self.find(target, "resize")?;
        let terminal = process.terminal.as_ref();
        let terminal =
            terminal.ok_or_else(|| refused(FailureKind::NoTarget, "resize", "the process has no terminal"))?;
        let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size).map_err(|e| failed("resize", e))?;
        Ok(Reply::Done)
    }

    fn signal(&mut self, target: Target, signal: Signal, scope: Scope) -> Result<Reply, Failure> {
        let process = self.find(target, "kill")?;
        let broken = |e: crate::cgroup::Error| refused(FailureKind::Other, "kill", &e.to_string());
        match (scope, &self.cgroup) {
            (Scope::Process, _) | (Scope::All, None) => {
                match skep_sys::event::signal_process(process.pidfd.as_fd(), signal.number()) {
                    Err(e) if e.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => return Err(failed("kill", e)),
                    _ => {}
                }
            }
            (Scope::All, Some(cgroup)) if signal == Signal::KILL => cgroup.kill_all().map_err(broken)?,
            (Scope::All, Some(cgroup)) => {
                for pid in cgroup.pids().map_err(broken)?.into_iter().filter_map(Pid::from_raw) {
                    if let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                        // It may have ended since.
                        let _ = skep_sys::event::signal_process(fd.as_fd(), signal.number());
                    }
                }
            }
        }
        Ok(Reply::Done)
    }

    fn find(&self, target: Target, step: &str) -> Result<&super::process::Process, Failure> {
        let found = self.processes.values().find(|p| p.target == target && p.exit.is_none());
        found.ok_or_else(|| refused(FailureKind::NoTarget, step, "the process is not running"))
    }
}
