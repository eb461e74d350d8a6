//! The statements of the catalogue.

use tokio_postgres::Row;

use super::model::{Feature, Photo, Product, Sku, Style};
use crate::{
    database::{Reads, Statement},
    date::Date,
    error::Result,
    page::Page,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 4] = [&LIST, &GET, &STYLES, &RELATED];

/// Finds the run of ids in which the page begins by adding up the runs before it (one small row each), counts to the
/// page's first id within that run in the key's index, and reads the rows from there: a deep page costs what the first
/// one costs.
static LIST: Statement = Statement::new(
    "products.list",
    "select p.id, p.name, p.slogan, p.description, p.category, p.default_price::text, p.created_at, p.updated_at
       from shop.products p
      where p.id >= (
              select first.id
                from (select c.run, $2 - (sum(c.count) over (order by c.run) - c.count) as skip, c.count
                        from shop.product_counts c) as start,
                     lateral (select f.id from shop.products f
                               where f.id >= start.run * 1024
                               order by f.id
                              offset start.skip
                               limit 1) as first
               where start.skip >= 0 and start.skip < start.count)
      order by p.id
      limit $1",
);

/// A page of products.
pub async fn list(reads: &Reads, page: Page) -> Result<Vec<Product>> {
    let rows = reads.rows(&LIST, &[&page.limit(), &page.offset()]).await?;
    rows.iter().map(product).collect()
}

static GET: Statement = Statement::new(
    "products.get",
    "select p.id, p.name, p.slogan, p.description, p.category, p.default_price::text, p.created_at, p.updated_at,
            f.feature, f.value
       from shop.products p
       left join shop.features f on f.product_id = p.id
      where p.id = $1
      order by f.id",
);

/// A product and its features, if there is such a product.
pub async fn get(reads: &Reads, id: i32) -> Result<Option<(Product, Vec<Feature>)>> {
    let rows = reads.rows(&GET, &[&id]).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let product = product(first)?;
    let mut features = Vec::with_capacity(rows.len());
    for row in &rows {
        // A product without features is one row without a feature.
        if let Some(feature) = row.try_get(8)? {
            let value = row.try_get(9)?;
            features.push(Feature { feature, value });
        }
    }
    Ok(Some((product, features)))
}

fn product(row: &Row) -> Result<Product> {
    Ok(Product {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        slogan: row.try_get(2)?,
        description: row.try_get(3)?,
        category: row.try_get(4)?,
        default_price: row.try_get(5)?,
        created_at: Date(row.try_get(6)?),
        updated_at: Date(row.try_get(7)?),
    })
}

/// One row for the product, and one for each style, photo and sku of it, told apart by the first column. All three
/// carry the product's id: each is one look-up, whatever the number of styles.
static STYLES: Statement = Statement::new(
    "products.styles",
    "select 0::int2 as kind, p.id, null::int4 as style_id, null::text as text, null::text as other_text,
            null::bool as flag, null::int4 as number, null::text as price
       from shop.products p
      where p.id = $1
      union all
     select 1::int2, s.id, null, s.name, s.sale_price::text, s.is_default, null, s.original_price::text
       from shop.styles s
      where s.product_id = $1
      union all
     select 2::int2, h.id, h.style_id, h.url, h.thumbnail_url, null, null, null
       from shop.photos h
      where h.product_id = $1
      union all
     select 3::int2, k.id, k.style_id, k.size, null, null, k.quantity, null
       from shop.skus k
      where k.product_id = $1",
);

/// The styles of a product, ascending by id, if there is such a product.
pub async fn styles(reads: &Reads, product: i32) -> Result<Option<Vec<Style>>> {
    let rows = reads.rows(&STYLES, &[&product]).await?;
    let mut product_exists = false;
    let mut styles = Vec::new();
    let mut photos: Vec<(i32, Photo)> = Vec::new();
    let mut skus: Vec<(i32, Sku)> = Vec::new();
    for row in &rows {
        match row.try_get::<_, i16>(0)? {
            0 => product_exists = true,
            1 => styles.push(style(row)?),
            2 => photos.push((row.try_get(2)?, photo(row)?)),
            _ => skus.push((row.try_get(2)?, sku(row)?)),
        }
    }
    if !product_exists {
        return Ok(None);
    }
    styles.sort_unstable_by_key(|style| style.style_id);
    photos.sort_unstable_by_key(|(style, photo)| (*style, photo.id));
    skus.sort_unstable_by_key(|(style, sku)| (*style, sku.id));
    let mut photos = photos.into_iter().peekable();
    let mut skus = skus.into_iter().peekable();
    for style in &mut styles {
        style.photos = take_children(&mut photos, style.style_id);
        style.skus = take_children(&mut skus, style.style_id);
    }
    Ok(Some(styles))
}

/// Takes the children of one parent from a list that is sorted by parent; parents come in ascending order.
fn take_children<T>(
    children: &mut std::iter::Peekable<std::vec::IntoIter<(i32, T)>>,
    parent: i32,
) -> Vec<T> {
    while children.next_if(|(of, _)| *of < parent).is_some() {}
    std::iter::from_fn(|| children.next_if(|(of, _)| *of == parent))
        .map(|(_, child)| child)
        .collect()
}

fn style(row: &Row) -> Result<Style> {
    Ok(Style {
        style_id: row.try_get(1)?,
        name: row.try_get(3)?,
        original_price: row.try_get(7)?,
        sale_price: row.try_get(4)?,
        is_default: row.try_get(5)?,
        photos: Vec::new(),
        skus: Vec::new(),
    })
}

fn photo(row: &Row) -> Result<Photo> {
    Ok(Photo {
        id: row.try_get(1)?,
        thumbnail_url: row.try_get(4)?,
        url: row.try_get(3)?,
    })
}

fn sku(row: &Row) -> Result<Sku> {
    Ok(Sku {
        id: row.try_get(1)?,
        quantity: row.try_get(6)?,
        size: row.try_get(3)?,
    })
}

static RELATED: Statement = Statement::new(
    "products.related",
    "select r.related_id
       from shop.products p
       left join shop.related r on r.product_id = p.id and r.related_exists
      where p.id = $1
      order by r.id",
);

/// The related products of a product, each once, if there is such a product.
pub async fn related(reads: &Reads, product: i32) -> Result<Option<Vec<i32>>> {
    let rows = reads.rows(&RELATED, &[&product]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut seen = std::collections::HashSet::with_capacity(rows.len());
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(id) = row.try_get::<_, Option<i32>>(0)?
            && seen.insert(id)
        {
            ids.push(id);
        }
    }
    Ok(Some(ids))
}
