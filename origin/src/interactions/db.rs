//! The statements of interactions.

use super::model::NewInteraction;
use crate::{
    database::{Conn, Statement},
    error::Result,
    idempotency::{self, Claim, Created},
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 1] = [&CREATE];

static CREATE: Statement = Statement::new(
    "interactions.create",
    concat!(
        include_str!("../idempotency/gate.sql"),
        "-- $4 element, $5 widget, $6 time. Nobody reads them through a cache: there are no groups.
stored_interaction as (
  insert into service.interactions (element, widget, time)
  select $4::text, $5::text, $6::text
    from gate
   where gate.state = 'open'
  returning id
),
created as (
  select null::text as location, array[]::text[] as groups
    from stored_interaction
),
",
        include_str!("../idempotency/result.sql")
    ),
);

/// Adds an interaction.
pub async fn create(
    conn: &mut Conn,
    interaction: &NewInteraction,
    claim: Option<&Claim>,
) -> Result<Option<Created>> {
    let call = idempotency::begin(&CREATE, claim)
        .bind(&interaction.element)
        .bind(&interaction.widget)
        .bind(&interaction.time);
    idempotency::run(conn, &call, claim).await
}
