//! The statements of carts.

use super::model::Item;
use crate::{
    database::{Conn, Reads, Statement},
    error::Result,
    idempotency::{self, Claim, Created},
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 2] = [&LIST, &ADD];

/// The limit bounds an answer that has no pages.
static LIST: Statement = Statement::new(
    "cart.list",
    "select c.sku_id, c.count
       from service.cart_items c
      where c.identity = $1
      order by c.sku_id
      limit 10000",
);

/// What is in a cart, ascending by sku.
pub async fn list(reads: &Reads, identity: [u8; 32]) -> Result<Vec<Item>> {
    let rows = reads.rows(&LIST, &[&identity.as_slice()]).await?;
    rows.iter()
        .map(|row| {
            Ok(Item {
                sku_id: row.try_get(0)?,
                count: row.try_get(1)?,
            })
        })
        .collect()
}

static ADD: Statement = Statement::new(
    "cart.add",
    concat!(
        include_str!("../idempotency/gate.sql"),
        "-- $4 identity, $5 sku, $6 units. No cache keeps a cart: there are no groups.
added as (
  insert into service.cart_items as c (identity, sku_id, count)
  select $4::bytea, $5::int4, $6::int4
    from gate
   where gate.state = 'open'
     and exists (select from shop.skus k where k.id = $5::int4)
  on conflict (identity, sku_id) do update
     set count = least(c.count + excluded.count, 1000000),
         updated_at = excluded.updated_at
  returning sku_id
),
created as (
  select null::text as location, array[]::text[] as groups
    from added
),
",
        include_str!("../idempotency/result.sql")
    ),
);

/// Adds units of a sku to a cart. `None`: there is no such sku.
pub async fn add(
    conn: &mut Conn,
    identity: [u8; 32],
    sku: i32,
    count: i32,
    claim: Option<&Claim>,
) -> Result<Option<Created>> {
    let call = idempotency::begin(&ADD, claim)
        .bind(identity)
        .bind(sku)
        .bind(count);
    idempotency::run(conn, &call, claim).await
}
