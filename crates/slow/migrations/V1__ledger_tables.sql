-- The data of one chain. Ids and addresses are u64 kept as the same 64 bits in bigint; amounts are units of 10^-8;
-- times are seconds since the network's epoch; keys, hashes and signatures are raw bytes.
--
-- The program inserts into and deletes from `blocks` and `transactions`, and moves `position`. Everything below the line
-- "derived" is written by the triggers of schema forebay_code and by nothing else.

-- Which chain this database holds, and the rules that the triggers need. One row, written once by the owner.
create table forebay.chain (
    one_row                  boolean primary key default true check (one_row),
    network                  text    not null,
    genesis_id               bigint  not null,
    genesis_generator        bigint  not null,
    address_suffix           text    not null check (length(address_suffix) = 1),
    block_time_seconds       integer not null check (block_time_seconds > 0),
    delegates_per_round      integer not null check (delegates_per_round > 1),
    votes_per_account        integer not null check (votes_per_account > 0),
    second_generation_height integer,
    -- Accounts that may go below zero besides the genesis generator.
    allowed_negative         bigint[] not null,
    -- Transactions that the chain holds and that change nothing, not even by their fee.
    without_effect           bigint[] not null,
    -- Blocks that were accepted although the slot was another delegate's: same index, same block.
    wrong_slot_heights       integer[] not null,
    wrong_slot_generators    bytea[]   not null,
    check (cardinality(wrong_slot_heights) = cardinality(wrong_slot_generators))
);

-- Who may write, and how far the writer got. The first statement of every transaction of the program moves it.
create table forebay.position (
    one_row  boolean primary key default true check (one_row),
    epoch    bigint  not null default 0 check (epoch >= 0),
    seq      bigint  not null default 0 check (seq >= 0),
    -- 0 and null before the genesis block.
    height   integer not null default 0 check (height >= 0),
    block_id bigint,
    check ((height = 0) = (block_id is null))
) with (fillfactor = 10);

insert into forebay.position default values;

create table forebay.blocks (
    id                     bigint  not null,
    previous_block         bigint,
    total_amount           bigint  not null,
    total_fee              bigint  not null,
    reward                 bigint  not null,
    generator              bigint  not null,
    -- Transactions of the chain before this block: rowId of its transaction i is this + i + 1.
    transactions_before    bigint  not null,
    height                 integer primary key check (height > 0),
    version                integer not null,
    timestamp              integer not null,
    number_of_transactions integer not null,
    payload_length         integer not null,
    payload_hash           bytea   not null check (length(payload_hash) = 32),
    generator_public_key   bytea   not null check (length(generator_public_key) = 32),
    block_signature        bytea   not null check (length(block_signature) = 64),
    -- On the first block of a round: the round's forger list, 32 bytes a key, as the ledger computed it.
    forgers                bytea,
    -- On the last block of a round and on the genesis block: sha256 of the delegates' rows as the ledger has them.
    delegates_digest       bytea check (length(delegates_digest) = 32)
);

create unique index blocks_id on forebay.blocks (id);
-- The last block of a forger: undo needs it.
create index blocks_generator on forebay.blocks (generator, height);

create table forebay.transactions (
    id                   bigint   not null,
    sender               bigint   not null,
    recipient            bigint,
    amount               bigint   not null check (amount >= 0),
    fee                  bigint   not null check (fee >= 0),
    height               integer  not null,
    -- From 0, in the block's order.
    index                integer  not null check (index >= 0),
    timestamp            integer  not null,
    type                 smallint not null check (type between 0 and 4),
    sender_public_key    bytea    not null check (length(sender_public_key) = 32),
    signature            bytea    not null check (length(signature) = 64),
    second_signature     bytea check (length(second_signature) = 64),
    requester_public_key bytea check (length(requester_public_key) = 32),
    -- Signatures of the group's members, 64 bytes each.
    signatures           bytea check (length(signatures) % 64 = 0),
    -- What the type adds, in the bytes that are signed; null for a transfer.
    asset                bytea check ((asset is null) = (type = 0)),
    primary key (height, index)
);

create unique index transactions_id on forebay.transactions (id);
-- An account's history; the last touch of an account: undo needs it.
create index transactions_sender on forebay.transactions (sender, height);
create index transactions_recipient on forebay.transactions (recipient, height) where recipient is not null;
-- The last group of an account: undo needs it.
create index transactions_groups on forebay.transactions (sender, height) where type = 4;

-- derived -------------------------------------------------------------------------------------------------------------

create table forebay.accounts (
    address                  bigint  primary key,
    balance                  bigint  not null default 0,
    fees                     bigint  not null default 0,
    rewards                  bigint  not null default 0,
    -- The block that made the row; undo of it removes the row.
    created_height           integer not null,
    -- The newest block that sent from, paid to, was forged by, or paid a round's share to the account.
    touched_height           integer,
    -- The first block in which the account paid something.
    paid_height              integer,
    public_key_height        integer,
    second_public_key_height integer,
    produced_blocks          integer not null default 0,
    missed_blocks            integer not null default 0,
    multimin                 smallint not null default 0,
    multilifetime            smallint not null default 0,
    public_key               bytea,
    second_public_key        bytea
) with (fillfactor = 75);

create table forebay.delegates (
    address           bigint  primary key,
    registration      bigint  not null,
    -- As of the last round end.
    vote              bigint  not null default 0,
    votes_weight      bigint  not null default 0,
    -- Running sums over the voters: their balances, and floor(balance / number of votes).
    voters_balance    bigint  not null default 0,
    voters_share      bigint  not null default 0,
    registered_height integer not null,
    missed_in_a_row   integer not null default 0,
    public_key        bytea   not null,
    -- Not unique: two accounts may register one name in one block.
    username          text    not null
) with (fillfactor = 50);

create table forebay.votes (
    voter    bigint not null,
    delegate bigint not null,
    primary key (voter, delegate)
);

create index votes_delegate on forebay.votes (delegate);

create table forebay.multisignature_members (
    account    bigint not null,
    public_key bytea  not null,
    primary key (account, public_key)
);

create table forebay.rounds (
    round             integer primary key,
    height            integer not null,
    timestamp         integer not null,
    fees              bigint  not null,
    -- floor(fees / delegates a round): what each block of the round earned its forger.
    fee_share         bigint  not null,
    -- What the forger of the last block got on top.
    fee_remainder     bigint  not null
);

-- What a round end left, for delegates for whom it changed something: votes over time, and what undo goes back to.
create table forebay.delegate_history (
    address         bigint  not null,
    vote            bigint  not null,
    votes_weight    bigint  not null,
    height          integer not null,
    missed_in_a_row integer not null,
    primary key (height, address)
);

create index delegate_history_delegate on forebay.delegate_history (address, height);
