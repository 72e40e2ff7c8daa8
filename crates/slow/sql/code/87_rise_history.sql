-- What an account was: its balance at any height, and what changed it. Derived from transactions and rounds each time, since
-- the chain is what decides; both find their rows by the indexes of senders, recipients and forgers.

-- What changed an account's balance, up to a height: `place` orders within a block, a round's end comes last.
create function forebay_code.balance_changes(account bigint, up_to integer)
returns table (height integer, place integer, "timestamp" integer, kind text, transaction_id bigint, change bigint)
language sql stable as $$
    select
        t.height, t.index, t.timestamp,
        case when t.sender = t.recipient and t.type = 0 then 'self' when t.sender = account then 'sent' else 'received' end,
        t.id,
        case when t.sender = account then -(t.amount + t.fee) else 0 end
            -- Only a transfer is credited: an amount in a vote is burnt.
            + case when t.recipient = account and t.type = 0 then t.amount else 0 end
    from forebay.transactions t
    cross join forebay.chain c
    where (t.sender = account or t.recipient = account) and t.height <= up_to and t.id <> all (c.without_effect)
    union all
    -- A share of the round's fees and the reward for each of its blocks; the last block's forger gets what the division leaves.
    select
        r.height, 2147483647, r.timestamp, 'forged', null,
        sum(r.fee_share + b.reward + case when b.height = r.height then r.fee_remainder else 0 end)::bigint
    from forebay.blocks b
    cross join forebay.chain c
    join forebay.rounds r on r.round = forebay_code.closing_height(b.height, c.delegates_per_round) / c.delegates_per_round
    where b.generator = account and r.height <= up_to
    group by r.height, r.timestamp
$$;

-- The balance after the block at a height, units of 10^-8. 0 for an account that the chain did not know then; null for what
-- is no address, or a height that the chain does not have.
create function rise.balance_at(address text, height integer) returns bigint
language sql stable security definer set search_path = forebay, forebay_code, pg_temp as $$
    select (
        select coalesce(sum(change), 0)::bigint
        from forebay_code.balance_changes(forebay_code.unsigned_bits(left(balance_at.address, -1)), balance_at.height)
    )
    from forebay.chain c
    where right(balance_at.address, 1) = c.address_suffix
        and forebay_code.unsigned_bits(left(balance_at.address, -1)) is not null
        and balance_at.height between 1 and (select max(b.height) from forebay.blocks b)
$$;

-- Everything that changed an account's balance, in the chain's order, with the balance after it.
create function rise.account_history(address text)
returns table (
    height integer, "timestamp" integer, kind text, "transactionId" varchar(20), change bigint, balance bigint
)
language sql stable security definer set search_path = forebay, forebay_code, pg_temp as $$
    select
        h.height, h."timestamp", h.kind, forebay_code.unsigned_text(h.transaction_id)::varchar(20), h.change,
        sum(h.change) over (order by h.height, h.place)::bigint
    from forebay.chain c
    cross join forebay_code.balance_changes(forebay_code.unsigned_bits(left(account_history.address, -1)), 2147483647) h
    where right(account_history.address, 1) = c.address_suffix
    order by h.height, h.place
$$;

-- What each round end left of a delegate's votes, where it changed them.
create view rise.votes_over_time as
select
    d.username::varchar(20) as username,
    (forebay_code.unsigned_text(h.address) || c.address_suffix)::varchar(22) as address,
    h.height,
    (h.height + c.delegates_per_round - 1) / c.delegates_per_round as round,
    b.timestamp,
    h.vote,
    h.votes_weight as "votesWeight",
    h.missed_in_a_row as cmb
from forebay.delegate_history h
join forebay.delegates d on d.address = h.address
join forebay.blocks b on b.height = h.height
cross join forebay.chain c;
