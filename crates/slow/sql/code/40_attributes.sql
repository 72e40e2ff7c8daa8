-- What is no sum: delegates, second keys, groups, and the heights of set-once attributes.

-- Inverse: `forget_attributes`.
create function forebay_code.register_delegates(first_height integer, last_height integer) returns void
language sql as $$
    insert into forebay.delegates (address, registration, registered_height, public_key, username)
    select t.sender, t.id, t.height, t.sender_public_key, encode(t.asset, 'escape')
    from forebay.transactions t, forebay.chain c
    where t.height between first_height and last_height and t.type = 2 and t.id <> all (c.without_effect)
    order by t.sender
$$;

-- Inverse: `forget_attributes`.
create function forebay_code.set_second_keys(first_height integer, last_height integer) returns void
language sql as $$
    update forebay.accounts a
    set second_public_key = t.asset, second_public_key_height = t.height
    from forebay.transactions t, forebay.chain c
    where t.height between first_height and last_height and t.type = 1 and t.id <> all (c.without_effect)
        and a.address = t.sender and a.second_public_key is null
$$;

-- Gives every account that registers a group in the segment the group of its newest registration up to `valid_height`,
-- or none. Its own inverse: with the segment's last height when it comes, with the height before it when it goes.
create function forebay_code.set_groups(first_height integer, last_height integer, valid_height integer) returns void
language plpgsql as $$
declare
    owners bigint[] := (
        select array_agg(distinct t.sender)
        from forebay.transactions t, forebay.chain c
        where t.height between first_height and last_height and t.type = 4 and t.id <> all (c.without_effect)
    );
begin
    delete from forebay.multisignature_members m where m.account = any (owners);

    with current_group as materialized (
        select o.owner, g.asset
        from unnest(owners) o(owner)
        left join lateral (
            select t.asset
            from forebay.transactions t, forebay.chain c
            where t.sender = o.owner and t.type = 4 and t.height <= valid_height and t.id <> all (c.without_effect)
            order by t.height desc, t.index desc limit 1
        ) g on true
    ),
    members as (
        insert into forebay.multisignature_members (account, public_key)
        select distinct g.owner, k.public_key
        from current_group g, forebay_code.signed_keys(substring(g.asset from 3)) k
        where g.asset is not null
    )
    update forebay.accounts a
    set multimin = coalesce(get_byte(g.asset, 0), 0), multilifetime = coalesce(get_byte(g.asset, 1), 0)
    from current_group g where a.address = g.owner;
end $$;

-- The newest touch of an account up to a height: it sent, it was paid, it forged, or its round was paid.
create function forebay_code.last_touch(account bigint, valid_height integer) returns integer
language sql stable as $$
    select greatest(
        (select max(t.height) from forebay.transactions t
            where t.sender = account and t.height <= valid_height and t.id <> all (c.without_effect)),
        (select max(t.height) from forebay.transactions t
            where t.recipient = account and t.height <= valid_height and t.type = 0
                and t.id <> all (c.without_effect)),
        (select case
                when forebay_code.closing_height(max(b.height), c.delegates_per_round) <= valid_height
                    then forebay_code.closing_height(max(b.height), c.delegates_per_round)
                else max(b.height)
            end
            from forebay.blocks b where b.generator = account and b.height <= valid_height)
    )
    from forebay.chain c
$$;

-- Takes back what the segment set once: rows, keys, names, first payments; and finds the newest touch that remains.
-- Inverse of the row making in `shift_sums`, of `register_delegates` and of `set_second_keys`.
-- Joins are nested on purpose: the rows of the segment are few beside all accounts, and each is one probe of the index.
create function forebay_code.forget_attributes(
    first_height integer, last_height integer, segment forebay.blocks[], types integer
) returns void
language plpgsql set enable_hashjoin = off set enable_mergejoin = off as $$
begin
    delete from forebay.delegates d
    using forebay.transactions t
    where t.height between first_height and last_height and t.type = 2
        and d.address = t.sender and d.registered_height >= first_height;

    with touched as materialized (
        select d.address from forebay_code.account_deltas(first_height, last_height, segment, types) d order by d.address
    ),
    removed as (
        delete from forebay.accounts a using touched t
        where a.address = t.address and a.created_height >= first_height
    )
    update forebay.accounts a
    set public_key = case when a.public_key_height < first_height then a.public_key end,
        public_key_height = case when a.public_key_height < first_height then a.public_key_height end,
        second_public_key = case when a.second_public_key_height < first_height then a.second_public_key end,
        second_public_key_height = case
            when a.second_public_key_height < first_height then a.second_public_key_height
        end,
        paid_height = case when a.paid_height < first_height then a.paid_height end,
        touched_height = case
            when a.touched_height < first_height then a.touched_height
            else forebay_code.last_touch(a.address, first_height - 1)
        end
    from touched t
    where a.address = t.address and a.created_height < first_height;
end $$;
