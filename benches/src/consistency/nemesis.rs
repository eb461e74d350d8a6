//! What breaks things: two hands, one for processes and one for what is between and behind them, each breaking one thing
//! at a time, for a while, at random moments of one seed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, Executor as _, PgConnection, query_scalar};
use stack::{Cluster, Replica};

use super::history::{Fault, Moment};
use crate::dice::Dice;
use crate::gateway_process::GatewayProcess;
use crate::live::Live;
use crate::origin_process::Origin;
use crate::paced::{becomes_true, sleep_until};
use crate::relay::{Mode, Relay};
use crate::shop::DATABASE;

/// Between two faults of one hand, in milliseconds.
const PEACE_MS: (u32, u32) = (200, 2_000);
/// What is killed stays dead for so long, in milliseconds.
const DEAD_MS: (u32, u32) = (0, 1_000);
/// What hangs, hangs for so long, in milliseconds: about a lease, shorter or longer.
const HUNG_MS: (u32, u32) = (200, 4_000);
const DELAY_MS: (u32, u32) = (20, 800);
/// Nobody who changes a counter gets further than this.
const HOLD_WRITERS: &str =
    "begin; lock table shop.reviews, shop.questions, shop.answers in share mode";
/// Takes numbers of transactions that are never committed: more than are given out in [`UNHEARD`].
const WASTE: &str = "do $$ begin
    for step in 1..10000 loop perform pg_current_xact_id(); rollback; end loop;
  end $$";
/// Fails once the server has ended the sessions; ends well only if it does not.
const OUTLAST: &str = "select pg_sleep(30)";
/// How long polls have to see numbers that were rolled back, before a session is killed.
const WASTEFUL: Duration = Duration::from_millis(50);
/// How long gateways have to hear of them: more than a heartbeat of their streams.
const SEEN_LIMIT: Duration = Duration::from_secs(3);
/// How long a crash stays unheard of after the recovery: less than a lease, with what the recovery takes.
const UNHEARD: Duration = Duration::from_secs(2);
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// One hand's dice, and the clock of the run.
pub struct Hand {
    dice: Dice,
    start: Instant,
    until: Instant,
}

impl Hand {
    /// The hand of one seed, which rests from `until` on.
    pub fn new(seed: u64, start: Instant, until: Instant) -> Self {
        Self {
            dice: Dice::new(seed),
            start,
            until,
        }
    }

    /// Breaks one thing after the other, and leaves all whole.
    ///
    /// # Errors
    /// Something cannot be broken, or does not come back.
    pub fn work(
        mut self,
        mut strike: impl FnMut(&mut Self) -> Result<(&'static str, String)>,
    ) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        loop {
            self.pause(PEACE_MS);
            if Instant::now() >= self.until {
                return Ok(faults);
            }
            let began = self.now();
            let (kind, target) = strike(&mut self)?;
            faults.push(Fault {
                kind,
                target,
                began,
                ended: self.now(),
            });
        }
    }

    fn now(&self) -> Moment {
        Moment::after(self.start.elapsed())
    }

    fn pause(&mut self, (min, max): (u32, u32)) {
        let pause = Duration::from_millis(self.dice.between(min, max).into());
        sleep_until(Instant::now() + pause);
    }

    fn place(&mut self, length: usize) -> usize {
        self.dice.between(0, length as u32 - 1) as usize
    }
}

/// Kills or freezes one origin or one gateway.
///
/// # Errors
/// It does not come back.
pub fn strike_process(
    hand: &mut Hand,
    origins: &mut [Origin],
    gateways: &mut [GatewayProcess],
) -> Result<(&'static str, String)> {
    let (origin, gateway) = (hand.place(origins.len()), hand.place(gateways.len()));
    match hand.dice.between(0, 3) {
        0 => {
            let it = &mut origins[origin];
            it.program.kill9()?;
            hand.pause(DEAD_MS);
            it.program.restart()?;
            it.wait_until_ready()?;
            Ok(("origin killed", origin.to_string()))
        }
        1 => {
            origins[origin].program.freeze()?;
            hand.pause(HUNG_MS);
            origins[origin].program.thaw()?;
            Ok(("origin hung", origin.to_string()))
        }
        2 => {
            let it = &mut gateways[gateway];
            it.program.kill9()?;
            hand.pause(DEAD_MS);
            it.program.restart()?;
            it.wait_until_ready()?;
            Ok(("gateway killed", gateway.to_string()))
        }
        _ => {
            gateways[gateway].program.freeze()?;
            hand.pause(HUNG_MS);
            gateways[gateway].program.thaw()?;
            Ok(("gateway hung", gateway.to_string()))
        }
    }
}

/// The database and its copies.
pub struct Database<'a> {
    /// The server.
    pub cluster: &'a Cluster,
    /// Its copies.
    pub replicas: &'a [Replica],
}

/// Cuts, holds or delays the streams of one gateway, loses an event of them, kills a session of the database, or kills a copy,
/// freezes it or holds it back.
///
/// # Errors
/// It does not come back.
pub fn strike_surroundings(
    hand: &mut Hand,
    streams: &[Vec<Relay>],
    database: &Database<'_>,
) -> Result<(&'static str, String)> {
    let gateway = hand.place(streams.len());
    let set = |mode| streams[gateway].iter().for_each(|relay| relay.set(mode));
    let kinds = if database.replicas.is_empty() { 5 } else { 8 };
    match hand.dice.between(1, kinds) {
        1 => {
            set(Mode::Cut);
            hand.pause(HUNG_MS);
            set(Mode::Pass);
            Ok(("streams cut", gateway.to_string()))
        }
        2 => {
            set(Mode::Hold);
            hand.pause(HUNG_MS);
            set(Mode::Pass);
            Ok(("streams held", gateway.to_string()))
        }
        3 => {
            let (min, max) = DELAY_MS;
            let delay = Duration::from_millis(hand.dice.between(min, max).into());
            set(Mode::Delay(delay));
            hand.pause(HUNG_MS);
            set(Mode::Pass);
            Ok(("streams delayed", gateway.to_string()))
        }
        4 => {
            kill_session(database.cluster, |_| sleep_until(Instant::now() + WASTEFUL))?;
            wait_for_recovery(database.cluster)?;
            Ok(("session killed", "primary".into()))
        }
        5 => {
            // Of the one that is followed; the others lose the first that they are asked for.
            streams[gateway].iter().for_each(Relay::lose_event);
            Ok(("event lost", gateway.to_string()))
        }
        6 => {
            let place = hand.place(database.replicas.len());
            let replica = &database.replicas[place];
            replica.cluster().kill9()?;
            hand.pause(DEAD_MS);
            replica.start()?;
            Ok(("replica killed", place.to_string()))
        }
        7 => {
            // Its sessions too: origins find out by their deadlines only.
            let place = hand.place(database.replicas.len());
            let cluster = database.replicas[place].cluster();
            cluster.sigstop()?;
            hand.pause(HUNG_MS);
            cluster.sigcont()?;
            Ok(("replica hung", place.to_string()))
        }
        _ => {
            let place = hand.place(database.replicas.len());
            database.replicas[place].pause()?;
            hand.pause(HUNG_MS);
            database.replicas[place].resume()?;
            Ok(("replica held back", place.to_string()))
        }
    }
}

/// Makes the server recover as after a crash, and keeps that from all gateways for a while, in which numbers of transactions
/// are given out that every one of them has seen.
///
/// # Errors
/// It does not go down, or does not come back.
pub fn crash_unheard(live: &Live) -> Result<()> {
    let set = |mode| {
        let streams = live.streams.iter().flatten();
        streams.for_each(|relay| relay.set(mode));
    };
    let all_have_seen = |number| {
        let mut gateways = live.gateways.iter();
        gateways.all(|gateway| gateway.position_end().is_ok_and(|end| end > number))
    };
    let killed = kill_session(&live.cluster, |number| {
        becomes_true(SEEN_LIMIT, || all_have_seen(number));
        set(Mode::Hold);
    });
    let recovered = killed.and_then(|()| wait_for_recovery(&live.cluster));
    sleep_until(Instant::now() + UNHEARD);
    set(Mode::Pass);
    recovered
}

/// Kills a session with SIGKILL after transactions that were rolled back: the server recovers as after a crash, and gives the
/// numbers out again that its log has not got on the disk. `before` is run with the last of them just before that.
fn kill_session(cluster: &Cluster, before: impl FnOnce(u64)) -> Result<()> {
    let url = cluster.owner_url(DATABASE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Both sessions stay open until the server has gone down.
    let (_holding, mut wasting, victim, last) = runtime.block_on(async {
        let mut holding = PgConnection::connect(&url).await?;
        let victim: i32 = query_scalar("select pg_backend_pid()")
            .fetch_one(&mut holding)
            .await?;
        // A commit takes the log to the disk, with all that was rolled back before it.
        holding.execute(HOLD_WRITERS).await?;
        let mut wasting = PgConnection::connect(&url).await?;
        wasting.execute(WASTE).await?;
        let last: String = query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text")
            .fetch_one(&mut wasting)
            .await?;
        anyhow::Ok((holding, wasting, victim, last))
    })?;
    before(last.parse::<u64>()?.saturating_sub(1));
    kill(Pid::from_raw(victim), Signal::SIGKILL).context("killing a session")?;
    let waiting = wasting.execute(OUTLAST);
    ensure!(
        runtime.block_on(waiting).is_err(),
        "the server did not go down"
    );
    Ok(())
}

fn wait_for_recovery(cluster: &Cluster) -> Result<()> {
    let is_back = || cluster.psql(DATABASE, "select 1").is_ok();
    ensure!(
        becomes_true(RECOVERY_LIMIT, is_back),
        "Postgres does not recover"
    );
    Ok(())
}
