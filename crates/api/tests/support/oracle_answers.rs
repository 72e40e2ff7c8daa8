//! The reference node's 250 answers, and how ours are compared with them.
//!
//! Each must be equal as JSON, but for what is listed here with its reason. A rule names the requests that it is for, and
//! checks what it can of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A request and what the reference node said.
pub struct OracleAnswer {
    pub path: String,
    pub status: u16,
    pub body: Value,
}

/// Whether an item meets a request's condition.
type Fits = fn(&Value) -> bool;

/// What may differ in the answer to a request.
enum Rule {
    /// These fields depend on the moment of asking.
    Time(&'static [&'static str]),
    /// These fields say what program the node is.
    Identity(&'static [&'static str]),
    /// The reference node sorts by this field, unstably: equal ones stand in any order, and at the ends of the page any of
    /// them may be in it. The list, the field, what names an item.
    UnstableSort(&'static str, &'static str, &'static str),
    /// The reference node asks its database for these without an order, and gets them as they lie in the table's pages, where
    /// blocks that it took back left room. On a page that does not show all of them, any may stand that meet the condition.
    Unordered(Fits),
    /// The reference node reads the members of a group without an order: in the order of its table's pages.
    MembersUnordered,
}

/// The exceptions. `clock`: whether the moment of asking is that of the oracle.
fn rule(path: &str, is_oracles_moment: bool) -> Option<Rule> {
    if path.starts_with("/api/delegates/getNextForgers") && !is_oracles_moment {
        return Some(Rule::Time(&["currentSlot", "delegates"]));
    }
    if path == "/api/peers/version" {
        return Some(Rule::Identity(&["build", "version"]));
    }
    if let Some(order) = path.strip_prefix("/api/delegates?orderBy=") {
        let field = ["vote", "approval", "productivity", "votesWeight", "cmb"]
            .into_iter()
            .find(|field| order.starts_with(&format!("{field}:")));
        return field.map(|field| Rule::UnstableSort("delegates", field, "username"));
    }
    let amount_is_small = |item: &Value| (1..=100).contains(&item["amount"].as_i64().unwrap());
    let unordered: [(&str, Fits); 11] = [
        ("limit=1000&type=3", |_| true),
        ("type=4", |_| true),
        ("type=1", |_| true),
        ("senderId=12633948462875383080R", |_| true),
        ("senderId=12633948462875383080R&recipientId=12633948462875383080R", |_| true),
        ("senderPublicKey=2915f195969eebf8c7f6ed1d030ade6e9f86e9e8505c96fb9fbd8b294000fe1a", |_| true),
        ("senderIds=7471670409168284376R,12788091230385179823R", |_| true),
        ("recipientIds=7471670409168284376R,12788091230385179823R", |_| true),
        ("fromHeight=100&toHeight=105", |_| true),
        ("and:fromHeight=100&and:toHeight=105", |_| true),
        ("and:minAmount=1&and:maxAmount=100", amount_is_small),
    ];
    if let Some((_, fits)) = unordered.iter().find(|(query, _)| path == format!("/api/transactions?{query}"))
    {
        return Some(Rule::Unordered(*fits));
    }
    if path.starts_with("/api/transactions?") {
        let field = ["height", "timestamp", "amount"]
            .into_iter()
            .find(|field| path.contains(&format!("orderBy={field}:")));
        return field.map(|field| Rule::UnstableSort("transactions", field, "id"));
    }
    let with_members = ["9829842864375954536R", "7471670409168284376R"];
    if path.starts_with("/api/multisignatures/accounts?publicKey=")
        || with_members.iter().any(|one| path == format!("/api/accounts?address={one}"))
    {
        return Some(Rule::MembersUnordered);
    }
    None
}

/// All of them, in the file's order; `None`: the oracle's data are not there, and the test is skipped.
pub fn load() -> Option<Vec<OracleAnswer>> {
    let file = forebay_testkit::oracle::oracle_dir()?.join("api/responses.json");
    let all: serde_json::Map<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let answers: Vec<OracleAnswer> = all
        .into_iter()
        .map(|(path, mut answer)| OracleAnswer {
            path,
            status: u16::try_from(answer["status"].as_u64().unwrap()).unwrap(),
            body: answer["body"].take(),
        })
        .collect();
    assert_eq!(answers.len(), 250);
    Some(answers)
}

/// What an item must look like where an unstable sort leaves open which ones are on the page: delegates as the oracle's
/// other lists show them, transactions as its blocks do.
pub struct Known(BTreeMap<(String, String), Value>);

impl Known {
    pub fn of(answers: &[OracleAnswer]) -> Self {
        let mut known = BTreeMap::new();
        // Searches calculate with another supply.
        for answer in answers.iter().filter(|answer| !answer.path.starts_with("/api/delegates/")) {
            for item in answer.body["delegates"].as_array().into_iter().flatten() {
                if let Some(name) = item["username"].as_str().filter(|_| item["vote"].is_string()) {
                    known.insert(("delegates".to_owned(), name.to_owned()), item.clone());
                }
            }
        }
        let blocks = forebay_testkit::oracle::oracle_dir().unwrap().join("chain/blocks.jsonl");
        for line in std::fs::read_to_string(blocks).unwrap().lines() {
            let mut block: Value = serde_json::from_str(line).unwrap();
            for item in block["transactions"].as_array_mut().unwrap() {
                let name = item["id"].as_str().unwrap().to_owned();
                known.insert(("transactions".to_owned(), name), as_listed(item.take()));
            }
        }
        Self(known)
    }
}

/// A transaction of a block in the form of lists.
fn as_listed(mut item: Value) -> Value {
    let signatures: Vec<String> =
        item["signatures"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    item["signatures"] =
        if signatures.is_empty() { Value::Null } else { Value::String(signatures.join(",")) };
    if item["asset"].is_null() {
        item.as_object_mut().unwrap().remove("asset");
    }
    item
}

/// What differs between an answer and the oracle's; `None`: nothing that is not explained.
pub fn difference(
    expected: &OracleAnswer,
    status: u16,
    body: &Value,
    known: &Known,
    is_oracles_moment: bool,
) -> Option<String> {
    let path = &expected.path;
    let tell = |what: String| Some(format!("{path}: {what}"));
    if status != expected.status {
        return tell(format!("status {status}, not {}", expected.status));
    }
    if *body == expected.body {
        return None;
    }
    let is_refusal = expected.body["success"] == false || !expected.body.is_object();
    let plain = || tell(format!("{}\n  not {}", shorten(body), shorten(&expected.body)));
    if is_refusal {
        return plain();
    }
    match rule(path, is_oracles_moment) {
        None => plain(),
        Some(Rule::Time(fields) | Rule::Identity(fields)) => {
            let (mut ours, mut theirs) = (body.clone(), expected.body.clone());
            for field in fields {
                assert!(!ours[*field].is_null(), "{path}: {field} is there");
                ours[*field] = Value::Null;
                theirs[*field] = Value::Null;
            }
            if ours == theirs { None } else { plain() }
        }
        Some(Rule::MembersUnordered) => {
            if with_sorted_members(body) == with_sorted_members(&expected.body) {
                None
            } else {
                plain()
            }
        }
        Some(Rule::Unordered(fits)) => unordered(body, &expected.body, fits, known).and_then(tell),
        Some(Rule::UnstableSort(list, field, name)) => {
            unstable(body, &expected.body, list, field, name, known).and_then(tell)
        }
    }
}

fn shorten(value: &Value) -> String {
    value.to_string().chars().take(600).collect()
}

/// The same with the lists of members sorted.
fn with_sorted_members(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let of_members = ["multisignatures", "u_multisignatures", "multisigaccounts"];
            let sorted = fields.iter().map(|(name, value)| {
                let mut value = with_sorted_members(value);
                if let Value::Array(items) = &mut value
                    && of_members.contains(&name.as_str())
                {
                    items.sort_by_key(ToString::to_string);
                }
                (name.clone(), value)
            });
            Value::Object(sorted.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(with_sorted_members).collect()),
        other => other.clone(),
    }
}

/// Both are sorted by the field, have the same values of it in the same places, the same items where all of a value are on
/// the page, and each item as the oracle shows it elsewhere.
fn unstable(
    ours: &Value,
    theirs: &Value,
    list: &str,
    field: &str,
    name: &str,
    known: &Known,
) -> Option<String> {
    let items = |body: &Value| body[list].as_array().unwrap().clone();
    let (our_items, their_items) = (items(ours), items(theirs));
    let values = |items: &[Value]| items.iter().map(|item| item[field].clone()).collect::<Vec<_>>();
    if values(&our_items) != values(&their_items) {
        return Some(format!("{field}: {:?}\n  not {:?}", values(&our_items), values(&their_items)));
    }
    let without_list = |body: &Value| {
        let mut body = body.clone();
        body[list] = Value::Null;
        body
    };
    if without_list(ours) != without_list(theirs) {
        return Some("what stands beside the list differs".to_owned());
    }
    let at_the_ends =
        [our_items.first(), our_items.last()].into_iter().flatten().map(|item| item[field].to_string());
    let at_the_ends: BTreeSet<String> = at_the_ends.collect();
    let inside = |items: &[Value]| -> BTreeSet<String> {
        items
            .iter()
            .filter(|item| !at_the_ends.contains(&item[field].to_string()))
            .map(ToString::to_string)
            .collect()
    };
    if inside(&our_items) != inside(&their_items) {
        return Some("other items within the page".to_owned());
    }
    let names: BTreeSet<&str> = our_items.iter().filter_map(|item| item[name].as_str()).collect();
    if names.len() != our_items.len() {
        return Some("an item stands there twice".to_owned());
    }
    unknown_item(&our_items, list, name, known)
}

/// The same items in any order; of a page that does not show all, as many that fit.
fn unordered(ours: &Value, theirs: &Value, fits: Fits, known: &Known) -> Option<String> {
    let items = |body: &Value| body["transactions"].as_array().unwrap().clone();
    let texts = |items: &[Value]| items.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let (our_items, their_items) = (items(ours), items(theirs));
    if ours["count"] != theirs["count"] || texts(&our_items).len() != their_items.len() {
        return Some(format!(
            "{} of {}, not {} of {}",
            our_items.len(),
            ours["count"],
            their_items.len(),
            theirs["count"]
        ));
    }
    let shows_all = theirs["count"] == their_items.len();
    if shows_all && texts(&our_items) != texts(&their_items) {
        return Some("other items".to_owned());
    }
    if let Some(item) = our_items.iter().find(|item| !fits(item)) {
        return Some(format!("{item} does not belong there"));
    }
    unknown_item(&our_items, "transactions", "id", known)
}

/// An item that the oracle shows otherwise, or nowhere.
fn unknown_item(items: &[Value], list: &str, name: &str, known: &Known) -> Option<String> {
    items.iter().find_map(|item| {
        let key = (list.to_owned(), item[name].as_str().unwrap().to_owned());
        match known.0.get(&key) {
            Some(shown) if shown == item => None,
            Some(shown) => Some(format!("{item}\n  not {shown}")),
            None => Some(format!("the oracle does not show {}", key.1)),
        }
    })
}
