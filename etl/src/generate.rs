//! Makes a data set: all files, any size, every kind of dirt in known numbers, the same bytes for
//! the same seed.
//!
//! Each file is written on its own, as what belongs to what is calculated and not remembered:
//! memory does not grow with the size. Refused rows are written beside the good ones and have no
//! children but such as are refused for it, so that the counts are exact.

mod catalogue;
mod file;
mod line;
mod plan;
mod questions;
mod reviews;
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{
    error::{self, Error, Result},
    progress::{Progress, Step},
    reject::{Reason, Repair},
    report::{FileCounts, Planted},
    tables::TABLES,
};
use file::{FileWriter, Sheet};
use plan::{Kind, Plan};
use text::Texts;

/// More products would have more votes than 32-bit ids can count.
pub const PRODUCTS_MAX: u64 = 50_000_000;

/// The most rows of a table: with gaps and refused rows beside them their ids still are 32-bit
/// integers.
pub const ROWS_MAX: u64 = 1_500_000_000;

/// What a data set is to be.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// The folder of the files, made if it is not there.
    pub out: PathBuf,
    /// How many products; all else in proportion.
    pub products: u64,
    /// How many rows that can be loaded some tables have, by name; all others in proportion.
    pub rows: Vec<(String, u64)>,
    /// What chance is drawn from.
    pub seed: u64,
    /// How progress is shown.
    pub progress: Progress,
}

/// Writes the data set and, beside it, `planted.json`: what it holds, by file and code.
///
/// # Errors
/// If a file cannot be written, or if there are more products than [`PRODUCTS_MAX`].
pub fn run(options: &GenerateOptions) -> Result<Planted> {
    if !(1..=PRODUCTS_MAX).contains(&options.products) {
        return Err(Error::Input(vec![format!(
            "products: a number from 1 to {PRODUCTS_MAX}"
        )]));
    }
    fs::create_dir_all(&options.out).map_err(error::file(&options.out))?;
    let plan = Plan::sized(options.seed, options.products, &fixed_rows(options)?);
    check_sizes(&plan)?;
    let texts = Texts::new(&plan);
    let step = options.progress.counter("generating");
    let queue = Mutex::new(sheets());
    let files = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism()
        .map_or(2, usize::from)
        .min(TABLES.len());
    let work = || -> Result<()> {
        loop {
            let Some(sheet) = lock(&queue).pop() else {
                return Ok(());
            };
            let name = sheet.table.files[0];
            let counts = write_file(&plan, &texts, &sheet, &options.out.join(name), &step)?;
            counts.check(name)?;
            lock(&files).insert(name.to_owned(), counts);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let outcomes = workers.into_iter().map(thread::ScopedJoinHandle::join);
        outcomes
            .map(|outcome| {
                outcome.unwrap_or_else(|_| Err(Error::Check("a writer ended early".to_owned())))
            })
            .collect::<Result<Vec<()>>>()
    })?;
    let files = files.into_inner().unwrap_or_else(PoisonError::into_inner);
    let rows: u64 = files.values().map(|file: &FileCounts| file.rows).sum();
    step.finish(&format!(
        "{rows} rows of {} products in {}",
        options.products,
        options.out.display()
    ));
    let planted = Planted {
        seed: options.seed,
        products: options.products,
        files,
    };
    write_planted(&planted, &options.out.join("planted.json"))?;
    Ok(planted)
}

/// The sizes that are asked for, by table.
fn fixed_rows(options: &GenerateOptions) -> Result<[Option<u64>; TABLES.len()]> {
    let mut fixed = [None; TABLES.len()];
    for (name, rows) in &options.rows {
        let at = TABLES.iter().position(|table| table.name == name);
        let at = at.filter(|at| *at != Kind::Products as usize && *at != Kind::Votes as usize);
        let (Some(at), 1..=ROWS_MAX) = (at, *rows) else {
            return Err(Error::Input(vec![format!(
                "{name}={rows}: a table but products, which --products says, and characteristic_reviews, \
                 which follow from the reviews; and a number from 1 to {ROWS_MAX}"
            )]));
        };
        fixed[at] = Some(*rows);
    }
    Ok(fixed)
}

fn check_sizes(plan: &Plan) -> Result<()> {
    let votes = plan.rows(Kind::Votes);
    if votes <= ROWS_MAX {
        return Ok(());
    }
    Err(Error::Input(vec![format!(
        "so many reviews and characteristics make {votes} votes: {ROWS_MAX} at most"
    )]))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_planted(planted: &Planted, path: &Path) -> Result<()> {
    let value = serde_json::to_value(planted).unwrap_or_default();
    fs::write(path, format!("{value:#}\n")).map_err(error::file(path))
}

fn write_file(
    plan: &Plan,
    texts: &Texts,
    sheet: &Sheet,
    path: &Path,
    step: &Step,
) -> Result<FileCounts> {
    let mut file = FileWriter::create(plan, sheet, path, step)?;
    match sheet.kind {
        Kind::Products => catalogue::products(plan, texts, &mut file),
        Kind::Features => catalogue::features(plan, &mut file),
        Kind::Styles => catalogue::styles(plan, &mut file),
        Kind::Skus => catalogue::skus(plan, &mut file),
        Kind::Photos => catalogue::photos(plan, &mut file),
        Kind::Related => catalogue::related(plan, &mut file),
        Kind::Reviews => reviews::reviews(plan, texts, &mut file),
        Kind::ReviewPhotos => reviews::photos(plan, &mut file),
        Kind::Characteristics => reviews::characteristics(plan, &mut file),
        Kind::Votes => reviews::characteristic_reviews(plan, &mut file),
        Kind::Questions => questions::questions(plan, &mut file),
        Kind::Answers => questions::answers(plan, texts, &mut file),
        Kind::AnswerPhotos => questions::photos(plan, &mut file),
    }?;
    Ok(file.finish()?.counts())
}

/// All files with the dirt that each can have, the longest last: the last ones are taken first.
fn sheets() -> Vec<Sheet> {
    const PRICES: &[Reason] = &[Reason::BadPrice];
    const STYLES: &[Reason] = &[Reason::BadPrice, Reason::BadBoolean];
    const URLS: &[Reason] = &[Reason::BadUrl];
    const VOTES: &[Reason] = &[Reason::OutOfRange];
    const REVIEWS: &[Reason] = &[Reason::OutOfRange, Reason::BadDate, Reason::BadBoolean];
    const TALK: &[Reason] = &[Reason::BadDate, Reason::BadBoolean];
    const PHOTO_REPAIRS: &[Repair] = &[
        Repair::UnclosedQuote,
        Repair::StrayPrefix,
        Repair::StrayBackslash,
        Repair::JoinedUrls,
    ];
    const STYLE_REPAIRS: &[Repair] = &[Repair::ZeroSale, Repair::DollarSign];
    const PRODUCT_REPAIRS: &[Repair] = &[Repair::PriceLabel, Repair::DollarSign];
    let sheet = |kind: Kind, parent, repairs, reasons| Sheet {
        kind,
        table: &TABLES[kind as usize],
        parent,
        repairs,
        reasons,
        is_bare: matches!(kind, Kind::Related | Kind::Votes),
    };
    let product = Some(Kind::Products);
    vec![
        sheet(Kind::Products, None, PRODUCT_REPAIRS, PRICES),
        sheet(Kind::Features, product, &[Repair::WrappedQuotes], &[]),
        sheet(Kind::Related, product, &[], &[Reason::RelatedZero]),
        sheet(Kind::Characteristics, product, &[], &[]),
        sheet(Kind::Styles, product, STYLE_REPAIRS, STYLES),
        sheet(Kind::Skus, Some(Kind::Styles), &[], &[]),
        sheet(Kind::AnswerPhotos, Some(Kind::Answers), &[], URLS),
        sheet(Kind::ReviewPhotos, Some(Kind::Reviews), &[], URLS),
        sheet(Kind::Questions, product, &[Repair::DateText], TALK),
        sheet(Kind::Votes, Some(Kind::Reviews), &[], VOTES),
        sheet(
            Kind::Answers,
            Some(Kind::Questions),
            &[Repair::DateText],
            TALK,
        ),
        sheet(Kind::Photos, Some(Kind::Styles), PHOTO_REPAIRS, URLS),
        sheet(Kind::Reviews, product, &[Repair::DateText], REVIEWS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(products: u64, seed: u64) -> (tempfile::TempDir, Planted) {
        let dir = tempfile::tempdir().unwrap();
        let options = GenerateOptions {
            out: dir.path().to_owned(),
            products,
            rows: Vec::new(),
            seed,
            progress: Progress::silent(),
        };
        let planted = run(&options).unwrap();
        (dir, planted)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let ((first, planted), (second, _), (other, _)) =
            (generate(30, 5), generate(30, 5), generate(30, 6));
        for name in planted
            .files
            .keys()
            .map(String::as_str)
            .chain(["planted.json"])
        {
            let [first, second, other] =
                [&first, &second, &other].map(|dir| fs::read(dir.path().join(name)).unwrap());
            assert!(first == second, "{name}");
            assert!(first != other, "{name}");
        }
    }

    #[test]
    fn every_kind_of_dirt_is_there_from_ten_products_on() {
        let (_dir, planted) = generate(10, 1);
        let mut codes: Vec<&str> = planted
            .files
            .values()
            .flat_map(|file| file.repaired.keys().chain(file.rejected.keys()))
            .map(String::as_str)
            .collect();
        codes.sort_unstable();
        codes.dedup();
        let known = Repair::ALL
            .iter()
            .map(|repair| repair.code())
            .chain(Reason::ALL.iter().map(|reason| reason.code()));
        // No row of any release is longer than the reader's limit.
        let mut known: Vec<&str> = known
            .filter(|code| *code != Reason::RowTooLong.code())
            // And what is live is not of the files.
            .filter(|code| *code != Reason::LiveId.code())
            .collect();
        known.sort_unstable();
        assert_eq!(codes, known);
    }

    #[test]
    fn files_keep_the_proportions_of_the_full_release() {
        let (_dir, planted) = generate(1000, 3);
        assert_eq!(planted.files["product.csv"].loaded, 1000);
        assert_eq!(planted.files["skus.csv"].loaded, 11_323);
        let all: u64 = planted.files.values().map(|file| file.loaded).sum();
        assert!((60_000..80_000).contains(&all), "{all}");
    }

    #[test]
    fn a_table_may_have_another_size_and_the_others_keep_theirs() {
        let (_dir, usual) = generate(50, 4);
        let dir = tempfile::tempdir().unwrap();
        let options = |rows: &str, number| GenerateOptions {
            out: dir.path().to_owned(),
            products: 50,
            rows: vec![(rows.to_owned(), number)],
            seed: 4,
            progress: Progress::silent(),
        };
        let planted = run(&options("questions", 5000)).unwrap();
        assert_eq!(planted.files["questions.csv"].loaded, 5000);
        for name in ["product.csv", "reviews.csv", "answers.csv", "skus.csv"] {
            assert_eq!(
                planted.files[name].loaded, usual.files[name].loaded,
                "{name}"
            );
        }
        for (table, number) in [
            ("products", 9),
            ("characteristic_reviews", 9),
            ("x", 9),
            ("skus", 0),
        ] {
            assert!(
                matches!(run(&options(table, number)), Err(Error::Input(_))),
                "{table}"
            );
        }
    }

    #[test]
    fn a_single_product_is_a_data_set_too() {
        let (_dir, planted) = generate(1, 9);
        assert_eq!(planted.files.len(), TABLES.len());
        assert!(
            planted
                .files
                .values()
                .all(|file| file.loaded > 0 && file.check("one").is_ok())
        );
    }

    #[test]
    fn no_products_and_too_many_are_refused() {
        for products in [0, PRODUCTS_MAX + 1] {
            let options = GenerateOptions {
                out: PathBuf::new(),
                products,
                rows: Vec::new(),
                seed: 1,
                progress: Progress::silent(),
            };
            assert!(matches!(run(&options), Err(Error::Input(_))));
        }
    }
}
