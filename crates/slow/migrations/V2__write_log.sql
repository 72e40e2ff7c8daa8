-- The write log: what the program did to blocks and transactions, one row an operation of the outbox. The triggers fill
-- it in the same transaction, so that it holds exactly what was committed; failed attempts are in the program's own log.

create table forebay.operations (
    -- The operation's place in the order of all: it only grows in this database, through all epochs.
    seq          bigint      primary key,
    epoch        bigint      not null,
    -- The last operation that was committed in the same transaction: there are not more than the position moved by.
    batch_seq    bigint      not null check (batch_seq >= seq),
    -- When that transaction began.
    started_at   timestamptz not null,
    -- From there until the rows of this operation, and of the segment that they came in, were worked up.
    duration_us  bigint      not null check (duration_us >= 0),
    -- Of the lowest and of the highest of the blocks.
    first_id     bigint      not null,
    last_id      bigint      not null,
    transactions bigint      not null,
    from_height  integer     not null,
    to_height    integer     not null check (to_height >= from_height),
    -- 1 for the first try.
    attempt      integer     not null check (attempt > 0),
    -- The blocks were taken back: from_height - 1 became the tip.
    taken_back   boolean     not null
);

-- How many operations are kept. One row, for the administrator to change.
create table forebay.write_log_limits (
    one_row        boolean primary key default true check (one_row),
    -- 1,000,000: a year of a live chain with a block every 30 s, some 150 MB.
    operations_max bigint  not null default 1000000 check (operations_max >= 1000)
);

insert into forebay.write_log_limits default values;
