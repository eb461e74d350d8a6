//! What has to be removed or turned over now and then; every origin does it, and they do not get in each other's way.

pub mod db;

use std::time::Duration;

use crate::{error::Result, state::AppState};

/// Rows that one statement removes: short enough to be no request's problem.
const BATCH_ROWS: i64 = 1000;
/// Statements in one round: the rest waits for the next.
const BATCHES_MAX: usize = 20;

/// Works at intervals, for as long as the process lives.
pub async fn run(state: AppState) {
    let Some(every) = std::num::NonZeroU32::new(state.config.maintenance_every_s) else {
        return;
    };
    let every = Duration::from_secs(every.get().into());
    let mut has_failed = false;
    loop {
        tokio::time::sleep(jittered(every, random())).await;
        match round(&state).await {
            Ok(()) => has_failed = false,
            // Once, until it has worked again: the database being gone is said elsewhere.
            Err(error) if !has_failed => {
                has_failed = true;
                tracing::warn!(%error, "maintenance failed; trying again later");
            }
            Err(_) => {}
        }
    }
}

/// Does what is due.
///
/// # Errors
/// If a statement fails; what was removed before stays removed.
pub async fn round(state: &AppState) -> Result<()> {
    for _ in 0..BATCHES_MAX {
        // A connection for each batch: requests go first.
        let removed = db::remove_expired_keys(&mut state.db.write().await?, BATCH_ROWS).await?;
        if removed < BATCH_ROWS {
            break;
        }
    }
    let days = i32::from(state.config.interactions_days);
    for _ in 0..BATCHES_MAX {
        if days == 0 {
            break;
        }
        let mut conn = state.db.write().await?;
        if db::remove_old_interactions(&mut conn, days, BATCH_ROWS).await? < BATCH_ROWS {
            break;
        }
    }
    if db::rotate_outbox(&mut state.db.write().await?).await? {
        tracing::info!("the outbox was rotated");
    }
    Ok(())
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
