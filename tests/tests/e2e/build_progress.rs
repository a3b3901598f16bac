//! Progress on a terminal, as a terminal shows it: tmux is one that can be asked what is on its screen.

use skep_testkit::{Command, Engine, until, until_some};

use super::engine;
use super::project::Project;

/// A terminal of a size, in which a command runs. Gone with this value.
struct Screen {
    socket: String,
}

impl Screen {
    /// None where there is no tmux.
    fn new(engine: &Engine, columns: u16, rows: u16, command: &str) -> Option<Screen> {
        super::peers::installed("tmux")?;
        let screen = Screen { socket: engine.scratch().join("tmux").display().to_string() };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let words = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "sh"];
        screen.command(&words).env("PS1", "$ ").run().success();
        screen.command(&["set-option", "-g", "history-limit", "5000"]).run().success();
        screen.command(&["send-keys", &format!("clear; {command}; echo ended $?"), "Enter"]).run().success();
        Some(screen)
    }

    fn command(&self, words: &[&str]) -> Command {
        Command::new("tmux", [&["-S", &self.socket], words].concat())
    }

    /// What is on the screen, and above it.
    fn shown(&self) -> String {
        self.command(&["capture-pane", "-p", "-S", "-5000"]).run().success().stdout
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).run();
    }
}

/// The command line that builds, for a shell.
fn build(engine: &Engine, flags: &str, project: &Project) -> String {
    let program = skep_testkit::program("skep").display().to_string();
    let socket = engine.socket().display().to_string();
    format!("{program} -H unix://{socket} build {flags} {}", project.word())
}

/// How often a line is there.
fn count(shown: &str, part: &str) -> usize {
    shown.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn every_step_is_one_line_and_stays() {
    for (columns, rows) in [(80, 24), (50, 9)] {
        let engine = engine();
        let text = "FROM busybox\nRUN for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; sleep 0.1; done\nRUN echo second\n";
        let project = Project::new(&engine, "shown", text);
        let Some(screen) = Screen::new(&engine, columns, rows, &build(&engine, "-t one", &project)) else {
            return println!("SKIPPED progress on a terminal: there is no tmux");
        };
        until("output of the step is shown below it", || screen.shown().contains(" => => # line "));
        let shown = until_some("the build has ended", || {
            let shown = screen.shown();
            shown.contains("ended 0").then_some(shown)
        });
        assert_eq!(count(&shown, "[+] Building "), 1, "{shown}");
        assert_eq!(count(&shown, "FINISHED"), 1, "{shown}");
        assert_eq!(count(&shown, "[2/3] RUN for i in"), 1, "{shown}");
        assert_eq!(count(&shown, "[3/3] RUN echo second"), 1, "{shown}");
        assert_eq!(count(&shown, "=> #"), 0, "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= usize::from(columns)), "{shown}");
    }
}

#[test]
fn a_failure_is_shown_below() {
    let engine = engine();
    let project = Project::new(&engine, "fails", "FROM busybox\nRUN echo some output; exit 7\n");
    let Some(screen) = Screen::new(&engine, 80, 24, &build(&engine, "", &project)) else {
        return println!("SKIPPED progress on a terminal: there is no tmux");
    };
    let shown = until_some("the build has ended", || {
        let shown = screen.shown();
        shown.contains("ended 1").then_some(shown)
    });
    assert_eq!(count(&shown, "=> ERROR [2/2] RUN echo some output; exit 7"), 1, "{shown}");
    assert!(shown.contains("\n > [2/2] RUN echo some output; exit 7:\n"), "{shown}");
    assert!(shown.contains("   2 | >>> RUN echo some output; exit 7"), "{shown}");
}
