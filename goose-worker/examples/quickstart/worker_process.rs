//! The worker, seen from the process that starts it.

use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::options;
use crate::place::Place;

/// A running worker process. When this is dropped, or our process dies, its standard input closes and it stops.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    /// Starts this very program once more, as a worker.
    pub(crate) fn start(place: &Place) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(options::worker_arguments(place))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start a worker process: {error}"))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the process is not running any more: nobody asked it to stop.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("worker {} ended by itself: {status}", self.pid()).into()),
        }
    }

    /// SIGKILL: the process gets no chance to settle, hand back or say goodbye.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("worker {} failed: {status}", self.pid()).into()) }
    }
}
