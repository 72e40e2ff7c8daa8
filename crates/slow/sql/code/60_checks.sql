-- What is refused, whoever inserts. Error codes: docs of `forebay_slow::error`.

-- The fence: rows move only in a transaction whose first statement moved the position.
create function forebay_code.check_position_moved() returns void
language plpgsql stable as $$
begin
    if not exists (select from forebay.position p where p.xmin = pg_current_xact_id()::xid) then
        raise exception 'blocks or transactions are changed by a transaction that did not move the position'
            using errcode = 'FB007';
    end if;
end $$;

-- A segment's blocks follow each other and the tip before them, and end at the latest with their round.
create function forebay_code.check_links(segment forebay.blocks[]) returns void
language plpgsql stable as $$
declare
    chain forebay.chain := (select c from forebay.chain c);
    first_height integer := segment[1].height;
    last_height integer := segment[cardinality(segment)].height;
    before forebay.blocks := (select b from forebay.blocks b where b.height < first_height order by b.height desc limit 1);
    wrong integer;
begin
    if chain is null then
        raise exception 'the database has no row in forebay.chain: it was not initialised' using errcode = 'FB009';
    end if;
    if first_height <> coalesce(before.height, 0) + 1 or last_height - first_height + 1 <> cardinality(segment)
        or (select max(b.height) from forebay.blocks b) > last_height then
        raise exception 'heights % to % do not follow the tip at height %',
            first_height, last_height, coalesce(before.height, 0) using errcode = 'FB002';
    end if;
    if (first_height = 1 and last_height > 1)
        or forebay_code.closing_height(first_height, chain.delegates_per_round)
            <> forebay_code.closing_height(last_height, chain.delegates_per_round) then
        raise exception 'heights % to % cross the end of a round', first_height, last_height using errcode = 'FB002';
    end if;
    if first_height = 1 and segment[1].id <> chain.genesis_id then
        raise exception 'block %: it is not the genesis block of this chain', forebay_code.unsigned_text(segment[1].id)
            using errcode = 'FB002';
    end if;

    select s.height into wrong
    from (
        select b.*,
            lag(b.id, 1, before.id) over w as id_before,
            lag(b.transactions_before + b.number_of_transactions, 1,
                coalesce(before.transactions_before + before.number_of_transactions, 0)) over w as transactions_so_far
        from unnest(segment) b
        window w as (order by b.height)
    ) s
    where (s.height = 1 and s.previous_block is not null)
        or (s.height > 1 and s.previous_block is distinct from s.id_before)
        or s.transactions_before is distinct from s.transactions_so_far
    order by s.height limit 1;
    if wrong is not null then
        raise exception 'height %: previous block or number of transactions before it do not fit the block before',
            wrong using errcode = 'FB002';
    end if;
end $$;

-- Each block's header agrees with its transactions, and there are no transactions without a block. Returns which types
-- occur: bit n for type n.
create function forebay_code.check_contents(segment forebay.blocks[]) returns integer
language plpgsql stable as $$
declare
    first_height integer := segment[1].height;
    last_height integer := segment[cardinality(segment)].height;
    wrong integer;
    types integer;
begin
    select min(b.height) filter (
            where b.number_of_transactions <> coalesce(t.number, 0) or b.number_of_transactions <> coalesce(t.last + 1, 0)
                or b.total_amount <> coalesce(t.amount, 0) or b.total_fee <> coalesce(t.fee, 0)
        ),
        coalesce(bit_or(t.types), 0)
    into wrong, types
    from unnest(segment) b
    left join (
        select t.height, count(*) as number, max(t.index) as last, sum(t.amount) as amount, sum(t.fee) as fee,
            bit_or(1 << t.type::integer) as types
        from forebay.transactions t
        where t.height between first_height and last_height
        group by t.height
    ) t on t.height = b.height;
    if wrong is not null then
        raise exception 'height %: number, amount or fee of the transactions differ from the block''s header', wrong
            using errcode = 'FB003';
    end if;
    -- By max(): with stale statistics `exists` reads the whole table.
    if (select max(t.height) from forebay.transactions t) > last_height then
        raise exception 'there are transactions above height %, the tip', last_height using errcode = 'FB008';
    end if;
    return types;
end $$;

-- Each block was forged by the owner of its slot on the list that the round's first block carries. A list may be shorter
-- than a round: with fewer eligible delegates than seats the last slots belong to nobody.
create function forebay_code.check_forgers(segment forebay.blocks[]) returns void
language plpgsql stable as $$
declare
    chain forebay.chain := (select c from forebay.chain c);
    round_start integer := forebay_code.closing_height(segment[1].height, chain.delegates_per_round)
        - chain.delegates_per_round + 1;
    list bytea;
    wrong integer;
begin
    select b.height into wrong
    from unnest(segment) b
    where case when b.height % chain.delegates_per_round = 1
            then b.forgers is null or length(b.forgers) % 32 <> 0
                or length(b.forgers) > 32 * chain.delegates_per_round
            else b.forgers is not null
        end
        or (b.delegates_digest is not null) <> forebay_code.closes_round(b.height, chain.delegates_per_round)
    order by b.height limit 1;
    if wrong is not null then
        raise exception 'height %: only the first block of a round carries the forger list, and only its last the digest',
            wrong using errcode = 'FB004';
    end if;

    list := (select b.forgers from forebay.blocks b where b.height = round_start);
    select b.height into wrong
    from unnest(segment) b
    left join unnest(chain.wrong_slot_heights, chain.wrong_slot_generators) e(height, generator)
        on e.height = b.height and e.generator = b.generator_public_key
    where b.generator <> forebay_code.address_of(b.generator_public_key)
        or (b.height > 1 and e.height is null and b.generator_public_key <> substring(
            list from 32 * (b.timestamp / chain.block_time_seconds % chain.delegates_per_round) + 1 for 32
        ))
    order by b.height limit 1;
    if wrong is not null then
        raise exception 'height %: the block''s slot belongs to another forger', wrong using errcode = 'FB004';
    end if;
end $$;

-- What a COMMIT leaves: the position names the tip, and nothing is above it.
create function forebay_code.check_tip() returns trigger
language plpgsql security definer set search_path = forebay, forebay_code, pg_temp as $$
declare
    moved forebay.position := (select p from forebay.position p);
    tip forebay.blocks := (select b from forebay.blocks b order by b.height desc limit 1);
begin
    if moved.height <> coalesce(tip.height, 0) or moved.block_id is distinct from tip.id then
        raise exception 'the position is at height %, the newest block at height %', moved.height, coalesce(tip.height, 0)
            using errcode = 'FB007';
    end if;
    if (select max(t.height) from forebay.transactions t) > moved.height then
        raise exception 'there are transactions above height %, the tip', moved.height using errcode = 'FB008';
    end if;
    perform forebay_code.trim_write_log(old.seq, moved.seq);
    return null;
end $$;
