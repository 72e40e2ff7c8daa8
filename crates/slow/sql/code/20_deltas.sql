-- What a segment means for accounts and votes, as sums: the same for a segment that comes and for one that goes.
--
-- A segment is a run of blocks that ends at the latest with its round. `segment` holds its blocks, because they are no
-- longer in the table when they are taken back; their transactions are in the table both times. `types` says which types of
-- transaction occur in it, bit n for type n: what does not occur is not looked for.
-- Ranges of transactions are read by a bitmap, also when the caller, `shift_sums`, does without. Three functions plan once a
-- session, for any range: to plan each segment took 4% of its time. An index is used even while a table is nearly empty, since
-- the plan outlives that.
-- The row estimates of the functions are chosen so that joins between their results are hashed, never nested.

-- The blocks of the round that ends at `last_height`, from the table and from the segment.
create function forebay_code.round_blocks(first_height integer, last_height integer, segment forebay.blocks[])
returns table (height integer, generator bigint, total_fee bigint, reward bigint, forgers bytea)
language sql stable rows 101 as $$
    select b.height, b.generator, b.total_fee, b.reward, b.forgers
    from forebay.blocks b where b.height between first_height and last_height
    union
    select s.height, s.generator, s.total_fee, s.reward, s.forgers
    from unnest(segment) s where s.height between first_height and last_height
$$;

-- What the end of a round pays to the forger of each of its blocks: a share of the round's fees and the block's reward;
-- the forger of the last block gets what the division leaves.
create function forebay_code.round_payments(last_height integer, segment forebay.blocks[])
returns table (address bigint, fees bigint, reward bigint)
language sql stable rows 101 as $$
    select
        b.generator,
        sum(b.total_fee) over ()::bigint / c.delegates_per_round
            + case when b.height = last_height then sum(b.total_fee) over ()::bigint % c.delegates_per_round else 0 end,
        b.reward
    from forebay.chain c
    cross join forebay_code.round_blocks(last_height - c.delegates_per_round + 1, last_height, segment) b
    where last_height % c.delegates_per_round = 0
$$;

-- The delegates on a round's list that forged none of its blocks. The genesis block ends a round too: of the list that
-- it carries, nobody forged.
create function forebay_code.round_outsiders(last_height integer, segment forebay.blocks[])
returns table (address bigint)
language sql stable rows 101 as $$
    with round as (
        select b.*
        from forebay.chain c
        cross join forebay_code.round_blocks(greatest(1, last_height - c.delegates_per_round + 1), last_height, segment) b
        where forebay_code.closes_round(last_height, c.delegates_per_round)
    )
    select forebay_code.address_of(f.public_key)
    from round first_block, forebay_code.forger_keys(first_block.forgers) f
    where first_block.forgers is not null
    except
    select generator from round
$$;

-- By account: what the segment adds to its sums, the heights that set-once attributes need, and its newest touch.
-- What only forgers have is summed up beside the rest: they are few.
create function forebay_code.account_deltas(
    first_height integer, last_height integer, segment forebay.blocks[], types integer
)
returns table (
    address bigint, balance bigint, fees bigint, rewards bigint, produced_blocks integer, missed_blocks integer,
    created_height integer, touched_height integer, paid_height integer
)
language plpgsql stable rows 2000
set enable_bitmapscan = on set enable_seqscan = off set enable_nestloop = off set plan_cache_mode = force_generic_plan as $$
declare
    without_effect bigint[] := (select c.without_effect from forebay.chain c);
begin
    return query
    with forging as materialized (
        select b.generator as address, 0::bigint as fees, 0::bigint as rewards, 1 as produced, 0 as missed,
            b.height, b.height as touched
        from unnest(segment) b
        union all
        select p.address, p.fees, p.reward, 0, 0, last_height, last_height
        from forebay_code.round_payments(last_height, segment) p
        union all
        -- To miss a round is no touch.
        select o.address, 0, 0, 0, 1, last_height, null
        from forebay_code.round_outsiders(last_height, segment) o
    )
    select
        e.address, e.balance, coalesce(f.fees, 0), coalesce(f.rewards, 0), coalesce(f.produced, 0), coalesce(f.missed, 0),
        e.created, e.touched, e.paid
    from (
        select
            m.address,
            -- In two halves: between the whole supply sent to and fro a sum may leave the range that it ends in.
            (forebay_code.total(m.balance >> 32) << 32) + forebay_code.total(m.balance & 4294967295) as balance,
            min(m.height) as created, max(m.touched) as touched, min(m.paid) as paid
        from (
            -- Who sends pays the amount and the fee; the fee goes to nobody until the round's end.
            select t.sender as address, -(t.amount + t.fee) as balance, t.height, t.height as touched,
                case when t.amount + t.fee > 0 then t.height end as paid
            from forebay.transactions t
            where t.height between first_height and last_height and t.id <> all (without_effect)
            union all
            -- Only a transfer is credited: an amount in a vote is burnt.
            select t.recipient, t.amount, t.height, t.height, null
            from forebay.transactions t
            where t.height between first_height and last_height and t.type = 0 and t.id <> all (without_effect)
            union all
            -- A member of a group gets a row, which counts as no touch.
            select forebay_code.address_of(k.public_key), 0, t.height, null, null
            from forebay.transactions t, forebay_code.signed_keys(substring(t.asset from 3)) k
            where types & (1 << 4) <> 0
                and t.height between first_height and last_height and t.type = 4 and t.id <> all (without_effect)
            union all
            select g.address, g.fees + g.rewards, g.height, g.touched, null
            from forging g
        ) m
        group by m.address
    ) e
    left join (
        select g.address, forebay_code.total(g.fees) as fees, forebay_code.total(g.rewards) as rewards,
            forebay_code.total(g.produced)::integer as produced, forebay_code.total(g.missed)::integer as missed
        from forging g
        group by g.address
    ) f on f.address = e.address;
end $$;

-- By account: the first public key that the segment shows of it, as a sender or as a member of a group.
create function forebay_code.first_keys(first_height integer, last_height integer, types integer)
returns table (address bigint, public_key bytea, height integer)
language plpgsql stable rows 2000
set enable_bitmapscan = on set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    without_effect bigint[] := (select c.without_effect from forebay.chain c);
begin
    return query
    select distinct on (e.address) e.address, e.public_key, e.height
    from (
        select t.sender as address, t.sender_public_key as public_key, t.height, t.index
        from forebay.transactions t
        where t.height between first_height and last_height and t.id <> all (without_effect)
        union all
        select forebay_code.address_of(k.public_key), k.public_key, t.height, t.index
        from forebay.transactions t, forebay_code.signed_keys(substring(t.asset from 3)) k
        where types & (1 << 4) <> 0
            and t.height between first_height and last_height and t.type = 4 and t.id <> all (without_effect)
        union all
        -- The generator of the genesis block need not have sent anything.
        select b.generator, b.generator_public_key, 1, -1
        from forebay.blocks b where b.height = 1 and first_height = 1
    ) e
    order by e.address, e.height, e.index;
end $$;

-- By voter and delegate: +1 for a vote that the segment adds, -1 for one that it removes; what cancels out is left out.
create function forebay_code.vote_changes(first_height integer, last_height integer, types integer)
returns table (voter bigint, delegate bigint, net integer)
language plpgsql stable rows 100
set enable_bitmapscan = on set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    without_effect bigint[] := (select c.without_effect from forebay.chain c);
begin
    return query
    select t.sender, forebay_code.address_of(k.public_key), sum(case when k.adds then 1 else -1 end)::integer
    from forebay.transactions t, forebay_code.signed_keys(t.asset) k
    where types & (1 << 3) <> 0
        and t.height between first_height and last_height and t.type = 3 and t.id <> all (without_effect)
    group by 1, 2
    having sum(case when k.adds then 1 else -1 end) <> 0;
end $$;
