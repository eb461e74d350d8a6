//! Which servers may be asked: the primary says what history it writes, and its replicas must be of the same.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_postgres::Client;

use super::db::{History, ROLE, Role};
use crate::error::{Error, Result};

/// What is known of the primary's history, shared by the connections to it and to its replicas.
#[derive(Debug)]
pub(super) struct Lineage {
    /// Nothing until a primary has been asked.
    history: watch::Sender<Option<History>>,
}

/// What the connections of a pool are to.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// A primary without replicas: nobody wants to know more of it.
    Alone,
    /// The primary.
    Primary(Arc<Lineage>),
    /// One of its replicas.
    Replica(Arc<Lineage>),
}

impl Lineage {
    pub(super) fn new() -> Self {
        Self {
            history: watch::Sender::new(None),
        }
    }

    /// The history of the primary, as it was last seen.
    pub(super) fn history(&self) -> Option<History> {
        *self.history.borrow()
    }
}

impl Part {
    /// Waits until there is something to compare a server with.
    pub(super) async fn ready(&self) {
        if let Self::Replica(lineage) = self {
            let mut history = lineage.history.subscribe();
            // Fails only without a sender, which is part of `lineage`.
            let _ = history.wait_for(Option::is_some).await;
        }
    }

    /// Decides whether a connection that was just opened may be used; gives the history that it belongs to.
    ///
    /// # Errors
    /// If it leads to a server that is no replica of the primary, or does not answer for so long.
    pub(super) async fn admit(
        &self,
        client: &Client,
        deadline: Duration,
    ) -> Result<Option<History>> {
        match self {
            Self::Alone => Ok(None),
            Self::Primary(lineage) => {
                match role(client, deadline).await {
                    Ok(role) if !role.is_replica => {
                        lineage.history.send_replace(Some(role.history));
                    }
                    // It serves all the same: only replicas are not used.
                    Ok(_) => tracing::warn!("the primary is a replica itself: no other is used"),
                    Err(error) => tracing::warn!(%error, "the primary's history is unknown"),
                }
                Ok(None)
            }
            Self::Replica(lineage) => {
                let role = role(client, deadline).await?;
                let refuse = |why: &'static str| Err(Error::Unavailable(why.into()));
                if !role.is_replica {
                    refuse("this is no replica, or one that has been promoted")
                } else if lineage.history() != Some(role.history) {
                    refuse("this replica is of another cluster, or of another timeline of it")
                } else {
                    Ok(Some(role.history))
                }
            }
        }
    }

    /// Whether a connection of this history still fits what is known of the primary.
    pub(super) fn fits(&self, history: Option<History>) -> bool {
        match self {
            Self::Alone | Self::Primary(_) => true,
            Self::Replica(lineage) => lineage.history() == history,
        }
    }
}

async fn role(client: &Client, deadline: Duration) -> Result<Role> {
    let row = timeout(deadline, client.query_one(ROLE.sql, &[]))
        .await
        .map_err(|_| Error::Unavailable("the server does not say what it is".into()))??;
    Ok(Role::from_row(&row)?)
}
