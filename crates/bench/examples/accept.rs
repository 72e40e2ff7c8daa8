//! `accept` alone, for profiling. Usage: `cargo run --release -p forebay-bench --example accept [ACCOUNTS] [SIZE] [durable|volatile] [TRANSACTIONS] [KIND]`

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use forebay_bench::{BenchOptions, Durability, LoadKind, LoadSpec, Part, run};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize, default: &str| args.get(at).cloned().unwrap_or_else(|| default.to_owned());
    let directory = std::env::temp_dir().join(format!("forebay-bench-{}", std::process::id()));
    let kind = match arg(4, "uniform").as_str() {
        "self" => LoadKind::SelfSends,
        "mixed" => LoadKind::Mixed,
        _ => LoadKind::Uniform,
    };
    let options = BenchOptions {
        parts: vec![Part::Accept],
        loads: vec![LoadSpec { kind, accounts: arg(0, "10000").parse()? }],
        block_sizes: vec![arg(1, "250").parse()?],
        profiles: match arg(2, "both").as_str() {
            "durable" => vec![Durability::Durable],
            "volatile" => vec![Durability::Volatile],
            _ => vec![Durability::Durable, Durability::Volatile],
        },
        transactions: arg(3, "25000").parse()?,
        ..BenchOptions::whole(directory)
    };
    let report = run(options, |line| println!("{line}"), std::future::pending()).await?;
    println!("{}", serde_json::to_string(&report.machine)?);
    Ok(())
}
