//! What has to be removed or turned over now and then; every origin does it, and they do not get in each other's way.

pub mod db;

use std::time::Duration;

use crate::{error::Result, ranked, state::AppState};

/// Rows that one statement removes: short enough to be no request's problem.
const BATCH_ROWS: i64 = 1000;
/// Statements of one kind in one round: the rest waits for the next.
const BATCHES_MAX: usize = 20;
/// Until the next round if this one has left something: requests have the database to themselves for most of the time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The newest rows of each list by which popular products are found.
const NEWEST_ROWS: i32 = 5000;
/// Products that are ranked in one round: each keeps writers waiting while its rows are read.
const RANKED_MAX: i32 = 4;

/// Works at intervals, for as long as the process lives.
pub async fn run(state: AppState) {
    let Some(every) = std::num::NonZeroU32::new(state.config.maintenance_every_s) else {
        return;
    };
    let every = Duration::from_secs(every.get().into());
    let mut has_failed = false;
    // Without a database there is nothing to know yet; the next round asks again.
    let _ = state.ranked.refresh(state.db.reads()).await;
    let mut pause = every;
    loop {
        tokio::time::sleep(jittered(pause, random())).await;
        pause = every;
        match round(&state).await {
            Ok(has_left) => {
                has_failed = false;
                if has_left {
                    pause = every.min(AGAIN_AFTER);
                }
            }
            // Once, until it has worked again: the database being gone is said elsewhere.
            Err(error) if !has_failed => {
                has_failed = true;
                tracing::warn!(%error, "maintenance failed; trying again later");
            }
            Err(_) => {}
        }
    }
}

/// Does what is due; says whether some of it is left, as there was too much for one round.
///
/// # Errors
/// If a statement fails; what was done before stays done.
pub async fn round(state: &AppState) -> Result<bool> {
    let mut has_left = remove(state, Old::Keys).await?;
    let days = i32::from(state.config.interactions_days);
    if days > 0 {
        has_left |= remove(state, Old::Interactions { days }).await?;
    }
    if db::rotate_outbox(&mut state.db.write().await?).await? {
        tracing::info!("the outbox was rotated");
    }
    let mut conn = state.db.write().await?;
    if ranked::db::rank(&mut conn, NEWEST_ROWS, RANKED_MAX).await? > 0 {
        tracing::info!("products have become popular and were ranked");
    }
    drop(conn);
    state.ranked.refresh(state.db.reads()).await?;
    Ok(has_left)
}

/// What is removed when it is old.
#[derive(Clone, Copy)]
enum Old {
    Keys,
    Interactions { days: i32 },
}

/// Removes batches until one is not full; says whether the last one was.
async fn remove(state: &AppState, old: Old) -> Result<bool> {
    for _ in 0..BATCHES_MAX {
        // A connection for each batch: requests go first.
        let mut conn = state.db.write().await?;
        let removed = match old {
            Old::Keys => db::remove_expired_keys(&mut conn, BATCH_ROWS).await?,
            Old::Interactions { days } => {
                db::remove_old_interactions(&mut conn, days, BATCH_ROWS).await?
            }
        };
        if removed < BATCH_ROWS {
            return Ok(false);
        }
    }
    Ok(true)
}

/// From three quarters to five quarters of an interval: origins started together drift apart.
fn jittered(every: Duration, random: u32) -> Duration {
    every.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, and nothing worse.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_quarter() {
        let every = Duration::from_secs(60);
        assert_eq!(jittered(every, 0), Duration::from_secs(45));
        assert_eq!(jittered(every, u32::MAX), Duration::from_secs(75));
    }
}
