//! Where statements that change nothing run.

use std::{sync::Arc, time::Instant};

use tokio_postgres::Row;

use super::{Statement, link::Arguments, links::Links};
use crate::{error::Result, metrics::Metrics};

/// The connections for reads, which all requests share.
#[derive(Clone, Debug)]
pub struct Reads {
    pub(super) links: Links,
    pub(super) metrics: Arc<Metrics>,
}

impl Reads {
    /// Runs a statement that changes nothing; gives its rows.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::error::Error::Unavailable) if the server does not answer,
    /// [`Error::Internal`](crate::error::Error::Internal) if it refuses the statement.
    pub async fn rows(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Vec<Row>> {
        let started = Instant::now();
        let outcome = self.links.rows(statement, arguments).await;
        self.metrics
            .statement(statement.name)
            .observe(started.elapsed().as_secs_f64());
        outcome
    }

    /// Runs a statement that changes nothing; gives its first row.
    ///
    /// # Errors
    /// As [`Reads::rows`].
    pub async fn row(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Option<Row>> {
        Ok(self.rows(statement, arguments).await?.into_iter().next())
    }
}
