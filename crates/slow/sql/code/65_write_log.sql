-- The write log. Which operation is running is kept in settings of the transaction: `forebay.seq`, the last operation that is
-- done; `forebay.take_backs`, where the take-backs that are running go; `forebay.attempt`, which try this is. The first is set
-- by the trigger on the position, the others by the writer; without them each statement is an operation, and a first try.

-- The position moves: operations are counted from where it was.
create function forebay_code.position_moves() returns trigger
language plpgsql as $$
begin
    perform set_config('forebay.seq', old.seq::text, true);
    return new;
end $$;

-- The position; there may not be more operations than it moved by.
create function forebay_code.position_for(last_seq bigint) returns forebay.position
language plpgsql stable as $$
declare
    moved forebay.position := (select p from forebay.position p);
begin
    if last_seq > moved.seq then
        raise exception 'operation % is done, the position moved to operation % only', last_seq, moved.seq
            using errcode = 'FB007';
    end if;
    return moved;
end $$;

-- A segment came: one operation a block. The inverse is another operation: `log_take_back`.
create function forebay_code.log_appends(segment forebay.blocks[]) returns void
language plpgsql as $$
declare
    seq_before bigint := current_setting('forebay.seq')::bigint;
    last_seq bigint := seq_before + cardinality(segment);
    moved forebay.position := forebay_code.position_for(last_seq);
    so_far_us bigint := forebay_code.microseconds_so_far();
    this_attempt integer := forebay_code.attempt();
begin
    insert into forebay.operations (seq, epoch, batch_seq, started_at, duration_us, first_id, last_id, transactions,
        from_height, to_height, attempt, taken_back)
    select seq_before + s.ordinality, moved.epoch, moved.seq, now(), so_far_us, s.id, s.id, s.number_of_transactions,
        s.height, s.height, this_attempt, false
    from unnest(segment) with ordinality s;
    perform set_config('forebay.seq', last_seq::text, true);
end $$;

-- A segment went. One operation may take back several, and several operations a part of it each: a block belongs to the first
-- of them that goes below it. Where they go is in `forebay.take_backs`; an operation that goes nowhere takes its place and is
-- not logged.
create function forebay_code.log_take_back(segment forebay.blocks[]) returns void
language plpgsql as $$
declare
    seq_before bigint := current_setting('forebay.seq')::bigint;
    first_height integer := segment[1].height;
    -- The heights that they go to, the last operation's first.
    targets integer[] := coalesce(
        nullif(current_setting('forebay.take_backs', true), '')::integer[], array[first_height - 1]
    );
    last_seq bigint := seq_before + cardinality(targets);
    moved forebay.position := forebay_code.position_for(last_seq);
    occupied bigint;
begin
    with part as (
        select last_seq + 1 - width_bucket(s.height - 1, targets) as seq,
            min(s.height) as from_height, max(s.height) as to_height,
            (array_agg(s.id order by s.height))[1] as first_id, (array_agg(s.id order by s.height desc))[1] as last_id,
            sum(s.number_of_transactions) as transactions
        from unnest(segment) s
        group by 1
    ),
    logged as (
        insert into forebay.operations as o (seq, epoch, batch_seq, started_at, duration_us, first_id, last_id, transactions,
            from_height, to_height, attempt, taken_back)
        select p.seq, moved.epoch, moved.seq, now(), forebay_code.microseconds_so_far(), p.first_id, p.last_id,
            p.transactions, p.from_height, p.to_height, forebay_code.attempt(), true
        from part p
        on conflict (seq) do update set
            duration_us = excluded.duration_us, first_id = excluded.first_id, from_height = excluded.from_height,
            transactions = o.transactions + excluded.transactions
            where o.taken_back and o.from_height = excluded.to_height + 1
        returning o.seq
    )
    select min(p.seq) into occupied from part p where p.seq not in (select l.seq from logged l);
    if occupied is not null then
        raise exception 'operation % is logged already', occupied using errcode = 'FB007';
    end if;
    if first_height <= targets[1] + 1 then
        perform set_config('forebay.seq', last_seq::text, true), set_config('forebay.take_backs', '', true);
    end if;
end $$;

create function forebay_code.microseconds_so_far() returns bigint
language sql volatile as $$
    select greatest(0, extract(epoch from clock_timestamp() - now()) * 1000000)::bigint
$$;

create function forebay_code.attempt() returns integer
language sql stable as $$
    select coalesce(nullif(current_setting('forebay.attempt', true), '')::integer, 1)
$$;

-- The oldest operations go, once in a thousand, and not many at a time: a limit that was lowered holds up no COMMIT.
create function forebay_code.trim_write_log(seq_before bigint, seq_after bigint) returns void
language plpgsql as $$
begin
    if seq_before / 1000 <> seq_after / 1000 then
        delete from forebay.operations o
        where o.seq <= seq_after - (select l.operations_max from forebay.write_log_limits l)
            and o.seq < (select min(oldest.seq) from forebay.operations oldest) + 20000;
    end if;
end $$;
