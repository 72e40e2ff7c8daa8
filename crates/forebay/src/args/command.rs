//! The commands.

use clap::Subcommand;

use super::{
    AccountArgs, ApiArgs, BackupArgs, BenchArgs, BlockArgs, CompletionsArgs, ConfigArgs, DelegatesArgs,
    DumpArgs, ForgersArgs, GenerateArgs, LogArgs, ManArgs, MemoryArgs, PopArgs, PostgresConfArgs,
    RedisConfArgs, ReplayArgs, RestoreBackupArgs, RunArgs, TransactionArgs, VerifyArgs,
};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the data layer up until SIGTERM or Ctrl-C
    #[command(
        after_help = "Examples:\n  forebay run --network rise-devnet --genesis genesis.json\n  forebay run --feed /run/forebay.sock\n\n\
        A feed takes JSON Lines and answers each with one line:\n  {\"op\":\"block\",\"block\":{…}}   {\"op\":\"pop\",\"count\":1}   {\"op\":\"await\",\"height\":100}"
    )]
    Run(RunArgs),
    /// Serve the HTTP API to read from, beside a node or without one
    #[command(
        after_help = "Examples:\n  forebay api --listen 127.0.0.1:7001\n  forebay api --listen 0.0.0.0:7001 --listen unix:/run/forebay-api.sock\n\n\
        It writes nothing, and any number may run beside a node. Blocks are given to `forebay run --listen`.\n\
        Section [api] of the configuration has limits, TLS and the write token; docs/http.md has the routes."
    )]
    Api(ApiArgs),
    /// Apply blocks from files, and wait until PostgreSQL has all
    #[command(
        after_help = "Examples:\n  forebay replay blocks.jsonl --network rise-devnet --genesis genesis.json\n  zcat blocks.jsonl.gz | forebay replay - --json\n\n\
        One block a line, or a feed's operations, or a rollback file. Known blocks are skipped.\n\
        Stops at the first refused line; what was accepted before it stays."
    )]
    Replay(ReplayArgs),
    /// Take blocks back
    #[command(
        after_help = "Examples:\n  forebay pop\n  forebay pop --count 10\n  forebay pop --to-height 101"
    )]
    Pop(PopArgs),
    /// Where chain, node and servers stand
    Status,
    /// Watch a running node: tips, lag, speed, memory, trouble
    #[command(
        after_help = "q quits. Needs a terminal; `forebay status --json` and /metrics (run --metrics-listen) are for programs."
    )]
    Top,
    /// Compare both tiers, account by account
    #[command(
        after_help = "Examples:\n  forebay verify\n  forebay verify --deep --json\n\nExit code 5: something differs; each finding is named."
    )]
    Verify(VerifyArgs),
    /// Show a block
    #[command(after_help = "Examples:\n  forebay block 100\n  forebay block 3112593284921253471 --json")]
    Block(BlockArgs),
    /// Show an account
    #[command(after_help = "Example:\n  forebay account 12324540900396688540R")]
    Account(AccountArgs),
    /// Show a transaction
    Transaction(TransactionArgs),
    /// Delegates by rank
    Delegates(DelegatesArgs),
    /// The forger list of a round
    Forgers(ForgersArgs),
    /// Write all of something, one JSON object a line
    #[command(after_help = "Example:\n  forebay dump accounts --tier slow > accounts.jsonl")]
    Dump(DumpArgs),
    /// Show what was done to PostgreSQL, and when
    #[command(
        after_help = "Examples:\n  forebay log\n  forebay log --height 100 --json\n  forebay log --since 15min --operation take-back\n  \
        forebay log --file --outcome retry\n\n\
        The newest that fit are shown, the newest last. PostgreSQL's own log has what was committed;\n\
        --file shows the file of write_log_file, which has every attempt."
    )]
    Log(LogArgs),
    /// What Redis needs for this chain: now, later, and at the limits
    #[command(
        after_help = "Examples:\n  forebay memory\n  forebay memory --horizon 365 --json\n  forebay memory --measure\n\n\
        Every start asks the same before it loads anything. Exit code 9: there is too little."
    )]
    Memory(MemoryArgs),
    /// Write a redis.conf for this machine and chain, or compare a server with it
    #[command(
        after_help = "Examples:\n  forebay redis-conf > redis.conf\n  forebay redis-conf --check --redis-url redis://host:6379 --postgres-url …\n\n\
        --check: exit code 3 if something breaks a promise; each difference is told with its risk."
    )]
    RedisConf(RedisConfArgs),
    /// Write settings of PostgreSQL for this machine, or compare a server with them
    #[command(
        after_help = "Examples:\n  forebay postgres-conf > forebay.conf\n  forebay postgres-conf --check\n\n\
        --check: exit code 3 if something breaks a promise (fsync, full_page_writes)."
    )]
    PostgresConf(PostgresConfArgs),
    /// Save PostgreSQL to a file (pg_dump's custom format)
    #[command(after_help = "Example:\n  forebay backup /backups/rise.dump")]
    Backup(BackupArgs),
    /// Put PostgreSQL back from a backup, and verify it against the chain
    #[command(after_help = "Example:\n  forebay restore-backup /backups/rise.dump --data-dir new\n\n\
        Into an empty place, or with --replace over what is there. No node may run.")]
    RestoreBackup(RestoreBackupArgs),
    /// Make a network of its own and a signed chain, for demos and benchmarks
    #[command(
        after_help = "Example:\n  forebay generate --out net --accounts 1000 --blocks 500 --mix all\n  forebay replay net/blocks.jsonl --network net/profile.toml --genesis net/genesis.json"
    )]
    Generate(GenerateArgs),
    /// Measure speed and memory on private servers, each figure beside a control arm of the same run
    #[command(
        after_help = "Examples:\n  forebay bench --quick\n  forebay bench accept drain --load uniform:200000 --block-size 250 --report bench.html\n\n\
        Without parts, all are measured. docs/performance.md says what each means."
    )]
    Bench(BenchArgs),
    /// Show or check the settings, or print their JSON schema
    #[command(
        after_help = "Examples:\n  forebay config show\n  forebay config check --config /etc/forebay/forebay.toml\n\n\
        Passwords are never shown. check: exit code 3 if something is wrong; every problem is named."
    )]
    Config(ConfigArgs),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  forebay completions bash > /usr/share/bash-completion/completions/forebay"
    )]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(
        after_help = "Examples:\n  forebay man > forebay.1\n  forebay man --out /usr/local/share/man/man1"
    )]
    Man(ManArgs),
}
