//! Processes of the lab: started, watched, hurt, and never left behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::Result;

/// How often a process is asked whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running program of this package. It is killed and reaped when this is dropped, also by a panic.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Closing it asks the program to stop.
    stdin: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Process {
    /// Starts a program of this package.
    ///
    /// # Errors
    /// It is not built or cannot be started.
    pub fn start<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut command = Command::new(find(program)?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = mpsc::unbounded_channel();
        // Ends when the process does.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, lines })
    }

    /// The process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line the program prints.
    ///
    /// # Errors
    /// None comes in time, or the program ended.
    pub async fn line(&mut self, limit: Duration) -> Result<String> {
        let line = tokio::time::timeout(limit, self.lines.recv()).await;
        let line = line.map_err(|_| format!("process {} printed nothing for {limit:?}", self.pid()))?;
        Ok(line.ok_or_else(|| format!("process {} ended early", self.pid()))?)
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// SIGSTOP: the process does nothing more, and does not know it.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn pause(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT: the process goes on where it was.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn resume(&self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -{name} {} failed", self.pid()).into()) }
    }

    /// Asks the program to stop, by closing its standard input.
    pub fn ask_to_stop(&mut self) {
        self.stdin = None;
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ending = async {
            let mut again = tokio::time::interval(LOOK_AGAIN);
            loop {
                again.tick().await;
                if let Some(status) = self.ended()? {
                    return Ok(status);
                }
            }
        };
        match tokio::time::timeout(limit, ending).await {
            Ok(status) => status,
            Err(_) => Err(format!("process {} is still running after {limit:?}", self.pid()).into()),
        }
    }

    /// Asks the program to stop and waits until it has, without an error.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub async fn stop(mut self, limit: Duration) -> Result<()> {
        self.ask_to_stop();
        let status = self.wait(limit).await?;
        if status.success() { Ok(()) } else { Err(format!("process {} ended with {status}", self.pid()).into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also ends a paused process. Errors mean that it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program of this package: beside the running one, or, in a test, one folder up.
fn find(program: &str) -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    let folders = running.ancestors().skip(1).take(2);
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    let found = folders.map(|folder| folder.join(&name)).find(|path| path.is_file());
    Ok(found.ok_or_else(|| format!("{name} is not built, run `cargo build -p goose-tests --bins`"))?)
}
