//! dashboards/ and docs/metrics.md against the metrics that exist. Every expression is parsed as PromQL.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, VectorSelector, parse};
use serde::Deserialize;
use serde_json::Value;

use crate::names::{ALL, Kind, Metric};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Checks each selector below: the metric exists, its labels too, and rates are taken of counters alone. The names.
fn check(text: &str, of_rate: bool, expr: &Expr, names: &mut BTreeSet<String>) {
    let mut selector = |found: &VectorSelector, of_rate: bool| {
        let name = found.name.clone().unwrap_or_else(|| panic!("a selector without a name: {text}"));
        // Prometheus' own.
        if name != "up" {
            let metric = ALL.iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{name} does not exist: {text}"));
            assert_eq!(
                of_rate,
                metric.kind == Kind::Counter,
                "{name}: rates of counters, counters by rates: {text}"
            );
            for matcher in &found.matchers.matchers {
                let label = matcher.name.as_str();
                let known = metric.labels.contains(&label) || ["job", "instance"].contains(&label);
                assert!(known, "{name} has no label {label}: {text}");
                assert!(matches!(matcher.op, MatchOp::Equal | MatchOp::Re(_)), "{text}");
            }
        }
        names.insert(name);
    };
    match expr {
        Expr::VectorSelector(found) => selector(found, false),
        Expr::MatrixSelector(found) => selector(&found.vs, of_rate),
        Expr::Call(call) => {
            let of_rate = matches!(call.func.name, "rate" | "increase");
            call.args.args.iter().for_each(|inner| check(text, of_rate, inner, names));
        }
        Expr::Binary(binary) => {
            check(text, false, &binary.lhs, names);
            check(text, false, &binary.rhs, names);
        }
        Expr::Paren(inner) => check(text, false, &inner.expr, names),
        Expr::Unary(inner) => check(text, false, &inner.expr, names),
        Expr::Aggregate(inner) => check(text, false, &inner.expr, names),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
        other => panic!("{other:?} is not checked: {text}"),
    }
}

fn check_text(text: &str, names: &mut BTreeSet<String>) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    check(text, false, &expr, names);
}

/// What Prometheus takes for a file of rules, as far as ours go; anything else is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    r#for: String,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    severity: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    summary: String,
    description: String,
}

#[test]
fn alert_rules_speak_of_metrics_that_exist() {
    let file: RuleFile = serde_saphyr::from_str(&read("dashboards/forebay-alerts.yml")).unwrap();
    let [group] = file.groups.as_slice() else { panic!("one group") };
    assert_eq!(group.name, "forebay");
    let (mut names, mut alerts) = (BTreeSet::new(), BTreeSet::new());
    for rule in &group.rules {
        assert!(rule.alert.starts_with("Forebay") && alerts.insert(&rule.alert), "{}", rule.alert);
        assert!(["critical", "warning", "info"].contains(&rule.labels.severity.as_str()), "{}", rule.alert);
        let minutes = rule.r#for.strip_suffix(['m', 'h']).unwrap();
        assert!(minutes.parse::<u32>().is_ok(), "{}", rule.alert);
        assert!(
            !rule.annotations.summary.is_empty() && rule.annotations.description.len() > 40,
            "{}",
            rule.alert
        );
        check_text(&rule.expr, &mut names);
        // What a description names exists, too.
        for word in metric_words(&rule.annotations.description) {
            assert!(ALL.iter().any(|metric| metric.name == word), "{}: {word}", rule.alert);
        }
    }
    // What ends the node, or keeps it from taking blocks, has an alert.
    for needed in [
        "forebay_ready",
        "forebay_no_progress_seconds",
        "forebay_lag_operations",
        "forebay_redis_memory_bytes",
    ] {
        assert!(names.contains(needed), "{needed}");
    }
}

#[test]
fn the_dashboard_shows_metrics_that_exist_and_leaves_few_out() {
    let dashboard: Value = serde_json::from_str(&read("dashboards/forebay-grafana.json")).unwrap();
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{}", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Grafana puts these in.
            let text =
                target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$instance", ".*");
            check_text(&text, &mut names);
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        let text = annotation["expr"].as_str().unwrap();
        // A gauge whose changes are counted.
        for word in metric_words(text) {
            assert!(ALL.iter().any(|metric| metric.name == word), "{word}");
        }
        parse(text).unwrap();
    }
    let shown = |metric: &&Metric| !names.contains(metric.name) && !metric.name.ends_with("_limit");
    let left_out: Vec<_> = ALL.iter().filter(shown).map(|metric| metric.name).collect();
    let expected = [
        "forebay_build_info",
        "forebay_epoch",
        "forebay_acceptance_durable",
        "forebay_accepted_operation",
        "forebay_durable_operation",
        "forebay_lag_blocks",
        "forebay_loop_silent_seconds",
        "forebay_redis_memory_slowed",
        "process_open_fds",
        "process_max_fds",
    ];
    assert_eq!(left_out, expected);
}

#[test]
fn the_documentation_has_every_metric_and_no_other() {
    let text = read("docs/metrics.md");
    for metric in ALL {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let labels: String = metric.labels.iter().map(|label| format!(" `{label}`")).collect();
        let row = format!("| `{}` | {kind} |{labels} | {} |\n", metric.name, metric.help);
        assert!(text.contains(&row), "docs/metrics.md lacks:\n{row}");
    }
    // A crate, in an example of a log filter.
    for word in metric_words(&text).filter(|word| *word != "forebay_store") {
        assert!(ALL.iter().any(|metric| metric.name == word), "{word} does not exist");
    }
}

/// What looks like a metric of ours.
fn metric_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("forebay_") || word.starts_with("process_"))
}
