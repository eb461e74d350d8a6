//! A read replica of a cluster: a copy that follows it over streaming replication.
//!
//! Like every cluster here it is private, on a socket of its own, and stopped when dropped. Its replay can be held up on
//! purpose, for tests.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::{Cluster, guardian::Guardian, wait::wait_until};

/// How long a replica may take to begin to follow, or to replay what is there.
const FOLLOW_LIMIT: Duration = Duration::from_secs(60);

/// A cluster that follows another one.
#[derive(Debug)]
pub struct Replica {
    cluster: Cluster,
}

impl Replica {
    /// Opens a replica of `primary`, which must run, in `dir`: a copy is made unless there is one that can still follow. The
    /// server is not started: by [`start`](Self::start), or by a supervisor with the [`cluster`](Self::cluster)'s command.
    ///
    /// # Errors
    /// When another process holds `dir`, or the primary cannot be copied.
    pub fn open(primary: &Cluster, dir: &Path) -> Result<Self> {
        let cluster = Cluster::open_copy(primary, dir, Guardian::start(None)?, Signal::SIGINT)?;
        Ok(Self { cluster })
    }

    /// Makes and starts a replica that is gone with this process, in whatever way it ends.
    ///
    /// # Errors
    /// When the primary cannot be copied or followed.
    pub fn start_temporary(primary: &Cluster) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("atelier-replica-")
            .tempdir_in("/tmp")
            .context("cannot make a directory in /tmp")?
            .keep();
        let guardian = Guardian::start(Some(&dir))?;
        let cluster = Cluster::open_copy(primary, &dir, guardian, Signal::SIGQUIT)?;
        let replica = Self { cluster };
        replica.start()?;
        Ok(replica)
    }

    /// Starts the server and waits until it follows.
    ///
    /// # Errors
    /// When it does not start, or does not follow in time.
    pub fn start(&self) -> Result<()> {
        self.cluster.start()?;
        let follows = wait_until(FOLLOW_LIMIT, || self.is_following());
        ensure!(
            follows,
            "the replica in {} does not follow its primary",
            self.cluster.dir().display()
        );
        Ok(())
    }

    /// The cluster itself, to run, stop, freeze and kill.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whether the log of the primary is streaming in.
    pub fn is_following(&self) -> bool {
        let status = "select status from pg_stat_wal_receiver";
        let status = self.cluster.psql("postgres", status);
        status.is_ok_and(|status| status == "streaming")
    }

    /// Waits until everything that the primary has committed by now is visible here.
    ///
    /// # Errors
    /// When the primary cannot be asked, or it takes too long.
    pub fn catch_up(&self, primary: &Cluster) -> Result<()> {
        let position = primary.psql("postgres", "select pg_current_wal_insert_lsn()")?;
        let replayed = format!("select coalesce(pg_last_wal_replay_lsn() >= '{position}', false)");
        let is_there = || {
            let answer = self.cluster.psql("postgres", &replayed);
            answer.is_ok_and(|answer| answer == "t")
        };
        ensure!(
            wait_until(FOLLOW_LIMIT, is_there),
            "the replica has not replayed {position} in time"
        );
        Ok(())
    }

    /// Holds up replay: what is committed from now on is received, and not visible here.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn pause(&self) -> Result<()> {
        self.run("select pg_wal_replay_pause()")?;
        let state = "select pg_get_wal_replay_pause_state()";
        let is_paused = || {
            let state = self.cluster.psql("postgres", state);
            state.is_ok_and(|state| state == "paused")
        };
        ensure!(wait_until(FOLLOW_LIMIT, is_paused), "replay does not pause");
        Ok(())
    }

    /// Lets replay go on.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn resume(&self) -> Result<()> {
        self.run("select pg_wal_replay_resume()")
    }

    /// Makes it a primary of its own, which follows nobody.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn promote(&self) -> Result<()> {
        self.run("select pg_promote()")
    }

    fn run(&self, statement: &str) -> Result<()> {
        self.cluster.psql("postgres", statement).map(|_| ())
    }
}
