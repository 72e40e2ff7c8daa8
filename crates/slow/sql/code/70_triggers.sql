-- The triggers: they run as the schema's owner, so that the writer needs no right to what they change. Without just-in-time
-- compilation: the row estimates of set-returning functions are high, and compiling took ten times longer than running.

-- A segment comes. Inverse: `blocks_deleted`.
create function forebay_code.blocks_inserted() returns trigger
language plpgsql security definer set search_path = forebay, forebay_code, pg_temp set jit = off as $$
declare
    segment forebay.blocks[] := (select array_agg(b order by b.height) from inserted b);
    first_height integer := segment[1].height;
    last_height integer := segment[cardinality(segment)].height;
    types integer;
begin
    if segment is null then
        return null;
    end if;
    perform forebay_code.check_position_moved();
    perform forebay_code.check_links(segment);
    perform forebay_code.check_forgers(segment);
    types := forebay_code.check_contents(segment);

    if types & (1 << 2) <> 0 then
        perform forebay_code.register_delegates(first_height, last_height);
    end if;
    perform forebay_code.shift_sums(first_height, last_height, segment, types, 1);
    if types & (1 << 1) <> 0 then
        perform forebay_code.set_second_keys(first_height, last_height);
    end if;
    if types & (1 << 4) <> 0 then
        perform forebay_code.set_groups(first_height, last_height, last_height);
    end if;
    if forebay_code.closes_round(last_height, (select delegates_per_round from forebay.chain)) then
        perform forebay_code.count_votes(last_height);
        perform forebay_code.record_round(last_height);
        perform forebay_code.check_digest(last_height);
    end if;
    perform forebay_code.log_appends(segment);
    return null;
end $$;

-- A segment goes: the same steps backwards. Its transactions are still there, and go after it.
-- Inverse: `blocks_inserted`.
create function forebay_code.blocks_deleted() returns trigger
language plpgsql security definer set search_path = forebay, forebay_code, pg_temp set jit = off as $$
declare
    segment forebay.blocks[] := (select array_agg(b order by b.height) from deleted b);
    first_height integer := segment[1].height;
    last_height integer := segment[cardinality(segment)].height;
    delegates_per_round integer := (select c.delegates_per_round from forebay.chain c);
    types integer;
begin
    if segment is null then
        return null;
    end if;
    perform forebay_code.check_position_moved();
    if first_height = 1 then
        raise exception 'the genesis block cannot be taken back' using errcode = 'FB002';
    end if;
    perform forebay_code.check_links(segment);
    types := forebay_code.check_contents(segment);

    if forebay_code.closes_round(last_height, delegates_per_round) then
        perform forebay_code.reopen_round(last_height);
    end if;
    perform forebay_code.shift_sums(first_height, last_height, segment, types, -1);
    if types & (1 << 4) <> 0 then
        perform forebay_code.set_groups(first_height, last_height, first_height - 1);
    end if;
    perform forebay_code.forget_attributes(first_height, last_height, segment, types);
    if forebay_code.closes_round(first_height - 1, delegates_per_round) then
        perform forebay_code.check_digest(first_height - 1);
    end if;
    perform forebay_code.log_take_back(segment);
    return null;
end $$;

-- Transactions come before their blocks and go after them. Inverse: itself.
create function forebay_code.transactions_changed() returns trigger
language plpgsql security definer set search_path = forebay, forebay_code, pg_temp set jit = off as $$
declare
    tip integer := (select max(b.height) from forebay.blocks b);
    lowest integer := (select min(c.height) from changed c);
begin
    if lowest is null then
        return null;
    end if;
    perform forebay_code.check_position_moved();
    if lowest <= coalesce(tip, 0) then
        raise exception 'transactions at height % are changed under the tip at height %', lowest, tip
            using errcode = 'FB008';
    end if;
    return null;
end $$;

-- Nothing else changes blocks and transactions.
create function forebay_code.refuse() returns trigger
language plpgsql as $$
begin
    raise exception '% of %.% is not allowed', lower(tg_op), tg_table_schema, tg_table_name using errcode = 'FB002';
end $$;

create trigger blocks_inserted after insert on forebay.blocks
    referencing new table as inserted for each statement execute function forebay_code.blocks_inserted();
create trigger blocks_deleted after delete on forebay.blocks
    referencing old table as deleted for each statement execute function forebay_code.blocks_deleted();
create trigger transactions_inserted after insert on forebay.transactions
    referencing new table as changed for each statement execute function forebay_code.transactions_changed();
create trigger transactions_deleted after delete on forebay.transactions
    referencing old table as changed for each statement execute function forebay_code.transactions_changed();
create trigger blocks_refused before update or truncate on forebay.blocks
    for each statement execute function forebay_code.refuse();
create trigger transactions_refused before update or truncate on forebay.transactions
    for each statement execute function forebay_code.refuse();
create trigger position_moves before update on forebay.position
    for each row execute function forebay_code.position_moves();
create constraint trigger position_checked after update on forebay.position
    deferrable initially deferred for each row execute function forebay_code.check_tip();
