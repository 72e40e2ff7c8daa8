-- Balances, fees, rewards, counters, votes and the delegates' tallies: everything that is a sum.

-- Adds the segment's sums (direction 1) or takes them away again (direction -1): each is the inverse of the other.
-- Rows are made here for accounts that the segment brings in; `forget_attributes` removes them again. A tally moves by what
-- the voters in the segment contributed before and contribute after, so that no other voter is read.
-- Without bitmaps: as long as PostgreSQL knows nothing of the votes it makes one for each account of the segment, and most have
-- no vote. The functions that read a range of transactions have them back. Without merge joins: the few voters are hashed, and
-- not all accounts of the segment sorted.
create function forebay_code.shift_sums(
    first_height integer, last_height integer, segment forebay.blocks[], types integer, direction integer
) returns void
language plpgsql set enable_bitmapscan = off set enable_mergejoin = off as $$
declare
    chain forebay.chain := (select c from forebay.chain c);
    -- Fewer blocks touch far fewer accounts than the 2,000 rows that `account_deltas` is estimated at: a plan for so many might
    -- read all votes.
    is_long boolean := cardinality(segment) >= 16;
    below_zero bigint;
    wrong_voter bigint;
    tallies bigint;
    delegates_found bigint;
begin
    with delta as materialized (
        select * from forebay_code.account_deltas(first_height, last_height, segment, types)
    ),
    changed as materialized (
        insert into forebay.accounts as a (
            address, balance, fees, rewards, produced_blocks, missed_blocks,
            created_height, touched_height, paid_height, public_key, public_key_height
        )
        select
            d.address, direction * d.balance, direction * d.fees, direction * d.rewards,
            direction * d.produced_blocks, direction * d.missed_blocks,
            d.created_height, d.touched_height, d.paid_height, k.public_key, k.height
        from delta d
        -- On the way back no key is new.
        left join forebay_code.first_keys(
            first_height, case when direction = 1 then last_height else first_height - 1 end, types
        ) k on k.address = d.address
        order by d.address
        on conflict (address) do update set
            balance = a.balance + excluded.balance,
            fees = a.fees + excluded.fees,
            rewards = a.rewards + excluded.rewards,
            produced_blocks = a.produced_blocks + excluded.produced_blocks,
            missed_blocks = a.missed_blocks + excluded.missed_blocks,
            -- On the way back the heights below are set right by `forget_attributes`; the ones here stay as they are.
            touched_height = greatest(a.touched_height, excluded.touched_height),
            paid_height = coalesce(a.paid_height, excluded.paid_height),
            public_key = coalesce(a.public_key, excluded.public_key),
            public_key_height = case
                when a.public_key is null then excluded.public_key_height else a.public_key_height
            end
        returning a.address, a.balance
    ),
    vote_change as materialized (
        select v.voter, v.delegate, direction * v.net as net
        from forebay_code.vote_changes(first_height, last_height, types) v
    ),
    -- The votes of everybody in the segment, before and after it. A voter is a sender: its balance has moved.
    ballot as materialized (
        select e.voter, e.delegate, sum(e.before) as before, sum(e.before) + sum(e.net) as after, max(e.gain) as gain
        from (
            select d.address as voter, v.delegate, 1 as before, 0 as net, d.balance as gain
            from delta d
            -- A few blocks: one probe of the index a row. `offset 0` keeps the planner from reading all votes instead.
            cross join lateral (select w.delegate from forebay.votes w where w.voter = d.address offset 0) v
            where not is_long
            union all
            -- Many blocks: the planner may choose.
            select d.address, w.delegate, 1, 0, d.balance
            from delta d join forebay.votes w on w.voter = d.address
            where is_long
            union all
            select c.voter, c.delegate, 0, c.net, d.balance
            from vote_change c join delta d on d.address = c.voter
        ) e
        group by e.voter, e.delegate
    ),
    counted as materialized (
        select b.*,
            sum(b.before) over (partition by b.voter)::bigint as votes_before,
            sum(b.after) over (partition by b.voter)::bigint as votes_after
        from ballot b
    ),
    tally as materialized (
        select
            c.delegate,
            sum(c.after * m.balance - c.before * (m.balance - direction * c.gain))::bigint as balance,
            sum(
                case when c.after = 1 then forebay_code.floor_div(m.balance, c.votes_after) else 0 end
                - case when c.before = 1
                    then forebay_code.floor_div(m.balance - direction * c.gain, c.votes_before) else 0 end
            )::bigint as share
        from counted c join changed m on m.address = c.voter
        group by c.delegate
    ),
    tallied as (
        update forebay.delegates d
        set voters_balance = d.voters_balance + t.balance, voters_share = d.voters_share + t.share
        from tally t where d.address = t.delegate
        returning d.address
    ),
    unvoted as (
        delete from forebay.votes v using vote_change c
        where c.net = -1 and v.voter = c.voter and v.delegate = c.delegate
    ),
    voted as (
        insert into forebay.votes (voter, delegate)
        select c.voter, c.delegate from vote_change c where c.net = 1 order by 1, 2
    )
    select
        (select m.address from changed m
            where m.balance < 0 and m.address <> chain.genesis_generator
                and m.address <> all (chain.allowed_negative)
            order by m.address limit 1),
        (select c.voter from counted c
            where c.after not in (0, 1) or c.votes_after > chain.votes_per_account
            order by c.voter limit 1),
        (select count(*) from tally),
        (select count(*) from tallied)
    into below_zero, wrong_voter, tallies, delegates_found;

    if below_zero is not null then
        raise exception 'account %: the balance is % after heights % to %',
            forebay_code.unsigned_text(below_zero),
            (select balance from forebay.accounts where address = below_zero), first_height, last_height
            using errcode = 'FB005';
    end if;
    if wrong_voter is not null then
        raise exception 'account %: it votes twice for one delegate, removes a vote that it has not, or has too many votes, in heights % to %',
            forebay_code.unsigned_text(wrong_voter), first_height, last_height
            using errcode = 'FB006';
    end if;
    if tallies <> delegates_found then
        raise exception 'heights % to %: a vote is for an account that is no delegate', first_height, last_height
            using errcode = 'FB006';
    end if;
end $$;
