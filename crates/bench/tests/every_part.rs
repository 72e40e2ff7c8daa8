//! The smallest benchmark: every part yields rows, and their shape is what programs read.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use forebay_bench::{BenchOptions, Part, load_generator, run};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn every_part_yields_rows_of_the_documented_shape() {
    let folder = tempfile::Builder::new().prefix("fbb").tempdir_in("/tmp").unwrap();
    // The servers' own account has to get there.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = BenchOptions::smallest(folder.path().join("b"));
    if let Err(error) = load_generator() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{error}");
        eprintln!("without the part http: {error}");
        options.parts.retain(|part| *part != Part::Http);
    }
    let parts = options.parts.clone();
    let report = run(options, |_| (), std::future::pending()).await.unwrap();
    assert!(!folder.path().join("b").exists(), "the servers' directory is removed");

    let json: Value = serde_json::to_value(&report).unwrap();
    let rows = json["results"].as_array().unwrap();
    for part in parts {
        assert!(rows.iter().any(|row| row["part"] == part.name()), "no row of {}", part.name());
    }
    for row in rows {
        for name in ["part", "what", "load", "profile", "unit"] {
            assert!(row[name].is_string(), "{name} in {row}");
        }
        assert!(
            row["accounts"].is_u64() && (row["blockSize"].is_u64() || row["blockSize"].is_null()),
            "{row}"
        );
        assert!(row["figure"].as_f64().unwrap() > 0.0, "{row}");
        if let Some(control) = row["control"].as_str() {
            let (figure, control_figure) =
                (row["figure"].as_f64().unwrap(), row["controlFigure"].as_f64().unwrap());
            assert!(!control.is_empty() && control_figure > 0.0, "{row}");
            assert!((row["ratio"].as_f64().unwrap() - figure / control_figure).abs() < 1e-9, "{row}");
        } else {
            assert!(row["controlFigure"].is_null() && row["ratio"].is_null(), "{row}");
        }
    }
    let accept = |control: &str| {
        rows.iter()
            .any(|row| row["part"] == "accept" && row["control"].as_str().unwrap().starts_with(control))
    };
    assert!(accept("ceiling") && accept("PostgreSQL only"));
    assert!(json["machine"]["fdatasyncUs"].as_f64().unwrap() > 0.0);
    assert!(json["options"]["repeats"] == 1);

    let page = report.html();
    assert!(page.contains("<svg") && page.contains("take-back"));
}
