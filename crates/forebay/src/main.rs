//! The program: command line, settings, private servers, exit codes. What it does with the chain is the store's.

mod account_record;
mod api_settings;
mod args;
mod chain;
mod commands;
mod completions;
mod config;
mod exit;
mod home;
mod http;
mod keeper;
mod lines;
mod logging;
mod node_report;
mod notify;
mod observe;
mod operations;
mod output;
mod planning;
mod reads;
mod rollback_file;
mod screen;
mod server_conf;
mod servers_by_plan;
mod session;
mod signals;
mod version;

use clap::Parser as _;

use crate::exit::Exit;

/// A block of 250 transfers makes some thousand small objects that live until it is durable, on another thread: a third of
/// the Writer's time went to the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let _failpoints = forebay_failpoint::from_environment();
    end_at_a_panic();
    let cli = args::Cli::parse();
    let code = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(commands::run(cli));
            // Dropping it would wait for its threads, and one that reads stdin waits for whoever has the other end.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("error: the system gives us no threads: {error}");
            Exit::Internal as i32
        }
    };
    std::process::exit(code)
}

/// A defect ends the program at once, as a crash would: the next start goes on from what both tiers have.
fn end_at_a_panic() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("\nThis is a defect of forebay {}: {panic}", version::SHORT);
        eprintln!("Please report it with this message and the log. No accepted block is lost: start again.");
        std::process::exit(Exit::Internal as i32);
    }));
}
