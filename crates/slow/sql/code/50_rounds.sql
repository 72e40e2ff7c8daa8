-- The end of a round: vote, weight and missed rounds of every delegate. (Payments are part of the account deltas.)

-- Sets vote and weight of all delegates from their tallies, and writes down whose values changed. Each delegate's account is
-- one probe of the index: `offset 0` keeps the planner from reading all accounts instead, which it does while it knows
-- nothing of the tables. One plan a session: it is the same for each round.
-- Inverse: `reopen_round`.
create function forebay_code.count_votes(last_height integer) returns void
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    chain forebay.chain := (select c from forebay.chain c);
    first_height integer := greatest(1, last_height - chain.delegates_per_round + 1);
    list bytea := (select b.forgers from forebay.blocks b where b.height = first_height);
    counts_misses boolean := coalesce(last_height >= chain.second_generation_height, false);
begin
    with round as materialized (
        select
            f.public_key,
            f.public_key in (
                select b.generator_public_key from forebay.blocks b where b.height between first_height and last_height
            ) as forged
        from forebay_code.forger_keys(list) f
    ),
    counted as materialized (
        select
            d.address,
            d.voters_balance as vote,
            forebay_code.votes_weight(d.voters_share, a.produced_blocks, a.missed_blocks) as votes_weight,
            case
                when r.public_key is null then d.missed_in_a_row
                when r.forged or not counts_misses then 0
                else d.missed_in_a_row + 1
            end as missed_in_a_row
        from forebay.delegates d
        cross join lateral (
            select x.produced_blocks, x.missed_blocks from forebay.accounts x where x.address = d.address offset 0
        ) a
        left join round r on r.public_key = d.public_key
    ),
    changed as (
        update forebay.delegates d
        set vote = n.vote, votes_weight = n.votes_weight, missed_in_a_row = n.missed_in_a_row
        from counted n
        where d.address = n.address
            and (d.vote, d.votes_weight, d.missed_in_a_row) is distinct from (n.vote, n.votes_weight, n.missed_in_a_row)
        returning d.address, d.vote, d.votes_weight, d.missed_in_a_row
    )
    insert into forebay.delegate_history (height, address, vote, votes_weight, missed_in_a_row)
    select last_height, c.address, c.vote, c.votes_weight, c.missed_in_a_row from changed c order by c.address;
end $$;

-- Puts vote, weight and missed rounds back to what the round end before left, for the delegates that this one changed.
-- Inverse of `count_votes`.
create function forebay_code.reopen_round(last_height integer) returns void
language plpgsql as $$
begin
    with undone as materialized (
        delete from forebay.delegate_history h where h.height = last_height returning h.address
    )
    update forebay.delegates d
    set vote = coalesce(before.vote, 0),
        votes_weight = coalesce(before.votes_weight, 0),
        missed_in_a_row = coalesce(before.missed_in_a_row, 0)
    from undone u
    left join lateral (
        select h.vote, h.votes_weight, h.missed_in_a_row
        from forebay.delegate_history h
        where h.address = u.address and h.height < last_height
        order by h.height desc limit 1
    ) before on true
    where d.address = u.address;

    delete from forebay.rounds r where r.height = last_height;
end $$;

-- Writes down what the round earned. Inverse: in `reopen_round`. The genesis block is the end of no row here.
create function forebay_code.record_round(last_height integer) returns void
language plpgsql as $$
begin
    insert into forebay.rounds (round, height, timestamp, fees, fee_share, fee_remainder)
    select
        last_height / c.delegates_per_round, last_height, max(b.timestamp) filter (where b.height = last_height),
        sum(b.total_fee)::bigint, sum(b.total_fee)::bigint / c.delegates_per_round,
        sum(b.total_fee)::bigint % c.delegates_per_round
    from forebay.chain c
    join forebay.blocks b on b.height between last_height - c.delegates_per_round + 1 and last_height
    where last_height % c.delegates_per_round = 0
    group by c.delegates_per_round;
end $$;

-- sha256 over the delegates in the order of their addresses as signed numbers; all numbers big endian. Accounts are looked
-- up as in `count_votes`.
create function forebay_code.delegates_digest() returns bytea
language sql stable as $$
    select sha256(coalesce(string_agg(
        int8send(d.address) || int8send(d.vote) || int8send(d.votes_weight)
            || int8send(d.voters_balance) || int8send(d.voters_share) || int4send(d.missed_in_a_row)
            || int4send(a.produced_blocks) || int4send(a.missed_blocks)
            || int8send(a.fees) || int8send(a.rewards) || int8send(a.balance),
        '' order by d.address
    ), ''))
    from forebay.delegates d
    cross join lateral (
        select x.produced_blocks, x.missed_blocks, x.fees, x.rewards, x.balance
        from forebay.accounts x where x.address = d.address offset 0
    ) a
$$;

-- Stops when the delegates are not what the ledger computed for the round end at the height: after it was applied, and
-- again after the blocks above it were taken back.
create function forebay_code.check_digest(last_height integer) returns void
language plpgsql stable as $$
declare
    expected bytea := (select b.delegates_digest from forebay.blocks b where b.height = last_height);
    found_here bytea := forebay_code.delegates_digest();
begin
    if expected is distinct from found_here then
        raise exception 'height %: the delegates differ from the ledger''s: digest % here, % in the block''s row',
            last_height, encode(found_here, 'hex'), coalesce(encode(expected, 'hex'), 'none')
            using errcode = 'FB001';
    end if;
end $$;
