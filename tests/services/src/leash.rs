//! Ends servers when the process that started them is gone, however it went.
//!
//! `Drop` does not run after ctrl-C, `kill -9` or an abort, and a server that outlives its test keeps its port and memory.
//! So a small shell reads a pipe of which this process holds the other end: when the system closes that,
//! the shell kills what is still on its list.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// `+PID` puts a process on the list, `-PID` takes it off, `/FOLDER` is removed at the end.
const WATCH: &str = r#"
trap '' HUP INT TERM
held=' '
while IFS= read -r line; do
  case $line in
    +*) held="$held${line#+} " ;;
    -*) case $held in *" ${line#-} "*) held="${held%% ${line#-} *} ${held#* ${line#-} }" ;; esac ;;
    /*) set -- "$@" "$line" ;;
  esac
done
for pid in $held; do kill -9 "$pid"; done
[ $# -eq 0 ] || rm -rf -- "$@"
"#;

/// Puts itself on the list and becomes the command: there is no moment in which it runs and is not on the list.
/// Its standard output is the pipe at first, which it must not keep.
const REGISTER: &str = r#"echo "+$$"; exec "$@" >/dev/null"#;

#[allow(clippy::zombie_processes, reason = "it is waiting for the end of this process")]
fn pipe() -> &'static Mutex<ChildStdin> {
    static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    PIPE.get_or_init(|| {
        let mut watch = Command::new("sh")
            .args(["-c", WATCH, "leash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals for the whole group of this process are none for it.
            .process_group(0)
            .spawn()
            .expect("sh");
        Mutex::new(watch.stdin.take().expect("a pipe"))
    })
}

fn tell(line: &str) {
    let mut pipe = pipe().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // One write, so that lines of several writers do not mix.
    // Where the shell was killed there is still `Drop`.
    let _ = pipe.write_all(format!("{line}\n").as_bytes());
}

/// The command, to be spawned: with its first breath it is on the list. Ctrl-C is not for it: whoever uses the server
/// may need it to end well.
pub(crate) fn on_leash(program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", REGISTER, "sh", program]).stdout(end()).process_group(0);
    command
}

/// Takes a process off the list. Before it is waited for: after that the number may be another's.
pub(crate) fn release(pid: u32) {
    tell(&format!("-{pid}"));
}

/// Removes a folder at the end, if it is still there then.
pub(crate) fn remove_at_the_end(folder: &Path) {
    tell(&folder.display().to_string());
}

/// Something to hold on to for the servers of this process: they run for as long as it, or a program that it was given to,
/// is there.
#[must_use]
pub fn end() -> OwnedFd {
    use std::os::fd::AsFd;
    let pipe = pipe().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    pipe.as_fd().try_clone_to_owned().expect("a file descriptor")
}
