//! Transactions by conditions: alternatives that are united, and requirements that all must meet.
//!
//! Each alternative is a query of its own that walks its own index and stops at the page's end; `or` in one condition
//! would read everything that any alternative matches.

use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::keys::PublicKey;
use forebay_ledger::transaction::Transaction;

use super::{Bound, Lists, stored};
use crate::columns::Columns;
use crate::error::SlowError;
use crate::reader::transaction;

/// A condition on a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Of this type.
    Type(u8),
    /// In this block.
    Block(BlockId),
    /// Sent by one of these.
    Senders(Vec<Address>),
    /// Sent with this key.
    SenderKey(PublicKey),
    /// Received by one of these.
    Recipients(Vec<Address>),
    /// In a block from one height to another.
    Heights(Option<i64>, Option<i64>),
    /// Made from one moment to another, seconds since the network's epoch.
    Timestamps(Option<i64>, Option<i64>),
    /// With an amount from one to another, units of 10^-8.
    Amounts(Option<i64>, Option<i64>),
}

/// What a list is sorted by. Equal ones stand in the chain's order, or against it where everything is descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionOrder {
    /// In the chain's order, or the newest first.
    Height {
        /// The newest first.
        descending: bool,
    },
    /// By when they were made.
    Timestamp {
        /// The latest first.
        descending: bool,
    },
    /// By amount.
    Amount {
        /// The largest first.
        descending: bool,
    },
}

/// Which transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionFilter {
    /// One of these must hold, if there are any.
    pub any: Vec<Condition>,
    /// All of these must hold.
    pub all: Vec<Condition>,
    /// In which order.
    pub order: TransactionOrder,
    /// At most so many.
    pub limit: u32,
    /// After so many others.
    pub offset: u32,
}

/// A transaction with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// Its block's height.
    pub height: Height,
    /// Its block.
    pub block: BlockId,
    /// Its number in the chain, from 1.
    pub row_id: u64,
}

/// What `reader::transaction` reads, then the place.
const COLUMNS: &str = "t.height, t.id, t.timestamp, t.sender_public_key, t.sender, t.requester_public_key, t.recipient, \
     t.amount, t.fee, t.signature, t.second_signature, t.signatures, t.type, t.asset, \
     b.id, b.transactions_before + t.index + 1";

impl Condition {
    fn sql(&self, bound: &mut Bound) -> String {
        match self {
            // A literal, so that the index of the rare types is found; it is a number of ours.
            Self::Type(number) => format!("t.type = {number}"),
            Self::Block(id) => {
                let id = bound.add(id.to_bigint());
                format!("t.height = (select b.height from forebay.blocks b where b.id = {id})")
            }
            Self::Senders(senders) => one_of("t.sender", senders, bound),
            Self::SenderKey(key) => {
                let address = bound.add(Address::of(key).to_bigint());
                let key = bound.add(key.0.to_vec());
                format!("t.sender = {address} and t.sender_public_key = {key}")
            }
            Self::Recipients(recipients) => one_of("t.recipient", recipients, bound),
            Self::Heights(from, to) => range("t.height", *from, *to, bound),
            Self::Timestamps(from, to) => range("t.timestamp", *from, *to, bound),
            Self::Amounts(from, to) => range("t.amount", *from, *to, bound),
        }
    }
}

fn one_of(column: &str, addresses: &[Address], bound: &mut Bound) -> String {
    match addresses {
        [address] => format!("{column} = {}", bound.add(address.to_bigint())),
        several => {
            let all: Vec<i64> = several.iter().map(|address| address.to_bigint()).collect();
            format!("{column} = any({})", bound.add(all))
        }
    }
}

fn range(column: &str, from: Option<i64>, to: Option<i64>, bound: &mut Bound) -> String {
    let from = from.map(|from| format!("{column} >= {}::bigint", bound.add(from)));
    let to = to.map(|to| format!("{column} <= {}::bigint", bound.add(to)));
    let parts: Vec<String> = from.into_iter().chain(to).collect();
    if parts.is_empty() { "true".to_owned() } else { parts.join(" and ") }
}

impl TransactionOrder {
    /// The columns to sort by: those of `(height, index)` last, so that the order is one.
    fn sql(self) -> &'static str {
        match self {
            Self::Height { descending: false } => "height, index",
            Self::Height { descending: true } => "height desc, index desc",
            Self::Timestamp { descending: false } => "timestamp, height, index",
            Self::Timestamp { descending: true } => "timestamp desc, height desc, index desc",
            Self::Amount { descending: false } => "amount, height, index",
            Self::Amount { descending: true } => "amount desc, height, index",
        }
    }

    /// What has to be known of a row to sort it.
    fn keys(self) -> &'static str {
        match self {
            Self::Height { .. } => "t.height, t.index",
            Self::Timestamp { .. } => "t.height, t.index, t.timestamp",
            Self::Amount { .. } => "t.height, t.index, t.amount",
        }
    }
}

impl TransactionFilter {
    /// The page's rows as a statement.
    fn page_sql(&self, bound: &mut Bound) -> String {
        let (keys, order) = (self.order.keys(), self.order.sql());
        let limit = bound.add(i64::from(self.limit));
        let offset = bound.add(i64::from(self.offset));
        let branches = self.branches(bound);
        let page = match branches.as_slice() {
            [only] => format!(
                "select {keys} from forebay.transactions t where {only} order by {order} limit {limit} offset {offset}"
            ),
            several => {
                let parts: Vec<String> = several
                    .iter()
                    .map(|condition| {
                        format!(
                            "(select {keys} from forebay.transactions t where {condition} \
                             order by {order} limit {limit}::bigint + {offset}::bigint)"
                        )
                    })
                    .collect();
                format!("{} order by {order} limit {limit} offset {offset}", parts.join(" union "))
            }
        };
        format!(
            "with page as ({page}) select {COLUMNS} from page p \
             join forebay.transactions t on t.height = p.height and t.index = p.index \
             join forebay.blocks b on b.height = p.height order by {}",
            qualified(order)
        )
    }

    /// How many there are, as a statement; `None`: all of the chain.
    fn count_sql(&self, bound: &mut Bound) -> Option<String> {
        if let Some((from, to)) = self.only_heights() {
            return Some(count_of_heights_sql(from, to, bound));
        }
        let branches = self.branches(bound);
        match branches.as_slice() {
            [all] if all == "true" => None,
            // Most transactions are transfers: those that are none are counted.
            [transfers] if transfers == "t.type = 0" => Some(
                "select (select coalesce(max(b.transactions_before + b.number_of_transactions), 0) from forebay.blocks b \
                     where b.height = (select max(height) from forebay.blocks)) - count(*) \
                 from forebay.transactions t where t.type <> 0"
                    .to_owned(),
            ),
            [only] => Some(format!("select count(*) from forebay.transactions t where {only}")),
            several => {
                let parts: Vec<String> = several
                    .iter()
                    .map(|condition| format!("select t.height, t.index from forebay.transactions t where {condition}"))
                    .collect();
                Some(format!("select count(*) from ({}) matching", parts.join(" union ")))
            }
        }
    }

    /// The heights, if nothing else is asked for.
    fn only_heights(&self) -> Option<(Option<i64>, Option<i64>)> {
        match (self.any.as_slice(), self.all.as_slice()) {
            ([Condition::Heights(from, to)], []) | ([], [Condition::Heights(from, to)]) => Some((*from, *to)),
            _ => None,
        }
    }

    /// One condition an alternative, the requirements in each.
    fn branches(&self, bound: &mut Bound) -> Vec<String> {
        let required: Vec<String> = self.all.iter().map(|condition| condition.sql(bound)).collect();
        let with_required = |own: Option<String>| {
            let all: Vec<String> = own.into_iter().chain(required.iter().cloned()).collect();
            if all.is_empty() { "true".to_owned() } else { all.join(" and ") }
        };
        if self.any.is_empty() {
            return vec![with_required(None)];
        }
        self.any.iter().map(|condition| with_required(Some(condition.sql(bound)))).collect()
    }
}

/// Blocks know how many transactions are before them, so those of a range need not be counted one by one: "all that have
/// a confirmation" is nearly all of the chain. Without a block from `from` on there is nothing to subtract from.
fn count_of_heights_sql(from: Option<i64>, to: Option<i64>, bound: &mut Bound) -> String {
    let from = bound.add(from.unwrap_or(i64::MIN));
    let to = bound.add(to.unwrap_or(i64::MAX));
    format!(
        "select greatest(coalesce( \
             (select b.transactions_before + b.number_of_transactions from forebay.blocks b \
                 where b.height <= {to}::bigint order by b.height desc limit 1) \
             - (select b.transactions_before from forebay.blocks b \
                 where b.height >= {from}::bigint order by b.height limit 1), 0), 0)::bigint"
    )
}

/// `height desc, index` of the page.
fn qualified(order: &str) -> String {
    order.split(", ").map(|column| format!("p.{column}")).collect::<Vec<_>>().join(", ")
}

impl Lists<'_> {
    /// A page of transactions.
    ///
    /// # Errors
    /// Unavailable, Corrupt; Conflict when it took too long.
    pub async fn transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<ListedTransaction>, SlowError> {
        let doing = "listing transactions";
        let mut bound = Bound::default();
        let sql = filter.page_sql(&mut bound);
        let rows = self.query(doing, &sql, &bound.parameters()).await?;
        rows.iter().map(|row| listed(&Columns { row, doing })).collect()
    }

    /// How many transactions a filter matches, without limit and offset.
    ///
    /// # Errors
    /// Unavailable; Conflict when it took too long.
    pub async fn count_transactions(&self, filter: &TransactionFilter) -> Result<u64, SlowError> {
        let mut bound = Bound::default();
        match filter.count_sql(&mut bound) {
            Some(sql) => self.count("counting transactions", &sql, &bound.parameters()).await,
            None => Ok(self.tip.map_or(0, |tip| tip.transactions_total)),
        }
    }

    /// A transaction by its id.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn transaction(&self, id: TransactionId) -> Result<Option<ListedTransaction>, SlowError> {
        let doing = "reading a transaction";
        let sql = format!(
            "select {COLUMNS} from forebay.transactions t join forebay.blocks b on b.height = t.height where t.id = $1"
        );
        let rows = self.query(doing, &sql, &[&id.to_bigint()]).await?;
        rows.first().map(|row| listed(&Columns { row, doing })).transpose()
    }

    /// The transactions of some blocks in the chain's order, each with its height.
    pub(super) async fn transactions_at(
        &self,
        heights: &[Height],
    ) -> Result<Vec<(Height, Transaction)>, SlowError> {
        let doing = "reading the transactions of blocks";
        let sql = "select t.height, t.id, t.timestamp, t.sender_public_key, t.sender, t.requester_public_key, \
             t.recipient, t.amount, t.fee, t.signature, t.second_signature, t.signatures, t.type, t.asset \
             from forebay.transactions t where t.height = any($1) order by t.height, t.index";
        let heights: Vec<i32> = heights.iter().map(|height| stored(*height)).collect();
        let rows = self.query(doing, sql, &[&heights]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                Ok((row.get::<i32>(0)?.unsigned_abs(), transaction(&row)?))
            })
            .collect()
    }

    /// The plan that the server would choose for a page, as text: for tests.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn explain_transactions(&self, filter: &TransactionFilter) -> Result<String, SlowError> {
        let doing = "explaining a list";
        let mut bound = Bound::default();
        let sql = format!("explain {}", filter.page_sql(&mut bound));
        let rows = self.query(doing, &sql, &bound.parameters()).await?;
        let lines =
            rows.iter().map(|row| Columns { row, doing }.get::<String>(0)).collect::<Result<Vec<_>, _>>()?;
        Ok(lines.join("\n"))
    }
}

fn listed(row: &Columns<'_>) -> Result<ListedTransaction, SlowError> {
    Ok(ListedTransaction {
        transaction: transaction(row)?,
        height: row.get::<i32>(0)?.unsigned_abs(),
        block: BlockId::from_bigint(row.get(14)?),
        row_id: row.get::<i64>(15)?.unsigned_abs(),
    })
}
